"""An observation (RFC 7641) as its observer holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiocoap import Message

from pdmlab.coap.transport import Address, scheme_of

REORDER_WINDOW = 128.0  # s, RFC 7641 section 3.4: a notification this late is fresh whatever its number


class Freshness:
    """Decides which of two notifications is the newer one (RFC 7641 section 3.4).

    A stream keeps them in order: the numbers are not looked at, and may be the same each time (RFC 8323 section 7.1).
    """

    def __init__(self, *, in_order: bool = False) -> None:
        self._in_order = in_order
        self._number: int | None = None
        self._when = 0.0

    def accept(self, number: int, now: float) -> bool:
        """Return whether the notification with this Observe value is newer than all before (now in s)."""
        last = self._number
        fresh = (
            self._in_order
            or last is None
            or (last < number and number - last < 1 << 23)
            or (last > number and last - number > 1 << 23)
            or now > self._when + REORDER_WINDOW
        )
        if fresh:
            self._number, self._when = number, now
        return fresh


class Observation:
    """An observed resource; `first` is the response, later ones go to the callback in order of age.

    `active` ends when the peer answers with an error or without Observe, or after `cancel`.
    """

    def __init__(self, request: Message, peer: Address, on_notification: Callable[[Message], None]) -> None:
        self.request = request
        self.peer = peer
        self.first: Message
        self.active = True
        self.established = False
        self.freshness = Freshness(in_order=scheme_of(peer) in ("coap+tcp", "coaps+tcp"))
        self.completing: asyncio.Task[None] | None = None  # asks for the rest of a large notification
        self.on_notification = on_notification
        self.withdraw: Callable[[], Awaitable[Message | None]]

    def __repr__(self) -> str:
        state = "active" if self.active else "ended"
        return f"<Observation of /{'/'.join(self.request.opt.uri_path)} at {self.peer[0]}:{self.peer[1]}, {state}>"

    def told_by(self, message: Message) -> bool:
        """Return whether a message with its token is a notification, not the answer to a request of its own."""
        return self.active and self.established and message.opt.observe is not None

    async def cancel(self) -> Message | None:
        """Tell the peer to stop (GET with Observe 1); return its answer, None if it had ended already."""
        return await self.withdraw()
