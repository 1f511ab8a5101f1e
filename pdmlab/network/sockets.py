"""Mbed's sockets: blocking (or not) calls from device code, with NSAPI's names and codes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pdmlab.errors import WouldBlock
from pdmlab.network.bytestream import ByteStream
from pdmlab.network.interface import NetworkInterface
from pdmlab.network.nsapi import NsapiError, nsapi_error

if TYPE_CHECKING:
    from pdmlab.coap.transport import Address, DatagramSocket

UDP_QUEUE = 8
"""Datagrams that wait unread; more are dropped (mbed-os lwipopts.h: DEFAULT_UDP_RECVMBOX_SIZE)."""


class Socket:
    """What TCPSocket and UDPSocket share; each call takes the link's call_time on the device."""

    def __init__(self, interface: NetworkInterface | None = None) -> None:
        self._interface: NetworkInterface | None = None
        self._timeout: float | None = None  # s; None waits for ever, 0 never
        self._sigio: Callable[[], None] | None = None
        if interface is not None:
            self.open(interface)

    def open(self, interface: NetworkInterface) -> None:
        """Open the socket on an interface.

        Raises:
            NetworkError: it is open already (NSAPI_ERROR_PARAMETER).
        """
        if self._interface is not None:
            raise nsapi_error(NsapiError.PARAMETER, "the socket is open already", hint="close() it first")
        self._interface = interface

    def close(self) -> None:
        """Close the socket; may be called twice."""
        self._interface = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def set_blocking(self, blocking: bool) -> None:
        """Wait for ever (True), or raise WouldBlock instead of waiting (False)."""
        self.set_timeout(-1 if blocking else 0)

    def set_timeout(self, ms: int) -> None:
        """Wait at most ms in each call: 0 never waits (WouldBlock), -1 waits for ever."""
        self._timeout = None if ms < 0 else ms / 1000

    def sigio(self, callback: Callable[[], None] | None) -> None:
        """Call back whenever the socket may have something new; as in an interrupt, the callback must not block."""
        self._sigio = callback

    def _signal(self) -> None:
        if self._sigio is not None:
            self._sigio()

    def _enter(self) -> NetworkInterface:
        """Begin a call: the socket must be open; takes the call's time."""
        if self._interface is None:
            raise nsapi_error(NsapiError.NO_SOCKET, f"this {type(self).__name__} is not open")
        self._interface.clock.charge(self._interface.link.call_time)
        return self._interface

    def _deadline(self, interface: NetworkInterface) -> float | None:
        return None if self._timeout is None else interface.clock.loop.time() + self._timeout

    def _wait(self, event: Callable[[], Awaitable[None]], what: str, deadline: float | None) -> None:
        """Wait for an event until the deadline (loop time, s)."""
        interface = self._interface
        if interface is None:
            raise nsapi_error(NsapiError.NO_SOCKET, f"the socket was closed while it waited for {what}")
        if self._timeout == 0:
            raise nsapi_error(NsapiError.WOULD_BLOCK, f"no {what} just now")
        left = None if deadline is None else deadline - interface.clock.loop.time()

        async def wait() -> None:
            await asyncio.wait_for(event(), left)

        try:
            interface.clock.run(wait())
        except TimeoutError:
            raise nsapi_error(NsapiError.WOULD_BLOCK, f"no {what} in {self._timeout or 0:g} s") from None


