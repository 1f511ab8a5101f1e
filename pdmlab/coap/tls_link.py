"""One TLS connection: OpenSSL over memory, fed record by record: a record is a message, and a message a record."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from OpenSSL import SSL

from pdmlab.coap.connections import ClientLink, ServerLinks
from pdmlab.coap.framing import Framing
from pdmlab.coap.handshake import Handshake
from pdmlab.coap.link import Link
from pdmlab.coap.openssl import completed, connection, failure
from pdmlab.coap.security import HandshakeStep
from pdmlab.coap.transport import Address, text_of
from pdmlab.errors import HandshakeFailed, NetworkError

Tells: TypeAlias = Callable[[Address, HandshakeStep], None]

_HEADER = 5
_APPLICATION_DATA = 23
_MAX_RECORD = _HEADER + (16 << 10) + 2048  # RFC 5246 section 6.2.3
_FLIGHT = 4096  # B that are taken from OpenSSL at once


class TlsLink(Link):
    """What both ends have in common."""

    over_records = True

    def __init__(
        self, owner: ServerLinks | ClientLink, framing: Framing | None, context: SSL.Context, tells: Tells | None
    ) -> None:
        super().__init__(owner, framing)
        self._context = context
        self._tells = tells
        self._started = False  # until the first handshake may begin
        self._rest = b""  # of a record that has not come whole
        self._waiting: deque[bytes] = deque()  # messages for when a renegotiation is over
        self._waiting_size = 0
        self._done = 0  # handshakes

    def start(self, seen: Handshake) -> None:
        """Begin the first handshake."""
        self._seen = seen
        self._connection = connection(self._context, seen)
        self._started = True
        self.await_within(self.parameters.handshake_timeout, "")
        self.tell(HandshakeStep("started"))

    def tell(self, step: HandshakeStep) -> None:
        """Tell a log how far the handshake is."""
        if self._tells is not None:
            self._tells(self.name, step)

    # -- arriving --------------------------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """See Link.take; a record counts as a message even if it holds none."""
        if not self._started:
            self.greeted(data)
            return
        if (framing := self.framing) is not None and framing.more:
            self.arrived(b"")
            if self.gone:
                return
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at >= _HEADER:
            if self.left <= 0:
                self.wait_for_turn()
                break
            end = at + _HEADER + (data[at + 3] << 8 | data[at + 4])
            if not 20 <= data[at] <= 23 or data[at + 1] != 3 or end - at > _MAX_RECORD:
                if not self._done:
                    self._record(0, data[at:])  # OpenSSL says what is wrong
                if not self.gone:
                    self.drop(NetworkError(f"{text_of(self.name)}: what came is no TLS record"))
                return
            if end > size:
                break
            left = self.left
            self._record(data[at], data[at:end])
            if self.gone:
                return
            if self.left == left:
                self.left -= 1
            at = end
        self._rest = data[at:]
        if self._done and not self.put_off:
            if self._rest:
                if self._timer is None or at:
                    self.await_within(self.parameters.message_timeout, "did not finish a record")
            elif at and (framing := self.framing) is not None and not framing.unfinished and framing.leaving is None:
                self.stop_waiting()

    def greeted(self, data: bytes) -> None:  # a client greets
        """Take what comes before the first handshake has begun."""

    def _record(self, kind: int, record: bytes) -> None:
        tls = self._connection
        if not self._done:
            self._seen.arrived(record)
        try:
            tls.bio_write(record)
            plain = tls.recv(len(record))
        except SSL.WantReadError:
            plain = b""
        except SSL.ZeroReturnError:
            self.bye()
            self.connection_lost(None)
            self.transport.close()
            return
        except SSL.Error as error:
            self._broken(error)
            return
        if kind != _APPLICATION_DATA:
            self._hands_moved()
        if plain and not self.gone:
            self.arrived(plain)

    def _hands_moved(self) -> None:
        """Go on with a handshake, if it is one."""
        self._flush()
        seen = self._seen
        if seen.begun > 1 + self.parameters.max_renegotiations:
            self.drop(NetworkError(f"{text_of(self.name)} renegotiated {seen.begun - 1} times"))
            return
        if seen.done > self._done:
            self._done = seen.done
            self._agreed()
        while self._waiting and not self.gone:
            if not self._try_to_send(self._waiting[0]):
                break
            self._waiting_size -= len(self._waiting.popleft())

    def _agreed(self) -> None:
        step = completed(self._connection)
        if self.identity is not None and step.identity != self.identity:
            who = step.identity.name if step.identity is not None else "nobody"
            self.drop(NetworkError(f"{text_of(self.name)} was {self.identity.name} and now says that it is {who}"))
            return
        if step.resumed and (why := self.unwelcome(step)) is not None:
            self.fail(self._seen.unwelcome(text_of(self.name), why))
            return
        self.tell(step)
        if not self.settled():
            return
        if self.identity is None:
            self.identity = step.identity
            self.stop_waiting()
            self.opened()
        self.complete()

    def settled(self) -> bool:
        """Whether a handshake was the last; else the next has begun."""
        return True

    def unwelcome(self, step: HandshakeStep) -> str | None:  # who is asked takes whoever it asked
        """Return why a peer that has resumed a session is let in no more; None if it is."""
        return None

    @abstractmethod
    def complete(self) -> None:
        """A handshake is complete."""

    # -- leaving ---------------------------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        """See Link.put: one message, one record, one write."""
        if self._waiting or not self._try_to_send(data):
            if self._waiting_size + len(data) > self.parameters.max_unsent:
                self.drop(NetworkError(f"{text_of(self.name)} does not end its renegotiation"))
                return
            self._waiting.append(data)
            self._waiting_size += len(data)

    def _try_to_send(self, data: bytes) -> bool:
        """Send a message, unless a renegotiation has to end first."""
        try:
            self._connection.send(data)
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            self._broken(error)
            return True
        finally:
            self._flush()
        return True

    def _flush(self) -> None:
        tls, transport = self._connection, self.transport
        try:
            while True:
                out = tls.bio_read(_FLIGHT)
                transport.write(out)
                if len(out) < _FLIGHT:
                    return
        except SSL.WantReadError:  # nothing (more)
            return

    def bye(self) -> None:
        """Write the close_notify."""
        if self._started:
            try:
                self._connection.shutdown()
                self._flush()
            except SSL.Error:  # in mid-handshake, or broken: there is nothing to close
                pass

    # -- ends ------------------------------------------------------------------------------------------

    def _broken(self, error: SSL.Error) -> None:
        why = failure(self._connection, error, text_of(self.name))
        self._flush()  # the alert
        if self._seen.begun > self._seen.done or not self._done:
            self.fail(why)
        else:
            what = why.message.partition(": ")[2]  # behind "no handshake with …"
            self.drop(NetworkError(f"{text_of(self.name)}: {what}"))

    def fail(self, why: HandshakeFailed) -> None:
        """End a connection whose handshake has failed, the first or a later one."""
        if not self.gone:
            self.tell(HandshakeStep("failed", failure=why))
            self.owner.failed(self, why)
            self.drop(why)

    def late(self, seconds: float, what: str) -> None:
        """See Link.late."""
        if self._done:
            super().late(seconds, what)
        else:
            self._timer = None
            self.fail(self._seen.timed_out(text_of(self.name), seconds))

    def lost(self, why: NetworkError) -> None:
        """See Link.lost."""
        if self.identity is not None and not self.gone:
            # Or OpenSSL would forget the session, and a device that lost its power could not resume it.
            self._connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
        super().lost(why)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._done or self.gone:
            super().connection_lost(exc)
        else:
            self.fail(self._seen.closed(text_of(self.name)))
