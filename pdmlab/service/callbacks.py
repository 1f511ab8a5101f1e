"""Callback channels: a key's events are sent to its URL by HTTP PUT, one message at a time and in order.

What cannot be delivered is tried again after 1, 2, 4, … 120 s, and given up, with its channel, after a day. Of several
processes, the one that has the channel in hand delivers.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import sqlalchemy as sa

from pdmlab.errors import NetworkError, ServiceError
from pdmlab.service.callback_sender import SENDING_S, Sender
from pdmlab.service.channel_table import CALLBACK
from pdmlab.service.outbox import Batch
from pdmlab.service.refusal import Refused
from pdmlab.service.schema import channels as table
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.bus import Bus
    from pdmlab.service.channels import Channels

_log = logging.getLogger(__name__)

MAX_LENGTH = 400
"""Characters of a URL with all names and values of its headers."""
ACCEPTED = (200, 204)
"""What a callback answers to what it has taken."""
LONGEST_WAIT_S = 120.0
GIVEN_UP_S = 86_400.0
"""A callback that has taken nothing for this long is removed."""

_HELD_S = SENDING_S + 15.0
_ENDING_S = 2.0  # for what is on its way when the service stops

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FOR_TRANSPORT = frozenset(
    ("connection", "content-encoding", "content-length", "expect", "host", "keep-alive", "te", "trailer", "upgrade")
) | frozenset(("proxy-connection", "transfer-encoding"))
"""Headers that say how a message is sent: the connection's own."""

_MINE = table.c.api_key_id == sa.bindparam("to")
_HAS = Statement(sa.select(table.c.api_key_id).where(_MINE, table.c.kind == CALLBACK))
_STATE = Statement(
    sa.select(
        *(table.c[name] for name in ("holder", "held_until", "next_try", "tries", "failing_since", "expires"))
    ).where(_MINE, table.c.kind == CALLBACK)
)
_OUTCOME = Statement(
    sa.update(table)
    .where(_MINE, table.c.holder == sa.bindparam("me"))
    .values({name: sa.bindparam(name) for name in ("tries", "next_try", "failing_since")})
)