class TCPSocket(Socket):
    """A TCP connection from a board.

    >>> socket = TCPSocket(net)                      # doctest: +SKIP
    >>> socket.connect("downloads.pdmlab", 80)       # doctest: +SKIP
    """

    def __init__(self, interface: NetworkInterface | None = None) -> None:
        self._stream: ByteStream | None = None
        self._receive_buffer: int | None = None
        super().__init__(interface)

    def set_receive_buffer(self, size: int) -> None:
        """Offer a receive window of size bytes on the next connect (NSAPI_RCVBUF), at most the stack's own.

        Nanostack and modems with a stack of their own have such a buffer for each socket. lwIP has not: all its
        sockets share one compiled-in window (lwip.tcp-wnd, here `link.receive_buffer`); here each can have less, so
        that one run can compare them.
        """
        if size < 1:
            raise nsapi_error(NsapiError.PARAMETER, f"a receive buffer of {size} B holds nothing")
        self._receive_buffer = size

    def connect(self, host: str, port: int) -> None:
        """Resolve and connect.

        Raises:
            Unreachable: no network, unknown name, refused. TimedOut: no answer.
            NetworkError: connected already (NSAPI_ERROR_IS_CONNECTED).
        """
        interface = self._enter()
        if self._stream is not None:
            raise nsapi_error(NsapiError.IS_CONNECTED, "the socket is connected already")
        self._stream = interface.clock.run(interface.connect_stream((host, port), self._receive_buffer))
        self._stream.on_event = self._signal

    def send(self, data: bytes) -> int:
        """Queue data for sending and return how many bytes were taken: all of them on a blocking socket.

        Raises:
            Unreachable: not connected, or the connection broke. WouldBlock: no room at all.
        """
        interface = self._enter()
        stream = self._connected()
        deadline = self._deadline(interface)
        sent = 0
        while sent < len(data):
            taken = stream.write_now(data[sent:])
            sent += taken
            if not taken:
                try:
                    self._wait(stream.changed, "room to send", deadline)
                except WouldBlock:
                    if sent:
                        return sent
                    raise
        return sent

    def recv(self, size: int) -> bytes:
        """Return what has arrived, at most size bytes, waiting for the first; b"" once the peer has closed.

        Raises:
            Unreachable: not connected, or the connection broke. WouldBlock: nothing in time.
        """
        interface = self._enter()
        stream = self._connected()
        deadline = self._deadline(interface)
        while (data := stream.read_now(size)) is None:
            self._wait(stream.changed, "data", deadline)
        return data

    def getpeername(self) -> Address:
        """Return the peer's address and port."""
        return self._connected().peer

    def close(self) -> None:
        """Close the connection and the socket."""
        if self._stream is not None:
            self._stream.on_event = None
            self._stream.close()
            self._stream = None
        super().close()

    def _connected(self) -> ByteStream:
        if self._stream is None:
            raise nsapi_error(NsapiError.NO_CONNECTION, "the socket is not connected", hint="call connect(host, port)")
        return self._stream


class UDPSocket(Socket):
    """Datagrams from a board."""

    def __init__(self, interface: NetworkInterface | None = None) -> None:
        self._sockets: dict[bool, DatagramSocket] = {}  # by whether it is inside the fabric
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._news: asyncio.Event = asyncio.Event()
        super().__init__(interface)

    def sendto(self, host: str, port: int, data: bytes) -> int:
        """Send a datagram and return its size.

        Raises:
            Unreachable: no network, unknown name. NetworkError: too large (NSAPI_ERROR_PARAMETER).
        """
        interface = self._enter()
        address = interface.gethostbyname(host)
        inside = interface.inside(address)
        if inside not in self._sockets:
            self._sockets[inside] = interface.clock.run(interface.opener((address, port))(self._arrived))
        self._sockets[inside].send(data, (address, port))
        return len(data)

    def recvfrom(self, size: int) -> tuple[bytes, Address]:
        """Return the next datagram, cut to size bytes, and who sent it.

        Raises:
            WouldBlock: nothing in time.
        """
        interface = self._enter()
        deadline = self._deadline(interface)
        while not self._queue:
            self._news.clear()
            self._wait(self._next_datagram, "datagram", deadline)
        data, source = self._queue.popleft()
        return data[:size], source

    async def _next_datagram(self) -> None:
        await self._news.wait()

    def close(self) -> None:
        """Close the socket; what was not received is lost."""
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()
        self._queue.clear()
        super().close()

    def _arrived(self, data: bytes, source: Address) -> None:
        if len(self._queue) < UDP_QUEUE:
            self._queue.append((data, source))
            self._news.set()
            self._signal()
