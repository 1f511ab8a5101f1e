"""Accounts and the API keys that open them. A key is shown once, when it is made; what is kept is its hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pdmlab.service.bus import Bus
from pdmlab.service.groups import Groups
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.rights import Rights, most
from pdmlab.service.schema import accounts, api_keys, key_groups, policy_groups, users
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Store
from pdmlab.service.users import Users

MARK = "ak_1"
"""How keys begin. Their id follows, which lists show too, and then what nobody sees twice."""
SECRET = 32
"""The characters of a key that are its secret, of 62 kinds: 190 bits."""
SEEN_EVERY = 60.0
"""How far apart notes are of when a key was used (s)."""
MAX_KEYS = 1000
"""Keys of an account."""
MAX_ACCOUNTS = 1000
"""Accounts of a service."""

_LETTERS = string.ascii_letters + string.digits

_BY_HASH = Statement(
    sa.select(api_keys.c.id, api_keys.c.account_id, api_keys.c.name, api_keys.c.key_hash, api_keys.c.status)
    .add_columns(policy_groups.c.rights)
    .select_from(
        api_keys.outerjoin(key_groups, key_groups.c.member_id == api_keys.c.id).outerjoin(
            policy_groups, policy_groups.c.id == key_groups.c.group_id
        )
    )
    .where(api_keys.c.key_hash == sa.bindparam("digest"))
)
"""A key by the hash of it: a row for each group that it is in."""


@dataclass(frozen=True)
class Key:
    """Whose call it is: the key that a request carried, found valid, and how much it may do."""

    id: str
    account_id: str
    name: str
    rights: Rights
    digest: str = field(repr=False)


class Accounts:
    """The service's accounts and their keys; who is in which group, and the users, belong to them."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store = store
        self._bus = bus
        self._seen: dict[str, float] = {}
        self.groups = Groups(store, bus)
        self.users = Users(store, self.groups)

    def open(self) -> None:
        """Give the service's own account its groups and its first user, if it is new."""
        account_id = self._store.account_id
        new = self._store.scalar(sa.select(policy_groups.c.id).where(policy_groups.c.account_id == account_id)) is None
        administrators = self.groups.built_in(account_id)[Rights.ADMINISTRATOR]
        if new:
            try:
                self.users.create(
                    account_id, {"email": "administrator@pdmlab.example", "username": "administrator"}, [administrators]
                )
            except Refused:  # another process has just done so
                return

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
        """Make a key; return its row and the key itself, which is not kept. Without groups it is a developer's.

        Raises:
            Refused: there is no such account (404), owner or group (400), or it has too many keys (403).
        """
        self.account(account_id)
        id, at = self._store.ids.new(), self._store.timestamp()
        shown, key = _new_key(id)
        row = {
            "id": id,
            "account_id": account_id,
            "name": name,
            "key_hash": hash_of(key),
            "key_prefix": shown,
            "owner": owner,
            "status": status,
            "last_login_at": None,
            "created_at": at,
            "updated_at": at,
        }
        wanted = list(groups) or [self.groups.built_in(account_id)[Rights.DEVELOPER]]
        with self.groups.changing(account_id) as db:
            self._must_be_an_owner(account_id, owner)
            counted = sa.select(sa.func.count()).select_from(api_keys).where(api_keys.c.account_id == account_id)
            if (db.scalar(counted) or 0) >= MAX_KEYS:
                raise Refused(403, f"an account has at most {MAX_KEYS} API keys", type="account_limit_exceeded")
            db.execute(sa.insert(api_keys).values(row))
            self.groups.put(db, account_id, "key", id, wanted)
        return row, key

    def authenticate(self, key: str) -> Key | None:
        """Return whose key it is, and what it may do; None for a key that is unknown, revoked or not in use."""
        found = self._found(hash_of(key))
        if found is not None:
            now = self._store.now()
            if now - self._seen.get(found.id, -SEEN_EVERY) >= SEEN_EVERY:
                self._seen[found.id] = now
                with self._store.begin() as db:
                    db.execute(
                        sa.update(api_keys)
                        .where(api_keys.c.id == found.id)
                        .values(last_login_at=self._store.timestamp())
                    )
        return found

    def holds(self, key: Key, least: Rights) -> bool:
        """Whether a key that was good still is, and has at least these rights."""
        found = self._found(key.digest)
        return found is not None and found.rights >= least

    def _found(self, digest: str) -> Key | None:
        rows = self._store.rows(_BY_HASH, digest=digest)
        if not rows or not hmac.compare_digest(rows[0]["key_hash"], digest) or rows[0]["status"] != "ACTIVE":
            return None
        row = rows[0]
        rights = most(each["rights"] for each in rows)
        if rights == Rights.ADMINISTRATOR and row["account_id"] == self._store.account_id:
            rights = Rights.SERVICE
        return Key(row["id"], row["account_id"], row["name"], rights, digest)

    def administrator(self, kept: str | None) -> str:
        """Return an administrator's key of the default account: the kept one if it is still good, else a new one."""
        if kept is not None:
            known = self.authenticate(kept)
            if known is not None and known.rights == Rights.SERVICE:
                return kept
        account_id = self._store.account_id
        owner = self._store.scalar(sa.select(users.c.id).where(users.c.account_id == account_id).order_by(users.c.id))
        administrators = self.groups.built_in(account_id)[Rights.ADMINISTRATOR]
        return self.create_key(account_id, "administrator", owner=owner, groups=[administrators])[1]

    def key(self, account_id: str, id: str) -> Row:
        """Return a key's row; raise Refused (404) if the account has no such key."""
        row = self._store.row(sa.select(api_keys).where(api_keys.c.account_id == account_id, api_keys.c.id == id))
        if row is None:
            raise not_found("API key", id)
        return row

    def update_key(self, account_id: str, id: str, *, groups: Sequence[str] | None = None, **changes: object) -> Row:
        """Change name, owner, status or groups; return the row.

        Raises:
            Refused: there is no such key (404), owner or group (400), or it is the last administrator's (403).
        """
        self.key(account_id, id)
        with self.groups.changing(account_id) as db:
            if "owner" in changes:
                self._must_be_an_owner(account_id, changes["owner"])
            changes["updated_at"] = self._store.timestamp()
            db.execute(sa.update(api_keys).where(api_keys.c.id == id).values(changes))
            if groups is not None:
                self.groups.put(db, account_id, "key", id, groups)
            self._bus.tell("key", id)
        return self.key(account_id, id)

    def reset_key(self, account_id: str, id: str) -> tuple[Row, str]:
        """Give a key another secret: the old one opens nothing from now on. Raises as `key` does."""
        self.key(account_id, id)
        shown, key = _new_key(id)
        values = {"key_hash": hash_of(key), "key_prefix": shown, "updated_at": self._store.timestamp()}
        with self.groups.changing(account_id) as db:
            db.execute(sa.update(api_keys).where(api_keys.c.id == id).values(values))
            self._bus.tell("key", id)
        return self.key(account_id, id), key

    def delete_key(self, account_id: str, id: str) -> None:
        """Revoke a key, with its channel, its subscriptions and its requests.

        Raises:
            Refused: there is no such key (404), or it is the account's last administrator's (403).
        """
        self.key(account_id, id)
        with self.groups.changing(account_id) as db:
            db.execute(sa.delete(api_keys).where(api_keys.c.id == id))
            self._bus.tell("key", id)
        self._seen.pop(id, None)

    def _must_be_an_owner(self, account_id: str, owner: object) -> None:
        if owner is not None:
            mine = sa.select(users.c.id).where(users.c.account_id == account_id, users.c.id == owner)
            if self._store.scalar(mine) is None:
                raise Refused(400, f"there is no user {str(owner)[:64]} to own the key", type="validation_error")

    # -- accounts ------------------------------------------------------------------------------------------

    def account(self, id: str) -> Row:
        """Return an account's row; raise Refused (404) if there is none."""
        row = self._store.row(sa.select(accounts).where(accounts.c.id == id))
        if row is None:
            raise not_found("account", id)
        return row

    def create_account(self, says: Mapping[str, Any], administrator: Mapping[str, Any]) -> tuple[Row, Row, str]:
        """Make an account with its groups, a user who sees to it, and that user's key.

        Return the rows of account and user, and the key. `says` is as in `update_account`; `administrator` has a
        user's email, and whatever else is known.

        Raises:
            Refused: there are too many accounts (403).
        """
        if (self._store.scalar(sa.select(sa.func.count()).select_from(accounts)) or 0) >= MAX_ACCOUNTS:
            raise Refused(403, f"a service has at most {MAX_ACCOUNTS} accounts", type="account_limit_exceeded")
        at = self._store.timestamp()
        id = self._store.ids.new()
        with self._store.begin() as db:
            db.execute(sa.insert(accounts).values(id=id, fields={}, created_at=at, updated_at=at))
            row = self.update_account(id, says)
            administrators = [self.groups.built_in(id)[Rights.ADMINISTRATOR]]
            user = self.users.create(id, administrator, administrators)
            _, key = self.create_key(id, "administrator", owner=user["id"], groups=administrators)
        return row, user, key

    def update_account(self, id: str, changes: Mapping[str, Any]) -> Row:
        """Change the display name and whatever else an account may say of itself; return the row."""
        with self._store.begin() as db:
            # Held until the end: what another process sets in the same moment is not lost.
            db.execute(sa.select(accounts.c.id).where(accounts.c.id == id).with_for_update(key_share=True))
            row = self.account(id)
            fields = {**row["fields"], **{name: value for name, value in changes.items() if name != "display_name"}}
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


def _new_key(id: str) -> tuple[str, str]:
    """Return what of a new key is shown again, and all of it."""
    shown = MARK + id
    return shown, shown + "".join(secrets.choice(_LETTERS) for _ in range(SECRET))


def hash_of(key: str) -> str:
    """Return the SHA-256 of a key: so many random bits need no slower hash."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
