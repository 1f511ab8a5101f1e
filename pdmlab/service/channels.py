"""Notification channels: what a key's owner is told, in the order it happened, kept until it is fetched.

A key has one channel; here it is a long poll. The first poll makes it. Answers to a key's own requests are
kept even before that; news of devices go to the channels that are open.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa

from pdmlab.service.bus import Bus
from pdmlab.service.refusal import Refused
from pdmlab.service.schema import api_keys, channel_messages, channels
from pdmlab.service.statements import Statement
from pdmlab.service.store import Store

LONG_POLLING: Literal["LONG_POLLING"] = "LONG_POLLING"
IDLE_S = 600.0
"""A long-poll channel that nobody polls for this long is closed."""
KEPT_S = 86_400.0
"""How long an event is kept."""
BATCH = 1000
"""Events in one message, at most."""
QUEUE = 10_000
"""Events kept for a key, at most; the oldest go first."""

_PRUNE_EVERY = 500  # events written

_COLUMNS = ["account_id", "api_key_id", "kind", "body", "created"]
_EVENT: list[sa.BindParameter[Any]] = [sa.bindparam("kind"), sa.bindparam("body"), sa.bindparam("now")]
_LEAVE = Statement(
    sa.insert(channel_messages).from_select(
        _COLUMNS, sa.select(api_keys.c.account_id, api_keys.c.id, *_EVENT).where(api_keys.c.id == sa.bindparam("to"))
    )
)
_LEAVE_ALL = Statement(
    sa.insert(channel_messages).from_select(
        _COLUMNS,
        sa.select(channels.c.account_id, channels.c.api_key_id, *_EVENT).where(
            channels.c.account_id == sa.bindparam("to"), channels.c.last_used >= sa.bindparam("now") - IDLE_S
        ),
    )
)
_MINE = channel_messages.c.api_key_id == sa.bindparam("to")
_NEXT = Statement(
    sa.select(channel_messages)
    .where(_MINE, channel_messages.c.created >= sa.bindparam("oldest"))
    .order_by(channel_messages.c.number)
    .limit(BATCH)
)
_TAKEN = Statement(sa.delete(channel_messages).where(_MINE, channel_messages.c.number <= sa.bindparam("last")))
_CHANNEL = Statement(
    sa.select(channels.c.kind, channels.c.last_used).where(channels.c.api_key_id == sa.bindparam("to"))
)
_USED = Statement(
    sa.update(channels).where(channels.c.api_key_id == sa.bindparam("to")).values(last_used=sa.bindparam("now"))
)

Message = Mapping[str, Sequence[Any]]
"""A NotificationMessage: registrations, reg-updates, de-registrations, registrations-expired, notifications and
async-responses, each a list; keys that it does not have are not there."""


class _Poll:
    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.deleted = False


class Channels:
    """The service's channels. All of it belongs to the loop that the store belongs to."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store = store
        self._bus = bus
        bus.hear("channel", self._wake)
        bus.hear("account", self._wake_all)
        self._polls: dict[str, _Poll] = {}
        self._draining = False
        self._written = 0

    def put(self, api_key_id: str, message: Message) -> None:
        """Leave events for one key, whether its channel is open or not."""
        self._leave(_LEAVE, api_key_id, message)
        self._bus.tell("channel", api_key_id)

    def broadcast(self, account_id: str, message: Message) -> None:
        """Leave events for every open channel of an account."""
        self._leave(_LEAVE_ALL, account_id, message)
        self._bus.tell("account", account_id)

    async def pull(self, api_key_id: str, hold_s: float) -> dict[str, list[Any]] | None:
        """Return what waits for a key, or wait for it; None when hold_s (s) are over or the service drains.

        Raises:
            Refused: the key polls already (409), has another kind of channel (400), or its channel was
                deleted meanwhile (410).
        """
        if api_key_id in self._polls:
            raise Refused(409, "another poll of this key is open")
        self._open(api_key_id)
        loop = asyncio.get_running_loop()
        end = loop.time() + hold_s
        poll = self._polls[api_key_id] = _Poll()
        try:
            while True:
                poll.news.clear()
                if poll.deleted:
                    raise Refused(410, "CHANNEL_DELETED")
                found = self._take(api_key_id)
                if found or self._draining:
                    return found
                try:
                    await asyncio.wait_for(poll.news.wait(), end - loop.time())
                except TimeoutError:
                    return None
        finally:
            del self._polls[api_key_id]

    def kind(self, api_key_id: str) -> str | None:
        """Return how a key's channel delivers; None if it has none."""
        row = self._store.row(_CHANNEL, to=api_key_id)
        if row is None or row["last_used"] < self._store.now() - IDLE_S:
            return None
        return str(row["kind"])

    def delete(self, api_key_id: str) -> bool:
        """Close a key's channel with all that waits in it; an open poll ends. Return whether there was one."""
        with self._store.begin() as db:
            removed = db.execute(sa.delete(channels).where(channels.c.api_key_id == api_key_id)).rowcount
            db.execute(sa.delete(channel_messages).where(channel_messages.c.api_key_id == api_key_id))
        poll = self._polls.get(api_key_id)
        if poll is not None:
            poll.deleted = True
            poll.news.set()
        return bool(removed)

    def drain(self) -> None:
        """End every open poll, and each new one at once: the service is about to stop."""
        self._draining = True
        self._wake_all()

    # -- the queue -------------------------------------------------------------------------------------------

    def _leave(self, statement: Statement, to: str, message: Message) -> None:
        now = self._store.now()
        with self._store.batch() as db:
            for kind, events in message.items():
                for event in events:
                    body = json.dumps(event, separators=(",", ":"))
                    statement.run(db, to=to, kind=kind, body=body, now=now)
                    self._written += 1
            if self._written >= _PRUNE_EVERY:
                self._written = 0
                self._prune(db)

    def _take(self, api_key_id: str) -> dict[str, list[Any]] | None:
        rows = self._store.rows(_NEXT, to=api_key_id, oldest=self._store.now() - KEPT_S)
        if not rows:
            return None
        with self._store.batch() as db:
            _TAKEN.run(db, to=api_key_id, last=rows[-1]["number"])
        message: dict[str, list[Any]] = {}
        for row in rows:
            message.setdefault(row["kind"], []).append(json.loads(row["body"]))
        return message

    def _prune(self, db: sa.Connection) -> None:
        """Let go what is too old, and of a key's events the oldest that are too many."""
        db.execute(sa.delete(channel_messages).where(channel_messages.c.created < self._store.now() - KEPT_S))
        counted = sa.select(channel_messages.c.api_key_id, sa.func.count()).group_by(channel_messages.c.api_key_id)
        for api_key_id, count in db.execute(counted).all():
            if count > QUEUE:
                mine = channel_messages.c.api_key_id == api_key_id
                number = channel_messages.c.number
                kept = db.scalar(sa.select(number).where(mine).order_by(number.desc()).offset(QUEUE).limit(1))
                db.execute(sa.delete(channel_messages).where(mine, number <= kept))

    def _open(self, api_key_id: str) -> None:
        row = self._store.row(_CHANNEL, to=api_key_id)
        if row is not None and row["kind"] != LONG_POLLING:
            raise Refused(400, f"this key has a channel of the kind {row['kind']}")
        with self._store.batch() as db:
            if row is not None:
                _USED.run(db, to=api_key_id, now=self._store.now())
                return
            at = self._store.timestamp()
            account_id = db.scalar(sa.select(api_keys.c.account_id).where(api_keys.c.id == api_key_id))
            if account_id is None:
                raise Refused(401, f"there is no API key {api_key_id}")
            db.execute(
                sa.insert(channels).values(
                    api_key_id=api_key_id,
                    account_id=account_id,
                    kind=LONG_POLLING,
                    last_used=self._store.now(),
                    created_at=at,
                    updated_at=at,
                )
            )

    def _wake(self, api_key_id: str) -> None:
        poll = self._polls.get(api_key_id)
        if poll is not None:
            poll.news.set()

    def _wake_all(self, account_id: str = "") -> None:
        """Let every poll look, whichever account has news: they are few."""
        for api_key_id in self._polls:
            self._wake(api_key_id)
