"""The server's end of many DTLS associations: who comes in, who is lost, and what a store keeps of them."""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice

from OpenSSL import SSL

from pdmlab.coap.allowance import Allowance, Allowances
from pdmlab.coap.dtls_association import CLOSE_NOTIFY, Association
from pdmlab.coap.dtls_cookies import Greeter
from pdmlab.coap.dtls_handshake import Agreed, Negotiation, Timing, datagram_context
from pdmlab.coap.dtls_peers import Peers
from pdmlab.coap.dtls_record import HEADER, MAX_PLAINTEXT, Content, split
from pdmlab.coap.dtls_store import Keeper, Store
from pdmlab.coap.handshake import Handshake
from pdmlab.coap.openssl import server_context
from pdmlab.coap.security import HandshakeStep, Security
from pdmlab.coap.transport import Address, Connection, ConnectionSocket, DatagramSocket, Identity, Opener, text_of
from pdmlab.errors import HandshakeFailed, NetworkError, Unreachable

_RANDOM = slice(HEADER + 12 + 2, HEADER + 12 + 2 + 32)  # in a ClientHello: behind its header and version
_RECORDS = 16  # of one datagram; a flight is of six, and 64 KB may hold two thousand messages
_REMEMBERED = 256  # ClientHellos of finished handshakes


@dataclass(frozen=True, slots=True)
class Limits:
    """What peers can make a server hold and do.

    associations  in all; the one that was silent longest goes
    handshakes    under way, in all; of one host; and begun by one host in a second
    tries         records of unknown addresses that are tried with a known association's key, in a second:
                  those of the address's host, and all others
    """

    associations: int = 20_000
    handshakes: int = 512
    handshakes_of_host: int = 128
    handshakes_a_second: float = 200
    tries: float = 20_000


