"""Subscriptions: which key wants to hear of which path, in the database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.paths import Path
from pdmlab.service.refusal import Refused
from pdmlab.service.schema import api_keys, observations, subscriptions
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Rows
from pdmlab.service.values import as_json

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_OF_DEVICE = sa.select(subscriptions).where(subscriptions.c.device_id == sa.bindparam("device"))
_MINE = _OF_DEVICE.where(subscriptions.c.api_key_id == sa.bindparam("key"))
_ASKING = _OF_DEVICE.where(subscriptions.c.path == sa.bindparam("which"), subscriptions.c.async_id.is_not(None))
_MADE_BY_HAND = (
    subscriptions.c.device_id == sa.bindparam("device"),
    sa.not_(subscriptions.c.from_presubscription),
    subscriptions.c.async_id.is_(None),
)
_MANUAL = Statement(sa.select(subscriptions.c.path).where(*_MADE_BY_HAND))
_DROP_MANUAL = Statement(sa.delete(subscriptions).where(*_MADE_BY_HAND))
ACCOUNT = sa.select(api_keys.c.account_id).where(api_keys.c.id == sa.bindparam("key"))


class Subscriptions(ABC):
    """What keys want to hear; `Observations` sees to it that devices tell it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._keys: dict[str, dict[str, list[str]]] = {}
        """What is known by heart of the table; other processes say when they have changed it."""
        self._watched: dict[str, set[str]] = {}
        """What the service itself wants to hear, while it works at a device."""
        core.bus.hear("queue", self._changed, own=False)

    @abstractmethod
    def _changed(self, device_id: str) -> None:
        """Look again at what is wanted of a device: another process has changed it."""

    @abstractmethod
    def kick(self, device_id: str) -> None:
        """Make the observations of a device that wait."""

    # -- what keys ask ---------------------------------------------------------------------------------

    async def subscribe(self, api_key_id: str, device_id: str, path: str) -> str:
        """Subscribe a key to a path; return the id of the async-response that brings the present value, or the refusal.

        A device that cannot be asked now is asked when it registers or updates. Who subscribes again meanwhile waits
        for the same answer.

        Raises:
            Refused: DEVICE_NOT_FOUND, RESOURCE_NOT_FOUND (404), a path that is none (400), or the key is gone (401).
        """
        path = str(_path(path))
        device = self._device(api_key_id, device_id)
        if self._core.registrations.find(device_id) is not None and self._core.resources.missing(
            device_id, _path(path)
        ):
            raise Refused(404, "RESOURCE_NOT_FOUND", hint=f"the device has registered no {path}")
        try:
            async_id, observed = self._subscribe(device["account_id"], api_key_id, device_id, path)
        except sa.exc.IntegrityError:  # another process has done the same in this moment, or has deleted key or device
            self._keys.pop(device_id, None)
            self._device(api_key_id, device_id)
            async_id, observed = self._subscribe(device["account_id"], api_key_id, device_id, path)
        await self._store.written()
        if observed != "active":
            self.kick(device_id)
        return async_id

    def _subscribe(self, account_id: str, api_key_id: str, device_id: str, path: str) -> tuple[str, str]:
        """Return the id of the answer that will come, and the state of the observation."""
        with self._store.batch():
            asking = self._store.rows(_ASKING, device=device_id, which=path)
            waiting = next((row["async_id"] for row in asking if row["api_key_id"] == api_key_id), None)
            async_id = waiting or self._store.ids.new()
            if waiting is None:
                self._add(account_id, api_key_id, device_id, path, async_id=async_id)
            observed = self._observed(account_id, device_id, path)
            if observed == "active":
                self.fulfil_from_cache(device_id, path)
        return async_id, observed

    async def unsubscribe(self, api_key_id: str, device_id: str | None = None, path: str | None = None) -> bool:
        """End a key's subscription to a path, all of a device, or all; return whether there was one.

        A device learns that nobody wants a path any more when its next notification is reset.
        """
        wanted = [subscriptions.c.api_key_id == api_key_id]
        if device_id is not None:
            wanted.append(subscriptions.c.device_id == device_id)
        if path is not None:
            wanted.append(subscriptions.c.path == str(_path(path)))
        with self._store.batch() as db:
            rows = db.execute(sa.select(subscriptions).where(*wanted)).mappings().all()
            db.execute(sa.delete(subscriptions).where(*wanted))
            for row in rows:
                self._forget_keys(row["device_id"])
                if not self.is_wanted(row["device_id"], row["path"]):
                    self._remove(row["device_id"], row["path"])
        await self._store.written()
        return bool(rows)

    def list(self, api_key_id: str, device_id: str) -> Sequence[str]:
        """Return the paths of a device that a key has subscribed to, in numeric order."""
        rows = self._store.rows(_MINE, key=api_key_id, device=device_id)
        return sorted((row["path"] for row in rows), key=Path.parse)

    def of_device(self, device_id: str) -> Rows:
        """Return all keys' subscriptions to a device."""
        return self._store.rows(_OF_DEVICE, device=device_id)

    def keys_of(self, device_id: str) -> Mapping[str, Sequence[str]]:
        """Return the keys that want each path of a device."""
        keys = self._keys.get(device_id)
        if keys is None:
            keys = self._keys[device_id] = {}
            for row in self.of_device(device_id):
                keys.setdefault(row["path"], []).append(row["api_key_id"])
        return keys

    def is_wanted(self, device_id: str, path: str) -> bool:
        """Whether a key wants a path, or the service itself."""
        return path in self.keys_of(device_id) or path in self._watched.get(device_id, ())

    def watch(self, account_id: str, device_id: str, paths: Collection[str]) -> None:
        """See to it that the service itself hears of paths, over registrations too, until it does not watch them."""
        self._watched.setdefault(device_id, set()).update(paths)
        with self._store.batch():
            observed = [self._observed(account_id, device_id, path) for path in paths]
        if observed.count("active") < len(observed):
            self.kick(device_id)

    def unwatch(self, device_id: str) -> None:
        """Leave a device alone, as part of the open transaction, but for what keys want of it."""
        for path in self._watched.pop(device_id, ()):
            if not self.is_wanted(device_id, path):
                self._remove(device_id, path)

    def drop_manual(self, device_id: str) -> None:
        """End, as part of a full registration, the subscriptions that keys have made one by one.

        As the vendor's service does. What was asked for, and is not made yet, has waited for just this registration.
        """
        with self._store.batch() as db:
            gone = [row["path"] for row in _MANUAL.rows(db, device=device_id)]
            if not gone:
                return
            _DROP_MANUAL.run(db, device=device_id)
            self._forget_keys(device_id)
            for path in set(gone):
                if not self.is_wanted(device_id, path):
                    self._remove(device_id, path)

    # -- answers -----------------------------------------------------------------------------------------

    def fulfil(self, device_id: str, path: str, value: Mapping[str, Any]) -> Sequence[str]:
        """Tell the keys that have just subscribed to a path its present value; return which they were."""
        return self._tell(device_id, path, {"status": 200, **value})

    def fulfil_from_cache(self, device_id: str, path: str) -> Sequence[str]:
        """Tell the keys that have just subscribed to a path the value that is known of it; return which they were."""
        row = self._core.resources.get(device_id, path) or {
            "value": None,
            "content_format": None,
            "value_expires": None,
        }
        left = max(0, round((row["value_expires"] or 0) - self._core.now()))
        return self.fulfil(device_id, path, as_json(path, bytes(row["value"] or b""), row["content_format"], left))

    def refuse(self, device_id: str, path: str, status: int, reason: str) -> None:
        """Tell the keys that have just subscribed to a path that the device refuses; their subscriptions end."""
        keys = self._tell(device_id, path, {"status": status, "error": reason})
        with self._store.batch() as db:
            for key in keys:
                db.execute(
                    sa.delete(subscriptions).where(
                        subscriptions.c.api_key_id == key,
                        subscriptions.c.device_id == device_id,
                        subscriptions.c.path == path,
                    )
                )
            self._forget_keys(device_id)

    def _tell(self, device_id: str, path: str, result: Mapping[str, Any]) -> Sequence[str]:
        asking = self._store.rows(_ASKING, device=device_id, which=path)
        with self._store.batch() as db:
            for row in asking:
                self._core.channels.put(row["api_key_id"], {"async-responses": [{"id": row["async_id"], **result}]})
            if asking:
                db.execute(
                    sa.update(subscriptions)
                    .where(subscriptions.c.device_id == device_id, subscriptions.c.path == path)
                    .values(async_id=None)
                )
        return [row["api_key_id"] for row in asking]

    # -- rows ----------------------------------------------------------------------------------------------

    def _device(self, api_key_id: str, device_id: str) -> Row:
        account_id = self._store.scalar(ACCOUNT, key=api_key_id)
        if account_id is None:
            raise Refused(401, "INVALID_API_KEY", hint="the key was revoked in this moment")
        device = self._core.directory.find(device_id, account_id)
        if device is None:
            raise Refused(404, "DEVICE_NOT_FOUND", hint=f"this account has no device {device_id[:64]}")
        return device

    def _add(
        self,
        account_id: str,
        api_key_id: str,
        device_id: str,
        path: str,
        *,
        async_id: str | None = None,
        pattern: bool = False,
    ) -> None:
        mine = (
            subscriptions.c.api_key_id == api_key_id,
            subscriptions.c.device_id == device_id,
            subscriptions.c.path == path,
        )
        with self._store.batch() as db:
            if self._store.shared:
                self._keys.pop(device_id, None)  # what is written goes out from what is there
            if api_key_id in self.keys_of(device_id).get(path, ()):
                if not pattern:
                    db.execute(
                        sa.update(subscriptions).where(*mine).values(async_id=async_id, from_presubscription=False)
                    )
                return
            db.execute(
                sa.insert(subscriptions).values(
                    account_id=account_id,
                    api_key_id=api_key_id,
                    device_id=device_id,
                    path=path,
                    async_id=async_id,
                    from_presubscription=pattern,
                    created_at=self._store.timestamp(),
                )
            )
            self._forget_keys(device_id)

    def _forget_keys(self, device_id: str) -> None:
        """Note, as part of the open transaction, that other keys want something of a device, here and elsewhere."""
        self._keys.pop(device_id, None)
        self._core.bus.tell("queue", device_id)

    def _observed(self, account_id: str, device_id: str, path: str) -> str:
        """See to it that a path has an observation; return its state."""
        mine = (observations.c.device_id == device_id, observations.c.path == path)
        with self._store.batch() as db:
            state: str | None = db.scalar(sa.select(observations.c.state).where(*mine))
            if state == "active":
                return state
            at = self._store.timestamp()
            self._core.bus.tell("queue", device_id)
            if state is not None:
                db.execute(sa.update(observations).where(*mine).values(state="waiting", updated_at=at))
            else:
                row = {"account_id": account_id, "device_id": device_id, "path": path, "state": "waiting"}
                db.execute(sa.insert(observations).values(**row, created_at=at, updated_at=at))
        return "waiting"

    @abstractmethod
    def _remove(self, device_id: str, path: str) -> None:
        """Forget the observation of a path that nobody wants any more."""


def _path(text: str) -> Path:
    try:
        return Path.parse(text)
    except Lwm2mError as error:
        raise Refused(400, "RESOURCE_NOT_FOUND", hint=str(error)) from error
