"""Accounts and the API keys that open them. A key is shown once, when it is made; what is kept is its hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pdmlab.service.refusal import not_found
from pdmlab.service.schema import accounts, api_keys
from pdmlab.service.store import Row, Store

MARK = "ak_"
SHOWN = 10  # characters of a key that lists show, so that people can tell their keys apart
SEEN_EVERY = 60.0  # s between notes of when a key was used last

_BY_HASH = sa.select(api_keys).where(api_keys.c.key_hash == sa.bindparam("digest"))


@dataclass(frozen=True)
class Key:
    """Whose call it is: the key that a request carried, found valid."""

    id: str
    account_id: str
    name: str


class Accounts:
    """The service's accounts and their keys."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, float] = {}

    # -- keys --------------------------------------------------------------------------------------------

    def create_key(
        self,
        account_id: str,
        name: str,
        *,
        owner: str | None = None,
        status: str = "ACTIVE",
        groups: Sequence[str] = (),
    ) -> tuple[Row, str]:
        """Make a key of 256 random bits; return its row and the key itself, which is not kept.

        Raises:
            Refused: there is no such account (404).
        """
        self.account(account_id)
        key = MARK + secrets.token_urlsafe(32)
        at = self._store.timestamp()
        row = {
            "id": self._store.ids.new(),
            "account_id": account_id,
            "name": name,
            "key_hash": _hash(key),
            "key_prefix": key[:SHOWN],
            "owner": owner,
            "status": status,
            "groups": list(groups),
            "last_login_at": None,
            "created_at": at,
            "updated_at": at,
        }
        with self._store.begin() as db:
            db.execute(sa.insert(api_keys).values(row))
        return row, key

    def authenticate(self, key: str) -> Key | None:
        """Return whose key it is; None for a key that is unknown, revoked or not in use."""
        digest = _hash(key)
        row = self._store.row(_BY_HASH, digest=digest)
        if row is None or not hmac.compare_digest(row["key_hash"], digest) or row["status"] != "ACTIVE":
            return None
        now = self._store.now()
        if now - self._seen.get(row["id"], -SEEN_EVERY) >= SEEN_EVERY:
            self._seen[row["id"]] = now
            with self._store.begin() as db:
                db.execute(
                    sa.update(api_keys).where(api_keys.c.id == row["id"]).values(last_login_at=self._store.timestamp())
                )
        return Key(row["id"], row["account_id"], row["name"])

    def administrator(self, kept: str | None) -> str:
        """Return an administrator's key of the default account: the kept one if it is still good, else a new one."""
        if kept is not None:
            known = self.authenticate(kept)
            if known is not None and known.account_id == self._store.account_id:
                return kept
        return self.create_key(self._store.account_id, "administrator")[1]

    def key(self, account_id: str, id: str) -> Row:
        """Return a key's row; raise Refused (404) if the account has no such key."""
        row = self._store.row(sa.select(api_keys).where(api_keys.c.account_id == account_id, api_keys.c.id == id))
        if row is None:
            raise not_found("API key", id)
        return row

    def update_key(self, account_id: str, id: str, **changes: object) -> Row:
        """Change name, owner, status or groups; return the row. Raises as `key` does."""
        self.key(account_id, id)
        with self._store.begin() as db:
            db.execute(
                sa.update(api_keys).where(api_keys.c.id == id).values(**changes, updated_at=self._store.timestamp())
            )
        return self.key(account_id, id)

    def delete_key(self, account_id: str, id: str) -> None:
        """Revoke a key, with its channel, its subscriptions and its requests. Raises as `key` does."""
        self.key(account_id, id)
        with self._store.begin() as db:
            db.execute(sa.delete(api_keys).where(api_keys.c.id == id))
        self._seen.pop(id, None)

    # -- accounts ------------------------------------------------------------------------------------------

    def account(self, id: str) -> Row:
        """Return an account's row; raise Refused (404) if there is none."""
        row = self._store.row(sa.select(accounts).where(accounts.c.id == id))
        if row is None:
            raise not_found("account", id)
        return row

    def update_account(self, id: str, changes: Mapping[str, Any]) -> Row:
        """Change the display name and whatever else an account may say of itself; return the row."""
        row = self.account(id)
        fields = {**row["fields"], **{name: value for name, value in changes.items() if name != "display_name"}}
        with self._store.begin() as db:
            db.execute(
                sa.update(accounts)
                .where(accounts.c.id == id)
                .values(
                    display_name=changes.get("display_name", row["display_name"]),
                    fields=fields,
                    updated_at=self._store.timestamp(),
                )
            )
        return self.account(id)


def _hash(key: str) -> str:
    """Return the SHA-256 of a key: 256 random bits need no slower hash."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