class Callbacks:
    """The callbacks of all keys, and the deliveries of this process."""

    def __init__(self, channels: Channels, bus: Bus, sender: Sender) -> None:
        self.sender = sender
        self._channels, self._store, self._bus = channels, channels.store, bus
        self._keys: set[str] = set()
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._kicked: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        channels.on_wake.append(self.resume)
        bus.hear("channel", self._heard)
        bus.hear("key", self._look)

    async def register(self, api_key_id: str, url: str, headers: Mapping[str, str]) -> None:
        """Let a key's events go to a URL, in the place of the one that it had; the URL is tried first.

        Raises:
            Refused: the URL is none, too long, may not be called or does not answer 200 or 204 to an empty PUT; or
                the key has a channel of another kind (400).
        """
        check(url, headers)
        self._channels.table.must_be(api_key_id, CALLBACK)
        try:
            status = await self.sender.put(url, headers, b"")
        except NetworkError as error:
            raise Refused(400, "CALLBACK_URL_NOT_ACCESSIBLE", hint=error.message) from error
        if status not in ACCEPTED:
            hint = f"it answered {status} to a PUT with an empty body, and must answer 200 or 204"
            raise Refused(400, "CALLBACK_URL_NOT_ACCESSIBLE", hint=hint)
        anew = {"tries": 0, "next_try": 0.0, "failing_since": None}
        # Not in one block: another process may open the same channel first, which fails here and is looked at again.
        self._channels.table.open(api_key_id, CALLBACK, {"url": url, "headers": dict(headers), **anew})
        with self._store.batch():
            self._bus.tell("key", api_key_id)
        await self._store.written()

    def get(self, api_key_id: str) -> Row | None:
        """Return a key's url and headers; None if it has no callback."""
        if self._channels.kind(api_key_id) != CALLBACK:
            return None
        return self._store.row(sa.select(table.c.url, table.c.headers).where(table.c.api_key_id == api_key_id))

    # -- delivering ----------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Deliver what waits, after a start or when news may have been missed."""
        if self._channels.draining:
            return
        rows = self._store.rows(sa.select(table.c.api_key_id).where(table.c.kind == CALLBACK))
        self._keys = {row["api_key_id"] for row in rows}
        for api_key_id in self._keys:
            self._kick(api_key_id)

    async def close(self) -> None:
        """Deliver nothing any more; what is on its way has a moment, and is sent again otherwise."""
        self._keys.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        workers = list(self._workers.values())
        if workers:
            await asyncio.wait(workers, timeout=_ENDING_S)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await self.sender.close()

    def _heard(self, api_key_id: str) -> None:
        if api_key_id in self._keys:
            self._kick(api_key_id)

    def _look(self, api_key_id: str) -> None:
        """Look whether a key has a callback: here or in another process, that may have changed."""
        if self._store.row(_HAS, to=api_key_id) is None:
            self._keys.discard(api_key_id)
        elif not self._channels.draining:
            self._keys.add(api_key_id)
            self._kick(api_key_id)

    def _kick(self, api_key_id: str) -> None:
        self._kicked.add(api_key_id)
        if api_key_id not in self._workers and not self._channels.draining:
            self._workers[api_key_id] = asyncio.get_running_loop().create_task(self._work(api_key_id))

    async def _work(self, api_key_id: str) -> None:
        me = secrets.token_hex(16)
        try:
            while api_key_id in self._kicked and not self._channels.draining:
                self._kicked.discard(api_key_id)
                while self._may_deliver(api_key_id, me) and (batch := self._channels.outbox.next(api_key_id)):
                    if not await self._deliver(api_key_id, me, batch):
                        break
                self._channels.table.release(api_key_id, me)
        except ServiceError as error:
            _log.error("the callback of key %s stands still: %s", api_key_id, error)
        finally:
            del self._workers[api_key_id]

    def _may_deliver(self, api_key_id: str, me: str) -> bool:
        """Have a callback in hand, if it is due and nobody else has it; else come back when that may be."""
        if self._channels.draining:
            return False
        row, now = self._store.row(_STATE, to=api_key_id), self._store.now()
        if row is None or row["expires"] < now:
            self._keys.discard(api_key_id)
            return False
        others = row["held_until"] if row["holder"] not in (None, me) else 0.0
        if (due := max(row["next_try"], others)) > now:
            self._come_back(api_key_id, due - now)
            return False
        return self._channels.table.hold(api_key_id, CALLBACK, me, _HELD_S) and self._channels.table.has_good_key(
            api_key_id
        )

    async def _deliver(self, api_key_id: str, me: str, batch: Batch) -> bool:
        """Send a message; return whether it arrived."""
        channel = self.get(api_key_id)
        if channel is None:
            return False
        try:
            status = await self.sender.put(channel["url"], channel["headers"], batch.text.encode())
            arrived, why = status in ACCEPTED, f"it answered {status}"
        except (NetworkError, Refused) as error:
            arrived, why = False, error.hint or error.message
        with self._store.batch() as db:
            if arrived:
                self._channels.outbox.taken(batch)
                _OUTCOME.run(db, to=api_key_id, me=me, tries=0, next_try=0.0, failing_since=None)
            else:
                self._failed(db, api_key_id, me, why)
        await self._store.written()
        return arrived

    def _failed(self, db: sa.Connection, api_key_id: str, me: str, why: str) -> None:
        row, now = self._store.row(_STATE, to=api_key_id), self._store.now()
        if row is None or row["holder"] != me:
            return
        since = now if row["failing_since"] is None else row["failing_since"]
        if now - since >= GIVEN_UP_S:
            _log.warning("the callback of key %s has taken nothing for a day, and is removed: %s", api_key_id, why)
            self._channels.delete(api_key_id, CALLBACK)
            return
        wait = min(2.0 ** row["tries"], LONGEST_WAIT_S) if row["tries"] < 10 else LONGEST_WAIT_S
        _log.info("the callback of key %s: %s; it is tried again in %.0f s", api_key_id, why, wait)
        _OUTCOME.run(db, to=api_key_id, me=me, tries=row["tries"] + 1, next_try=now + wait, failing_since=since)
        self._come_back(api_key_id, wait)

    def _come_back(self, api_key_id: str, after: float) -> None:
        timer = self._timers.pop(api_key_id, None)
        if timer is not None:
            timer.cancel()
        # A little later: rounding must not make it come too soon.
        self._timers[api_key_id] = asyncio.get_running_loop().call_later(after + 0.001, self._due, api_key_id)

    def _due(self, api_key_id: str) -> None:
        self._timers.pop(api_key_id, None)
        self._heard(api_key_id)


def check(url: str, headers: Mapping[str, str]) -> None:
    """Raise Refused (400) if that is no callback's URL with headers."""
    length = len(url) + sum(len(name) + len(value) for name, value in headers.items())
    if length > MAX_LENGTH:
        hint = f"url and headers have {length} characters together, of {MAX_LENGTH}"
        raise Refused(400, "CALLBACK_URL_TOO_LONG", hint=hint)
    import httpx

    try:
        parts, _ = urlsplit(url), httpx.URL(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        good = False
    if not good or not (url.isascii() and url.isprintable()) or " " in url or "@" in urlsplit(url).netloc:
        hint = "it is http:// or https://, a host, and no user name: credentials go into headers"
        raise Refused(400, "CALLBACK_URL_INVALID", hint=hint)
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not (value.isascii() and value.isprintable()):
            raise Refused(400, "CALLBACK_HEADERS_INVALID", hint="names are tokens, values printable ASCII")
        if name.lower() in _FOR_TRANSPORT:
            raise Refused(400, "CALLBACK_HEADERS_INVALID", hint=f"{name} is the connection's own")
