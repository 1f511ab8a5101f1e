"""Where connections of bytes come from: a real socket, or a board's interface and the in-memory network.

A `Stream` has the shape of network/bytestream.py's ByteStream. `StreamTransport` makes of one the transport of an
asyncio protocol, so that TCP and TLS are written once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError, TimedOut, Unreachable

P = TypeVar("P", bound=asyncio.Protocol)

_READ = 64 << 10  # B at once


class Stream(Protocol):
    """Both directions of one connection, on its loop; `on_event` is called whenever there may be something new."""

    peer: Address
    on_event: Callable[[], None] | None
    error: NetworkError | None

    def read_now(self, n: int) -> bytes | None:
        """Take up to n bytes: None when there are none yet, b"" at the end. Raises NetworkError when it broke."""
        ...

    def write_now(self, data: bytes) -> int:
        """Queue what fits and return how many bytes that is. Raises NetworkError when it broke."""
        ...

    def close(self) -> None:
        """End the outgoing direction once everything queued has gone."""
        ...

    def abort(self) -> None:
        """Drop the connection at once."""
        ...


Connect: TypeAlias = Callable[[Address], Awaitable[Stream]]
"""Connects a stream to an address; raises NetworkError if it cannot."""


class Listener(Protocol):
    """A port that takes connections."""

    @property
    def address(self) -> Address:
        """Where it is reached."""
        ...

    def close(self) -> None:
        """Take no more connections; those that are there stay."""
        ...


Accept: TypeAlias = Callable[[Callable[[Stream], None]], Awaitable[Listener]]
"""Begins to take connections, and hands each to the given function."""


class StreamTransport(asyncio.Transport):
    """A stream as the transport of an asyncio protocol."""

    def __init__(self, stream: Stream, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": stream.peer, "sockname": getattr(stream, "local", ("", 0))})
        self._stream = stream
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._out = bytearray()
        self._high = 64 << 10
        self._full = self._paused = self._closing = self._gone = self._busy = False
        stream.on_event = self._event
        protocol.connection_made(self)
        self._loop.call_soon(self._event)  # what came before anybody listened

    def is_closing(self) -> bool:
        """See asyncio.Transport."""
        return self._closing or self._gone

    def pause_reading(self) -> None:
        """Leave what arrives where it is."""
        self._paused = True

    def resume_reading(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._event)

    def is_reading(self) -> bool:
        """See asyncio.Transport."""
        return not (self._paused or self.is_closing())

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set above how many bytes the protocol is asked to pause."""
        if high is not None:
            self._high = high

    def get_write_buffer_size(self) -> int:
        """Return how much waits for room in the stream (B)."""
        return len(self._out)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write what there is room for now, and the rest later."""
        if self._gone or not data:
            return
        self._out += data
        if self._busy:
            # From within data_received: out with it, or an end that follows at once would swallow it.
            with contextlib.suppress(NetworkError):  # whoever reads next finds the same error
                self._flush()
        else:
            self._event()
        if len(self._out) > self._high and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """Write what waits, and end."""
        if not self.is_closing():
            self._closing = True
            self._loop.call_soon(self._event)

    def abort(self) -> None:
        """Drop the connection at once."""
        if not self._gone:
            self._stream.abort()
            self._end(None)

    def _event(self) -> None:
        if self._gone or self._busy:
            return
        self._busy = True  # writing may bring the next event before it returns
        try:
            self._flush()
            while not (self._paused or self._closing or self._gone):
                data = self._stream.read_now(_READ)
                if data is None:
                    break
                if not data:
                    self._protocol.eof_received()
                    self._closing = True
                    break
                self._protocol.data_received(data)
                self._flush()
            if self._closing and not self._out and not self._gone:
                self._stream.close()
                self._end(None)
        except NetworkError as error:
            self._stream.abort()
            self._end(error)
        except Exception as error:  # a protocol's defect ends its connection, as asyncio's transports have it
            self._loop.call_exception_handler({"message": "a connection's protocol failed", "exception": error})
            self._stream.abort()
            self._end(error)
        finally:
            self._busy = False

    def _flush(self) -> None:
        while self._out and not self._gone and (taken := self._stream.write_now(bytes(self._out))):
            del self._out[:taken]
        if self._full and not self._out:
            self._full = False
            self._protocol.resume_writing()

    def _end(self, error: Exception | None) -> None:
        if not self._gone:
            self._gone = True
            self._stream.on_event = None
            self._loop.call_soon(self._protocol.connection_lost, error)


async def connect_protocol(
    remote: Address, connect: Connect | None, protocol: Callable[[], P], timeout: float
) -> tuple[asyncio.Transport, P]:
    """Connect an asyncio protocol to remote, by `connect` or a real socket.

    Raises:
        Unreachable: refused, no such host, or no way to it.
        TimedOut: nobody answers in `timeout` (s).
    """
    where = f"{remote[0]}:{remote[1]}"
    try:
        async with asyncio.timeout(timeout):
            if connect is not None:
                stream = await connect(remote)
                new = protocol()
                return StreamTransport(stream, new), new
            return await asyncio.get_running_loop().create_connection(protocol, *remote)
    except TimeoutError as error:
        raise TimedOut(f"{where} does not answer in {timeout:g} s", hint="a firewall drops silently") from error
    except OSError as error:
        raise Unreachable(
            f"cannot connect to {where}: {error.strerror or error}", hint="does a server listen there, on TCP?"
        ) from error


async def accept_protocols(
    host: str, port: int, accept: Accept | None, protocol: Callable[[], asyncio.Protocol]
) -> Listener:
    """Give each connection that comes an asyncio protocol, those of `accept` or of a real port (0: any free one).

    Raises:
        Unreachable: the port cannot be bound.
    """
    if accept is not None:
        return await accept(lambda stream: cast(None, StreamTransport(stream, protocol())))
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(protocol, host, port, backlog=_BACKLOG)
    except OSError as error:
        raise Unreachable(
            f"cannot bind TCP {host}:{port}: {error.strerror or error}",
            hint="is another service running on this port? port 0 takes any free one",
        ) from error
    return _Port(server)


_BACKLOG = 1024  # connections that have not been accepted yet: a thousand devices may come at once


class _Port:
    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        name: Any = server.sockets[0].getsockname()
        self.address: Address = name[0], name[1]

    def close(self) -> None:
        self._server.close()


def keep_alive(transport: asyncio.BaseTransport, idle: int, interval: int, tries: int) -> None:
    """Have the kernel ask a silent peer after idle (s) whether it is there, and again each interval (s)."""
    real = transport.get_extra_info("socket")
    if real is None:
        return
    real.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", interval), ("TCP_KEEPCNT", tries)):
        if hasattr(socket, name):  # where the system lets it be set
            real.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
