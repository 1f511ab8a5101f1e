"""What waits to be told to each key: events in the database, in the order in which they happened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pdmlab.service.schema import api_keys, channel_messages
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Store

KEPT_S = 86_400.0
"""How long an event is kept."""
BATCH = 1000
"""Events in one message, at most."""
BATCH_B = 4 << 20
"""Size of a message from which on it takes no more events (B)."""
QUEUE_B = 50_000_000
"""What may wait for a key (B); the oldest events go first."""
OVERHEAD_B = 200  # what a row costs beside its body
CHECKED_EVERY = 8  # parts of QUEUE_B that are written between two looks at what waits

_BIG = 4096  # B: bodies that are fetched one by one

Message = Mapping[str, Sequence[Any]]
"""A NotificationMessage: registrations, reg-updates, de-registrations, registrations-expired, notifications and
async-responses, each a list; keys that it does not have are not there."""

_T = channel_messages.c
_COLUMNS = ["account_id", "api_key_id", "kind", "body", "size", "created"]
_EVENT: list[sa.BindParameter[Any]] = [sa.bindparam(name) for name in ("kind", "body", "size", "now")]
_LEAVE = Statement(
    sa.insert(channel_messages).from_select(
        _COLUMNS, sa.select(api_keys.c.account_id, api_keys.c.id, *_EVENT).where(api_keys.c.id == sa.bindparam("to"))
    )
)
_MINE = _T.api_key_id == sa.bindparam("to")
_BODY = sa.case((_T.size <= _BIG, _T.body), else_=None).label("body")
_NEXT = Statement(
    sa.select(_T.number, _T.created, _T.kind, _T.size, _BODY)
    .where(_MINE, _T.created >= sa.bindparam("oldest"))
    .order_by(_T.number)
    .limit(BATCH)
)
_FIRST = Statement(sa.select(_T.number).where(_MINE, _T.created >= sa.bindparam("oldest")).limit(1))
_ONE = Statement(sa.select(_T.body).where(_T.number == sa.bindparam("which")))
_TAKEN = Statement(
    sa.delete(channel_messages).where(_T.number == sa.bindparam("number"), _T.created == sa.bindparam("created"))
)
_CLEAR = Statement(sa.delete(channel_messages).where(_MINE, _T.created <= sa.bindparam("until")))
_COUNT = Statement(sa.select(sa.func.count()).where(_MINE))
_SIZES = Statement(sa.select(_T.number, _T.size).where(_MINE).order_by(_T.number.desc()))
_OLDER = Statement(sa.delete(channel_messages).where(_MINE, _T.number <= sa.bindparam("last")))
_OUTDATED = Statement(sa.delete(channel_messages).where(_T.created < sa.bindparam("oldest")))


@dataclass(frozen=True)
class Batch:
    """Events that go out in one NotificationMessage."""

    events: tuple[Row, ...]
    """Number and time of each."""
    text: str
    """The message, as JSON."""

    def __repr__(self) -> str:
        return f"<Batch of {len(self.events)} events, {len(self.text)} characters>"

    @property
    def message(self) -> dict[str, list[Any]]:
        """The message, read."""
        found: dict[str, list[Any]] = json.loads(self.text)
        return found


class Outbox:
    """The events of all keys. They are kept until they are `taken`, for a day at most."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[str, int] = {}  # B for each key since its queue was looked at last

    def leave(self, api_key_ids: Sequence[str], message: Message) -> None:
        """Leave events for keys; for one that there is no more, none."""
        if not api_key_ids:
            return
        now = self._store.now()
        rows: list[Row] = []
        for kind, events in message.items():
            for event in events:
                body = json.dumps(event, separators=(",", ":"))
                rows.append({"kind": kind, "body": body, "size": len(body) + OVERHEAD_B, "now": now})
        with self._store.batch() as db:
            for api_key_id in api_key_ids:
                if len(rows) == 1:
                    _LEAVE.run(db, to=api_key_id, **rows[0])
                elif rows:
                    _LEAVE.run_many(db, [{"to": api_key_id, **row} for row in rows])
                written = self._written.get(api_key_id, 0) + sum(row["size"] for row in rows)
                if written > QUEUE_B // CHECKED_EVERY:
                    written = 0
                    self._shorten(db, api_key_id)
                self._written[api_key_id] = written

    def next(self, api_key_id: str, most: int = BATCH_B) -> Batch | None:
        """Return the events that come next, up to BATCH and about `most` (B); None if nothing waits."""
        rows = self._store.rows(_NEXT, to=api_key_id, oldest=self._store.now() - KEPT_S)
        if not rows:
            self._written.pop(api_key_id, None)
            return None
        count, size = 0, 0
        events: dict[str, list[str]] = {}
        for row in rows:
            size += row["size"]
            if count and size > most:
                break
            body = self._store.scalar(_ONE, which=row["number"]) if row["body"] is None else row["body"]
            events.setdefault(row["kind"], []).append(body)
            count += 1
        kinds = (f'"{kind}":[{",".join(bodies)}]' for kind, bodies in events.items())
        taken = tuple({name: row[name] for name in ("number", "created")} for row in rows[:count])
        return Batch(taken, f"{{{','.join(kinds)}}}")

    def taken(self, batch: Batch) -> None:
        """Let go of events that were told.

        By their numbers, one by one: with several processes, an event with a number in between may be committed after
        the batch was read. By their times too: where all that waited was dropped meanwhile, numbers begin anew.
        """
        with self._store.batch() as db:
            _TAKEN.run_many(db, batch.events)

    def waits(self, api_key_id: str) -> bool:
        """Whether anything waits for a key."""
        return self._store.row(_FIRST, to=api_key_id, oldest=self._store.now() - KEPT_S) is not None

    def count(self, api_key_id: str) -> int:
        """Return how many events wait for a key."""
        return int(self._store.scalar(_COUNT, to=api_key_id))

    def clear(self, api_key_id: str, until: float | None = None) -> None:
        """Drop what waits for a key; until (Unix s): only what is as old."""
        with self._store.batch() as db:
            _CLEAR.run(db, to=api_key_id, until=self._store.now() if until is None else until)
        self._written.pop(api_key_id, None)

    def tidy(self) -> None:
        """Let go what is too old."""
        with self._store.batch() as db:
            _OUTDATED.run(db, oldest=self._store.now() - KEPT_S)

    def _shorten(self, db: sa.Connection, api_key_id: str) -> None:
        """Let the oldest events go that are more than a key may have waiting."""
        size = 0
        for row in _SIZES.rows(db, to=api_key_id):
            size += row["size"]
            if size > QUEUE_B:
                _OLDER.run(db, to=api_key_id, last=row["number"])
                return
