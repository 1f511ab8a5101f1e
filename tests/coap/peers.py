"""The other side of a connection: a test that speaks in bytes over a real socket on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.transport import Address, ConnectionSocket, Opener
from pdmlab.errors import NetworkError

T = TypeVar("T")
SOON = 60.0
"""How long (s) a test waits for what happens at once, before it fails."""


def run(story: Callable[[], Awaitable[T]]) -> T:
    """Run a story on a real loop, within bounded time; what its loop complains of fails the test."""
    problems: list[str] = []

    async def main() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(str(context)))
        async with asyncio.timeout(60):
            return await story()

    result = asyncio.run(main())
    assert not problems, problems
    return result


class Ear:
    """What a socket delivers and loses; wait for the next with `heard` and `lost`."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        self.losses: asyncio.Queue[tuple[Address, NetworkError]] = asyncio.Queue()

    async def open(self, opener: Opener) -> Any:
        socket = await opener(lambda data, peer: self.messages.put_nowait((data, peer)))
        if isinstance(socket, ConnectionSocket):
            socket.on_lost = lambda peer, why: self.losses.put_nowait((peer, why))
        return socket

    async def heard(self) -> tuple[bytes, Address]:
        async with asyncio.timeout(SOON):
            return await self.messages.get()

    async def lost(self) -> tuple[Address, NetworkError]:
        async with asyncio.timeout(SOON):
            return await self.losses.get()


class Raw:
    """A TCP connection in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, address: Address) -> Raw:
        return cls(*await asyncio.open_connection(*address))

    def send(self, text: str) -> None:
        self.writer.write(bytes.fromhex(text))

    async def read(self, text: str) -> None:
        """Expect exactly these bytes next."""
        wanted = bytes.fromhex(text)
        async with asyncio.timeout(SOON):
            got = await self.reader.readexactly(len(wanted))
        assert got.hex() == wanted.hex()

    async def ended(self) -> bytes:
        """Return what comes before the end."""
        try:
            async with asyncio.timeout(SOON):
                return await self.reader.read()
        except ConnectionError:
            return b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


async def echo(message: Message, peer: Address) -> Message:
    """Answer with what the request says of itself."""
    path = "/".join(message.opt.uri_path)
    if path == "large":
        return Message(code=codes.CONTENT, payload=bytes(range(256)) * 16)
    return Message(code=codes.CONTENT, payload=path.encode() + b"|" + message.payload[:200])
