"""What a connected byte stream offers, in the fabric or over a real socket: reading and writing, waiting or not."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from pdmlab.errors import NetworkError

if TYPE_CHECKING:
    from pdmlab.coap.transport import Address


class ByteStream(ABC):
    """Both directions of one connection; lives on its loop, and is not for other threads.

    `on_event` is called whenever there may be something new: data, room to write, the end, an error.
    """

    peer: Address

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.on_event: Callable[[], None] | None = None
        self.error: NetworkError | None = None
        """Why the connection broke, once it has."""
        self._change: asyncio.Future[None] | None = None

    @abstractmethod
    def read_now(self, n: int) -> bytes | None:
        """Take up to n bytes that have arrived: None when there are none yet, b"" at the end.

        Raises:
            NetworkError: the connection broke, and all that had arrived has been read.
        """

    @abstractmethod
    def write_now(self, data: bytes) -> int:
        """Queue what fits into the send buffer and return how many bytes that is.

        Raises:
            NetworkError: the connection broke, or this side has closed it.
        """

    @abstractmethod
    def close(self) -> None:
        """End the outgoing direction once everything queued has gone (FIN)."""

    @abstractmethod
    def abort(self) -> None:
        """Drop the connection at once (RST)."""

    async def read(self, n: int) -> bytes:
        """Wait for data and take up to n bytes; b"" at the end."""
        while (data := self.read_now(n)) is None:
            await self.changed()
        return data

    async def write(self, data: bytes) -> None:
        """Queue all of data, waiting for room as needed."""
        view = data
        while view:
            taken = self.write_now(view)
            view = view[taken:]
            if not taken:
                await self.changed()

    async def changed(self) -> None:
        """Wait for the next event."""
        if self._change is None or self._change.done():
            self._change = self.loop.create_future()
        await asyncio.shield(self._change)

    def _notify(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)
        if self.on_event is not None:
            self.on_event()
