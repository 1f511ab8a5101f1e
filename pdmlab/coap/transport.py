"""What carries CoAP messages: a socket that sends and delivers whole messages, each to or from one peer.

The endpoint knows only an `Opener`. Plain UDP is here; an in-memory network, a DTLS or TLS association (one
message a record) or a TCP connection (a length before each message) fits the same three names, as long as
what it delivers is one whole message.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, cast

from pdmlab.errors import Unreachable

Address: TypeAlias = tuple[str, int]
"""A peer: numeric host and port, as datagrams arrive from it."""

# 5000 observers that answer one burst fit; the kernel grants at most net.core.rmem_max.
RECEIVE_BUFFER = 4 << 20


class DatagramSocket(Protocol):
    """A bound socket of whole messages."""

    @property
    def address(self) -> Address:
        """Where peers reach it."""
        ...

    def send(self, data: bytes, address: Address) -> None:
        """Send one message; may lose it silently.

        Raises:
            NetworkError: it cannot be sent at all (no route, too large, interface down).
        """
        ...

    def close(self) -> None:
        """Stop sending and delivering; a second call does nothing."""
        ...


Opener: TypeAlias = Callable[[Callable[[bytes, Address], None]], Awaitable[DatagramSocket]]
"""Opens a socket that hands each received message and its sender to the given function."""


def udp(host: str = "127.0.0.1", port: int = 0) -> Opener:
    """Return an opener of real UDP sockets bound to a numeric host and port (0: any free one).

    The opener raises Unreachable when the address cannot be bound.
    """

    async def open_(on_datagram: Callable[[bytes, Address], None]) -> DatagramSocket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        real = socket.socket(family, socket.SOCK_DGRAM)
        try:
            real.setblocking(False)
            real.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            real.bind((host, port))
            loop = asyncio.get_running_loop()
            _, protocol = await loop.create_datagram_endpoint(lambda: _UdpSocket(on_datagram), sock=real)
        except OSError as error:
            real.close()
            raise Unreachable(
                f"cannot bind UDP {host}:{port}: {error.strerror or error}",
                hint="is another service running on this port? port 0 takes any free one",
            ) from error
        return protocol

    return open_


class _UdpSocket(asyncio.DatagramProtocol):
    def __init__(self, on_datagram: Callable[[bytes, Address], None]) -> None:
        self._on_datagram = on_datagram
        self._transport: asyncio.DatagramTransport | None = None
        self._error: Exception | None = None
        self.address: Address = ("", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.address = self._transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self._on_datagram(data, cast(Address, addr if len(addr) == 2 else addr[:2]))

    def error_received(self, exc: Exception) -> None:
        # One from sendto comes before it returns. ICMP errors name no exchange: the retransmission timer finds out.
        self._error = exc

    def send(self, data: bytes, address: Address) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._error = None
            self._transport.sendto(data, address)
            if (error := self._error) is not None:
                raise Unreachable(f"cannot send {len(data)} B to {address[0]}:{address[1]}: {error}") from error

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
