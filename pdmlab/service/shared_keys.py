"""Pre-shared keys of LwM2M clients: identity and key, for DTLS and TLS without certificates.

A handshake needs the key itself, so that it cannot be kept as a hash; it lies in the database, which is for the
service's owner only. An identity is all that a client says of itself before its key is needed, and so it is one
account's alone.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.coap.openssl import SESSION_LIFETIME
from pdmlab.coap.transport import Identity
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import shared_keys as table
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Rows

if TYPE_CHECKING:
    from pdmlab.service.core import Core

MIN_KEY, MAX_KEY = 16, 64  # B: OMA's security asks for 16 at least, RFC 4279 section 5.3 has everyone take 64
MAX_IDENTITY = 128  # B: RFC 4279 section 5.3 has everyone take it
MAX_KEYS = 100_000
"""Pre-shared keys of an account."""
WITHDRAWN = "its pre-shared key was withdrawn"

_IDENTITY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_MOST_WITHDRAWN = 10_000  # identities whose sessions are not resumed
_SECRET = Statement(sa.select(table.c.secret).where(table.c.identity == sa.bindparam("identity")))


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A pre-shared key: `identity` names it on the wire, `key` is its secret bytes."""

    identity: str
    key: bytes = field(repr=False)

    @property
    def hex(self) -> str:
        """The key as most programs take it."""
        return self.key.hex()


class SharedKeys:
    """The pre-shared keys of all accounts; an identity is one account's alone."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._withdrawn: dict[str, float] = {}
        core.bus.hear("shared key", self._part)

    def __repr__(self) -> str:
        return f"<SharedKeys in {self._store!r}>"

    def add(self, account_id: str, identity: str, key: bytes | None = None) -> SharedKey:
        """Keep a key (16 to 64 B) under an identity; without one, the key that is there already, or a new one of 16 B.

        Who came with another key before has to come again.

        Raises:
            Refused: the identity is not 1 to 128 printable ASCII characters, or the key too short or long (400); the
                identity is another account's (409); the account has MAX_KEYS (403).
        """
        there = self._store.row(sa.select(table).where(table.c.identity == identity))
        if there is None or there["account_id"] != account_id:
            return self.create(account_id, identity, key)
        if key is None:
            return SharedKey(identity, bytes(there["secret"]))
        _check_key(key)
        with self._store.begin() as db:
            changed = sa.update(table).where(table.c.identity == identity)
            db.execute(changed.values(secret=key, updated_at=self._store.timestamp()))
            if key != bytes(there["secret"]):
                self._core.bus.tell("shared key", identity)
        return SharedKey(identity, key)

    def create(self, account_id: str, identity: str, key: bytes | None = None) -> SharedKey:
        """Keep a key under an identity that there is no key of yet; a new one of 16 B, unless it is given.

        Raises:
            Refused: as `add`, and 409 where the identity has a key.
        """
        if not (_IDENTITY.fullmatch(identity) and len(identity) <= MAX_IDENTITY):
            raise Refused(
                400, f"{identity[:80]!r} is no PSK identity: that is 1 to {MAX_IDENTITY} printable characters"
            )
        key = key or secrets.token_bytes(MIN_KEY)
        _check_key(key)
        count = sa.select(sa.func.count()).where(table.c.account_id == account_id)
        if self._store.scalar(count) >= MAX_KEYS:
            raise Refused(403, f"an account has at most {MAX_KEYS} pre-shared keys", type="account_limit_exceeded")
        at = self._store.timestamp()
        values = {"account_id": account_id, "secret": key, "created_at": at, "updated_at": at}
        try:
            with self._store.begin() as db:
                db.execute(sa.insert(table).values(identity=identity, **values))
        except sa.exc.IntegrityError as error:
            raise Refused(409, f"the PSK identity {identity} is taken") from error
        return SharedKey(identity, key)

    def find(self, account_id: str, identity: str) -> Row:
        """Return what is known of a key, without the key.

        Raises:
            Refused: the account has none of that identity (404).
        """
        row = self._store.row(_shown(account_id).where(table.c.identity == identity))
        if row is None:
            raise not_found("PSK identity", identity)
        return row

    def list(self, account_id: str, limit: int, after: tuple[str, str] | None = None) -> Rows:
        """Return an account's keys without the keys, the oldest first; those behind (created_at, identity)."""
        found = _shown(account_id)
        if after is not None:
            at, identity = after
            same = sa.and_(table.c.created_at == at, table.c.identity > identity)
            found = found.where(sa.or_(table.c.created_at > at, same))
        return self._store.rows(found.order_by(table.c.created_at, table.c.identity).limit(limit))

    def remove(self, account_id: str, identity: str) -> None:
        """Forget a key: who has it is disconnected, and gets no further connection.

        Raises:
            Refused: the account has none of that identity (404).
        """
        mine = sa.delete(table).where(table.c.account_id == account_id, table.c.identity == identity)
        with self._store.begin() as db:
            if not db.execute(mine).rowcount:
                raise not_found("PSK identity", identity)
            self._core.bus.tell("shared key", identity)

    def of(self, identity: bytes) -> bytes | None:
        """Return the key of an identity as it came over the wire; None if there is none of that name."""
        if len(identity) > MAX_IDENTITY or not identity.isascii():
            return None
        secret: bytes | None = self._store.scalar(_SECRET, identity=identity.decode("ascii"))
        return None if secret is None else bytes(secret)

    def fault(self, identity: str) -> str | None:
        """Return why the session of an identity is not resumed; None if it is."""
        if self._store.now() - self._withdrawn.get(identity, -SESSION_LIFETIME) < SESSION_LIFETIME:
            return WITHDRAWN  # there may be another one of that name, but the session was made with this
        return WITHDRAWN if self.of(identity.encode("utf-8", "replace")) is None else None

    def _part(self, identity: str) -> None:
        """End the connections of a key that is withdrawn, and resume none of its sessions."""
        now = self._store.now()
        if len(self._withdrawn) >= _MOST_WITHDRAWN:
            kept = sorted(self._withdrawn.items(), key=lambda each: each[1])[_MOST_WITHDRAWN // 2 :]
            self._withdrawn = dict(kept)
        self._withdrawn[identity] = now
        self._core.part(Identity("psk", identity), WITHDRAWN)


def _shown(account_id: str) -> sa.Select[tuple[str, str]]:
    return sa.select(table.c.identity, table.c.created_at).where(table.c.account_id == account_id)


def _check_key(key: bytes) -> None:
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise Refused(400, f"the pre-shared key has {len(key)} B; it takes {MIN_KEY} to {MAX_KEY}")
