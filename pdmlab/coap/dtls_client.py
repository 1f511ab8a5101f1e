"""The client's end of one DTLS association."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import cbor2
from OpenSSL import SSL

from pdmlab.coap import psk
from pdmlab.coap.dtls_association import CLOSE_NOTIFY, RESERVE, RESERVE_MARGIN, Association
from pdmlab.coap.dtls_handshake import Agreed, Negotiation, Timing, datagram_context
from pdmlab.coap.dtls_record import MAX_PLAINTEXT, Content, number_of, split
from pdmlab.coap.handshake import Handshake
from pdmlab.coap.openssl import client_context, connection, forgiven, told_time
from pdmlab.coap.security import HandshakeStep, Security
from pdmlab.coap.transport import Address, Connection, ConnectionSocket, DatagramSocket, Identity, Opener, text_of
from pdmlab.errors import HandshakeFailed, NetworkError, Unreachable


class DtlsClient(ConnectionSocket):
    """A socket with one peer; `dtls_to` makes it."""

    def __init__(
        self,
        remote: Address,
        security: Security,
        on_message: Callable[[bytes, Address], None],
        on_session: Callable[[bytes], None] | None,
        timing: Timing,
        mtu: int,
        now: float | None,
    ) -> None:
        self._remote: Address = (remote[0], remote[1])
        self._name = Connection(*self._remote, "coaps")
        self._security = security
        self._on_message = on_message
        self._on_session = on_session
        self._timing = timing
        self._mtu = mtu
        self._now = now
        self._inner: DatagramSocket | None = None
        self._session = b""  # OpenSSL's, for an abbreviated handshake
        self._seen: Handshake | None = None
        self._negotiation: Negotiation | None = None
        self._association: Association | None = None

    def __repr__(self) -> str:
        state = "closed" if self._inner is None else "open" if self._association is not None else "not connected"
        return f"<DtlsClient of {text_of(self._name)}, {state}>"

    async def open(self, inner: Opener, session: bytes | None, *, shake_hands: bool) -> None:
        """Open the inner socket, and shake hands unless the session needs none."""
        kept = _read_session(session) if session else None
        self._inner = await inner(self._received)
        if kept is not None:
            self._session = kept[0]
            if not shake_hands:
                kept[1].name, kept[1].address = self._name, self._remote
                self._association = kept[1]
                return
        await self._shake_hands()

    async def _shake_hands(self) -> None:
        clock = self._security.clock
        now = clock.now() if self._now is None and clock is not None else self._now
        under_way, seen = await self._negotiate(now, forgiven(clock))
        if seen.forgave:  # again, and strictly, by the time of the server that the certificate is of
            self._session = b""
            under_way, _ = await self._negotiate(told_time(under_way), frozenset())
        if clock is not None:
            clock.told(told_time(under_way))

    async def _negotiate(self, now: float | None, forgiven: frozenset[int]) -> tuple[SSL.Connection, Handshake]:
        context = datagram_context(client_context(self._security, SSL.DTLS_METHOD, now), self._security)
        self._seen = seen = Handshake(server=False, datagrams=True)
        seen.forgiven = forgiven
        under_way = connection(context, self._seen)
        under_way.set_ciphertext_mtu(self._mtu)
        if self._session:
            psk.resume(under_way, self._session)
        outcome: asyncio.Future[Agreed | HandshakeFailed] = asyncio.get_running_loop().create_future()

        def ended(how: Agreed | HandshakeFailed) -> None:
            self._negotiation = None
            if isinstance(how, Agreed) and not seen.forgave:
                self._agreed(how)
            if not outcome.done():
                outcome.set_result(how)

        def send(datagram: bytes) -> None:
            try:
                self._send(datagram)
            except NetworkError as error:  # it is told at once that there is no way, and not when time is over
                if not outcome.done():
                    what = f"no handshake with {text_of(self._name)}: {error.message}"
                    failed = HandshakeFailed(what, reason="no way", code=error.code, hint=error.hint)
                    failed.__cause__ = error
                    outcome.set_result(failed)

        self._negotiation = Negotiation(under_way, self._seen, self._name, send, ended, self._timing, self._mtu)
        self._tell(HandshakeStep("started"))
        self._negotiation.begin()
        how = await outcome
        if isinstance(how, HandshakeFailed):
            self._tell(HandshakeStep("failed", failure=how))
            raise how
        self._tell(how.step)
        return under_way, seen

    def _tell(self, step: HandshakeStep) -> None:
        if self._security.tells is not None:
            self._security.tells(self._name, step)

    def _agreed(self, agreed: Agreed) -> None:
        self._session = agreed.session
        self._association = Association(self._name, self._remote, agreed.identity, agreed.protection, agreed.flight)
        self._reserve(self._association)
        # The opener returns first, so that whoever opened it can take them.
        for record in agreed.early:
            asyncio.get_running_loop().call_soon(self._record, record)

    # -- the socket ------------------------------------------------------------------------------------

    @property
    def address(self) -> Address:
        """See ConnectionSocket.address."""
        return self._inner.address if self._inner is not None else ("", 0)

    def send(self, data: bytes, address: Address) -> None:
        """See ConnectionSocket.send."""
        association = self._association
        if association is None or address != self._name or association.protection.exhausted:
            raise Unreachable(f"there is no connection to {text_of(address)}")
        if len(data) > MAX_PLAINTEXT:
            raise NetworkError(f"{len(data)} B are too much for a DTLS record of {MAX_PLAINTEXT} B")
        self._reserve(association)
        self._send(association.protection.seal(Content.APPLICATION_DATA, data))

    def connected(self, address: Address) -> bool:
        """See ConnectionSocket.connected."""
        return self._association is not None and address == self._name

    def identity(self, address: Address) -> Identity | None:
        """See ConnectionSocket.identity."""
        return self._association.identity if self._association is not None and address == self._name else None

    def part(self, identity: Identity, why: str) -> None:
        """See ConnectionSocket.part."""
        if self.identity(self._name) == identity:
            self.close()

    def close(self) -> None:
        """See ConnectionSocket.close; the association ends only if nobody keeps its session."""
        if self._negotiation is not None:
            self._negotiation.cancel()
            self._negotiation = None
        if self._association is not None and self._on_session is None:
            self._try_to_send(self._association.protection.seal(Content.ALERT, CLOSE_NOTIFY))
        self._association = None
        if self._inner is not None:
            self._inner.close()
            self._inner = None

    # -- what comes ------------------------------------------------------------------------------------

    def _received(self, datagram: bytes, address: Address) -> None:
        if address != self._remote:
            return
        if self._seen is not None:
            self._seen.arrived(datagram)
        for record in split(datagram):
            self._record(record)

    def _record(self, record: bytes) -> None:
        if self._negotiation is not None:
            self._negotiation.received(record)
            return
        association = self._association
        if association is None or number_of(record)[0] != 1:
            return
        data = association.protection.open(record)
        if data is None:
            return
        if record[0] == Content.APPLICATION_DATA:
            association.flight = None
            self._on_message(data, self._name)
            return
        self._reserve(association)
        answers, why = association.control(record[0], data, self._mtu)
        for answer in answers:
            self._try_to_send(answer)
        if why is not None:
            self._association = None
            if self.on_lost is not None:
                self.on_lost(self._name, Unreachable(f"the connection to {text_of(self._name)} is lost: {why}"))

    def _reserve(self, association: Association) -> None:
        if self._on_session is not None and association.protection.sent + RESERVE_MARGIN > association.reserved:
            association.reserved = association.protection.sent + RESERVE
            self._on_session(cbor2.dumps([self._session, association.to_bytes()]))

    def _send(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.send(data, self._remote)

    def _try_to_send(self, data: bytes) -> None:
        try:
            self._send(data)
        except NetworkError:
            pass  # nobody waits for it


def _read_session(session: bytes) -> tuple[bytes, Association] | None:
    """Return OpenSSL's session and the association; None if the bytes are of another version, or nothing of ours."""
    try:
        resumable, association = cbor2.loads(session)
        return bytes(resumable), Association.from_bytes(association)
    except (ValueError, TypeError, cbor2.CBORDecodeError):
        return None
