"""At most so many at once, and nobody for long: who takes a turn gives it back, or it is taken back in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """So many turns, each for at most `for_s` (s): whoever needs longer goes on, and the next one begins."""

    def __init__(self, at_once: int, for_s: float) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._for_s = for_s

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it in the block."""
        await self._free.acquire()
        timer = asyncio.get_running_loop().call_later(self._for_s, self._free.release)
        try:
            yield
        finally:
            if not timer.cancelled() and timer.when() > asyncio.get_running_loop().time():
                timer.cancel()
                self._free.release()
