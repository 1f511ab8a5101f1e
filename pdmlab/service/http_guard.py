"""How long, and how much, an HTTP client may keep the server waiting: a head, a body, a TLS handshake.

uvicorn waits for a request's first line for ever, and keeps headers without end. Whoever sends a byte a minute on a
thousand connections would have all the service's descriptors; here the oldest such connection goes for a newcomer.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import secrets
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD = 65_536
"""Of a request: its first line and its headers (B)."""
HANDSHAKE_S = 10.0
"""How long a TLS handshake may take."""
HEAD_S = 10.0
"""How long a head may take, from the connection or from its first byte on."""
IDLE_S = 75
"""How long a connection is kept for the next request (s): longer than clients pause, who would meet its end."""
BODY_S = 30.0
"""How long a body may take, and a second more for each PACE of it."""
PACE = 4096  # B
STALL_S = 60.0
"""How long a client may take nothing of an answer that waits for it."""
MAX_WAITING = 256
"""Connections in their head, at most, and as many again that are idle; each costs 5 KB."""
MAX_WAITING_TLS = 64
"""The same of TLS, handshakes included; each costs 300 KB."""
MAX_UNREAD = 1 << 20
"""What is thrown away of a body whose request was answered already (B); then the connection is closed."""
READ = 65_536
"""What is read from a socket at a time (B)."""
MAX_HELD = 16_384
"""What is kept of the requests that a client sends before the one under way is answered (B); then it is not read."""

_PIECES = 64  # that are parsed before the others have their turn
# With which a head ends, or chunks do. Of what is parsed up to there, at most two requests can be complete: one with
# the first bytes, and one with the last.
_END = re.compile(rb"\n\r?\n")


class Waiting:
    """Connections that have not said yet what they want, or nothing more for now, the oldest first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._drops: dict[object, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._drops)

    def add(self, connection: object, drop: Callable[[], None]) -> None:
        """Note a connection; `drop` closes it, if there are too many."""
        while len(self._drops) >= self._most:
            self._drops.pop(next(iter(self._drops)))()
        self._drops[connection] = drop

    def drop_all(self) -> int:
        """Close all of them; return how many there were."""
        drops, self._drops = self._drops, {}
        for drop in drops.values():
            drop()
        return len(drops)

    def remove(self, connection: object) -> None:
        """Note that it has said what it wants, or has gone."""
        self._drops.pop(connection, None)


def refusal(path: bytes, status: int, token: str, why: str) -> bytes:
    """Return an answer with which a connection ends, in the shape of the interface that the path belongs to."""
    request_id = secrets.token_hex(16)
    if path.lstrip(b"/").startswith(b"v2"):
        kind, body = b"text/plain; charset=utf-8", token.encode()
    else:
        said = {"object": "error", "code": status, "type": "bad_request", "message": why, "request_id": request_id}
        kind, body = b"application/json", json.dumps(said).encode()
    return STATUS_LINE[status] + (
        b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\nconnection: close\r\n\r\n%b"
        % (kind, len(body), request_id.encode(), body)
    )


class Bounded(asyncio.BufferedProtocol, ABC):
    """What reads no more from its socket at a time than `piece` (B), where asyncio reads 256 KiB."""

    piece = READ

    def get_buffer(self, sizehint: int) -> memoryview:  # TLS writes into slices of it
        """Return where asyncio is to leave what it reads."""
        self._into = memoryview(bytearray(self.piece))
        return self._into

    def buffer_updated(self, nbytes: int) -> None:
        """Take what it has read."""
        data = bytes(self._into[:nbytes])
        del self._into
        self.data_received(data)

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""


class _Flow(FlowControl):
    """uvicorn's, for a connection that goes on with what it holds before more is read."""

    def __init__(self, transport: asyncio.Transport, go_on: Callable[[], None]) -> None:
        super().__init__(transport)
        self._go_on = go_on

    def resume_reading(self) -> None:
        self.read_paused = False
        self._go_on()


