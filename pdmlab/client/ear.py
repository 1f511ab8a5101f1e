"""What a client notes of itself while it talks: its messages, handshakes and steps, as lines of its log."""

from __future__ import annotations

from typing import Literal

from pdmlab.capture import Event, MessageLog, Tap
from pdmlab.client.steps import ConnectionStep
from pdmlab.clock import DeviceClock
from pdmlab.coap.transport import Address


class Ear(Tap):
    """The tap of a client's endpoints. `spoke` is when the device sent something last (s of the clock's loop)."""

    def __init__(self, log: MessageLog, clock: DeviceClock) -> None:
        super().__init__(log, log.endpoint)
        self.spoke = 0.0
        self.peer: Address = ("", 0)
        """Whom the present steps are about."""
        self._messages = log
        self._clock = clock

    def __call__(self, direction: Literal["in", "out"], peer: Address, data: bytes, when: int) -> None:
        if direction == "out":
            self.spoke = self._clock.loop.time()
        self._messages.clock = self._clock.name  # it goes live with the first real socket
        super().__call__(direction, peer, data, when)

    def step(self, step: ConnectionStep) -> None:
        """Note a step of a connection."""
        self._messages.clock = self._clock.name
        how = "took" if step.ok else "failed after"
        words = f"{step.server} server: {step.name} {how} {step.duration_ns / 1e6:.1f} ms"
        self.event(self.peer, Event("step", words), round(self._clock.loop.time() * 1e9))
