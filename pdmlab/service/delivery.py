"""How devices are asked: where they registered, one exchange at a time, and only when they can hear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiocoap import Message

from pdmlab.coap.transport import Address
from pdmlab.errors import Unreachable

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.register import Registration


COMES_BACK_S = 14.0
"""Within which the stock client connects again (pelion-wire 1.8: 10 s, a round trip of 3 s, and 10 % of it)."""


@dataclass
class _Line:
    """A device's turn-taking: who waits, and what is under way."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    doing: str = ""
    since: float = 0.0
    peer: Address = ("", 0)
    exchange: asyncio.Future[Message] | None = None


class Delivery:
    """The lines to all devices."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lines: dict[str, _Line] = {}

    def obstacle(self, device_id: str) -> str | None:
        """Say why a device cannot be asked now; None if it can."""
        core = self._core
        registration = core.registrations.find(device_id)
        if registration is None:
            device = core.directory.find(device_id)
            state = device["state"] if device is not None else "deleted"
            return f"the device is not registered: it is {state}"
        if registration.lost_at is not None or not core.lwm2m.connected(registration.peer):
            return self._away(registration)
        if registration.queue_mode:
            silence = core.now() - registration.heard
            if silence > core.parameters.max_transmit_wait:
                return f"the device is in queue mode, and has slept for {silence:.0f} s: it is asked when it wakes"
        return None

    def _away(self, registration: Registration) -> str:
        """Say why a registered device has no connection, and when it is expected to have one."""
        now = self._core.now()
        gone = 0.0 if registration.lost_at is None else now - registration.lost_at
        why = registration.lost_why or "the connection has ended"
        if gone <= COMES_BACK_S:
            back = f"it comes back within about {COMES_BACK_S - gone:.0f} s"
        else:
            back = f"it was to be back within about {COMES_BACK_S:.0f} s"
        left = max(registration.expires - now, 0.0)
        return (
            f"the device has no connection: {why}, {gone:.0f} s ago; {back},"
            f" at the latest when its lifetime ends, in {left:.0f} s"
        )

    def under_way(self, device_id: str) -> str | None:
        """Say what the device is being asked just now, and for how long."""
        line = self._lines.get(device_id)
        if line is None or not line.doing:
            return None
        return f"{line.doing}, for {self._core.now() - line.since:.0f} s"

    def moved(self, device_id: str, peer: Address) -> None:
        """Give up what is under way to an address that the device has left: nobody answers there."""
        line = self._lines.get(device_id)
        if line is not None and line.exchange is not None and line.peer != peer:
            line.exchange.cancel()

    async def ask(self, device_id: str, message: Message, *, begins: Callable[[], None] | None = None) -> Message:
        """Send a confirmable request when the device's turn comes; return its answer, errors included.

        begins is called when it is sent: until then the device cannot have heard of it.

        Raises:
            Unreachable: it is not registered, not connected or asleep, it reset the request, or is elsewhere meanwhile.
            TimedOut: it did not answer.
        """
        line = self._lines.setdefault(device_id, _Line())
        line.users += 1
        try:
            async with line.lock:
                obstacle = self.obstacle(device_id)
                registration = self._core.registrations.find(device_id)
                if obstacle is not None or registration is None:
                    raise Unreachable(obstacle or "the device is not registered")
                below(message, registration.root)
                line.doing = f"{message.code} /{'/'.join(message.opt.uri_path)}"
                line.since, line.peer = self._core.now(), registration.peer
                if begins is not None:
                    begins()
                line.exchange = asyncio.ensure_future(self._core.lwm2m.request(message, registration.peer))
                try:
                    answer = await _outcome(line.exchange)
                finally:
                    line.doing, line.exchange = "", None
                self._core.registrations.hear(device_id)
                return answer
        finally:
            line.users -= 1
            if line.users == 0:
                self._lines.pop(device_id, None)


def below(message: Message, root: str) -> None:
    """Send a request to where the device has its objects."""
    if root:
        message.opt.uri_path = (*root.split("/")[1:], *message.opt.uri_path)


async def _outcome(exchange: asyncio.Future[Message]) -> Message:
    try:
        await asyncio.wait([exchange])
    except asyncio.CancelledError:
        exchange.cancel()
        raise
    if exchange.cancelled():
        raise Unreachable("the device went on from another address meanwhile")
    return exchange.result()
