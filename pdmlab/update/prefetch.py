"""Asking for the next blocks of a payload while one is written: what the stock client could, and does not.

It asks for a block, waits for it, writes it, and asks for the next: the link is idle while the medium works, the medium
while the link does, and both for a round trip in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_AHEAD = 16
"""Blocks that may be asked for ahead: as many as RFC 9177 (Q-Block) sends in a row (MAX_PAYLOADS, 10), and some."""


class Prefetch(Generic[T]):
    """Blocks in their order, of which the next `ahead` (1 or more) are asked for while one is with its taker.

    With 1, one request is under way at a time, as CoAP wants it by default (RFC 7252 4.7, NSTART); with n, up to n are.
    In RAM are the blocks ahead, and the one that is being written.
    """

    def __init__(self, block: Callable[[int], Awaitable[T]], numbers: Iterable[int], ahead: int = 1) -> None:
        self._block, self._numbers, self._ahead = block, iter(numbers), ahead
        self._asked: deque[asyncio.Task[T]] = deque()

    async def __aenter__(self) -> Callable[[int], Awaitable[T]]:
        """Begin to ask; return what hands the blocks over, by their numbers, in their order."""
        self._ask()
        return self._take

    async def __aexit__(self, *exc: object) -> None:
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)

    async def _take(self, number: int) -> T:
        block = await self._asked[0]  # still there if it fails or the taker ends, for the exit to see to
        self._asked.popleft()
        self._ask()
        return block

    def _ask(self) -> None:
        while len(self._asked) < self._ahead and (number := next(self._numbers, None)) is not None:
            self._asked.append(asyncio.ensure_future(self._of(number)))

    async def _of(self, number: int) -> T:
        return await self._block(number)
