"""Several sockets as one: an endpoint that is reached over UDP, DTLS, TCP and TLS alike."""

from __future__ import annotations

from collections.abc import Callable

from pdmlab.coap.transport import Address, ConnectionSocket, DatagramSocket, Identity, Opener, Scheme, scheme_of
from pdmlab.errors import NetworkError, Unreachable


def together(openers: dict[Scheme, Opener]) -> Opener:
    """Return an opener of one socket for each scheme; messages leave by the scheme of the peer that they go to.

    The first one's address is that of them all. If one cannot be opened, none stays open.
    """

    async def open_(on_message: Callable[[bytes, Address], None]) -> Together:
        opened: dict[Scheme, DatagramSocket | ConnectionSocket] = {}
        try:
            for scheme, opener in openers.items():
                opened[scheme] = await opener(on_message)
        except BaseException:
            for each in opened.values():
                each.close()
            raise
        return Together(opened)

    return open_


class Together(ConnectionSocket):
    """Sockets by scheme."""

    def __init__(self, sockets: dict[Scheme, DatagramSocket | ConnectionSocket]) -> None:
        self.sockets = sockets
        for each in sockets.values():
            if isinstance(each, ConnectionSocket):
                each.on_lost = self._lost

    def __repr__(self) -> str:
        ports = ", ".join(f"{scheme} on port {each.address[1]}" for scheme, each in self.sockets.items())
        return f"<Together: {ports}>"

    def _lost(self, address: Address, why: NetworkError) -> None:
        if self.on_lost is not None:
            self.on_lost(address, why)

    @property
    def address(self) -> Address:
        """See ConnectionSocket.address."""
        return next(iter(self.sockets.values())).address

    def send(self, data: bytes, address: Address) -> None:
        """See ConnectionSocket.send."""
        scheme = scheme_of(address)
        try:
            each = self.sockets[scheme]
        except KeyError:
            raise Unreachable(f"nothing here sends by {scheme}") from None
        each.send(data, address)

    def connected(self, address: Address) -> bool:
        """See ConnectionSocket.connected; who is reached by datagrams is."""
        each = self.sockets.get(scheme_of(address))
        return each.connected(address) if isinstance(each, ConnectionSocket) else each is not None

    def block_size(self, address: Address) -> int:
        """See ConnectionSocket.block_size."""
        each = self.sockets.get(scheme_of(address))
        return each.block_size(address) if isinstance(each, ConnectionSocket) else 1024

    def identity(self, address: Address) -> Identity | None:
        """See ConnectionSocket.identity."""
        each = self.sockets.get(scheme_of(address))
        return each.identity(address) if isinstance(each, ConnectionSocket) else None

    def part(self, identity: Identity, why: str) -> None:
        """See ConnectionSocket.part."""
        for each in self.sockets.values():
            if isinstance(each, ConnectionSocket):
                each.part(identity, why)

    def close(self) -> None:
        """See ConnectionSocket.close."""
        for each in self.sockets.values():
            each.close()
