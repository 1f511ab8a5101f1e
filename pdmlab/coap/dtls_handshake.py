"""A DTLS handshake under way: OpenSSL over memory, on the running loop's time.

OpenSSL's own timers are the wall's, and what it sends again it numbers by itself. So flights are kept and sent again
here; every record of epoch 1 that leaves is sealed here too, and no number is used twice when OpenSSL is let go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from OpenSSL import SSL

from pdmlab.coap import psk
from pdmlab.coap.dtls_association import Flight
from pdmlab.coap.dtls_record import HEADER, SUITES, VERSION, Content, Protection, number_of, split
from pdmlab.coap.handshake import Handshake
from pdmlab.coap.openssl import completed, failure, identity_of
from pdmlab.coap.security import HandshakeStep, Security
from pdmlab.coap.transport import Address, Identity, text_of
from pdmlab.errors import HandshakeFailed, NetworkError

MTU = 1232
"""B of a datagram that every IPv6 path carries: 1280 less the headers of IPv6 and UDP."""

_MAX_FED = 64 << 10  # B of records for one handshake; a chain of certificates has a few thousand
_MAX_EARLY = 8  # records of application data that may overtake the end of the handshake
_FATAL, _BAD_RECORD_MAC = 2, 20


@dataclass(frozen=True, slots=True)
class Timing:
    """When flights are sent again (s): after `first`, then twice as late each time up to `longest`; RFC 6347 4.2.4.1.

    limit  from the first message to giving up
    """

    first: float = 1.0
    longest: float = 60.0
    limit: float = 60.0


STOCK_TIMING = Timing(4, 32, 60)
"""As the stock client has it (docs/wire.md 1.7)."""


def datagram_context(context: SSL.Context, security: Security) -> SSL.Context:
    """Have a context offer only suites whose records we have, and cut its messages by the MTU that it is told."""
    keyed, certified = bool(security.psk or security.psk_of), bool(security.certificates)
    suites = [name for name in SUITES if (keyed if name.startswith("PSK") else certified)]
    context.set_cipher_list(f"{':'.join(suites)}:@SECLEVEL=0".encode())
    context.set_options(SSL.OP_NO_QUERY_MTU)
    return context


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a handshake came to; `flight` if the peer may still need our last messages, `early` came before its end."""

    protection: Protection
    identity: Identity | None
    session: bytes
    flight: Flight | None
    early: list[bytes]
    step: HandshakeStep


