"""Pre-shared keys of plain LwM2M clients: identity and key, for DTLS and TLS without certificates.

A handshake needs the key itself, so that it cannot be kept as a hash; it lies in the database, which is for the
service's owner only.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

import sqlalchemy as sa

from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import shared_keys
from pdmlab.service.store import Store

MIN_KEY, MAX_KEY = 16, 64  # B: OMA's security asks for 16 at least, RFC 4279 section 5.3 has everyone take 64
MAX_IDENTITY = 128  # B: RFC 4279 section 5.3 has everyone take it

_IDENTITY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


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

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, account_id: str, identity: str, key: bytes | None = None) -> SharedKey:
        """Keep a key (16 to 64 B) under an identity; without one, the key that is there already, or a new one of 16 B.

        Raises:
            Refused: the identity is not 1 to 128 printable ASCII characters, or the key too short or long (400); the
                identity is another account's (409).
        """
        if not (_IDENTITY.fullmatch(identity) and len(identity) <= MAX_IDENTITY):
            raise Refused(
                400, f"{identity[:80]!r} is no PSK identity: that is 1 to {MAX_IDENTITY} printable characters"
            )
        there = self._store.row(sa.select(shared_keys).where(shared_keys.c.identity == identity))
        if there is not None and there["account_id"] != account_id:
            raise Refused(409, f"the PSK identity {identity} is taken")
        if key is None:
            if there is not None:
                return SharedKey(identity, bytes(there["secret"]))
            key = secrets.token_bytes(MIN_KEY)
        if not MIN_KEY <= len(key) <= MAX_KEY:
            raise Refused(400, f"the pre-shared key has {len(key)} B; it takes {MIN_KEY} to {MAX_KEY}")
        at = self._store.timestamp()
        table = shared_keys
        with self._store.begin() as db:
            if there is None:
                values = {"account_id": account_id, "created_at": at, "updated_at": at}
                db.execute(sa.insert(table).values(identity=identity, secret=key, **values))
            else:
                changed = sa.update(table).where(table.c.identity == identity)
                db.execute(changed.values(secret=key, updated_at=at))
        return SharedKey(identity, key)

    def remove(self, account_id: str, identity: str) -> None:
        """Forget a key: who has it gets no further connection.

        Raises:
            Refused: the account has none of that identity (404).
        """
        mine = sa.delete(shared_keys).where(shared_keys.c.account_id == account_id, shared_keys.c.identity == identity)
        with self._store.begin() as db:
            if not db.execute(mine).rowcount:
                raise not_found("PSK identity", identity)

    def of(self, identity: bytes) -> bytes | None:
        """Return the key of an identity as it came over the wire; None if there is none of that name."""
        if len(identity) > MAX_IDENTITY or not identity.isascii():
            return None
        found = sa.select(shared_keys.c.secret).where(shared_keys.c.identity == identity.decode("ascii"))
        secret: bytes | None = self._store.scalar(found)
        return secret
