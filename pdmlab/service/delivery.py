"""How devices are asked: where they registered, one exchange at a time, and only when they can hear."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.requester import Late
from pdmlab.coap.transport import Address
from pdmlab.errors import Unreachable
from pdmlab.service.pace import Paces

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.register import Registration


COMES_BACK_S = 14.0
"""Within which the stock client connects again (10 s, a round trip of 3 s, and 10 % of it)."""
AWAKE_S = 60.0
"""For how long a device in queue mode is asked after its latest message (s).

LwM2M has it listen for 93 s, the stock client does for 67.5 s; what is asked at the end of that needs time to arrive.
"""

PATIENCE_S = 900.0
"""For how long the answer to an execution is waited for that the device has acknowledged."""


@dataclass
class _Line:
    """A device's turn-taking: who waits, and what is under way, with the peer that each of it went to."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    doing: str = ""
    since: float = 0.0
    exchanges: dict[asyncio.Future[Message], Address] = field(default_factory=dict)


class Asking:
    """A request from its turn on: whether it has been sent, and acknowledged ahead of its answer."""

    def __init__(self) -> None:
        self.sent = False
        self.acknowledged = asyncio.Event()


class Delivery:
    """The lines to all devices."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lines: dict[str, _Line] = {}
        self.paces = Paces()

    def obstacle(self, device_id: str) -> str | None:
        """Say why a device cannot be asked now; None if it can."""
        core = self._core
        registration = core.registrations.find(device_id)
        if registration is None:
            device = core.directory.find(device_id)
            state = device["state"] if device is not None else "deleted"
            return f"the device is not registered: it is {state}"
        if not core.nodes.is_own(registration.node):
            return self._elsewhere(registration)
        if registration.lost_at is not None or not core.lwm2m.connected(registration.peer):
            return self._away(registration)
        if registration.queue_mode:
            silence = core.now() - registration.heard
            if silence > AWAKE_S:
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

    def is_elsewhere(self, device_id: str) -> bool:
        """Whether another process is there that asks a device: this one leaves it to that."""
        nodes, registration = self._core.nodes, self._core.registrations.find(device_id)
        return registration is not None and not nodes.is_own(registration.node) and nodes.lives(registration.node)

    def _elsewhere(self, registration: Registration) -> str:
        """Say that another process asks the device, or that nobody does."""
        node = registration.node
        if self._core.nodes.lives(node):
            return f"the device is connected to the process {node!r}, which asks it"
        left = max(registration.expires - self._core.now(), 0.0)
        return (
            f"the device has no connection: the process {node!r} has ended; it comes back by itself, at the latest"
            f" when its lifetime ends, in {left:.0f} s"
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
        for exchange, went_to in list(line.exchanges.items()) if line is not None else ():
            if went_to != peer:
                exchange.cancel()

    def left(self, device_id: str) -> None:
        """Give up what is under way to a device that is not connected to this process any more."""
        line = self._lines.get(device_id)
        for exchange in list(line.exchanges) if line is not None else ():
            exchange.cancel()

    async def ask(self, device_id: str, message: Message, asking: Asking | None = None) -> Message:
        """Send a confirmable request when the device's turn comes; return its answer, errors included.

        A device that acknowledges an execution before it answers takes its time: its turn is over then, unless it is in
        queue mode, where it may fall asleep. `asking` tells how far the request is.

        Raises:
            Unreachable: it is not registered, not connected or asleep, it reset the request, or is elsewhere meanwhile.
            TimedOut: it did not answer.
        """
        line = self._lines.setdefault(device_id, _Line())
        line.users += 1
        asking = asking or Asking()
        try:
            await line.lock.acquire()
            return await self._ask(line, device_id, message, asking)
        finally:
            line.users -= 1
            if line.users == 0:
                self._lines.pop(device_id, None)

    async def _ask(self, line: _Line, device_id: str, message: Message, asking: Asking) -> Message:
        """Ask, with the line's lock held; give it back."""
        holding = True

        def release() -> None:
            nonlocal holding
            if holding:
                holding, line.doing = False, ""
                line.lock.release()

        def acknowledged() -> None:
            if not queue_mode:
                release()
            asking.acknowledged.set()

        try:
            obstacle = self.obstacle(device_id)
            registration = self._core.registrations.find(device_id)
            if obstacle is not None or registration is None:
                raise Unreachable(obstacle or "the device is not registered")
            queue_mode, peer = registration.queue_mode, registration.peer
            below(message, registration.root)
            line.doing, line.since = f"{message.code} /{'/'.join(message.opt.uri_path)}", self._core.now()
            patience = self._core.parameters.exchange_lifetime if queue_mode else PATIENCE_S
            late = Late(patience, acknowledged) if message.code == codes.POST else None
            asking.sent = True
            exchange = asyncio.ensure_future(self._core.lwm2m.request(message, peer, late=late))
            line.exchanges[exchange] = peer
            began = asyncio.get_running_loop().time()
            try:
                answer = await _outcome(exchange)
            finally:
                del line.exchanges[exchange]
            if message.code == codes.GET:
                took, block = asyncio.get_running_loop().time() - began, answer.opt.block2
                self.paces.answered(device_id, took, len(answer.payload), None if block is None else block.size)
            self._core.registrations.hear(device_id)
            return answer
        finally:
            release()


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
