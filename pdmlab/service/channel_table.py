"""Which key has which channel, and who has it in hand now: the table of channels, shared by all processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import sqlalchemy as sa

from pdmlab.service.bus import Bus
from pdmlab.service.outbox import Outbox
from pdmlab.service.refusal import Refused
from pdmlab.service.schema import api_keys, channels
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Store

Kind = Literal["LONG_POLLING", "CALLBACK", "WEB_SOCKET"]
"""How a channel delivers."""
LONG_POLLING: Literal["LONG_POLLING"] = "LONG_POLLING"
CALLBACK: Literal["CALLBACK"] = "CALLBACK"
WEB_SOCKET: Literal["WEB_SOCKET"] = "WEB_SOCKET"

IDLE_S: dict[str, float] = {LONG_POLLING: 600.0, CALLBACK: 48 * 3600.0, WEB_SOCKET: 24 * 3600.0}
"""A channel ends when nobody has polled it, nothing was delivered, or no socket was open for this long."""

_T = channels.c
_MINE = _T.api_key_id == sa.bindparam("to")
_KIND = _T.kind == sa.bindparam("which")
_FREE = sa.or_(_T.holder.is_(None), _T.holder == sa.bindparam("me"), _T.held_until < sa.bindparam("now"))
_HELD: dict[str, sa.ColumnElement[Any]] = {
    "holder": sa.bindparam("me"),
    "held_until": sa.bindparam("until"),
    "expires": sa.bindparam("end"),
}

_FIND = Statement(sa.select(_T.kind, _T.expires, _T.holder, _T.held_until).where(_MINE))
_OPEN_OF = Statement(
    sa.select(_T.api_key_id).where(_T.account_id == sa.bindparam("account"), _T.expires >= sa.bindparam("now"))
)
_HOLD = Statement(sa.update(channels).where(_MINE, _KIND, _FREE).values(_HELD))
_TAKE_OVER = Statement(sa.update(channels).where(_MINE, _KIND).values(_HELD))
_RELEASE = Statement(
    sa.update(channels).where(_MINE, _T.holder == sa.bindparam("me")).values(holder=sa.null(), held_until=0.0)
)
_IS_HELD = Statement(
    sa.select(_T.api_key_id)
    .join(api_keys, api_keys.c.id == _T.api_key_id)
    .where(_MINE, _T.holder == sa.bindparam("me"), api_keys.c.status == "ACTIVE")
)
_STATUS = Statement(sa.select(api_keys.c.status).where(api_keys.c.id == sa.bindparam("to")))


class ChannelTable:
    """The channels of all keys. A channel is held by one poll, socket or delivery at a time, in whichever process."""

    def __init__(self, store: Store, bus: Bus, outbox: Outbox) -> None:
        self._store, self._bus, self._outbox = store, bus, outbox

    def find(self, api_key_id: str) -> Row | None:
        """Return kind, expires, holder and held_until of a key's channel; one whose time is over is closed by that."""
        row = self._store.row(_FIND, to=api_key_id)
        if row is not None and row["expires"] < self._store.now():
            self._expire(api_key_id, row["expires"])
            return None
        return row

    def kind(self, api_key_id: str) -> str | None:
        """Return how a key's channel delivers; None if it has none."""
        row = self.find(api_key_id)
        return None if row is None else str(row["kind"])

    def open_of(self, account_id: str) -> list[str]:
        """Return the keys of an account that have a channel."""
        return [row["api_key_id"] for row in self._store.rows(_OPEN_OF, account=account_id, now=self._store.now())]

    def open(self, api_key_id: str, kind: Kind, values: Mapping[str, Any] | None = None) -> bool:
        """Open a channel, or change what it has; return whether there was none.

        Raises:
            Refused: the key has one of another kind (400), or is gone (401).
        """
        given = dict(values or {}, expires=self._store.now() + IDLE_S[kind])
        if self._change(api_key_id, kind, given):
            return False
        try:
            self._insert(api_key_id, kind, given)
        except sa.exc.IntegrityError:  # another process has opened one in this moment, or has revoked the key
            if self._change(api_key_id, kind, given):
                return False
            self._insert(api_key_id, kind, given)
        return True

    def _change(self, api_key_id: str, kind: Kind, given: Mapping[str, Any]) -> bool:
        """Change what a key's channel has; False if it has none."""
        if self.must_be(api_key_id, kind) is None:
            return False
        mine = _T.api_key_id == api_key_id, _T.kind == kind
        with self._store.batch() as db:
            changed = sa.update(channels).where(*mine).values(**given, updated_at=self._store.timestamp())
            return db.execute(changed).rowcount > 0

    def _insert(self, api_key_id: str, kind: Kind, given: Mapping[str, Any]) -> None:
        """Make a key's channel, in a block of its own: what fails undoes nothing else."""
        with self._store.batch() as db:
            account_id = db.scalar(sa.select(api_keys.c.account_id).where(api_keys.c.id == api_key_id))
            if account_id is None:
                raise Refused(401, "INVALID_API_KEY", hint="the key was revoked in this moment")
            at = self._store.timestamp()
            row = {"api_key_id": api_key_id, "account_id": account_id, "kind": kind, **given}
            db.execute(sa.insert(channels).values(**row, created_at=at, updated_at=at))

    def must_be(self, api_key_id: str, kind: Kind) -> Row | None:
        """Return a key's channel, if it has any; raise Refused (400) if that is of another kind."""
        found = self.find(api_key_id)
        if found is not None and found["kind"] != kind:
            hint = f"this key has a channel of the kind {found['kind']}: delete that first"
            raise Refused(400, "CHANNEL_ALREADY_EXISTS", hint=hint)
        return found

    def close(self, api_key_id: str, kind: Kind | None = None) -> bool:
        """End a key's channel of that kind, or of any, with all that waits in it; return whether there was one."""
        wanted = [_T.api_key_id == api_key_id]
        if kind is not None:
            wanted.append(_T.kind == kind)
        with self._store.begin() as db:
            closed = db.execute(sa.delete(channels).where(*wanted)).rowcount > 0
            if closed:
                self._outbox.clear(api_key_id)
                self._bus.tell("channel", api_key_id)
        return closed

    # -- having one in hand ------------------------------------------------------------------------------

    def hold(self, api_key_id: str, kind: Kind, me: str, span: float) -> bool:
        """Have a channel in hand for a while (s), if nobody else has it; return whether it is so."""
        with self._store.batch() as db:
            held = _HOLD.run(db, now=self._store.now(), **self._hands(api_key_id, kind, me, span))
        return held > 0

    def take_over(self, api_key_id: str, kind: Kind, me: str, span: float) -> None:
        """Have a channel in hand for a while (s); whoever else had it is told."""
        with self._store.batch() as db:
            _TAKE_OVER.run(db, **self._hands(api_key_id, kind, me, span))
            self._bus.tell("channel", api_key_id)

    def _hands(self, api_key_id: str, kind: Kind, me: str, span: float) -> Row:
        now = self._store.now()
        return {"to": api_key_id, "which": kind, "me": me, "until": now + span, "end": now + IDLE_S[kind]}

    def is_held(self, api_key_id: str, me: str) -> bool:
        """Whether a channel is still there, in these hands, and its key good."""
        return self._store.row(_IS_HELD, to=api_key_id, me=me) is not None

    def has_good_key(self, api_key_id: str) -> bool:
        """Whether a key is there and in use."""
        return bool(self._store.scalar(_STATUS, to=api_key_id) == "ACTIVE")

    def release(self, api_key_id: str, me: str) -> None:
        """Let a channel go, if it is still in these hands."""
        with self._store.batch() as db:
            _RELEASE.run(db, to=api_key_id, me=me)

    # -- tidying -----------------------------------------------------------------------------------------

    def release_all(self) -> None:
        """Let all channels go: nobody can have one in hand when the only process of a database starts."""
        with self._store.begin() as db:
            db.execute(sa.update(channels).where(_T.holder.is_not(None)).values(holder=None, held_until=0.0))

    def tidy(self) -> None:
        """Close the channels whose time is over."""
        over = sa.select(_T.api_key_id, _T.expires).where(_T.expires < self._store.now())
        for row in self._store.rows(over):
            self._expire(row["api_key_id"], row["expires"])

    def _expire(self, api_key_id: str, expires: float) -> None:
        with self._store.batch() as db:
            gone = sa.delete(channels).where(_T.api_key_id == api_key_id, _T.expires == expires)
            if db.execute(gone).rowcount:
                # What came since is kept for the next one: answers to what the key has asked.
                self._outbox.clear(api_key_id, until=expires)
