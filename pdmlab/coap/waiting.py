"""A request under way, from its first transmission to its response or to the reason why there is none."""

from __future__ import annotations

import asyncio

from aiocoap import Message

from pdmlab.coap.codec import uri
from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError, TimedOut, Unreachable


class Waiting:
    """A request whose response has not come."""

    __slots__ = ("_future", "_loop", "_timer", "mid", "peer", "request", "started")

    def __init__(self, request: Message, peer: Address) -> None:
        self.request, self.peer = request, peer
        self.mid = -1  # of its transmission, once it has begun
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Message] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self.started = self._loop.time()

    @property
    def over(self) -> bool:
        """Whether the response has come, or was given up; whoever waits for it may not have had its turn yet."""
        return self._future.done()

    def answer(self, message: Message) -> None:
        """Take the response."""
        if not self._future.done():
            self._future.set_result(message)

    def fail(self, why: str, *, timed_out: bool = False, cause: BaseException | None = None) -> None:
        """Give up; why becomes part of the error."""
        if self._future.done():
            return
        seconds = self._loop.time() - self.started
        message = f"{self.request.code} {uri(self.request, self.peer)}: {why}, after {seconds:.1f} s"
        if timed_out:
            hint = "is the peer running, and is it the right port? a device in queue mode sleeps between its updates"
            error: NetworkError = TimedOut(message, hint=hint)
        else:
            error = Unreachable(message)
        error.__cause__ = cause
        self._future.set_exception(error)

    def expect_response(self, seconds: float) -> None:
        """Wait that long for a separate response (s)."""
        why = f"acknowledged, but no response in {seconds:.1f} s"
        self._timer = self._loop.call_later(seconds, lambda: self.fail(why, timed_out=True))

    async def response(self) -> Message:
        """Wait for it."""
        try:
            return await self._future
        finally:
            if self._timer is not None:
                self._timer.cancel()
