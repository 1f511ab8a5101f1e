"""Groups of devices: named sets within an account, which filters and campaigns may mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import device_group_members as members
from pdmlab.service.schema import device_groups as table
from pdmlab.service.schema import devices
from pdmlab.service.store import Row, Store

MAX_GROUPS = 1_000
"""Groups of an account."""
MAX_OF_DEVICE = 100
"""Groups that a device is in: a list of devices shows all of them."""

_COUNT = sa.select(sa.func.count()).select_from(members).where(members.c.group_id == table.c.id).scalar_subquery()

COUNTED = sa.select(*table.c, _COUNT.label("devices_count")).subquery("device_groups")
"""The groups, each with the number of its devices."""


class DeviceGroups:
    """The device groups of all accounts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, account_id: str, id: str) -> Row:
        """Return a group's row, with its devices_count.

        Raises:
            Refused: the account has no such group (404).
        """
        row = self._store.row(sa.select(COUNTED).where(COUNTED.c.account_id == account_id, COUNTED.c.id == id))
        if row is None:
            raise not_found("device group", id)
        return row

    def add(self, account_id: str, name: str, **fields: Any) -> Row:  # Any: columns
        """Make a group; fields: description, custom_attributes.

        Raises:
            Refused: the account has that name already (409), or MAX_GROUPS groups (403).
        """
        self._unique(account_id, name)
        mine = sa.select(sa.func.count()).select_from(table).where(table.c.account_id == account_id)
        if self._store.scalar(mine) >= MAX_GROUPS:
            raise Refused(403, f"an account has at most {MAX_GROUPS} device groups", type="account_limit_exceeded")
        at = self._store.timestamp()
        row = {"id": self._store.ids.new(), "account_id": account_id, "name": name, "created_at": at, "updated_at": at}
        try:
            with self._store.begin() as db:
                db.execute(sa.insert(table).values(row | fields))
        except sa.exc.IntegrityError as error:  # another process was faster
            raise _taken(name) from error
        return self.find(account_id, row["id"])

    def change(self, account_id: str, id: str, **fields: Any) -> Row:  # Any: columns
        """Set name, description or custom_attributes; return the row. Raises as `find` and `add` do."""
        self.find(account_id, id)
        if "name" in fields:
            self._unique(account_id, fields["name"], but=id)
        try:
            with self._store.begin() as db:
                changed = sa.update(table).where(table.c.id == id)
                db.execute(changed.values(**fields, updated_at=self._store.timestamp()))
        except sa.exc.IntegrityError as error:
            raise _taken(str(fields.get("name"))) from error
        return self.find(account_id, id)

    def remove(self, account_id: str, id: str) -> None:
        """Delete a group; its devices stay. Raises as `find` does."""
        self.find(account_id, id)
        with self._store.begin() as db:
            db.execute(sa.delete(table).where(table.c.id == id))

    # -- who is in it ------------------------------------------------------------------------------------

    def put_in(self, account_id: str, id: str, device_ids: Sequence[str]) -> None:
        """Put devices into a group; those that are in it already stay.

        Raises:
            Refused: the account has no such group, or not all of the devices (404), or one would be in more groups
                than MAX_OF_DEVICE (400); nothing is changed then.
        """
        with self._store.begin() as db:
            self._alone(db, [id])
            self.find(account_id, id)
            self._known(account_id, device_ids)
            there = set(db.scalars(sa.select(members.c.device_id).where(members.c.group_id == id)))
            new = [{"group_id": id, "device_id": each} for each in dict.fromkeys(device_ids) if each not in there]
            if new:
                db.execute(sa.insert(members), new)
                _check(db, [each["device_id"] for each in new])
                self._touch(db, [id])

    def take_out(self, account_id: str, id: str, device_ids: Sequence[str]) -> None:
        """Take devices out of a group; those that are not in it stay out. Raises as `put_in` does."""
        with self._store.begin() as db:
            self.find(account_id, id)
            self._known(account_id, device_ids)
            mine = members.c.group_id == id, members.c.device_id.in_(device_ids)
            if db.execute(sa.delete(members).where(*mine)).rowcount:
                self._touch(db, [id])

    def of(self, device_ids: Iterable[str]) -> dict[str, list[str]]:
        """Return the groups of devices, by device; the oldest group first."""
        found: dict[str, list[str]] = {each: [] for each in device_ids}
        wanted = sa.select(members).where(members.c.device_id.in_(list(found))).order_by(members.c.group_id)
        for row in self._store.rows(wanted) if found else ():
            found[row["device_id"]].append(row["group_id"])
        return found

    def set_of(self, account_id: str, device_id: str, group_ids: Iterable[str]) -> None:
        """Let a device be in these groups and in no other; it must be the account's.

        Raises:
            Refused: the account has not all of the groups, or they are more than MAX_OF_DEVICE (400).
        """
        wanted = set(group_ids)
        with self._store.begin() as db:
            mine = sa.select(table.c.id).where(table.c.account_id == account_id)
            unknown = wanted - set(db.scalars(mine))
            if unknown:
                raise Refused(400, f"there is no device group {min(unknown)[:64]}", type="validation_error")
            self._alone(db, wanted)
            before = set(self.of([device_id])[device_id])
            out = before - wanted
            if out:
                db.execute(sa.delete(members).where(members.c.device_id == device_id, members.c.group_id.in_(out)))
            if wanted - before:
                db.execute(sa.insert(members), [{"group_id": each, "device_id": device_id} for each in wanted - before])
                _check(db, [device_id])
            self._touch(db, before ^ wanted)

    def _unique(self, account_id: str, name: str, but: str = "") -> None:
        taken = sa.select(table.c.id).where(table.c.account_id == account_id, table.c.name == name, table.c.id != but)
        if self._store.scalar(taken) is not None:
            raise _taken(name)

    def _known(self, account_id: str, device_ids: Sequence[str]) -> None:
        known = sa.select(devices.c.id).where(devices.c.account_id == account_id, devices.c.id.in_(device_ids))
        found = {row["id"] for row in self._store.rows(known)}
        for each in device_ids:
            if each not in found:
                raise not_found("device", each)

    def _alone(self, db: sa.Connection, ids: Iterable[str]) -> None:
        """Be the only one who changes these groups until the transaction ends; in order, so that none waits in turn."""
        held = sa.select(table.c.id).where(table.c.id.in_(list(ids))).order_by(table.c.id)
        db.execute(held.with_for_update(key_share=True))

    def _touch(self, db: sa.Connection, ids: Iterable[str]) -> None:
        at = self._store.timestamp()
        db.execute(sa.update(table).where(table.c.id.in_(list(ids))).values(updated_at=at))


def _taken(name: str) -> Refused:
    return Refused(409, f"there is a device group {name[:128]} already", type="duplicate")


def _check(db: sa.Connection, device_ids: Sequence[str]) -> None:
    many = (
        sa.select(members.c.device_id)
        .where(members.c.device_id.in_(device_ids))
        .group_by(members.c.device_id)
        .having(sa.func.count() > MAX_OF_DEVICE)
    )
    if (device_id := db.scalar(many.limit(1))) is not None:
        raise Refused(
            400, f"the device {device_id} would be in more than {MAX_OF_DEVICE} groups", type="validation_error"
        )
