"""Connections over the in-memory network, whose peers have proved what a story says: TLS without its cryptography.

What the service makes of connections and of proofs can so be told in virtual time. That the cryptography proves
what it should, tests/coap and the stories over real sockets see to.
"""

from __future__ import annotations

from collections.abc import Callable

from pdmlab.coap.transport import Address, Connection, ConnectionSocket, DatagramSocket, Identity, Opener
from pdmlab.errors import Unreachable


class Proven(ConnectionSocket):
    """A server's end: `identities` says who comes from an address; who is not there has no connection."""

    def __init__(self, before: Proven | None = None) -> None:
        self.identities: dict[Address, Identity] = {} if before is None else before.identities
        self._open: dict[Address, Connection] = {}
        self._serial = 0
        self._socket: DatagramSocket | None = None

    def opener(self, inner: Opener) -> Opener:
        async def open_(on_message: Callable[[bytes, Address], None]) -> Proven:
            def arrived(data: bytes, address: Address) -> None:
                if address in self.identities:
                    on_message(data, self.connection(address))

            self._socket = await inner(arrived)
            return self

        return open_

    def connection(self, address: Address) -> Connection:
        if address not in self._open:
            self._serial += 1
            self._open[address] = Connection(*address, "coaps+tcp", self._serial)
        return self._open[address]

    def end(self, address: Address, why: str = "the device closed the connection") -> None:
        self.identities.pop(address, None)
        ended = self._open.pop(address, None)
        if ended is not None and self.on_lost is not None:
            self.on_lost(ended, Unreachable(why))

    @property
    def address(self) -> Address:
        assert self._socket is not None
        return Connection(*self._socket.address, "coaps+tcp")

    def send(self, data: bytes, address: Address) -> None:
        if not self.connected(address) or self._socket is None:
            raise Unreachable("there is no such connection")
        self._socket.send(data, (address[0], address[1]))

    def connected(self, address: Address) -> bool:
        return self._open.get((address[0], address[1])) == address

    def identity(self, address: Address) -> Identity | None:
        return self.identities.get((address[0], address[1])) if self.connected(address) else None

    def part(self, identity: Identity, why: str) -> None:
        for address in [address for address, each in self.identities.items() if each == identity]:
            self.end(address, why)

    def close(self) -> None:
        """End all: who connects again has a connection again."""
        self._open.clear()
        if self._socket is not None:
            self._socket.close()