class DtlsServer(ConnectionSocket):
    """A socket with many peers; `dtls` makes it."""

    def __init__(
        self,
        security: Security,
        on_message: Callable[[bytes, Address], None],
        store: Store | None,
        timing: Timing,
        limits: Limits,
        mtu: int,
    ) -> None:
        self._security = security
        self._on_message = on_message
        self._keeper = None if store is None else Keeper(store)
        self._timing = timing
        self._limits = limits
        self._mtu = mtu
        self._inner: DatagramSocket | None = None
        self._peers = Peers(limits.tries)
        self._serial = secrets.randbits(40)  # names of associations of an earlier start may be kept somewhere
        self._negotiations: dict[Address, Negotiation] = {}
        self._hosts: Counter[str] = Counter()  # negotiations under way
        self._agreed: deque[bytes | None] = deque(maxlen=_REMEMBERED)  # random numbers of clients, of finished ones
        self._begun = Allowances(limits.handshakes_a_second)
        self._hints = Allowance(10)
        self._greeter = Greeter(lambda: datagram_context(server_context(security, SSL.DTLS_METHOD), security), mtu)

    async def open(self, inner: Opener) -> None:
        """Load what the store keeps, and listen."""
        for association in self._keeper.load() if self._keeper is not None else ():
            self._peers.add(association)
        self._inner = await inner(self._received)

    def __repr__(self) -> str:
        return f"<DtlsServer with {len(self._peers)} associations and {len(self._negotiations)} handshakes>"

    # -- the socket ------------------------------------------------------------------------------------

    @property
    def address(self) -> Address:
        """See ConnectionSocket.address."""
        return self._inner.address if self._inner is not None else ("", 0)

    def send(self, data: bytes, address: Address) -> None:
        """See ConnectionSocket.send."""
        association = self._peers.named(address)
        if association is None or self._inner is None or association.protection.exhausted:
            raise Unreachable(
                f"there is no connection to {text_of(address)}", hint="it comes back when the device does"
            )
        if len(data) > MAX_PLAINTEXT:
            raise NetworkError(f"{len(data)} B are too much for a DTLS record of {MAX_PLAINTEXT} B")
        self._reserve(association)
        self._inner.send(association.protection.seal(Content.APPLICATION_DATA, data), association.address)

    def connected(self, address: Address) -> bool:
        """See ConnectionSocket.connected."""
        return self._peers.named(address) is not None

    def identity(self, address: Address) -> Identity | None:
        """See ConnectionSocket.identity."""
        association = self._peers.named(address)
        return association.identity if association is not None else None

    def part(self, identity: Identity, why: str) -> None:
        """See ConnectionSocket.part."""
        for association in [each for each in self._peers if each.identity == identity]:
            if not association.protection.exhausted:
                self._try_to_send(association.protection.seal(Content.ALERT, CLOSE_NOTIFY), association.address)
            self._lose(association, why)

    def close(self) -> None:
        """See ConnectionSocket.close; associations that a store keeps go on when it is opened again."""
        if self._inner is None:
            return
        for negotiation in self._negotiations.values():
            negotiation.cancel()
        self._negotiations.clear()
        if self._keeper is not None:
            self._keeper.save()
        else:
            for association in self._peers:
                if not association.protection.exhausted:
                    self._try_to_send(association.protection.seal(Content.ALERT, CLOSE_NOTIFY), association.address)
        self._inner.close()
        self._inner = None

    # -- what comes ------------------------------------------------------------------------------------

    def _received(self, datagram: bytes, address: Address) -> None:
        if self._inner is None:
            return
        none = True
        for record in islice(split(datagram), _RECORDS):  # the others are lost, as on the way
            none = False
            epoch = record[3] << 8 | record[4]
            if epoch == 1:
                self._protected(record, address)
            elif epoch == 0 and record[0] == Content.HANDSHAKE and record[HEADER : HEADER + 1] == b"\x01":
                self._client_hello(record, address)
            elif epoch == 0 and (negotiation := self._negotiations.get(address)) is not None:
                negotiation.received(record)
        if none:
            self._not_dtls(datagram, address)

    def _protected(self, record: bytes, address: Address) -> None:
        association = self._peers.at(address)
        data = None if association is None else association.protection.open(record)
        if data is None:
            if association is not None and association.protection.genuine(record):
                return  # it has come before
            if (negotiation := self._negotiations.get(address)) is not None:
                negotiation.received(record)
                return
            found = self._peers.find(record, address)
            if found is None:
                return
            association, data = found
        assert association is not None
        self._genuine(association, record, data, address)

    def _genuine(self, association: Association, record: bytes, data: bytes, address: Address) -> None:
        self._peers.heard(association, record, address)
        if self._keeper is not None:
            self._keeper.heard(association)
        if record[0] == Content.APPLICATION_DATA:
            association.flight = None
            self._on_message(data, association.name)
            return
        try:
            self._reserve(association)
        except NetworkError:
            return  # the peer asks again
        answers, why = association.control(record[0], data, self._mtu)
        for answer in answers:
            self._try_to_send(answer, address)
        if why is not None:
            self._lose(association, why)

    # -- who is lost, and what is kept -----------------------------------------------------------------

    def _lose(self, association: Association, why: str) -> None:
        self._peers.remove(association)
        if self._keeper is not None:
            self._keeper.forget(association)
        if self.on_lost is not None:
            name = association.name
            self.on_lost(name, Unreachable(f"the connection to {text_of(name)} is lost: {why}"))

    def _reserve(self, association: Association) -> None:
        """Have a store know of the next numbers before they are used; raises NetworkError if it cannot keep them."""
        if self._keeper is not None:
            self._keeper.reserve(association)

    # -- handshakes ------------------------------------------------------------------------------------

    def _client_hello(self, record: bytes, address: Address) -> None:
        """Take a ClientHello: nothing is kept of its sender before it sends back the cookie that it was sent."""
        under_way = self._negotiations.get(address)
        if under_way is not None and under_way.client_random == record[_RANDOM]:
            under_way.send_again()
            return
        if record[_RANDOM] in self._agreed:
            return  # a late copy: a handshake begun with it would only disturb the client's next one
        connection, answers = self._greeter.take(record, address)
        for answer in answers:
            self._try_to_send(answer, address)
        if connection is not None:
            self._begin(connection, record, address)

    def _begin(self, connection: SSL.Connection, hello: bytes, address: Address) -> None:
        host, limits = address[0], self._limits
        if (replaced := self._over(address)) is not None:
            replaced.cancel()
        if (
            len(self._negotiations) >= limits.handshakes
            or self._hosts[host] >= limits.handshakes_of_host
            or not self._begun.of(host).take()
        ):
            return  # it asks again
        seen: Handshake = connection.get_app_data()
        seen.arrived(hello)
        send, ended = partial(self._send_to, address), partial(self._negotiated, address)
        name = Connection(*address, "coaps")  # before it is completed its connection has no serial
        negotiation = Negotiation(connection, seen, name, send, ended, self._timing, self._mtu)
        self._negotiations[address] = negotiation
        self._hosts[host] += 1
        self._tell(name, HandshakeStep("started"))
        negotiation.begin(hello)

    def _over(self, address: Address) -> Negotiation | None:
        """Take a negotiation off the list, if there is one."""
        negotiation = self._negotiations.pop(address, None)
        if negotiation is not None:
            self._hosts[address[0]] -= 1
            if not self._hosts[address[0]]:
                del self._hosts[address[0]]
        return negotiation

    def _negotiated(self, address: Address, outcome: Agreed | HandshakeFailed) -> None:
        negotiation = self._over(address)
        assert negotiation is not None
        if isinstance(outcome, HandshakeFailed):
            self._failed(Connection(*address, "coaps"), outcome)
            return
        judges, identity = self._security.judges, outcome.identity
        if outcome.step.resumed and judges is not None and identity is not None:
            why = judges(identity)
            if why is not None:
                self._failed(Connection(*address, "coaps"), Handshake(server=True).unwelcome(text_of(address), why))
                return
        self._agreed.append(negotiation.client_random)
        if (before := self._peers.at(address)) is not None:
            self._lose(before, "its device has made a new one")
        if len(self._peers) >= self._limits.associations:
            self._lose(next(iter(self._peers)), "others were heard of later, and there are too many")
        self._serial += 1
        name = Connection(*address, "coaps", self._serial)
        association = Association(name, address, outcome.identity, outcome.protection, outcome.flight)
        self._peers.add(association)
        try:
            self._reserve(association)
        except NetworkError:
            pass  # sending tries it again
        self._tell(name, outcome.step)
        for record in outcome.early:
            self._protected(record, address)

    # -- all else --------------------------------------------------------------------------------------

    def _not_dtls(self, datagram: bytes, address: Address) -> None:
        """Tell a client that speaks CoAP without security so, and whoever hears of failures; not too often."""
        if len(datagram) < 4 or datagram[0] >> 6 != 1 or not self._hints.take():
            return
        if datagram[0] >> 4 == 0b0100 and 0 < datagram[1] < 0x20 and len(datagram) >= 4 + (datagram[0] & 15):
            # A confirmable request is answered with 4.00 and its token.
            head = bytes((0x60 | datagram[0] & 15, 0x80)) + datagram[2 : 4 + (datagram[0] & 15)]
            self._try_to_send(head + b"\xffthis port is for coaps", address)
        name = Connection(*address, "coaps")
        failure = HandshakeFailed(
            f"no handshake with {text_of(name)}: it spoke CoAP without DTLS",
            reason="not DTLS",
            hint="its URI has to begin with coaps://",
        )
        self._failed(name, failure)

    def _failed(self, name: Connection, failure: HandshakeFailed) -> None:
        if self._security.names_failure is not None:
            self._security.names_failure(name, failure)
        self._tell(name, HandshakeStep("failed", failure=failure))

    def _tell(self, name: Connection, step: HandshakeStep) -> None:
        if self._security.tells is not None:
            self._security.tells(name, step)

    def _send_to(self, address: Address, data: bytes) -> None:
        if self._inner is not None:
            self._inner.send(data, address)

    def _try_to_send(self, data: bytes, address: Address) -> None:
        try:
            self._send_to(address, data)
        except NetworkError:
            pass  # whoever waits for it asks again
