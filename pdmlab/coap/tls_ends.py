"""The two ends of a TLS connection: a server's, which waits for its hello and then its turn, and a client's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from OpenSSL import SSL

from pdmlab.coap import psk
from pdmlab.coap.connections import ClientLink, ServerLinks
from pdmlab.coap.framing import Framing
from pdmlab.coap.handshake import Handshake
from pdmlab.coap.hello import MAX_HELLO, is_whole
from pdmlab.coap.openssl import forgiven, settle
from pdmlab.coap.security import HandshakeStep, Security
from pdmlab.coap.tls_link import TlsLink
from pdmlab.coap.transport import text_of
from pdmlab.errors import HandshakeFailed, NetworkError


class TlsServerLink(TlsLink):
    """A server's end; its handshake begins when its ClientHello is there and its host may have one more."""

    owner: ServerLinks
    _counted = _queued = False

    def __init__(self, owner: ServerLinks, context: SSL.Context, security: Security) -> None:
        super().__init__(owner, None, context, security.tells)
        self._judges = security.judges

    def begun(self) -> None:
        """See Link.begun."""
        self._seen = Handshake(server=True)
        self.await_within(min(self.parameters.hello_timeout, self.parameters.handshake_timeout), "")
        self.owner.admission.await_hello(self.name[0], self._make_way)

    def greeted(self, data: bytes) -> None:
        """See TlsLink.greeted."""
        self._rest += data
        if self._queued or not is_whole(self._rest):
            return
        self.owner.admission.heard_hello(self.name[0], self._make_way)
        self.await_within(self.parameters.first_timeout, "")  # in case that it has to wait
        self.owner.admission.begin(self.name[0], self._go)
        if self._started:
            self.take(b"")
        else:
            self._queued = True
            self.transport.pause_reading()
            if len(self._rest) > MAX_HELLO:  # a client has nothing more to say until it is answered
                what = f"no handshake with {text_of(self.name)}: it sent {len(self._rest)} B and no ClientHello"
                self.fail(HandshakeFailed(what, reason="other"))

    def _go(self) -> bool:
        if self.gone or self.owner.closed:
            return False
        self._counted = True
        self.start(self._seen)
        if self._queued:
            self.wait_for_turn()
        return True

    def _make_way(self) -> None:
        what = f"no handshake with {text_of(self.name)}: no ClientHello came of it, and more connections did"
        self.fail(HandshakeFailed(what, reason="timed out", hint="does one host connect more than it should?"))

    def late(self, seconds: float, what: str) -> None:
        """See Link.late."""
        if self._queued and not self._started:
            what = f"no handshake with {text_of(self.name)}: others of its host were under way for {seconds:g} s"
            self.fail(HandshakeFailed(what, reason="timed out", hint="does one host connect more than it should?"))
        else:
            super().late(seconds, what)

    def unwelcome(self, step: HandshakeStep) -> str | None:
        """See TlsLink.unwelcome."""
        return None if self._judges is None or step.identity is None else self._judges(step.identity)

    def complete(self) -> None:
        """See TlsLink.complete."""
        self._leave()

    def lost(self, why: NetworkError) -> None:
        """See Link.lost."""
        super().lost(why)
        self._leave()

    def _leave(self) -> None:
        self.owner.admission.heard_hello(self.name[0], self._make_way)
        if self._counted:
            self._counted = False
            self.owner.admission.end(self.name[0])


class TlsClientLink(TlsLink):
    """A client's end; `ready` is done when the handshake is complete, or has failed."""

    owner: ClientLink

    def __init__(
        self,
        owner: ClientLink,
        framing: Framing,
        context: SSL.Context,
        security: Security,
        session: bytes | None,
        on_session: Callable[[bytes], None] | None,
    ) -> None:
        super().__init__(owner, framing, context, security.tells)
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._clock = security.clock
        self._session = session
        self._on_session = on_session

    def begun(self) -> None:
        """See Link.begun."""
        seen = Handshake(server=False)
        seen.forgiven = forgiven(self._clock)
        self.start(seen)
        if self._clock is not None:
            psk.judge_by(self._connection, self._clock.now())
        if self._session:
            psk.resume(self._connection, self._session)
        self._shake_hands()

    def _shake_hands(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._flush()

    def settled(self) -> bool:
        """See TlsLink.settled; the stock client shakes hands again when its clock seems to be wrong."""
        if self._clock is not None and settle(self._connection, self._seen, self._clock):
            self._shake_hands()
            return False
        return True

    def complete(self) -> None:
        """See TlsLink.complete."""
        if self._on_session is not None:
            self._on_session(psk.session_bytes(self._connection))
        if not self.ready.done():
            self.ready.set_result(None)

    def lost(self, why: NetworkError) -> None:
        """See Link.lost."""
        super().lost(why)
        if not self.ready.done():
            self.ready.set_exception(why)
            self.ready.exception()  # nobody may be waiting any more
