"""The device directory: which devices there are, in which state, and what has happened to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.service.ids import timestamp
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import bootstrap_endpoints, device_certificates, device_events, devices
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Rows

if TYPE_CHECKING:
    from pdmlab.service.core import Core

EVENTS = {
    "update.device.device-created": "Device created",
    "update.device.device-bootstrapped": "Device bootstrapped",
    "update.device.bootstrap-failed": "Bootstrap failed",
    "update.device.device-registered": "Device registered",
    "update.device.device-deregistered": "Device deregistered",
    "update.device.registration-expired": "Registration expired",
    "update.device.device-updated": "Device changed",
    "update.device.device-deleted": "Device deleted",
    "update.device.device-enrolled": "Device claimed by its enrollment",
    "update.device.enrollment-denied": "A device of a trusted CA was not let in",
    "update.device.certificate-enrolled": "Certificate enrolled",
    "update.device.request-refused": "Request refused",
    "update.device.allocation-exceeded": "No room for another device",
}
"""Event types and their descriptions; campaigns add their own (UPD4_…)."""

MAX_EVENTS = 10_000
"""Events of a device that are kept, about."""
ROOM_EVERY = 1_000
MAX_DEVICES = 10_000
"""Devices of an account, unless `set_quota` says otherwise: whoever reaches a port without security can make some."""
MAX_QUOTA = 1_000_000
PRODUCTION = 5
"""The execution mode of a device that a factory made: its account cannot delete it, but end its enrollment."""
UNFINISHED_S = 12 * 3600.0
"""How long a device is kept that began to bootstrap and never finished: the stock client tries again within 6 h."""
PAUSE_S = 60.0
"""Between two events of an account that is full, and between two looks for what never finished."""

_DEVICE = sa.select(devices).where(devices.c.id == sa.bindparam("device"))
_SHORT = sa.select(
    *(devices.c[name] for name in ["id", "account_id", "state", "endpoint_name", "endpoint_type"]),
    *(devices.c[name] for name in ["serial_number", "vendor_id", "device_class"]),
)
_IDENTITY = Statement(_SHORT.where(devices.c.id == sa.bindparam("device")))
_NAMED = Statement(
    _SHORT.where(
        devices.c.account_id == sa.bindparam("account"),
        devices.c.endpoint_name == sa.bindparam("endpoint"),
        ~sa.exists().where(device_certificates.c.device_id == devices.c.id),
    )
    .order_by(devices.c.id.desc())
    .limit(1)
)
_COUNT = Statement(
    sa.select(sa.func.count()).select_from(devices).where(devices.c.account_id == sa.bindparam("account"))
)
_UNFINISHED = (
    sa.select(devices.c.id)
    .join(bootstrap_endpoints, bootstrap_endpoints.c.device_id == devices.c.id)
    .where(
        devices.c.account_id == sa.bindparam("account"),
        devices.c.state == "cloud_enrolling",
        bootstrap_endpoints.c.state != "finished",
        bootstrap_endpoints.c.updated_at < sa.bindparam("before"),
    )
    .limit(500)
)
_ACCOUNT_OF = Statement(sa.select(devices.c.account_id).where(devices.c.id == sa.bindparam("device")))
_EVENT = Statement(sa.insert(device_events), [column.name for column in device_events.c])


class Directory:
    """Devices and their events, of all accounts."""

    def __init__(self, core: Core) -> None:
        self._store = core.store
        self._core = core
        self._told: dict[str, int] = {}  # events of each device since the start, or since some made way
        self._pruned: dict[str, float] = {}  # by account
        self._full: dict[str, float] = {}

    def find(self, device_id: str, account_id: str | None = None) -> Row | None:
        """Return a device's row; None if there is none, or none in that account."""
        row = self._store.row(_DEVICE, device=device_id)
        return row if row is None or account_id in (None, row["account_id"]) else None

    def account_of(self, device_id: str) -> str | None:
        """Return whose device it is; None if there is none."""
        account_id: str | None = self._store.scalar(_ACCOUNT_OF, device=device_id)
        return account_id

    def identity(self, device_id: str) -> Row | None:
        """Return of a device what its registration may change: id, account_id, state, names and firmware ids."""
        return self._store.row(_IDENTITY, device=device_id)

    def identity_named(self, account_id: str, endpoint_name: str) -> Row | None:
        """Return the same of the device of that endpoint name; the latest, where several have had it.

        Devices with certificates are not found by a name: many have the same.
        """
        return self._store.row(_NAMED, account=account_id, endpoint=endpoint_name)

    def list(self, account_id: str, *conditions: sa.ColumnElement[bool]) -> Rows:
        """Return an account's devices that meet all conditions (filters.where), the oldest first."""
        mine = devices.c.account_id == account_id
        return self._store.rows(sa.select(devices).where(mine, *conditions).order_by(devices.c.id))

    def add(self, account_id: str, **fields: object) -> Row:
        """Make a device; return its row. Part of the open transaction, if there is one.

        Raises:
            Refused: the account has as many as it may have (403).
        """
        full = self.full(account_id)
        if full is not None:
            raise Refused(
                403,
                full,
                type="account_limit_exceeded",
                hint="delete development devices, or have the account's allocation raised",
            )
        at = self._store.timestamp()
        row: Row = {"id": self._store.ids.new(), "account_id": account_id, "created_at": at, "updated_at": at, **fields}
        row.setdefault("name", row.get("endpoint_name"))
        with self._store.begin() as db:
            db.execute(sa.insert(devices), row)
            found = db.execute(_DEVICE, {"device": row["id"]}).mappings().one()
            self.event(account_id, row["id"], "update.device.device-created")
        return dict(found)

    def create(self, account_id: str, **fields: object) -> Row:
        """Make a device by hand; return its row.

        Raises:
            Refused: another device of the account has its device_key (409), or `add` does (403).
        """
        key = fields.get("device_key")
        c = devices.c
        if key and self._store.row(sa.select(c.id).where(c.account_id == account_id, c.device_key == key).limit(1)):
            raise Refused(409, f"another device has the device_key {str(key)[:95]}", type="duplicate")
        return self.add(account_id, **fields)

    def quota(self, account_id: str) -> int:
        """Return how many devices an account may have."""
        kept = self._store.fact(f"device_quota/{account_id}")
        return MAX_DEVICES if kept is None else int(kept)

    def set_quota(self, account_id: str, devices: int) -> None:
        """Set how many devices an account may have from now on; those that it has stay.

        Raises:
            Refused: it is less than 0 or more than MAX_QUOTA (400).
        """
        if not 0 <= devices <= MAX_QUOTA:
            raise Refused(
                400, f"an account cannot have {devices} devices: 0 to {MAX_QUOTA} can be set", type="validation_error"
            )
        self._store.remember(f"device_quota/{account_id}", str(devices))

    def limits(self, account_id: str) -> dict[str, str]:
        """Return an account's allocation of devices, and how many it has, as REST shows limits: names and texts."""
        count = self._store.scalar(_COUNT, account=account_id)
        return {"devices": str(self.quota(account_id)), "devices_used": str(count)}

    def full(self, account_id: str) -> str | None:
        """Say that an account has as many devices as it may have, which is an event; None if there is room.

        Devices that began to bootstrap and never finished make room.
        """
        now = self._store.now()
        if now - self._pruned.get(account_id, -PAUSE_S) >= PAUSE_S:
            self._pruned[account_id] = now
            self._prune(account_id, now - UNFINISHED_S)
        quota, count = self.quota(account_id), self._store.scalar(_COUNT, account=account_id)
        if count < quota:
            return None
        said = f"allocation: the account has {count} of {quota} devices"
        if now - self._full.get(account_id, -PAUSE_S) >= PAUSE_S:
            self._full[account_id] = now
            # Of no device: there is none.
            self.event(account_id, "", "update.device.allocation-exceeded", description=said, data={"quota": quota})
        return said

    def _prune(self, account_id: str, before: float) -> None:
        """Delete devices that began to bootstrap, and have not been heard of since (Unix s)."""
        for row in self._store.rows(_UNFINISHED, account=account_id, before=timestamp(before)):
            self.remove(account_id, row["id"])

    def change(self, device_id: str, **fields: object) -> None:
        """Set fields of a device."""
        with self._store.begin() as db:
            db.execute(
                sa.update(devices).where(devices.c.id == device_id).values(updated_at=self._store.timestamp(), **fields)
            )

    def delete(self, account_id: str, device_id: str) -> None:
        """Delete a device as its account may.

        Raises:
            Refused: the account has no such device (404), or a factory made it (400).
        """
        row = self.find(device_id, account_id)
        if row is None:
            raise not_found("device", device_id)
        if row["device_execution_mode"] == PRODUCTION:
            raise Refused(
                400,
                f"the device {device_id} has a production certificate, and cannot be deleted",
                hint="delete its enrollment to let it go from the account",
            )
        self.remove(account_id, device_id)

    def remove(self, account_id: str, device_id: str) -> bool:
        """Delete a device with its registration, values, subscriptions and queue; return whether there was one."""
        with self._store.begin() as db:
            gone = db.execute(
                sa.delete(devices).where(devices.c.id == device_id, devices.c.account_id == account_id)
            ).rowcount
            if gone:
                self.event(account_id, device_id, "update.device.device-deleted", state_change=True)
        if gone:
            self._core.bootstrap.forget(device_id)
            self._core.registrations.forget(device_id)
            self._core.campaigns.removed(device_id)
            self._core.refusals.forget(device_id)
            self._told.pop(device_id, None)
        return bool(gone)

    def event(
        self,
        account_id: str,
        device_id: str,
        event_type: str,
        *,
        description: str = "",
        changes: Mapping[str, object] | None = None,
        data: Mapping[str, object] | None = None,
        state_change: bool = False,
    ) -> None:
        """Record what has happened to a device."""
        at = self._store.timestamp()
        title = EVENTS.get(event_type, "")
        with self._store.begin() as db:
            _EVENT.run(
                db,
                id=self._store.ids.new(),
                account_id=account_id,
                device_id=device_id,
                date_time=at,
                event_type=event_type,
                event_type_category=event_type.rpartition(".")[0] or "update",
                event_type_description=title,
                description=description or title,
                changes=json.dumps(changes or {}),
                data=json.dumps(data or {}),
                state_change=state_change,
                created_at=at,
            )
            self._make_room(db, account_id, device_id)

    def _make_room(self, db: sa.Connection, account_id: str, device_id: str) -> None:
        """Let a device's oldest events go, now and then: it decides how many there are."""
        whose = device_id or account_id  # an account has events of no device
        told = self._told[whose] = self._told.get(whose, 0) + 1
        if told < ROOM_EVERY:
            return
        del self._told[whose]
        mine = sa.and_(device_events.c.account_id == account_id, device_events.c.device_id == device_id)
        newest = sa.select(device_events.c.id).where(mine).order_by(device_events.c.id.desc()).offset(MAX_EVENTS)
        last = db.scalar(newest.limit(1))
        if last is not None:
            db.execute(sa.delete(device_events).where(mine, device_events.c.id <= last))

    def events(self, account_id: str, device_id: str | None = None) -> Rows:
        """Return events, the oldest first."""
        wanted = sa.select(device_events).where(device_events.c.account_id == account_id).order_by(device_events.c.id)
        return self._store.rows(wanted if device_id is None else wanted.where(device_events.c.device_id == device_id))
