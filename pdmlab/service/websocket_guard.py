"""How long, and how much, a websocket's client may keep the server waiting: its handshake, and what it does not read.

uvicorn answers no handshake that the websockets library cannot read, and reads on, and answers pings, however little
the client takes of that.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import SecurityError

from pdmlab.service import http_guard
from pdmlab.service.http_guard import Bounded, Waiting, refusal

ANSWER_S = 10.0
"""How long a handshake may stay unanswered."""

LOOK_S = 0.01


class GuardedWebSocket(WebSocketsSansIOProtocol, Bounded):
    """uvicorn's websocket, with an end to its patience; nothing is read while something waits to be sent."""

    piece = 4096  # of frames without content, each costs some 50 times what it has

    def __init__(
        self, *args: Any, waiting: Waiting, below: asyncio.Transport | None, **options: Any
    ) -> None:  # Any: what uvicorn makes it with
        """below: what carries its TLS, if it has any."""
        super().__init__(*args, **options)
        self._below = below
        self._waiting = waiting
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Whoever sends is to know when the operating system has taken it: `send` waits until nothing is left.
        self.transport.set_write_buffer_limits(high=1, low=0)
        self._waiting.add(self, self.transport.abort)
        self._deadline = self.loop.call_later(ANSWER_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.remove(self)
        for timer in (self._deadline, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated:
            if self.handshake_complete:
                super().data_received(data)
            else:
                self.transport.abort()  # what comes before the answer would be kept until then
            return
        path = data.split(b" ", 2)[1]
        try:
            super().data_received(data)
        except ValueError:  # a path that is no ASCII
            self._refuse(path, 400, "MALFORMED_REQUEST", "this is no request for a websocket")
            return
        if self.handshake_initiated:
            if self.close_sent:  # it was refused, with the reason in words
                self._answered()
        elif isinstance(self.conn.handshake_exc, SecurityError):
            self._refuse(path, 431, "HEADERS_TOO_LARGE", "the request has more headers, or larger ones, than are read")
        else:
            self._refuse(path, 400, "MALFORMED_REQUEST", "this is no request for a websocket")

    def _refuse(self, path: bytes, status: int, token: str, why: str) -> None:
        self._answered()
        self.handshake_complete = self.close_sent = True
        self.transport.write(refusal(path, status, token, why))
        self.transport.close()

    def _answered(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._waiting.remove(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()
        if self._stall is None:
            self._stall = self.loop.call_later(http_guard.STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if not self.read_paused:
            self.transport.resume_reading()

    async def receive(self) -> Any:
        message = await super().receive()
        if not self.writable.is_set():
            self.transport.pause_reading()
        return message

    async def send(self, message: Any) -> None:
        """Do what uvicorn does; a message without content returns when all before it is the operating system's."""
        await super().send(message)
        if message["type"] == "websocket.send" and not message.get("text") and not message.get("bytes"):
            while self._below is not None and self._below.get_write_buffer_size() and not self.disconnected:
                await asyncio.sleep(LOOK_S)  # TLS counts what it has encrypted as sent
        if self.handshake_complete or self.close_sent:
            self._answered()
        if self.close_sent and not self.disconnected:
            self._waiting.add(self, self.transport.abort)  # until the client has closed it, too
