"""Connections over streams as an endpoint's socket: a server has many, a client has one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from pdmlab.coap.admission import Admission, StreamParameters, open_files
from pdmlab.coap.framing import STOCK_BLOCK
from pdmlab.coap.link import Link
from pdmlab.coap.streams import Listener
from pdmlab.coap.transport import Address, Connection, ConnectionSocket, Identity, Scheme, text_of
from pdmlab.errors import HandshakeFailed, NetworkError, Unreachable

OnMessage: TypeAlias = Callable[[bytes, Address], None]


class Links(ConnectionSocket):
    """What a server's socket and a client's have in common."""

    def __init__(self, scheme: Scheme, parameters: StreamParameters, on_message: OnMessage) -> None:
        self.scheme: Scheme = scheme
        self.parameters = parameters
        self.on_message = on_message
        self.closed = False

    @abstractmethod
    def find(self, address: Address) -> Link | None:
        """Return the link to a peer."""

    @abstractmethod
    def admit(self, link: Link) -> bool:
        """Name a link that has just been connected; False if it is one too many."""

    def established(self, link: Link) -> None:  # a client knows its one link
        """Take note that a link's peer can be written to."""

    @abstractmethod
    def forget(self, link: Link, why: NetworkError) -> None:
        """Take note that a link has ended."""

    def failed(self, link: Link, why: HandshakeFailed) -> None:  # a client's opener raises it
        """Take note that a link's handshake failed."""

    def send(self, data: bytes, address: Address) -> None:
        """See ConnectionSocket.send."""
        link = self.find(address)
        if link is None:
            raise Unreachable(f"there is no connection to {text_of(address)}")
        link.send(data)

    def connected(self, address: Address) -> bool:
        """See ConnectionSocket.connected."""
        return self.find(address) is not None

    def block_size(self, address: Address) -> int:
        """See ConnectionSocket.block_size; the stock client's framing leaves room for 512 B."""
        link = self.find(address)
        return STOCK_BLOCK if link is None or link.framing is None else link.framing.block_size

    def identity(self, address: Address) -> Identity | None:
        """See ConnectionSocket.identity."""
        link = self.find(address)
        return None if link is None else link.identity

    def _tell(self, link: Link, why: NetworkError) -> None:
        if self.on_lost is not None and not self.closed:
            self.on_lost(link.name, why)


class ServerLinks(Links):
    """A server's socket: all who are connected to it."""

    def __init__(
        self,
        scheme: Scheme,
        parameters: StreamParameters,
        on_message: OnMessage,
        names_failure: Callable[[Address, HandshakeFailed], None] | None = None,
    ) -> None:
        super().__init__(scheme, parameters, on_message)
        self.admission = Admission(parameters, open_files())
        self.listener: Listener | None = None
        self._links: dict[Address, Link] = {}
        self._all: set[Link] = set()  # those too whose peers have not said anything yet
        self._serial = 0
        self._names_failure = names_failure

    def __repr__(self) -> str:
        where = f"{self.address[0]}:{self.address[1]}" if self.listener is not None else "closed"
        return f"<Server of {self.scheme} on {where}: {self.admission.connections} connections>"

    @property
    def address(self) -> Address:
        """See ConnectionSocket.address."""
        return self.listener.address if self.listener is not None else ("", 0)

    def find(self, address: Address) -> Link | None:
        """See Links.find."""
        return self._links.get(address)

    def admit(self, link: Link) -> bool:
        """See Links.admit."""
        peer = link.transport.get_extra_info("peername") or ("", 0)
        if self.closed or not self.admission.connect(peer[0]):
            return False
        self._serial += 1
        link.name = Connection(peer[0], peer[1], self.scheme, self._serial)
        self._all.add(link)
        return True

    def established(self, link: Link) -> None:
        """See Links.established."""
        self._links[link.name] = link

    def forget(self, link: Link, why: NetworkError) -> None:
        """See Links.forget."""
        self._all.discard(link)
        established = self._links.pop(link.name, None) is not None
        self.admission.disconnect(link.name[0])
        if established or not isinstance(why, HandshakeFailed):  # who never came in is in nobody's mind
            self._tell(link, why)

    def part(self, identity: Identity, why: str) -> None:
        """See ConnectionSocket.part."""
        for link in [each for each in self._links.values() if each.identity == identity]:
            link.drop(Unreachable(f"{text_of(link.name)}: {why}"))

    def failed(self, link: Link, why: HandshakeFailed) -> None:
        """See Links.failed."""
        if self._names_failure is not None:
            self._names_failure(link.name, why)

    def close(self) -> None:
        """See ConnectionSocket.close."""
        if not self.closed:
            self.closed = True
            if self.listener is not None:
                self.listener.close()
                self.listener = None
            for link in list(self._all):
                link.finish()
                link.lost(Unreachable(f"{text_of(link.name)}: this end was closed"))


class ClientLink(Links):
    """A client's socket: its one connection."""

    def __init__(self, scheme: Scheme, parameters: StreamParameters, on_message: OnMessage, remote: Address) -> None:
        super().__init__(scheme, parameters, on_message)
        self.name = Connection(remote[0], remote[1], scheme)
        self._link: Link | None = None
        self._address: Address = ("", 0)

    def __repr__(self) -> str:
        return f"<Client of {text_of(self.name)}{'' if self._link is not None else ', not connected'}>"

    def part(self, identity: Identity, why: str) -> None:
        """See ConnectionSocket.part."""
        if self._link is not None and self._link.identity == identity:
            self._link.drop(Unreachable(f"{text_of(self.name)}: {why}"))

    @property
    def address(self) -> Address:
        """See ConnectionSocket.address."""
        return self._address

    def find(self, address: Address) -> Link | None:
        """See Links.find."""
        return self._link if address == self.name else None

    def admit(self, link: Link) -> bool:
        """See Links.admit."""
        if self.closed:
            return False
        link.name, self._link = self.name, link
        local = link.transport.get_extra_info("sockname") or ("", 0)
        self._address = local[0], local[1]
        return True

    def forget(self, link: Link, why: NetworkError) -> None:
        """See Links.forget."""
        self._link = None
        self._tell(link, why)

    def close(self) -> None:
        """See ConnectionSocket.close."""
        if not self.closed:
            self.closed = True
            if (link := self._link) is not None:
                link.finish()
                link.lost(Unreachable(f"{text_of(self.name)}: this end was closed"))
