"""A device at the service: run an application until it is registered, and ask while it may not hear."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pdmlab.errors import PdmlabError, RegistrationFailed

if TYPE_CHECKING:
    import pandas as pd

    from pdmlab.client import SimpleMbedCloudClient
    from pdmlab.cloud.device import Device

_SLICE = 0.02  # seconds


def run_until_registered(
    board: Any, application: Callable[..., SimpleMbedCloudClient], *, timeout: float = 30.0
) -> SimpleMbedCloudClient:
    """Run an application that returns its client, and return the client when it has registered.

    Args:
        board: a virtual board.
        timeout: host seconds.

    Raises:
        RegistrationFailed: it has not in that time; the message has the client's last error.
    """
    client: SimpleMbedCloudClient = board.run(application)
    end = time.monotonic() + timeout
    while not client.is_client_registered():
        if time.monotonic() > end:
            raise RegistrationFailed(
                f"the device has not registered after {timeout:g} s (host clock): "
                f"{client.error_description or 'no answer, and no error'}",
                hint="client.log.lines() shows what was said; is the service running?",
            )
        time.sleep(_SLICE)
    return client


class Asked:
    """Questions to a device that are on their way, each in a thread of its own: when they were asked and answered."""

    def __init__(self, device: Device, paths: Sequence[str], timeout: float) -> None:
        self._device = device
        self._timeout = timeout
        self._begun = time.monotonic()
        self._rows: dict[str, dict[str, Any]] = {}
        self._threads = [threading.Thread(target=self._ask, args=(path,), daemon=True) for path in paths]
        for thread, path in zip(self._threads, paths, strict=True):
            self._rows[path] = {"step": f"GET {path}", "start_ms": self._now(), "duration_ms": 0.0, "answer": "waits"}
            thread.start()

    def _now(self) -> float:
        return round((time.monotonic() - self._begun) * 1000, 3)

    def _ask(self, path: str) -> None:
        row = self._rows[path]
        try:
            answer = str(self._device.read(path, timeout=self._timeout))
        except PdmlabError as error:
            answer = error.message
        row["duration_ms"], row["answer"] = self._now() - row["start_ms"], answer

    def wait_until_queued(self, timeout: float = 10.0) -> pd.DataFrame:
        """Wait until the service has all of them in the device's queue, and return the queue."""
        end = time.monotonic() + timeout
        while len(queue := self._device.queue()) < len(self._threads) and time.monotonic() < end:
            time.sleep(_SLICE)
        return queue

    def answers(self) -> pd.DataFrame:
        """Wait for all answers; return step, start_ms, duration_ms and answer, on the host's clock."""
        import pandas as pd

        for thread in self._threads:
            thread.join(self._timeout + 1)
        return pd.DataFrame(self._rows.values()).assign(simulated=True, clock="host")


def ask(device: Device, paths: Sequence[str], *, timeout: float = 60.0) -> Asked:
    """Read several resources at once without waiting for the answers; timeout: of each (host s)."""
    return Asked(device, paths, timeout)
