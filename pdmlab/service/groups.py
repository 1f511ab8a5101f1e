"""Policy groups: three that every account has and that give rights, and lists of keys and users that somebody makes."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence

import sqlalchemy as sa

from pdmlab.service.bus import Bus
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.rights import GROUPS, Rights, word
from pdmlab.service.schema import accounts, api_keys, key_groups, policy_groups, user_groups, users
from pdmlab.service.store import Row, Store

MAX_GROUPS = 100
"""Groups of an account."""

MEMBERS = {"key": (key_groups, api_keys, "API key"), "user": (user_groups, users, "user")}
"""Of each kind of member: which groups it is in, the members themselves, and what they are called."""

_ADMINISTRATORS = (
    sa.select(api_keys.c.id)
    .select_from(key_groups)
    .join(api_keys, api_keys.c.id == key_groups.c.member_id)
    .join(policy_groups, policy_groups.c.id == key_groups.c.group_id)
    .where(
        policy_groups.c.account_id == sa.bindparam("account"),
        policy_groups.c.rights == word(Rights.ADMINISTRATOR),
        api_keys.c.status == "ACTIVE",
    )
    .limit(2)
)
"""Two of an account's keys that may do everything: whether there is none, one or more is all that matters."""


class Groups:
    """The groups of all accounts, and who is in them."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store = store
        self._bus = bus

    # -- reading ---------------------------------------------------------------------------------------------

    def group(self, account_id: str, id: str) -> Row:
        """Return a group's row; raise Refused (404) if the account has no such group."""
        found = sa.select(policy_groups).where(policy_groups.c.account_id == account_id, policy_groups.c.id == id)
        row = self._store.row(found)
        if row is None:
            raise not_found("group", id)
        return row

    def built_in(self, account_id: str) -> dict[Rights, str]:
        """Return the ids of the three groups that give rights; they are made if the account is without."""
        found = sa.select(policy_groups.c.id, policy_groups.c.rights).where(
            policy_groups.c.account_id == account_id, policy_groups.c.rights.is_not(None)
        )
        if len(rows := self._store.rows(found)) < len(GROUPS):
            with contextlib.suppress(sa.exc.IntegrityError), self._store.begin() as db:  # or another process makes them
                at = self._store.timestamp()
                there = {_rights(row) for row in rows}
                for rights in (each for each in GROUPS if each not in there):
                    db.execute(
                        sa.insert(policy_groups).values(
                            id=self._store.ids.new(),
                            account_id=account_id,
                            name=GROUPS[rights],
                            rights=word(rights),
                            created_at=at,
                            updated_at=at,
                        )
                    )
            rows = self._store.rows(found)
        return {_rights(row): row["id"] for row in rows}

    def of_members(self, account_id: str, kind: str, id: str | None = None) -> dict[str, list[str]]:
        """Return the groups of each key or user of an account, or of one alone; who is in none is not there."""
        table, _, _ = MEMBERS[kind]
        where = [table.c.account_id == account_id, *([] if id is None else [table.c.member_id == id])]
        found: dict[str, list[str]] = {}
        for row in self._store.rows(sa.select(table).where(*where).order_by(table.c.group_id)):
            found.setdefault(row["member_id"], []).append(row["group_id"])
        return found

    def counts(self, account_id: str, kind: str) -> dict[str, int]:
        """Return how many keys or users each group has; a group without is not there."""
        table, _, _ = MEMBERS[kind]
        counted = sa.select(table.c.group_id, sa.func.count().label("members")).where(table.c.account_id == account_id)
        return {row["group_id"]: row["members"] for row in self._store.rows(counted.group_by(table.c.group_id))}

    # -- changing ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self, account_id: str) -> Iterator[sa.Connection]:
        """Change keys or groups of an account in a transaction, one at a time, and tell the other processes.

        Raises:
            Refused: it would leave the account without a key that may do everything (403).
        """
        with self._store.begin() as db:
            # Held until the end: two who each take away one of the last two keys must not both find the other.
            db.execute(sa.update(accounts).where(accounts.c.id == account_id).values(status=accounts.c.status))
            before = db.scalar(_ADMINISTRATORS, {"account": account_id})
            yield db
            if before and not db.scalar(_ADMINISTRATORS, {"account": account_id}):
                raise _last()
            self._bus.tell("account", account_id)

    def must_not_be_the_last(self, account_id: str, key_id: str) -> None:
        """Raise Refused (403) if a key is the only one that may do everything in its account."""
        rows = self._store.rows(_ADMINISTRATORS, account=account_id)
        if [row["id"] for row in rows] == [key_id]:
            raise _last()

    def create(self, account_id: str, name: str, members: Mapping[str, Sequence[str]]) -> Row:
        """Make a group that gives no rights, with keys and users in it; return its row.

        Raises:
            Refused: the account has a group of that name (409), too many groups (403), or not these members (400).
        """
        at = self._store.timestamp()
        row: Row = {
            "id": self._store.ids.new(),
            "account_id": account_id,
            "name": name,
            "rights": None,
            "created_at": at,
            "updated_at": at,
        }
        with self.changing(account_id) as db:
            self._must_be_new(db, account_id, name)
            mine = sa.select(sa.func.count()).select_from(policy_groups).where(policy_groups.c.account_id == account_id)
            if (db.scalar(mine) or 0) >= MAX_GROUPS:
                raise Refused(403, f"an account has at most {MAX_GROUPS} groups", type="account_limit_exceeded")
            db.execute(sa.insert(policy_groups).values(row))
            for kind, ids in members.items():
                self._join(db, account_id, kind, ids, [row["id"]])
        return row

    def rename(self, account_id: str, id: str, name: str) -> None:
        """Give a group another name.

        Raises:
            Refused: there is no such group (404), it is one that every account has (403), or the name is taken (409).
        """
        group = self._own(account_id, id)
        with self.changing(account_id) as db:
            if name != group["name"]:
                self._must_be_new(db, account_id, name)
            db.execute(
                sa.update(policy_groups)
                .where(policy_groups.c.id == id)
                .values(name=name, updated_at=self._store.timestamp())
            )

    def delete(self, account_id: str, id: str) -> None:
        """Delete a group; its members stay.

        Raises:
            Refused: there is no such group (404), or it is one that every account has (403).
        """
        self._own(account_id, id)
        with self.changing(account_id) as db:
            db.execute(sa.delete(policy_groups).where(policy_groups.c.id == id))

    def add(self, account_id: str, kind: str, members: Sequence[str], groups: Sequence[str]) -> None:
        """Put keys or users into groups.

        Raises:
            Refused: one is in one of them already (409), or one of them does not exist (400).
        """
        table, _, what = MEMBERS[kind]
        with self.changing(account_id) as db:
            there = sa.select(table.c.member_id).where(table.c.member_id.in_(members), table.c.group_id.in_(groups))
            if (found := db.scalar(there)) is not None:
                raise Refused(409, f"the {what} {found} is in the group already")
            self._join(db, account_id, kind, members, groups)

    def remove(self, account_id: str, kind: str, members: Sequence[str], groups: Sequence[str]) -> None:
        """Take keys or users out of groups; who is in none of them stays as it is.

        Raises:
            Refused: an administrator's key is the account's last (403), or one of them does not exist (400).
        """
        table, _, _ = MEMBERS[kind]
        with self.changing(account_id) as db:
            self._must_exist(db, account_id, kind, members, groups)
            db.execute(sa.delete(table).where(table.c.member_id.in_(members), table.c.group_id.in_(groups)))
            self._tell(kind, members)

    def put(self, db: sa.Connection, account_id: str, kind: str, member: str, groups: Sequence[str]) -> None:
        """Have a key or user in these groups and no others, in a transaction of `changing`; raises as `add` does."""
        table, _, _ = MEMBERS[kind]
        db.execute(sa.delete(table).where(table.c.member_id == member))
        self._join(db, account_id, kind, [member], groups)
        self._tell(kind, [member])

    def _tell(self, kind: str, members: Sequence[str]) -> None:
        for each in members if kind == "key" else ():
            self._bus.tell("key", each)

    # -- checks ------------------------------------------------------------------------------------------------

    def _join(
        self, db: sa.Connection, account_id: str, kind: str, members: Sequence[str], groups: Sequence[str]
    ) -> None:
        self._must_exist(db, account_id, kind, members, groups)
        table, _, _ = MEMBERS[kind]
        rows = [
            {"member_id": member, "group_id": group, "account_id": account_id}
            for member in dict.fromkeys(members)
            for group in dict.fromkeys(groups)
        ]
        if rows:
            db.execute(sa.insert(table), rows)

    def _must_exist(
        self, db: sa.Connection, account_id: str, kind: str, members: Collection[str], groups: Collection[str]
    ) -> None:
        _, table, what = MEMBERS[kind]
        for each, ids, name in ((table, members, what), (policy_groups, groups, "group")):
            found = db.scalars(sa.select(each.c.id).where(each.c.account_id == account_id, each.c.id.in_(ids))).all()
            if missing := sorted(set(ids) - set(found)):
                raise Refused(400, f"there is no {name} {missing[0][:64]}", type="validation_error")

    def _must_be_new(self, db: sa.Connection, account_id: str, name: str) -> None:
        taken = sa.select(policy_groups.c.id).where(
            policy_groups.c.account_id == account_id, policy_groups.c.name == name
        )
        if db.scalar(taken) is not None:
            raise Refused(409, f"the account has a group {name!r} already")

    def _own(self, account_id: str, id: str) -> Row:
        """Return a group that somebody has made."""
        group = self.group(account_id, id)
        if group["rights"] is not None:
            raise Refused(403, f"the group {group['name']!r} is one that every account has: it stays as it is")
        return group


def _last() -> Refused:
    return Refused(
        403,
        f"it is the account's last key of the group {GROUPS[Rights.ADMINISTRATOR]} that is ACTIVE",
        hint="without it nobody could see to the account: make another one first",
    )


def _rights(row: Row) -> Rights:
    return Rights[row["rights"].upper().replace("-", "_")]