class Negotiation:
    """One handshake; `ended` is called once with what it came to, unless it was cancelled."""

    def __init__(
        self,
        connection: SSL.Connection,
        seen: Handshake,
        peer: Address,
        send: Callable[[bytes], None],
        ended: Callable[[Agreed | HandshakeFailed], None],
        timing: Timing,
        mtu: int,
    ) -> None:
        self._connection = connection
        self._seen = seen
        self._peer = peer
        self._send = send
        self._ended = ended
        self._timing = timing
        self._mtu = mtu
        self._loop = asyncio.get_running_loop()
        self._wait = timing.first
        self._timer: asyncio.TimerHandle | None = None
        self._limit = self._loop.call_later(timing.limit, self._too_long)
        self._flight = Flight()
        self._protection: Protection | None = None
        self._sent_through = -1  # the number of the last handshake message that went out
        self._sent_cipher_spec = False
        self._fed = 0
        self._heard = -1  # the highest number of epoch 0 that came
        self._protected: list[bytes] = []  # handshake records of epoch 1 that came
        self._early: list[bytes] = []

    def __repr__(self) -> str:
        return f"<Negotiation with {text_of(self._peer)}, {self._seen}>"

    @property
    def client_random(self) -> bytes | None:
        """What tells a ClientHello of this handshake, sent again, from one of another."""
        return self._connection.client_random()

    def begin(self, hello: bytes | None = None) -> None:
        """Send the first messages, or answer the record of a ClientHello, which OpenSSL has already."""
        if hello is not None:
            self._heard = number_of(hello)[1]
        self._step()

    def received(self, record: bytes) -> None:
        """Take a record of the peer's; a fatal alert ends the handshake."""
        kind, (epoch, number) = record[0], number_of(record)
        if kind == Content.APPLICATION_DATA:
            if epoch == 1 and len(self._early) < _MAX_EARLY:
                self._early.append(record)
            return
        if epoch > 1 or kind not in (Content.CHANGE_CIPHER_SPEC, Content.ALERT, Content.HANDSHAKE):
            return
        if epoch == 0:
            # Anybody can write an alert that is not protected; what is none of the peer's next records is left out.
            if kind == Content.ALERT and (number <= self._heard or record[HEADER:-1] != bytes((_FATAL,))):
                return
            self._heard = max(self._heard, number)
        self._fed += len(record)
        if self._fed > _MAX_FED:
            self._fail(self._say("it sent more than a handshake can have", "other"))
            return
        if epoch == 1 and kind == Content.HANDSHAKE:
            self._protected.append(record)
        if self._seen.server and kind != Content.ALERT and self._timer is not None:
            # A client that answers has all of our flight; GnuTLS's sends the lost part of its own later if disturbed.
            self._restart_timer(2 * self._wait)
        self._connection.bio_write(record)
        self._step()

    def send_again(self) -> None:
        """Send the last flight again, now."""
        for datagram in self._flight.datagrams(self._protection, self._mtu):
            self._try_to_send(datagram)

    def cancel(self) -> None:
        """Stop: nothing is sent any more, and nobody is told."""
        self._limit.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._ended = lambda outcome: None

    # -- the rest of it --------------------------------------------------------------------------------

    def _step(self) -> None:
        done = False
        try:
            self._connection.do_handshake()
            done = True
        except SSL.WantReadError:
            pass
        except Exception as error:  # also of callbacks, about a certificate that nobody can read; it ends this session
            self._flush()
            how = failure(self._connection, error, text_of(self._peer))
            refused = psk.refused(self._connection)
            if refused is not None and refused.error is not None:
                how.__cause__ = refused.error
            self._fail(how)
            return
        last = self._flush()
        if done:
            self._finish(last)
        elif self._has_wrong_key():
            alert = bytes((Content.ALERT, *VERSION, *(1 << 40).to_bytes(8, "big"), 0, 2, _FATAL, _BAD_RECORD_MAC))
            self._try_to_send(alert)
            self._fail(self._say("its key is not the one that is kept here for its identity", "wrong key"))

    def _finish(self, last: bool) -> None:
        protection = self._keys()
        assert protection is not None
        for record in self._protected:
            protection.open(record)  # they have come: they shall not count as sent again
        # Or OpenSSL takes it for broken off, and has the session never resumed.
        self._connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
        agreed = Agreed(
            protection,
            identity_of(self._connection),
            psk.session_bytes(self._connection),
            self._flight if last else None,
            self._early,
            completed(self._connection),
        )
        ended = self._ended
        self.cancel()
        ended(agreed)

    def _fail(self, failure: HandshakeFailed) -> None:
        ended = self._ended
        self.cancel()
        ended(failure)

    def _say(self, what: str, reason: str, hint: str | None = None) -> HandshakeFailed:
        return HandshakeFailed(f"no handshake with {text_of(self._peer)}: {what}", reason=reason, hint=hint)

    def _flush(self) -> bool:
        """Send what OpenSSL has written; return whether that ends our side of the handshake."""
        written = bytearray()
        while True:
            try:
                written += self._connection.bio_read(1 << 15)
            except SSL.Error:  # WantRead, and after a failure others
                break
        parts, through, protected = [], self._sent_through, False
        for record in split(bytes(written)):
            kind, (epoch, number) = record[0], number_of(record)
            body = record[HEADER:]
            if epoch:
                protection = self._keys()
                opened = None if protection is None else protection.open_own(record)
                if opened is None:
                    continue
                body = opened
            else:
                self._flight.start_at(number)
            # OpenSSL sends again by the wall's time when it is let run: what went out before is left out.
            if kind == Content.HANDSHAKE:
                message = body[4] << 8 | body[5]
                if message <= self._sent_through:
                    continue
                through = max(through, message)
                protected = protected or epoch == 1
            elif kind == Content.CHANGE_CIPHER_SPEC:
                if self._sent_cipher_spec:
                    continue
                self._sent_cipher_spec = True
            parts.append((record[:3], epoch, body))
        if parts:
            self._sent_through = through
            self._flight.parts = parts
            self.send_again()
            self._wait = self._timing.first
            self._restart_timer(self._wait)
        return protected

    def _try_to_send(self, datagram: bytes) -> None:
        try:
            self._send(datagram)
        except NetworkError:
            pass  # it goes out again when it is not answered

    def _restart_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._not_answered)

    def _not_answered(self) -> None:
        self._wait = min(2 * self._wait, self._timing.longest)
        self._restart_timer(self._wait)
        self.send_again()

    def _too_long(self) -> None:
        failure = self._seen.timed_out(text_of(self._peer), self._timing.limit)
        if self._protection is not None and not self._seen.server:
            # Whoever cannot open our last message drops it in silence (RFC 6347 section 4.1.2.7).
            failure.hint = "it fell silent at the end: with a pre-shared key, is the key the same on both sides?"
        self._fail(failure)

    def _keys(self) -> Protection | None:
        """Return the keys, once there is a master secret."""
        if self._protection is None:
            name = self._connection.get_cipher_name()
            try:
                master = self._connection.master_key()
            except SSL.Error:  # not yet
                return None
            client, server = self._connection.client_random(), self._connection.server_random()
            if name is None or master is None or client is None or server is None:
                return None
            self._protection = Protection.derive(SUITES[name], master, client, server, server=self._seen.server)
        return self._protection

    def _has_wrong_key(self) -> bool:
        """Whether a client's last message cannot be opened, although both sides have a key from its identity."""
        if not (self._seen.server and self._protected) or (name := self._connection.get_cipher_name()) is None:
            return False
        if not name.startswith("PSK") or (protection := self._keys()) is None:
            return False
        return not protection.genuine(self._protected[-1])
