"""Asking for the next block of a payload while the last one is written: what the stock client could, and does not.

It writes a block, and then asks for the next: the link is idle while the medium works, and the other way round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Blocks in their order, of which the next is asked for as soon as the last has been handed over.

    Still one request is under way at a time, as CoAP wants it; but two blocks are in RAM instead of one.
    """

    def __init__(self, block: Callable[[int], Awaitable[T]], numbers: Iterable[int]) -> None:
        self._block, self._numbers = block, numbers
        self._taker: asyncio.Future[T]
        self._wanted = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None
        self._ended = False

    async def __aenter__(self) -> Callable[[int], Awaitable[T]]:
        """Begin to ask; return what hands the blocks over, by their numbers, in their order."""
        self._asking = asyncio.create_task(self._ask())
        return self._take

    async def __aexit__(self, *exc: object) -> None:
        assert self._asking is not None
        self._ended = True
        self._asking.cancel()
        await asyncio.gather(self._asking, return_exceptions=True)

    async def _take(self, number: int) -> T:
        self._taker = asyncio.get_running_loop().create_future()
        self._wanted.set()
        return await self._taker

    async def _ask(self) -> None:
        for number in self._numbers:
            block, error = None, None
            try:
                block = await self._block(number)
            except BaseException as raised:  # a loss of power as well: it is for whoever writes the blocks
                if self._ended:
                    raise
                error = raised
            await self._wanted.wait()
            self._wanted.clear()
            if self._taker.done():  # cancelled
                return
            if error is not None:
                self._taker.set_exception(error)
                return
            self._taker.set_result(cast(T, block))
