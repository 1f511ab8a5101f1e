"""Who is registered: the table is the truth, and an index of it has the devices that are connected to this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError, ServiceError
from pdmlab.service.register import Register, Registration
from pdmlab.service.registration_rows import DELETE, DEREGISTERED, ONE, as_it_was, registration_of
from pdmlab.service.schema import registrations
from pdmlab.service.statements import Statement

if TYPE_CHECKING:
    from pdmlab.service.core import Core

GRACE_S = 15.0
"""For how long a registration that has run out is left to the process that has the device's connection."""
AT_ONCE = 500
"""Registrations of others that are ended in one go."""


class Registered:
    """All registrations, found by device; those of this process by address too."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._register = Register(core.now, self._expired)
        self.own, self.at = self._register.find, self._register.at
        """Return the registration of a device that is connected to this process: by its id, by its address."""
        core.bus.hear("device", self._changed, own=False)
        core.nodes.on_news.append(self.load)
        core.nodes.on_beat.append(lambda now: self._expire_others(now - GRACE_S))

    def __len__(self) -> int:
        if not self._store.shared:
            return len(self._register)
        return int(self._store.scalar(sa.select(sa.func.count()).select_from(registrations)))

    def __iter__(self) -> Iterator[Registration]:
        if not self._store.shared:
            return iter(self._register)
        found = map(registration_of, self._store.rows(sa.select(registrations).order_by(registrations.c.device_id)))
        return iter([self._as_known(each) for each in found])

    def _as_known(self, found: Registration) -> Registration:
        """Return a registration as this process knows it, if it is the one that does."""
        own = self.own(found.device_id)
        return own if own is not None and own.node == found.node else found

    def find(self, device_id: str) -> Registration | None:
        """Return the registration of a device, whichever process it is connected to."""
        own = self.own(device_id)
        return self._read(ONE, device_id) if own is None and self._store.shared else own

    def _read(self, statement: Statement, device_id: str) -> Registration | None:
        row = self._store.row(statement, device=device_id)
        return None if row is None else registration_of(row)

    def holds(self, device_id: str) -> bool:
        """Whether a device is connected to this process, and not to another one since: the database decides."""
        own = self.own(device_id)
        if own is None or not self._store.shared:
            return own is not None
        now = self._read(ONE, device_id)
        if now is None or now.node != own.node:
            self._leave(device_id)
            return False
        return True

    @property
    def _node(self) -> str:
        """The process that a device is connected to that speaks to this one."""
        return self._core.nodes.name if self._store.shared else ""

    # -- beginning and ending ------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the table, and expire what ran out meanwhile."""
        mine = sa.select(registrations)
        rows = self._store.rows(mine.where(registrations.c.node == self._node) if self._store.shared else mine)
        before = {each.device_id: each for each in self._register}
        self._register.clear()
        for row in rows:
            found, known = registration_of(row), before.pop(row["device_id"], None)
            peer = found.peer
            found.heard = 0.0 if known is None else known.heard
            if known is not None and known.peer == peer:
                found.lost_at, found.lost_why = known.lost_at, known.lost_why
            elif known is None and row["scheme"].endswith("tcp"):
                # Even if one of that name is open: a socket counts from the beginning when it is opened anew.
                found.lost_at, found.lost_why = self._core.now(), "the service was restarted"
            elif not self._core.lwm2m.connected(peer):
                found.lost_at, found.lost_why = self._core.now(), "the connection has ended"
            self._register.keep(found)
        for device_id in before:
            self._left(device_id)
        self._register.expire()

    def close(self) -> None:
        """Expire nothing any more."""
        self._register.close()

    def hear(self, device_id: str) -> None:
        """Note that a device has just sent something; one in queue mode is awake then."""
        registration = self.own(device_id)
        if registration is not None:
            registration.heard = self._core.now()

    def lost(self, peer: Address, why: NetworkError) -> None:
        """Hear that a connection has ended: its device stays registered, and comes back on another one."""
        self._register.lose(peer, self._core.now(), why.message)

    def forget(self, device_id: str) -> None:
        """Drop a device that is no longer in the directory."""
        self._drop(device_id)
        self._core.bus.tell("device", device_id)

    def _expire_others(self, before: float) -> None:
        """End registrations at other processes that have run out before a time (Unix s), and are still there."""
        late = sa.select(registrations).where(registrations.c.expires < before, registrations.c.node != self._node)
        for row in self._store.rows(late.order_by(registrations.c.expires).limit(AT_ONCE)):
            self._expired(registration_of(row))

    async def _written(self) -> None:
        try:
            await self._store.written()
        except ServiceError:
            self.load()  # what could not be written has not happened
            raise

    def _expired(self, registration: Registration) -> None:
        if self._end(registration, "update.device.registration-expired", "registrations-expired"):
            self._core.metrics.count(registration.account_id, "expired_registrations")

    def _end(self, registration: Registration, event: str, told: str) -> bool:
        """End a registration; False if that was done elsewhere, or the device is elsewhere."""
        device_id, account_id = registration.device_id, registration.account_id
        with self._store.batch() as db:
            ended = bool(DELETE.run(db, device=device_id, **as_it_was(registration)))
            if ended:
                DEREGISTERED.run(db, device=device_id, updated_at=self._store.timestamp())
                self._core.directory.event(
                    account_id, device_id, event, changes={"state": "deregistered"}, state_change=True
                )
                self._core.observations.ended(registration)
                self._core.requests.registration_ended(device_id, f"the device's registration has ended: {told}")
                self._core.channels.broadcast(account_id, {told: [device_id]})
                self._core.bus.tell("device", device_id)
        self._drop(device_id)
        return ended

    def _drop(self, device_id: str) -> None:
        """Know no more of a device that is connected to this process."""
        if self._register.drop(device_id) is not None:
            self._core.observations.forget(device_id)

    # -- from process to process ---------------------------------------------------------------------------

    def _writing(self, device_id: str | None) -> contextlib.AbstractContextManager[sa.Connection]:
        """Return the batch; or a transaction of its own, for a device that another process may have.

        Who waits for rows of others holds none that others may wait for: so nobody waits in a circle.
        """
        if self._store.shared and (device_id is None or self.own(device_id) is None):
            return self._store.begin()
        return self._store.batch()

    def _changed(self, device_id: str) -> None:
        """Let a device go that another process says it has, or has ended."""
        if self.own(device_id) is not None:
            self.holds(device_id)

    def _moved(self, old: Registration | None, new: Registration) -> None:
        """Take over, as part of the open transaction, a device that was connected to another process."""
        if old is not None and old.node != new.node:
            self._core.observations.forget(new.device_id)
            self._core.bus.tell("device", new.device_id)

    def _leave(self, device_id: str) -> None:
        """Let a device go that another process has."""
        self._register.drop(device_id)
        self._left(device_id)

    def _left(self, device_id: str) -> None:
        self._core.observations.forget(device_id)
        self._core.delivery.left(device_id)
