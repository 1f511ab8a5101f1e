"""Users: whom keys belong to, and who was invited. Nobody logs in here, and nothing is mailed to anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pdmlab.service.groups import Groups
from pdmlab.service.ids import timestamp
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import api_keys, user_invitations, users
from pdmlab.service.store import Row, Store

MAX_USERS = 1000
"""Users of an account."""
DAY = 86_400.0  # s


class Users:
    """The users of all accounts, and their invitations."""

    def __init__(self, store: Store, groups: Groups) -> None:
        self._store = store
        self._groups = groups

    def user(self, account_id: str, id: str) -> Row:
        """Return a user's row; raise Refused (404) if the account has no such user."""
        row = self._store.row(sa.select(users).where(users.c.account_id == account_id, users.c.id == id))
        if row is None:
            raise not_found("user", id)
        return row

    def create(self, account_id: str, says: Mapping[str, Any], groups: Sequence[str] = ()) -> Row:
        """Add a user of whom an email address is known, and perhaps more; return the row.

        Raises:
            Refused: the account has a user of that address or name (409), too many (403), or not these groups (400).
        """
        at = self._store.timestamp()
        row = {"id": self._store.ids.new(), "account_id": account_id, **says, "created_at": at, "updated_at": at}
        with self._groups.changing(account_id) as db:
            counted = sa.select(sa.func.count()).select_from(users).where(users.c.account_id == account_id)
            if (db.scalar(counted) or 0) >= MAX_USERS:
                raise Refused(403, f"an account has at most {MAX_USERS} users", type="account_limit_exceeded")
            self._must_be_new(db, account_id, says)
            db.execute(sa.insert(users).values(row))
            self._groups.put(db, account_id, "user", row["id"], groups)
        return self.user(account_id, row["id"])

    def update(self, account_id: str, id: str, changes: Mapping[str, Any], groups: Sequence[str] | None = None) -> Row:
        """Change what is known of a user, and the groups; return the row. Raises as `user` and `create` do."""
        self.user(account_id, id)
        with self._groups.changing(account_id) as db:
            self._must_be_new(db, account_id, changes, id)
            values = {**changes, "updated_at": self._store.timestamp()}
            db.execute(sa.update(users).where(users.c.id == id).values(values))
            if groups is not None:
                self._groups.put(db, account_id, "user", id, groups)
        return self.user(account_id, id)

    def delete(self, account_id: str, id: str) -> None:
        """Delete a user who owns no keys.

        Raises:
            Refused: there is no such user (404), or keys belong to the user (400).
        """
        self.user(account_id, id)
        with self._groups.changing(account_id) as db:
            owned = sa.select(sa.func.count()).select_from(api_keys)
            owned = owned.where(api_keys.c.account_id == account_id, api_keys.c.owner == id)
            if count := db.scalar(owned):
                raise Refused(
                    400,
                    f"{count} API key{'s' if count > 1 else ''} belong to the user",
                    hint="revoke them, or give them another owner: PUT /v3/api-keys/{apikey_id}",
                )
            db.execute(sa.delete(users).where(users.c.id == id))

    def _must_be_new(self, db: sa.Connection, account_id: str, says: Mapping[str, Any], id: str | None = None) -> None:
        for name in ("email", "username"):
            if says.get(name) is not None:
                taken = sa.select(users.c.id).where(users.c.account_id == account_id, users.c[name] == says[name])
                if db.scalar(taken) not in (None, id):
                    raise Refused(409, f"the account has a user of that {name} already")

    # -- invitations -------------------------------------------------------------------------------------------

    def invite(self, account_id: str, email: str, groups: Sequence[str], days: int) -> Row:
        """Invite somebody, who becomes a user with the status INVITED; return the invitation's row.

        Who is a user already gets the groups too. Raises as `create` does.
        """
        known = self._store.row(sa.select(users).where(users.c.account_id == account_id, users.c.email == email))
        at = self._store.timestamp()
        with self._groups.changing(account_id) as db:
            if known is None:
                user_id = self.create(account_id, {"email": email, "status": "INVITED"}, groups)["id"]
            else:
                user_id = known["id"]
                there = self._groups.of_members(account_id, "user", user_id).get(user_id, [])
                self._groups.put(db, account_id, "user", user_id, list(dict.fromkeys([*there, *groups])))
            row = {
                "id": self._store.ids.new(),
                "account_id": account_id,
                "user_id": user_id,
                "email": email,
                "expiration": timestamp(self._store.now() + days * DAY),
                "created_at": at,
                "updated_at": at,
            }
            db.execute(sa.delete(user_invitations).where(user_invitations.c.user_id == user_id))
            db.execute(sa.insert(user_invitations).values(row))
        return row

    def open_invitations(self, account_id: str) -> list[sa.ColumnElement[bool]]:
        """Return what holds for the account's invitations that have not expired."""
        columns = user_invitations.c
        return [columns.account_id == account_id, columns.expiration > self._store.timestamp()]

    def invitation(self, account_id: str, id: str) -> Row:
        """Return an invitation's row; raise Refused (404) if the account has none such that has not expired."""
        found = sa.select(user_invitations).where(*self.open_invitations(account_id), user_invitations.c.id == id)
        row = self._store.row(found)
        if row is None:
            raise not_found("invitation", id)
        return row

    def uninvite(self, account_id: str, id: str) -> None:
        """Delete an invitation, and the user with it who has done nothing but being invited. Raises as `invitation`."""
        row = self.invitation(account_id, id)
        with self._groups.changing(account_id) as db:
            db.execute(sa.delete(user_invitations).where(user_invitations.c.id == id))
            owned = sa.select(api_keys.c.id).where(api_keys.c.owner == row["user_id"])
            if db.scalar(owned) is None:
                invited = users.c.status == "INVITED"
                db.execute(sa.delete(users).where(users.c.id == row["user_id"], invited))
