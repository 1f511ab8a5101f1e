"""One connection over a stream: it knows its framing, hands messages up, writes them out, and ends for a reason.

TCP and TLS differ in what they do with the bytes below that.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING, cast

from pdmlab.coap.framing import BadFrame, Framing
from pdmlab.coap.recognition import framing_of
from pdmlab.coap.streams import keep_alive
from pdmlab.coap.transport import Connection, Identity, text_of
from pdmlab.errors import NetworkError, TimedOut, Unreachable

if TYPE_CHECKING:
    from pdmlab.coap.connections import Links

_NOWHERE = asyncio.Transport()  # until there is one
_KEEP_ALIVE_INTERVAL, _KEEP_ALIVE_TRIES = 30, 4


class Link(asyncio.Protocol):
    """One connection; `over_records` is whether its framing sees TLS records."""

    over_records = False

    def __init__(self, owner: Links, framing: Framing | None) -> None:
        self.owner = owner
        self.parameters = owner.parameters
        self.name: Connection = Connection("", 0, owner.scheme)
        self.identity: Identity | None = None
        self.framing = framing
        self.gone = False
        self.transport: asyncio.Transport = _NOWHERE
        self._loop = asyncio.get_running_loop()
        self._start = b""  # of a peer whose framing is not known yet
        self.left = 0  # how many messages more there may be in this turn
        self.put_off = False  # the rest of what has arrived, until the next turn
        self._ended: list[Exception | None] = []  # the reason, of a connection that ended before its next turn
        self._timer: asyncio.TimerHandle | None = None  # of what has to come in time
        self._stall: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {text_of(self.name)}>"

    # -- for asyncio -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; who is one too many goes at once."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self.parameters.max_unsent // 4)
        keep_alive(transport, self.parameters.keep_alive, _KEEP_ALIVE_INTERVAL, _KEEP_ALIVE_TRIES)
        if self.owner.admit(self):
            self.begun()
        else:
            self.gone = True
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what came; what is more than a turn's messages waits for the next."""
        if not self.gone:
            self.left = self.parameters.messages_a_turn
            self.take(data)

    def wait_for_turn(self) -> None:
        """Go on when others have been served, without anything new; nothing more is read until then."""
        if not self.put_off:
            self.put_off = True
            self.transport.pause_reading()
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self.put_off = False
        try:
            self.data_received(b"")
        except Exception as error:  # a defect ends its connection, as asyncio's transports have it
            self._loop.call_exception_handler({"message": "a connection's protocol failed", "exception": error})
            self.transport.abort()
            self.connection_lost(error)
            return
        if self.put_off:
            return
        if self._ended:
            self.connection_lost(self._ended.pop())
        else:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell why, unless it is known already, and when all that came before it has been taken."""
        if self.put_off and not self.gone:
            self._ended.append(exc)
        elif not self.gone:
            why = f"{text_of(self.name)} closed the connection" if exc is None else f"{text_of(self.name)}: {exc}"
            error = exc if isinstance(exc, NetworkError) else Unreachable(why)
            self.lost(error)

    def pause_writing(self) -> None:
        """Begin to wait for a peer that takes nothing."""
        self._stall = self._loop.call_later(self.parameters.write_timeout, self._stalled)

    def resume_writing(self) -> None:
        """Wait no more."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _stalled(self) -> None:
        self._stall = None
        waits, seconds = self.transport.get_write_buffer_size(), self.parameters.write_timeout
        self.drop(TimedOut(f"{text_of(self.name)} took nothing for {seconds:g} s; {waits} B wait for it"))

    # -- for TCP and TLS -------------------------------------------------------------------------------

    @abstractmethod
    def begun(self) -> None:
        """The connection is there."""

    @abstractmethod
    def take(self, data: bytes) -> None:
        """Take what came, as far as `left` goes; b"" to go on with what the turn before this one left."""

    @abstractmethod
    def put(self, data: bytes) -> None:
        """Write what makes one message."""

    @property
    def unsent(self) -> int:
        """How much waits to be sent (B)."""
        return self.transport.get_write_buffer_size()

    def bye(self) -> None:  # TCP has nothing to say
        """Write what ends the connection, beside the framing's own words."""

    def opened(self) -> None:
        """Begin to talk: the framing is known, or the peer's first message will tell it."""
        if self.framing is not None:
            self._write(self.framing.hello())
            self.owner.established(self)
        else:
            self.await_within(self.parameters.first_timeout, "said nothing")

    def arrived(self, data: bytes) -> None:
        """Take a record's contents, or a piece of the stream."""
        try:
            framing = self.framing or self._recognise(data)
            if framing is None:
                return
            if self._start:
                data, self._start = self._start, b""
            messages = framing.receive(data, self.left)
        except BadFrame as error:
            self._write(error.farewell)
            self.drop(NetworkError(f"{text_of(self.name)}: {error.message}", hint=error.hint))
            return
        self.left -= len(messages)
        if framing.unfinished and not framing.more:
            if self._timer is None or messages:
                self.await_within(self.parameters.message_timeout, "did not finish a message")
        elif self._timer is not None:
            self.stop_waiting()
        if framing.signals:
            self._write(framing.take_back())
        on_message, name = self.owner.on_message, self.name
        for message in messages:
            if self.gone:
                return
            on_message(message, name)
        if framing.more:
            self.left = 0
            self.wait_for_turn()
        elif framing.leaving is not None:
            self._let_go(framing)

    def _recognise(self, data: bytes) -> Framing | None:
        self._start += data
        framing = framing_of(self._start, records=self.over_records)
        if framing is not None:
            self.framing = framing
            self.stop_waiting()
            self._write(framing.hello())
            self.owner.established(self)
        return framing

    def send(self, message: bytes) -> None:
        """Send one message; see ConnectionSocket.send."""
        framing = self.framing
        if framing is None or self.gone or self.transport.is_closing():
            raise Unreachable(f"{text_of(self.name)} is not connected")
        data = framing.send(message)
        self._write(data)
        if self.gone:
            raise Unreachable(f"{text_of(self.name)} takes nothing")
        if framing.signals:
            for owed in framing.take_owed():
                self._loop.call_soon(self._deliver, owed)
            if framing.leaving is not None:
                self._loop.call_soon(self._let_go, framing)

    def _deliver(self, message: bytes) -> None:
        if not self.gone:
            self.owner.on_message(message, self.name)

    def _let_go(self, framing: Framing) -> None:
        """End the connection of a peer that wants to go, once it has its answers."""
        if self.gone or framing.more:
            return
        if framing.answered:
            self.finish()
            self.lost(Unreachable(f"{text_of(self.name)}: {framing.leaving}"))
        elif self._timer is None:
            self.await_within(self.parameters.release_timeout, "went, and its requests were not answered")

    def _write(self, data: bytes) -> None:
        if not data or self.gone or self.transport.is_closing():
            return
        waits = self.unsent
        if waits + len(data) > self.parameters.max_unsent:
            self.drop(NetworkError(f"{text_of(self.name)} takes nothing: {waits} B wait for it"))
        else:
            self.put(data)

    def await_within(self, seconds: float, what: str) -> None:
        """Drop the connection unless `stop_waiting` is called in time."""
        self.stop_waiting()
        self._timer = self._loop.call_later(seconds, self.late, seconds, what)

    def stop_waiting(self) -> None:
        """What was waited for has come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def late(self, seconds: float, what: str) -> None:
        """Drop a peer that did not do something in time."""
        self._timer = None
        self.drop(TimedOut(f"{text_of(self.name)} {what} in {seconds:g} s"))

    # -- ends ------------------------------------------------------------------------------------------

    def drop(self, why: NetworkError) -> None:
        """End it at once, for a reason; what is being written still goes out if the peer takes it."""
        if not self.gone:
            if self.transport.get_write_buffer_size():
                self.transport.abort()
            else:
                self.bye()
                self.transport.close()
            self.lost(why)

    def finish(self) -> None:
        """End it as it should be ended; nobody is told."""
        if not self.gone:
            if self.framing is not None:
                self._write(self.framing.farewell())
            self.bye()
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self._loop.call_later(self.parameters.write_timeout, self.transport.abort)

    def lost(self, why: NetworkError) -> None:
        """Forget the connection and tell why."""
        if self.gone:
            return
        self.gone = True
        self.stop_waiting()
        self.resume_writing()
        self.owner.forget(self, why)
