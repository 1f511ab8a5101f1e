"""CoAP over plain TCP: the stock client's four bytes of length, or RFC 8323, as the peer has it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pdmlab.coap.admission import StreamParameters
from pdmlab.coap.connections import ClientLink, OnMessage, ServerLinks
from pdmlab.coap.framing import Framing, Lengths, Way
from pdmlab.coap.link import Link
from pdmlab.coap.recognition import framing_for
from pdmlab.coap.streams import Accept, Connect, accept_protocols, connect_protocol
from pdmlab.coap.transport import Address, Opener

if TYPE_CHECKING:
    from pdmlab.coap.connections import Links


def tcp(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    accept: Accept | None = None,
    parameters: StreamParameters | None = None,
) -> Opener:
    """Return an opener of a server: on a real port (0: any free one), or of the connections that `accept` hands over.

    The opener raises Unreachable when the port cannot be bound.
    """
    limits = parameters or StreamParameters()

    async def open_(on_message: OnMessage) -> ServerLinks:
        links = ServerLinks("coap+tcp", limits, on_message)
        links.listener = await accept_protocols(host, port, accept, lambda: TcpLink(links, None, limits.frame_gap))
        return links

    return open_


def tcp_to(
    remote: Address,
    *,
    connect: Connect | None = None,
    framing: Way = "length",
    parameters: StreamParameters | None = None,
) -> Opener:
    """Return an opener of a client; framing is "length" (the stock client's) or "rfc8323".

    connect: how to get a stream to the address, such as a board's interface; a real socket unless given.
    The opener raises Unreachable or TimedOut when there is no connection.
    """
    limits = parameters or StreamParameters()

    async def open_(on_message: OnMessage) -> ClientLink:
        links = ClientLink("coap+tcp", limits, on_message, remote)
        await connect_protocol(remote, connect, lambda: TcpLink(links, framing_for(framing)), limits.connect_timeout)
        return links

    return open_


class TcpLink(Link):
    """A TCP connection: what comes is the framing's, and so is what goes.

    The stock client reads its socket once an event, takes one frame of what it has read, and loses the rest. So a
    server sends it a second frame only when it has said something since the first, or after `gap` (s).
    """

    def __init__(self, owner: Links, framing: Framing | None, gap: float = 0.0) -> None:
        super().__init__(owner, framing)
        self._gap = gap
        self._next = 0.0
        self._waiting: deque[bytes] = deque()
        self._waiting_size = 0

    def begun(self) -> None:
        """See Link.begun."""
        self.opened()

    def take(self, data: bytes) -> None:
        """See Link.take."""
        if not self._waiting:
            self._next = 0.0
        self.arrived(data)

    def put(self, data: bytes) -> None:
        """See Link.put: one frame, one write."""
        if not self._gap or not isinstance(self.framing, Lengths):
            self.transport.write(data)
        elif not self._waiting and self._loop.time() >= self._next:
            self._put_now(data)
        else:
            if not self._waiting:
                self._loop.call_at(self._next, self._put_next)
            self._waiting.append(data)
            self._waiting_size += len(data)

    def _put_now(self, data: bytes) -> None:
        self.transport.write(data)
        self._next = self._loop.time() + self._gap

    def _put_next(self) -> None:
        if self._waiting and not self.gone:
            data = self._waiting.popleft()
            self._waiting_size -= len(data)
            self._put_now(data)
            if self._waiting:
                self._loop.call_at(self._next, self._put_next)

    @property
    def unsent(self) -> int:
        """See Link.unsent."""
        return super().unsent + self._waiting_size

    def bye(self) -> None:
        """See Link.bye: out with what waits."""
        while self._waiting:
            self.transport.write(self._waiting.popleft())
