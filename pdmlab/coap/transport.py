"""What carries CoAP messages: a socket that delivers whole messages from and to peers.

An endpoint is given an `Opener` and does not know what is behind it: a UDP socket, the in-memory network, and
later DTLS, TLS (one message a record) or TCP (a length before each message), which do their framing below this seam.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from pdmlab.errors import Unreachable

Address: TypeAlias = tuple[str, int]
"""Host and port of a peer."""
OnMessage: TypeAlias = Callable[[bytes, Address], None]

RECEIVE_BUFFER = 1 << 20
"""Asked of the kernel (B): its default of 212 KB loses notifications of a thousand observers in one burst."""


class DatagramSocket(Protocol):
    """An open socket that carries whole messages."""

    @property
    def address(self) -> Address:
        """The local address."""
        ...

    def send(self, data: bytes, address: Address) -> None:
        """Send one message; whether it arrives is another matter."""
        ...

    def close(self) -> None:
        """Stop receiving; idempotent."""
        ...


Opener: TypeAlias = Callable[[OnMessage], Awaitable[DatagramSocket]]
"""Opens a socket on the running loop; messages go to the callback."""


def udp(host: str = "127.0.0.1", port: int = 0) -> Opener:
    """Return an opener of UDP sockets bound to host and port (0: a free one); loopback unless told.

    Raises, when it is used:
        Unreachable: the port is taken, or the address is not this machine's.
    """

    async def open_socket(on_message: OnMessage) -> DatagramSocket:
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Protocol(on_message), local_addr=(host, port))
        except OSError as error:
            raise Unreachable(
                f"cannot bind UDP {host}:{port}: {error.strerror}", hint="take port 0 for a free one"
            ) from error
        return _UdpSocket(transport)

    return open_socket


class _UdpSocket:
    def __init__(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport
        bound: socket.socket = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._address: Address = bound.getsockname()[:2]

    @property
    def address(self) -> Address:
        return self._address

    def send(self, data: bytes, address: Address) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(data, address)

    def close(self) -> None:
        self._transport.close()


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, on_message: OnMessage) -> None:
        self._on_message = on_message

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._on_message(data, address[:2])

    def error_received(self, error: Exception) -> None:
        """Ignore ICMP errors: the exchange that got no answer says so itself."""
