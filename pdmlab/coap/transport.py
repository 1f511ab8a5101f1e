"""What carries CoAP messages: a socket that sends and delivers whole messages, each to or from one peer.

The endpoint knows only an `Opener`. Plain UDP is here; an in-memory network fits the same three names. DTLS, TLS and
TCP have connections, which have a peer that may have proved who it is, and which end: `ConnectionSocket`.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

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
    _hash: int

    def __new__(cls, host: str, port: int, scheme: Scheme, serial: int = 0) -> Connection:
        new = super().__new__(cls, (host, port))
        new.scheme, new.serial = scheme, serial
        new._hash = hash((host, port, scheme, serial))  # each message asks for it several times
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
        return self._hash

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


RECEIVE_BUFFER = 4 << 20
"""Bytes asked of the kernel, which grants at most net.core.rmem_max; as much again is held here.

5000 observers that answer one burst fit.
"""
_PER_DATAGRAM = 256  # B that one costs here besides its bytes, about
_BATCH = 64  # datagrams worked off before others on the loop have their turn
_MOST_AT_ONCE = 1024
_MOST_UNSENT = 1024


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

    def block_size(self, address: Address) -> int:
        """Return the largest block (B) that a peer has room for in one message."""
        return 1024

    @abstractmethod
    def identity(self, address: Address) -> Identity | None:
        """Return who the peer of a connection has proved to be; None without security."""

    @abstractmethod
    def part(self, identity: Identity, why: str) -> None:
        """End the connections of whoever has proved to be somebody."""

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
            if family == socket.AF_INET6:
                # :: is all of IPv6, on every system, as it is for TCP; peers' addresses are their own.
                real.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            real.bind((host, port))
        except OSError as error:
            real.close()
            raise Unreachable(
                f"cannot bind UDP {host}:{port}: {error.strerror or error}",
                hint="is another service running on this port? port 0 takes any free one",
            ) from error
        return _UdpSocket(real, on_datagram)

    return open_


class _UdpSocket:
    """A real socket, read by as many datagrams at a time as came the last time, and one more.

    What is there is taken out of the kernel's buffer first and worked off after that, a batch at a time: it holds
    some hundred small datagrams where net.core.rmem_max is Linux's 212 KB, and a device's notification may cost a
    millisecond.
    """

    def __init__(self, real: socket.socket, on_datagram: Callable[[bytes, Address], None]) -> None:
        self._real = real
        self._on_datagram = on_datagram
        self._loop = asyncio.get_running_loop()
        self._received: deque[tuple[bytes, tuple[Any, ...]]] = deque()
        self._held = 0  # B received and not delivered yet
        self._delivering = False  # the next batch is scheduled
        self._expected = 1
        self._unsent: deque[tuple[bytes, Address]] = deque()
        self.address: Address = real.getsockname()[:2]
        self._loop.add_reader(real, self._readable)

    def _readable(self) -> None:
        self._read()
        if not self._delivering:
            self._deliver()

    def _read(self) -> None:
        received = self._received
        before = len(received)
        try:
            while self._held < RECEIVE_BUFFER and len(received) - before < self._expected:
                datagram = self._real.recvfrom(65535)
                received.append(datagram)
                self._held += len(datagram[0]) + _PER_DATAGRAM
            self._expected = min(self._expected * 2, _MOST_AT_ONCE)
        except (BlockingIOError, InterruptedError):
            self._expected = max(len(received) - before, 1)
        except OSError:  # of something that was sent before: the retransmission timer finds out
            pass

    def _deliver(self) -> None:
        received, left = self._received, _BATCH
        self._delivering = False
        try:
            while received and left:
                left -= 1
                data, peer = received.popleft()
                self._held -= len(data) + _PER_DATAGRAM
                self._on_datagram(data, peer if len(peer) == 2 else peer[:2])
        finally:
            if received:
                self._delivering = True
                self._loop.call_soon(self._deliver)

    def send(self, data: bytes, address: Address) -> None:
        if self._real.fileno() < 0:
            return
        if self._unsent:
            self._send_later(data, address)
            return
        try:
            self._real.sendto(data, address)
        except (BlockingIOError, InterruptedError):
            self._send_later(data, address)
        except OSError as error:
            raise Unreachable(f"cannot send {len(data)} B to {address[0]}:{address[1]}: {error}") from error

    def _send_later(self, data: bytes, address: Address) -> None:
        """Send it when the kernel has room again; what is too much is lost, as on the way."""
        if not self._unsent:
            self._loop.add_writer(self._real, self._writable)
        if len(self._unsent) < _MOST_UNSENT:
            self._unsent.append((data, address))

    def _writable(self) -> None:
        while self._unsent:
            try:
                self._real.sendto(*self._unsent[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # as on the way
                pass
            self._unsent.popleft()
        self._loop.remove_writer(self._real)

    def close(self) -> None:
        if self._real.fileno() >= 0:
            self._loop.remove_reader(self._real)
            self._loop.remove_writer(self._real)
            self._real.close()
        self._received.clear()
        self._unsent.clear()
