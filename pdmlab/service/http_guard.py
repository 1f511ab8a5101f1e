"""How long, and how much, an HTTP client may keep the server waiting: a head, a body, a TLS handshake.

uvicorn waits for a request's first line for ever, and keeps headers without end. Whoever sends a byte a minute on a
thousand connections would have all the service's descriptors; here the oldest such connection goes for a newcomer.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import Callable
from typing import Any

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

    def remove(self, connection: object) -> None:
        """Note that it says what it wants, or has gone."""
        self._drops.pop(connection, None)


class GuardedHttp(HttpToolsProtocol):
    """uvicorn's HTTP over httptools, with an end to its patience."""

    def __init__(self, *args: Any, waiting: Waiting, idle: Waiting, **options: Any) -> None:  # Any: uvicorn's
        super().__init__(*args, **options)
        self._waiting, self._idle = waiting, idle
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head = self._body = self._unread = 0
        self._began = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self._idle.remove(self)
        if self._stall is not None:
            self._stall.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._idle.remove(self)
        self._head += len(data)
        super().data_received(data)
        if self._in_head and self._head > MAX_HEAD and not self.transport.is_closing():
            self._end(431, "HEADERS_TOO_LARGE", f"first line and headers are larger than {MAX_HEAD} B")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_head:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._expect_nothing()
        self._body, self._began = 0, self.loop.time()
        self._deadline = self.loop.call_later(BODY_S, self._look_at_body)
        super().on_headers_complete()

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

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:
            self._idle.add(self, self.transport.close)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_S, self._drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def send_400_response(self, msg: str) -> None:
        self._end(400, "MALFORMED_REQUEST", "this is no HTTP request")

    # -- deadlines -------------------------------------------------------------------------------------------

    def _expect_head(self) -> None:
        self._expect_nothing()
        self._in_head, self._head = True, 0
        self._waiting.add(self, self._drop)
        self._deadline = self.loop.call_later(HEAD_S, self._late, f"the request did not come within {HEAD_S:.0f} s")

    def _expect_nothing(self) -> None:
        self._in_head = False
        self._waiting.remove(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

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
        request_id = secrets.token_hex(16)
        if getattr(self, "url", b"").lstrip(b"/").startswith(b"v2"):
            kind, body = b"text/plain; charset=utf-8", token.encode()
        else:
            said = {"object": "error", "code": status, "type": "bad_request", "message": why, "request_id": request_id}
            kind, body = b"application/json", json.dumps(said).encode()
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\nconnection: close\r\n\r\n%b"
            % (kind, len(body), request_id.encode(), body)
        )
        self.transport.close()


class TlsGate(asyncio.Protocol):
    """What a connection is until its TLS handshake is done; then `made` makes what it is from there on."""

    def __init__(self, made: Callable[[], asyncio.Protocol], context: ssl.SSLContext, waiting: Waiting) -> None:
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
        protocol = self._made()
        tls.set_protocol(protocol)
        protocol.connection_made(tls)
        if self._early:
            protocol.data_received(self._early)
