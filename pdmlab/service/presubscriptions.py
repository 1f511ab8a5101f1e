"""Pre-subscriptions: patterns of devices and paths, by which keys subscribe to what will come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pdmlab.service.refusal import Refused
from pdmlab.service.schema import presubscriptions, subscriptions
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row
from pdmlab.service.subscriptions import ACCOUNT, Subscriptions

if TYPE_CHECKING:
    from pdmlab.service.register import Registration

_SOME_PATTERNS = Statement(
    sa.select(presubscriptions.c.id).where(presubscriptions.c.account_id == sa.bindparam("account")).limit(1)
)
_PATTERNS = (
    sa.select(presubscriptions)
    .where(presubscriptions.c.account_id == sa.bindparam("account"))
    .order_by(presubscriptions.c.api_key_id, presubscriptions.c.position)
)


class Presubscriptions(Subscriptions):
    """Subscriptions one by one, and by patterns that are applied as devices register and update."""

    def presubscriptions(self, api_key_id: str) -> Sequence[dict[str, Any]]:
        """Return a key's patterns as it has given them."""
        rows = self._store.rows(
            sa.select(presubscriptions)
            .where(presubscriptions.c.api_key_id == api_key_id)
            .order_by(presubscriptions.c.position)
        )
        shown = []
        for row in rows:
            entry = {"endpoint-name": row["endpoint_name"], "endpoint-type": row["endpoint_type"]}
            entry["resource-path"] = row["resource_path"] or None
            shown.append({name: value for name, value in entry.items() if value is not None})
        return shown

    async def set_presubscriptions(self, api_key_id: str, entries: Iterable[Mapping[str, Any]]) -> None:
        """Replace a key's patterns (endpoint-name, endpoint-type, resource-path); devices are matched as they come.

        What the old patterns had subscribed to ends.
        """
        account_id = self._store.scalar(ACCOUNT, key=api_key_id)
        if account_id is None:
            raise Refused(404, f"there is no API key {api_key_id[:64]}", type="not_found")
        with self._store.batch() as db:
            db.execute(sa.delete(presubscriptions).where(presubscriptions.c.api_key_id == api_key_id))
            for position, entry in enumerate(entries):
                db.execute(
                    sa.insert(presubscriptions).values(
                        id=self._store.ids.new(),
                        account_id=account_id,
                        api_key_id=api_key_id,
                        position=position,
                        endpoint_name=entry.get("endpoint-name"),
                        endpoint_type=entry.get("endpoint-type"),
                        resource_path=list(entry.get("resource-path") or []),
                        created_at=self._store.timestamp(),
                    )
                )
            old = db.execute(
                sa.delete(subscriptions)
                .where(subscriptions.c.api_key_id == api_key_id, subscriptions.c.from_presubscription)
                .returning(subscriptions.c.device_id, subscriptions.c.path)
            ).all()
            for device_id, path in old:
                self._forget_keys(device_id)
                if not self.is_wanted(device_id, path):
                    self._remove(device_id, path)
            for registration in self._core.registrations:
                if registration.account_id == account_id:
                    self.presubscribe(registration)
        await self._store.written()
        for registration in self._core.registrations:
            if registration.account_id == account_id:
                self.kick(registration.device_id)

    def presubscribe(self, registration: Registration, *, anew: bool = True) -> None:
        """Subscribe every key whose patterns fit to what a device has, as part of the open transaction.

        anew: the device has forgotten what was observed; else what is subscribed already is left as it is.
        """
        if self._store.row(_SOME_PATTERNS, account=registration.account_id) is None:
            return
        patterns = self._store.rows(_PATTERNS, account=registration.account_id)
        device_id = registration.device_id
        listed = self._core.resources.list(device_id)
        for pattern in patterns:
            if not _fits(pattern, registration):
                continue
            for row in listed:
                exact = row["path"] in pattern["resource_path"]
                if not anew and pattern["api_key_id"] in self.keys_of(device_id).get(row["path"], ()):
                    continue
                if exact or (row["observable"] and _covers(pattern["resource_path"], row["path"])):
                    self._add(registration.account_id, pattern["api_key_id"], device_id, row["path"], pattern=True)
                    self._observed(registration.account_id, device_id, row["path"])


def _fits(pattern: Row, registration: Registration) -> bool:
    name, type = pattern["endpoint_name"], pattern["endpoint_type"]
    if type is not None and type != registration.endpoint_type:
        return False
    names = (registration.device_id, registration.endpoint_name)
    return name is None or any(each == name or (name.endswith("*") and each.startswith(name[:-1])) for each in names)


def _covers(patterns: Sequence[str], path: str) -> bool:
    return not patterns or any(each == path or (each.endswith("*") and path.startswith(each[:-1])) for each in patterns)
