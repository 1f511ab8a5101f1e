"""A board whose credentials are wrong in one place: which step was the last that it reached?"""

from __future__ import annotations

import dataclasses
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdmlab.exercises import Judge
    from pdmlab.update.credentials import Credentials

STEPS = (
    "network connected",
    "bootstrap request",
    "server URI written",
    "bootstrap finished",
    "registration request",
    "registered",
)
"""What has to happen before a device is registered, in order."""


@dataclass(frozen=True)
class Fault:
    """Credentials with a fault, the last step that a board with them reaches, and the CoAP code of the refusal."""

    credentials: Credentials
    last_step: str
    code: str


def misconfigure(credentials: Credentials, *, seed: int) -> Fault:
    """Return the service's credentials with a fault of the seed's choice."""
    uri = credentials.bootstrap_server_uri
    if seed % 2:
        nobody = "0" * 32
        wrong = dataclasses.replace(
            credentials,
            bootstrap_server_uri=uri.replace(str(credentials.account_id), nobody),
            account_id=nobody,
        )
        return Fault(wrong, "bootstrap request", "4.00")
    silent = re.sub(r":\d+", f":{_unused_port()}", uri, count=1)
    return Fault(dataclasses.replace(credentials, bootstrap_server_uri=silent), "network connected", "")


def names_the_last_step(fault: Fault) -> Judge:
    """Judge (last step reached, CoAP code of the refusal or "" if there was no answer)."""

    def judge(answer: Any) -> bool | str:
        step, code = (str(word).strip() for word in answer)
        if step not in STEPS:
            return f"{step!r} is none of the steps: {', '.join(STEPS)}."
        if step != fault.last_step:
            early = STEPS.index(step) < STEPS.index(fault.last_step)
            return f"It got {'further' if early else 'not so far'}."
        return True if code[:4] == fault.code else "That is the step; but what did the server answer to it?"

    return judge


def _unused_port() -> int:
    """Return a UDP port on loopback where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
