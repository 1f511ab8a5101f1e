"""What comes by itself while a with statement lasts: values of a resource, news of devices."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, Generic

from pdmlab.cloud.both import Entered, M, T, both
from pdmlab.cloud.channel import Channel
from pdmlab.cloud.flow import Flow
from pdmlab.cloud.mailbox import Event, Mailbox
from pdmlab.errors import ConfigError, TimedOut

if TYPE_CHECKING:
    import pandas as pd

WAIT_S = 30.0


class Stream(Entered[M], Flow[T, M], Generic[T, M]):
    """Things that come while it is open; `seen` keeps them."""

    def __init__(self, rest: M, channel: Channel, timeout: float) -> None:
        super().__init__(rest)
        self._channel, self._timeout = channel, timeout
        self._mailbox: Mailbox | None = None
        self._left: list[T] = []  # came in one event with others, and was not taken yet
        self.seen: list[T] = []
        """Everything that came, oldest first."""

    @abstractmethod
    def _what(self) -> str:
        """Return what comes, for an error."""

    @abstractmethod
    def _hint(self) -> str:
        """Return why nothing may have come."""

    @abstractmethod
    def _read(self, event: Event) -> list[T]:
        """Return what an event tells."""

    async def _next(self, timeout: float) -> T:
        if self._mailbox is None:
            raise ConfigError(f"{self._what()} is not listened to", hint="read inside the with statement that opens it")
        while not self._left:
            event = await self._channel.next(self._mailbox, timeout, self._what(), self._hint())
            self._left += self._read(event)
        return self._keep(self._left.pop(0))

    def _keep(self, item: T) -> T:
        self.seen.append(item)
        return item

    @both
    async def next(self, timeout: float) -> T:
        """Return the next; raise TimedOut if none comes within timeout (s)."""
        return await self._next(timeout)

    async def _flow(self) -> AsyncGenerator[T, None]:
        """Yield them as they come; raise TimedOut if one does not come in time."""
        while True:
            yield await self._next(self._timeout)

    def take(self, count: int, *, timeout: float = WAIT_S) -> Taken[T, M]:
        """Return the next count, to be walked through: waiting at most timeout (s) for each; shorter if none comes."""
        return Taken(self._rest, lambda: self._next(timeout), count)

    @abstractmethod
    def frame(self) -> pd.DataFrame:
        """Return all that came so far."""


class Taken(Flow[T, M], Generic[T, M]):
    """The next few of a stream."""

    def __init__(self, rest: M, following: Callable[[], Any], count: int) -> None:
        super().__init__(rest)
        self._following, self._count = following, count

    async def _flow(self) -> AsyncGenerator[T, None]:
        for _ in range(self._count):
            try:
                item: T = await self._following()
            except TimedOut:
                return
            yield item

    def __repr__(self) -> str:
        return f"<the next {self._count}>"
