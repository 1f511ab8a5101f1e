"""What carries CoAP messages: a socket that sends and delivers whole messages, each to or from one peer.

The endpoint knows only an `Opener`. Plain UDP is here; an in-memory network fits the same three names. DTLS, TLS and
TCP have connections, which have a peer that may have proved who it is, and which end: `ConnectionSocket`.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, cast

from pdmlab.errors import NetworkError, Unreachable

Address: TypeAlias = tuple[str, int]
"""A peer: numeric host and port, as datagrams arrive from it; a `Connection` for one that is reached otherwise."""

Scheme: TypeAlias = Literal["coap", "coaps", "coap+tcp", "coaps+tcp"]
"""UDP, DTLS, TCP and TLS, by the names of RFC 7252 section 6 and RFC 8323 section 8."""


class Connection(tuple[str, int]):
    """The peer at the other end of a connection: host and port that it came from, and which connection it is.

    `serial` tells connections of one socket apart that came from one address; a socket that connects to its one
    peer names it with 0. A DTLS client that goes on from another port keeps its name. Equal to no plain address.
    """

    scheme: Scheme
    serial: int

    def __new__(cls, host: str, port: int, scheme: Scheme, serial: int = 0) -> Connection:
        new = super().__new__(cls, (host, port))
        new.scheme, new.serial = scheme, serial
        return new

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Connection)
            and tuple.__eq__(self, other)
            and (self.scheme, self.serial) == (other.scheme, other.serial)
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((*self, self.scheme, self.serial))

    def __repr__(self) -> str:
        return f"Connection({self[0]!r}, {self[1]}, {self.scheme!r}, {self.serial})"

    def __getnewargs__(self) -> tuple[str, int, Scheme, int]:
        return self[0], self[1], self.scheme, self.serial


def scheme_of(address: Address) -> Scheme:
    """Return by what a peer is reached."""
    return address.scheme if isinstance(address, Connection) else "coap"


def text_of(address: Address) -> str:
    """Write a peer as people read it: 192.0.2.1:5683 (UDP), coaps+tcp://192.0.2.1:5684, coaps://[2001:db8::1]:5684."""
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    scheme = scheme_of(address)
    return f"{host}:{address[1]}" if scheme == "coap" else f"{scheme}://{host}:{address[1]}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a peer has proved to be: `name` is its PSK identity, or the common name of its certificate.

    `certificates` is what it sent (DER), its own first; empty with PSK.
    """

    kind: Literal["psk", "certificate"]
    name: str
    certificates: tuple[bytes, ...] = field(default=(), repr=False)


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


class ConnectionSocket(ABC):
    """A bound socket whose peers are `Connection`s: they prove who they are, and they end.

    Whoever opened it sets `on_lost` at once; it is called with a connection and why it ended.
    """

    on_lost: Callable[[Address, NetworkError], None] | None = None

    @property
    @abstractmethod
    def address(self) -> Address:
        """Where peers reach it."""

    @abstractmethod
    def send(self, data: bytes, address: Address) -> None:
        """Send one message.

        Raises:
            Unreachable: there is no such connection (any more).
            NetworkError: the message is too large, or the peer takes nothing and what waits for it is too much.
        """

    @abstractmethod
    def connected(self, address: Address) -> bool:
        """Whether the connection is there."""

    @abstractmethod
    def identity(self, address: Address) -> Identity | None:
        """Return who the peer of a connection has proved to be; None without security."""

    @abstractmethod
    def close(self) -> None:
        """End all connections and stop; a second call does nothing."""


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
