"""The server's end of many DTLS associations: who they are, how new ones come, and how moved ones are found again."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from OpenSSL import SSL

from pdmlab.coap.allowance import Allowance, Allowances
from pdmlab.coap.dtls_association import CLOSE_NOTIFY, RESERVE, RESERVE_MARGIN, Association, Store
from pdmlab.coap.dtls_handshake import Agreed, Negotiation, Timing, datagram_context
from pdmlab.coap.dtls_record import HEADER, MAX_PLAINTEXT, Content, number_of, split
from pdmlab.coap.handshake import Handshake
from pdmlab.coap.openssl import connection, server_context
from pdmlab.coap.security import Security
from pdmlab.coap.transport import Address, Connection, ConnectionSocket, DatagramSocket, Identity, Opener, text_of
from pdmlab.errors import HandshakeFailed, NetworkError, Unreachable

_RANDOM = slice(HEADER + 12 + 2, HEADER + 12 + 2 + 32)  # in a ClientHello: behind its header and version
_COOKIE_LIFETIME = 300.0  # s; one from the period before is taken too
_SAVE_DELAY = 1.0  # s after which a store knows what has come
_MAX_JUMP = 1 << 20  # numbers that a restarted client may leave out


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
        self._loop = asyncio.get_running_loop()
        self._security = security
        self._on_message = on_message
        self._store = store
        self._timing = timing
        self._limits = limits
        self._mtu = mtu
        self._inner: DatagramSocket | None = None
        self._associations: OrderedDict[Connection, Association] = OrderedDict()
        self._by_address: dict[Address, Association] = {}
        self._by_host: dict[str, set[Association]] = {}
        self._serial = secrets.randbits(40)  # names of associations of an earlier start may be kept somewhere
        self._dirty: set[Association] = set()
        self._save_timer: asyncio.TimerHandle | None = None
        self._negotiations: dict[Address, Negotiation] = {}
        self._hosts: Counter[str] = Counter()  # negotiations under way
        self._begun = Allowances(limits.handshakes_a_second)
        self._near = Allowances(limits.tries)
        self._far = Allowance(limits.tries)
        self._hints = Allowance(10)
        self._context = datagram_context(server_context(security, SSL.DTLS_METHOD), security)
        self._context.set_cookie_generate_callback(lambda _: self._cookie(0))
        self._context.set_cookie_verify_callback(lambda _, cookie: self._is_cookie(cookie))
        self._secret = secrets.token_bytes(32)
        self._listener: SSL.Connection | None = None
        self._asking: Address = ("", 0)  # whose ClientHello the listener has

    async def open(self, inner: Opener) -> None:
        """Load what the store keeps, and listen."""
        for key, data in self._store.load() if self._store is not None else ():
            try:
                self._keep(Association.from_bytes(data))
            except ValueError:  # another version wrote it: its device shakes hands again
                assert self._store is not None
                self._store.save({key: None})
        self._inner = await inner(self._received)

    def __repr__(self) -> str:
        return f"<DtlsServer with {len(self._associations)} associations and {len(self._negotiations)} handshakes>"

    # -- the socket ------------------------------------------------------------------------------------

    @property
    def address(self) -> Address:
        """See ConnectionSocket.address."""
        return self._inner.address if self._inner is not None else ("", 0)

    def send(self, data: bytes, address: Address) -> None:
        """See ConnectionSocket.send."""
        association = self._associations.get(address)  # type: ignore[call-overload]  # no other address is equal to one
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
        return address in self._associations

    def identity(self, address: Address) -> Identity | None:
        """See ConnectionSocket.identity."""
        association = self._associations.get(address)  # type: ignore[call-overload]  # as above
        return association.identity if association is not None else None

    def close(self) -> None:
        """See ConnectionSocket.close; associations that a store keeps go on when it is opened again."""
        if self._inner is None:
            return
        for negotiation in self._negotiations.values():
            negotiation.cancel()
        self._negotiations.clear()
        if self._store is not None:
            self._save()
        else:
            for association in self._associations.values():
                if not association.protection.exhausted:
                    self._try_to_send(association.protection.seal(Content.ALERT, CLOSE_NOTIFY), association.address)
        self._listener = None
        self._inner.close()
        self._inner = None

    # -- what comes ------------------------------------------------------------------------------------

    def _received(self, datagram: bytes, address: Address) -> None:
        if self._inner is None:
            return
        none = True
        for record in split(datagram):
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
        association = self._by_address.get(address)
        data = None if association is None else association.protection.open(record)
        if data is None:
            if association is not None and association.protection.genuine(record):
                return  # it has come before
            if (negotiation := self._negotiations.get(address)) is not None:
                negotiation.received(record)
                return
            association, data = self._find(record, address)
        if association is not None and data is not None:
            self._genuine(association, record, data, address)

    def _genuine(self, association: Association, record: bytes, data: bytes, address: Address) -> None:
        if address != association.address and number_of(record)[1] == association.protection.received:
            self._move(association, address)
        self._associations.move_to_end(association.name)
        if self._store is not None:
            self._dirty.add(association)
            if self._save_timer is None:
                self._save_timer = self._loop.call_later(_SAVE_DELAY, self._save)
        if record[0] == Content.APPLICATION_DATA:
            association.flight = None
            self._on_message(data, association.name)
            return
        self._reserve(association)
        answers, why = association.control(record[0], data, self._mtu)
        for answer in answers:
            self._try_to_send(answer, address)
        if why is not None:
            self._lose(association, why)

    def _find(self, record: bytes, address: Address) -> tuple[Association | None, bytes | None]:
        """Find the association that a record from an unknown address belongs to; those of its host are tried first.

        A client that goes on from another port, or comes back after a reset, goes on counting: the association
        whose numbers end just before is most likely its.
        """
        number = number_of(record)[1]

        def likely(among: Iterable[Association]) -> list[Association]:
            near = [
                each
                for each in among
                if number - each.protection.received < _MAX_JUMP and each.protection.fresh(number)
            ]
            near.sort(key=lambda each: abs(number - each.protection.received))
            return near

        here = self._by_host.get(address[0], set())
        allowance = self._near.of(address[0])
        if allowance.take(len(here) / 16):  # looking at one costs about a sixteenth of trying it
            for each in likely(here):
                if not allowance.take():
                    break
                if (data := each.protection.open(record)) is not None:
                    return each, data
        if len(here) < len(self._associations) and self._far.take(len(self._associations) / 16):
            for each in likely(each for each in self._associations.values() if each not in here):
                if not self._far.take():
                    break
                if (data := each.protection.open(record)) is not None:
                    return each, data
        return None, None

    # -- who they are ----------------------------------------------------------------------------------

    def _keep(self, association: Association) -> None:
        self._associations[association.name] = association
        self._by_address[association.address] = association
        self._by_host.setdefault(association.address[0], set()).add(association)

    def _move(self, association: Association, address: Address) -> None:
        self._leave(association)
        association.address = address
        self._keep(association)

    def _leave(self, association: Association) -> None:
        """Take it from where it was."""
        if self._by_address.get(association.address) is association:
            del self._by_address[association.address]
        here = self._by_host[association.address[0]]
        here.discard(association)
        if not here:
            del self._by_host[association.address[0]]

    def _lose(self, association: Association, why: str) -> None:
        del self._associations[association.name]
        self._leave(association)
        self._dirty.discard(association)
        if self._store is not None:
            self._store.save({association.key: None})
        if self.on_lost is not None:
            name = association.name
            self.on_lost(name, Unreachable(f"the connection to {text_of(name)} is lost: {why}"))

    def _reserve(self, association: Association) -> None:
        """Have the store know of the next numbers before they are used."""
        if self._store is not None and association.protection.sent + RESERVE_MARGIN > association.reserved:
            association.reserved = association.protection.sent + RESERVE
            self._store.save({association.key: association.to_bytes()})

    def _save(self) -> None:
        if self._save_timer is not None:
            self._save_timer.cancel()
            self._save_timer = None
        if self._store is not None and self._dirty:
            self._store.save({association.key: association.to_bytes() for association in self._dirty})
        self._dirty.clear()

    # -- handshakes ------------------------------------------------------------------------------------

    def _client_hello(self, record: bytes, address: Address) -> None:
        """Take a ClientHello: nothing is kept of its sender before it sends back the cookie that it was sent."""
        under_way = self._negotiations.get(address)
        if under_way is not None and under_way.client_random == record[_RANDOM]:
            under_way.send_again()
            return
        self._asking = address
        listener = self._listener
        if listener is None:
            listener = connection(self._context, Handshake(server=True, datagrams=True))
            listener.set_ciphertext_mtu(self._mtu)
            self._listener = listener
        listener.bio_write(record)
        try:
            listener.DTLSv1_listen()
        except SSL.WantReadError:
            self._answer_hello(listener, address)
        except SSL.Error:  # nothing that may be answered; what OpenSSL has of it goes too
            self._listener = None
        else:
            self._listener = None
            self._begin(listener, record, address)

    def _answer_hello(self, listener: SSL.Connection, address: Address) -> None:
        try:
            for record in split(listener.bio_read(1 << 14)):
                self._try_to_send(record, address)
        except SSL.WantReadError:
            pass

    def _begin(self, listener: SSL.Connection, hello: bytes, address: Address) -> None:
        host = address[0]
        if (replaced := self._negotiations.pop(address, None)) is not None:
            replaced.cancel()
            self._hosts[host] -= 1
        limits = self._limits
        if len(self._negotiations) >= limits.handshakes or self._hosts[host] >= limits.handshakes_of_host:
            return  # it asks again
        if not self._begun.of(host).take():
            return
        seen: Handshake = listener.get_app_data()
        seen.arrived(hello)
        negotiation = Negotiation(
            listener,
            seen,
            address,
            partial(self._send_to, address),
            partial(self._negotiated, address),
            self._timing,
            self._mtu,
        )
        self._negotiations[address] = negotiation
        self._hosts[host] += 1
        negotiation.begin()

    def _negotiated(self, address: Address, outcome: Agreed | HandshakeFailed) -> None:
        del self._negotiations[address]
        self._hosts[address[0]] -= 1
        if not self._hosts[address[0]]:
            del self._hosts[address[0]]
        if isinstance(outcome, HandshakeFailed):
            if self._security.names_failure is not None:
                self._security.names_failure(address, outcome)
            return
        if (before := self._by_address.get(address)) is not None:
            self._lose(before, "its device has made a new one")
        if len(self._associations) >= self._limits.associations:
            self._lose(next(iter(self._associations.values())), "others were heard of later, and there are too many")
        self._serial += 1
        name = Connection(*address, "coaps", self._serial)
        association = Association(name, address, outcome.identity, outcome.protection, outcome.flight)
        self._keep(association)
        self._reserve(association)
        for record in outcome.early:
            self._protected(record, address)

    def _cookie(self, age: int) -> bytes:
        period = int(self._loop.time() / _COOKIE_LIFETIME) - age
        return hmac.digest(self._secret, repr((self._asking, period)).encode(), "sha256")[:16]

    def _is_cookie(self, cookie: bytes) -> bool:
        return any(hmac.compare_digest(cookie, self._cookie(age)) for age in (0, 1))

    # -- all else --------------------------------------------------------------------------------------

    def _not_dtls(self, datagram: bytes, address: Address) -> None:
        """Tell a client that speaks CoAP without security so, and whoever hears of failures; not too often."""
        if len(datagram) < 4 or datagram[0] >> 6 != 1 or not self._hints.take():
            return
        if datagram[0] >> 4 == 0b0100 and 0 < datagram[1] < 0x20 and len(datagram) >= 4 + (datagram[0] & 15):
            # A confirmable request is answered with 4.00 and its token.
            head = bytes((0x60 | datagram[0] & 15, 0x80)) + datagram[2 : 4 + (datagram[0] & 15)]
            self._try_to_send(head + b"\xffthis port is for coaps", address)
        if self._security.names_failure is not None:
            failure = HandshakeFailed(
                f"no handshake with {text_of(address)}: it spoke CoAP without DTLS",
                reason="not DTLS",
                hint="its URI has to begin with coaps://",
            )
            self._security.names_failure(address, failure)

    def _send_to(self, address: Address, data: bytes) -> None:
        if self._inner is not None:
            self._inner.send(data, address)

    def _try_to_send(self, data: bytes, address: Address) -> None:
        try:
            self._send_to(address, data)
        except NetworkError:
            pass  # whoever waits for it asks again
