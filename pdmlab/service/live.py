"""The message log followed live: one reader for all who follow a device, and for each what it has not seen yet."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pdmlab.capture import Kept, KeptEvent, LoggedMessage, MessageLog
    from pdmlab.capture.reading import Reader

BEHIND = 2_000
"""Messages that wait to be put in words, and rows that wait for one follower, at most; the oldest go first."""
FOLLOWERS = 64
"""Of one service at once, at most: what each of them is shown has to be put in words."""
QUIET_S = 15.0
"""How long a follower hears nothing before it is told that nothing is new: so a dead connection is found."""


class Live:
    """Who follows the log of which device. It costs nothing while nobody does."""

    def __init__(self, log: MessageLog | None) -> None:
        self._log = log
        self._followers: set[Follower] = set()
        self._fresh: deque[Kept | KeptEvent] = deque(maxlen=BEHIND)
        self._told = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: Reader | None = None
        self._from = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<Live, {len(self._followers)} followers>"

    @property
    def full(self) -> bool:
        """Whether no further follower is taken."""
        return len(self._followers) >= FOLLOWERS

    @contextlib.asynccontextmanager
    async def follow(self, device_id: str, seconds: float) -> AsyncIterator[Follower]:
        """Follow a device's messages for so long (s), on the loop; what passes from here on is not missed."""
        follower = Follower(device_id)
        ending = asyncio.get_running_loop().call_later(seconds, follower.end)
        if self._log is None or self._closed:
            follower.end()
        else:
            self._followers.add(follower)
            if len(self._followers) == 1:
                await self._begin(self._log)
        try:
            yield follower
        finally:
            ending.cancel()
            self._followers.discard(follower)
            if not self._followers:
                self._end()

    def close(self) -> None:
        """End what is followed: the service is about to stop."""
        self._closed = True
        for follower in self._followers:
            follower.end()

    async def _begin(self, log: MessageLog) -> None:
        self._loop = asyncio.get_running_loop()
        log.watch(self._passed)
        # In a thread: to read ten thousand takes half a second, and devices do not wait for that.
        self._reader, self._from = await asyncio.to_thread(log.reader)
        self._spread()

    def _end(self) -> None:
        if self._log is not None:
            self._log.unwatch(self._passed)
        self._reader = None
        self._fresh.clear()
        self._told.clear()

    def _passed(self, kept: Kept | KeptEvent) -> None:
        """Take a message, in the thread that it passes in; put it in words later, a moment's messages in one go."""
        self._fresh.append(kept)
        if not self._told.is_set() and self._loop is not None:
            self._told.set()
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._spread)

    def _spread(self) -> None:
        self._told.clear()
        while self._reader is not None and self._fresh:
            kept = self._fresh.popleft()
            if kept.number < self._from:
                continue
            reading = self._reader.feed(kept)
            # By its id alone: a name that somebody gave in a handshake may be that of another account's device.
            followers = [each for each in self._followers if each.device_id == reading.talk.device]
            if followers:
                row = self._reader.row(reading)
                for follower in followers:
                    follower.put(row)


class Follower:
    """One who follows a device: iterate over it for what passes; None says that nothing has, for QUIET_S."""

    def __init__(self, device_id: str) -> None:
        self.device_id = device_id
        self._rows: deque[LoggedMessage] = deque(maxlen=BEHIND)
        self._news = asyncio.Event()
        self._ended = False

    def __repr__(self) -> str:
        return f"<Follower of {self.device_id}, {len(self._rows)} rows wait>"

    def put(self, row: LoggedMessage) -> None:
        """Leave a row for it."""
        self._rows.append(row)
        self._news.set()

    def end(self) -> None:
        """Let it iterate no longer than over what waits."""
        self._ended = True
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[LoggedMessage | None]:
        while True:
            while self._rows:
                yield self._rows.popleft()
            if self._ended:
                return
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), QUIET_S)
            except TimeoutError:
                yield None
