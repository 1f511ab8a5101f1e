"""Websocket channels: events are sent, as they come, to the one socket that a key has open."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import TYPE_CHECKING

from pdmlab.errors import ServiceError
from pdmlab.service.channel_table import WEB_SOCKET
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.bus import Bus
    from pdmlab.service.channels import Channels

LEASE_S = 60.0
"""For how long a socket's process may be silent before the channel counts as disconnected."""

MESSAGE_B = 262_144
"""Size of a message from which on it takes no more events (B): so much is told again after a service was killed."""


class Close(IntEnum):
    """Why a socket is closed, as RFC 6455 and the vendor's description number it."""

    NORMAL = 1000
    """By the client."""
    GOING_AWAY = 1001
    """Another socket of the key was opened, or its channel deleted."""
    POLICY_VIOLATION = 1008
    """Its key is missing, unknown or revoked."""
    UNEXPECTED = 1011
    """The key has no websocket channel, or the service failed."""
    RESTART = 1012
    """The service stops; what waits is kept."""

    @property
    def words(self) -> str:
        """The reason, as the client is told it."""
        return _WORDS[self]


_WORDS = {
    Close.NORMAL: "closed by the client",
    Close.GOING_AWAY: "another socket of this key was opened, or the channel deleted",
    Close.POLICY_VIOLATION: "the API key is missing, unknown, revoked or not active",
    Close.UNEXPECTED: "this key has no websocket channel: PUT /v2/notification/websocket comes first",
    Close.RESTART: "the service stops",
}


class WebSockets:
    """The websocket channels; their rows are all processes', the open sockets are this one's."""

    def __init__(self, channels: Channels, bus: Bus) -> None:
        self._channels = channels
        self._news: dict[str, list[asyncio.Event]] = {}
        channels.on_wake.append(self._wake_all)
        bus.hear("channel", self._wake)
        bus.hear("key", self._wake)

    def register(self, api_key_id: str) -> tuple[bool, Row]:
        """Open a key's websocket channel; return whether it is a new one, and what `status` does.

        Raises:
            Refused: the key has a channel of another kind (400).
        """
        table = self._channels.table
        new = table.must_be(api_key_id, WEB_SOCKET) is None and table.open(api_key_id, WEB_SOCKET)
        return new, self.status(api_key_id) or {}

    def status(self, api_key_id: str) -> Row | None:
        """Return whether a socket is open, and how many events wait; None if the key has no such channel."""
        row = self._channels.table.find(api_key_id)
        if row is None or row["kind"] != WEB_SOCKET:
            return None
        connected = row["holder"] is not None and row["held_until"] >= self._channels.store.now()
        return {
            "status": "connected" if connected else "disconnected",
            "queueSize": self._channels.outbox.count(api_key_id),
        }

    async def serve(self, api_key_id: str, send: Callable[[str], Awaitable[None]]) -> Close:
        """Send a key's events until there is a reason to close the socket; return that.

        The key's older socket, wherever it is, is closed by that. What has been sent is let go, not before.

        send: sends a NotificationMessage as a text frame, and returns when the operating system has taken all of it.
        """
        table, me = self._channels.table, secrets.token_hex(16)
        if self._channels.kind(api_key_id) != WEB_SOCKET:
            return Close.UNEXPECTED
        if self._channels.draining:
            return Close.RESTART
        table.take_over(api_key_id, WEB_SOCKET, me, LEASE_S)
        news = asyncio.Event()
        self._news.setdefault(api_key_id, []).append(news)
        try:
            return await self._send_all(api_key_id, me, news, send)
        finally:
            self._news[api_key_id].remove(news)
            if not self._news[api_key_id]:
                del self._news[api_key_id]
            with contextlib.suppress(ServiceError):  # the database is closed: the next start lets it go
                table.release(api_key_id, me)

    async def _send_all(
        self, api_key_id: str, me: str, news: asyncio.Event, send: Callable[[str], Awaitable[None]]
    ) -> Close:
        table, outbox = self._channels.table, self._channels.outbox
        while True:
            news.clear()
            if self._channels.draining:
                return Close.RESTART
            if not table.is_held(api_key_id, me):
                return Close.GOING_AWAY if table.has_good_key(api_key_id) else Close.POLICY_VIOLATION
            batch = outbox.next(api_key_id, MESSAGE_B)
            if batch is not None:
                await send(batch.text)
                outbox.taken(batch)
                continue
            try:
                await asyncio.wait_for(news.wait(), LEASE_S / 3)
            except TimeoutError:
                table.hold(api_key_id, WEB_SOCKET, me, LEASE_S)

    def _wake_all(self) -> None:
        for api_key_id in list(self._news):
            self._wake(api_key_id)

    def _wake(self, api_key_id: str) -> None:
        for news in self._news.get(api_key_id, ()):
            news.set()