class GuardedHttp(HttpToolsProtocol, Bounded):
    """uvicorn's HTTP over httptools, with an end to its patience, and one request at a time."""

    def __init__(
        self, *args: Any, waiting: Waiting, idle: Waiting, below: asyncio.Transport | None = None, **options: Any
    ) -> None:  # Any: uvicorn's
        super().__init__(*args, **options)
        made = self.ws_protocol_class
        if made is not None:
            self.ws_protocol_class = functools.partial(made, waiting=waiting, below=below)  # type: ignore[assignment,call-arg]
        self._waiting, self._idle = waiting, idle
        self._held = bytearray()
        self._going: asyncio.Handle | None = None
        self._broken = False  # what comes after the request that is under way is no HTTP
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head = self._body = self._unread = 0
        self._began = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.flow = _Flow(transport, self._go_on)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self._idle.remove(self)
        self._held.clear()
        if self._going is not None:
            self._going.cancel()
        if self._stall is not None:
            self._stall.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._idle.remove(self)
        self._held += data
        self._feed()

    def _feed(self) -> None:
        """Parse what has come, up to the end of a request; what follows waits until that is answered."""
        for _ in range(_PIECES):
            if not self._held or not self._has_time():
                break
            end = _END.search(self._held)
            piece = bytes(self._held[: end.end() if end else len(self._held)])
            del self._held[: len(piece)]
            self._head += len(piece)
            self._idle.remove(self)
            super().data_received(piece)
            if self._in_head and self._head > MAX_HEAD and not self.transport.is_closing():
                self._end(431, "HEADERS_TOO_LARGE", f"first line and headers are larger than {MAX_HEAD} B")
        else:
            self._go_on()
        if self.transport.get_protocol() is not self:
            return  # it is a websocket now
        # It is read on where little is held: only whoever reads hears that a client has gone.
        if self.flow.read_paused or len(self._held) > MAX_HELD:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _has_time(self) -> bool:
        return not (self.transport.is_closing() or self._broken or self.pipeline or self.flow.read_paused) and (
            not self._is_under_way() or self.cycle.more_body
        )

    def _is_under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _go_on(self) -> None:
        if self._going is None:
            self._going = self.loop.call_soon(self._gone_on)

    def _gone_on(self) -> None:
        self._going = None
        if not self.transport.is_closing() and self.transport.get_protocol() is self:
            self._feed()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:
            self._idle.add(self, self.transport.close)
        if self._broken and not self.pipeline and not self.transport.is_closing():
            self.send_400_response("")

    def handle_websocket_upgrade(self) -> None:
        self._expect_nothing()
        if self.transport.is_closing():
            return
        if self._held:
            self._end(400, "MALFORMED_REQUEST", "a websocket's client sends nothing before it is open")
            return
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_head:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._expect_nothing()
        self._body, self._began = 0, self.loop.time()
        if self.parser.should_upgrade() and self._should_upgrade() and self._has_body():
            self._end(400, "MALFORMED_REQUEST", "a request for a websocket has no body")
            return
        self._deadline = self.loop.call_later(BODY_S, self._look_at_body)
        super().on_headers_complete()

    def _has_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self.headers
        )

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        if self.cycle is not None and self.cycle.response_complete:
            self._unread += len(body)
            if self._unread > MAX_UNREAD:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._expect_nothing()
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_S, self._drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def send_400_response(self, msg: str) -> None:
        if self._is_under_way() and not self.cycle.more_body:
            self._expect_nothing()
            self._broken = True  # it is said after the answers to what came before
            self._held.clear()
            return
        self._end(400, "MALFORMED_REQUEST", "this is no HTTP request")

    # -- deadlines -------------------------------------------------------------------------------------------

    def _expect_head(self) -> None:
        self._expect_nothing()
        self._in_head, self._head = True, 0
        self._waiting.add(self, self._drop)
        self._deadline = self.loop.call_later(HEAD_S, self._look_at_head)

    def _expect_nothing(self) -> None:
        self._in_head = False
        self._waiting.remove(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _look_at_head(self) -> None:
        if self._is_under_way():  # it waits for us
            self._deadline = self.loop.call_later(HEAD_S, self._look_at_head)
        else:
            self._late(f"the request did not come within {HEAD_S:.0f} s")

    def _look_at_body(self) -> None:
        left = self._began + BODY_S + self._body / PACE - self.loop.time()
        if self.flow.read_paused:
            left = max(left, 1.0)  # it waits for us
        if left > 0:
            self._deadline = self.loop.call_later(left, self._look_at_body)
        else:
            self._late(f"the body came more slowly than {PACE} B/s")

    def _drop(self) -> None:
        self._expect_nothing()
        self.transport.abort()

    def _late(self, why: str) -> None:
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self._drop()  # in the middle of an answer nothing else can be said
        else:
            self._end(408, "REQUEST_TIMEOUT", why)

    def _end(self, status: int, token: str, why: str) -> None:
        """Answer in the shape of the interface, as far as the path is known, and close the connection."""
        self._expect_nothing()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # whoever reads the body learns that there is no more
            self.cycle.message_event.set()
        self._held.clear()
        self.transport.write(refusal(getattr(self, "url", b""), status, token, why))
        self.transport.close()


class TlsGate(asyncio.Protocol):
    """What a connection is until its TLS handshake is done; then `made` makes what it is, `below` which TLS is."""

    def __init__(self, made: Callable[..., asyncio.Protocol], context: ssl.SSLContext, waiting: Waiting) -> None:
        self._made, self._context, self._waiting = made, context, waiting
        self._shaking: asyncio.Task[None] | None = None
        self._early = b""
        self._lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a socket's transport
        self._waiting.add(self, transport.abort)
        self._shaking = asyncio.get_running_loop().create_task(self._shake(transport))

    def data_received(self, data: bytes) -> None:
        self._early += data  # came with the last message of the handshake

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._waiting.remove(self)

    async def _shake(self, transport: asyncio.Transport) -> None:
        transport.pause_reading()
        try:
            tls = await asyncio.get_running_loop().start_tls(
                transport, self, self._context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, ssl.SSLError):  # whoever does not speak TLS hears nothing, there is nothing to say it in
            transport.abort()
            return
        finally:
            self._waiting.remove(self)
        if tls is None or self._lost:
            return
        protocol = self._made(below=transport)
        tls.set_protocol(protocol)
        protocol.connection_made(tls)
        if self._early:
            protocol.data_received(self._early)
