"""A bootstrap under way, and one that is only rehearsed: who is told what."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address
from pdmlab.service.bootstrap_plan import CERTIFICATE, EST, Plan, Told, steps
from pdmlab.service.certificates import Subject, key_der, new_key
from pdmlab.service.proof import Proof
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core

ENROLL = "POST /est/sen"


@dataclass(eq=False)
class Sequence:
    """A bootstrap under way; `enrolled` is set where the device is to ask for a certificate, and done when it has.

    `trusted` is the trusted certificate by which a factory's device came in.
    """

    endpoint: Endpoint
    peer: Address
    device: Row
    name: str
    proof: Proof
    plan: Plan
    begun: float
    done: list[dict[str, Any]] = field(default_factory=list)
    step: str = "POST /bs"
    trusted: Row | None = None
    enrolled: asyncio.Future[None] | None = None
    task: asyncio.Task[None] | None = None

    @property
    def security(self) -> str:
        """What the table calls it."""
        if self.proof.kind in ("none", "psk"):
            return self.proof.kind
        return "est" if self.plan.mode == "est" else "certificate"


def secured(core: Core, plan: Plan, uri: str, certificate: bytes | None = None, key: bytes | None = None) -> Told:
    """Return what a device is told over a transport with security: its certificate and key, or that it asks for one."""
    authority = core.pki.certificate
    if plan.mode == "est":
        return Told(uri, EST, authority=authority)
    return Told(uri, CERTIFICATE, certificate, authority, key)


def rehearsal(core: Core, account_id: str, endpoint_name: str, secure: bool | None) -> list[Row]:
    """Return what a device would be asked, with sizes (B) and problems, and ask none.

    secure: over which transport; None for the one with security, if there is one.

    Raises:
        Refused: the endpoint name does not fit into a certificate (400).
        ServiceError: there is no such transport (503).
    """
    plan, device_id = core.bootstrap.plan(account_id), "0" * 32
    uri = core.uri("lwm2m", secure=secure, account_id=account_id)
    secure = uri.startswith("coaps")
    told = Told(uri if secure else f"{uri}&iep={device_id}")
    if secure:
        key = new_key()
        sample = core.pki.sign(key.public_key(), Subject(endpoint_name, device_id, account_id))
        told = secured(core, plan, told.uri, sample, key_der(key))
    problems = "; ".join(told.problems())
    rows = []
    for step in steps(plan, told, device_id):
        size, block = len(step.request.payload), core.parameters.block_size
        rows.append(
            {
                "step": step.name,
                "payload_B": size,
                "blocks": max(1, -(-size // block)),
                "answers": " or ".join(str(code) for code in step.wanted),
                "problems": problems if step.name == "PUT /0" else "",
            }
        )
    if secure and plan.mode == "est":
        rows.append({"step": ENROLL, "payload_B": 0, "blocks": 1, "answers": str(codes.CHANGED), "problems": ""})
    return rows
