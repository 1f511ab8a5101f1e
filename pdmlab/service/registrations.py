"""The LwM2M server's registration interface: who is there, where, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.transport import Address
from pdmlab.errors import ServiceError
from pdmlab.lwm2m.linkformat import Link, parse_links
from pdmlab.service.register import Register, Registration
from pdmlab.service.registering import DEFAULT_LIFETIME, Wish, answer, facts_of, read_wish
from pdmlab.service.resources import as_listed, leaves
from pdmlab.service.schema import channels, devices, registrations
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_SET = sa.update(registrations).where(registrations.c.device_id == sa.bindparam("device"))
_COLUMNS = [column.name for column in registrations.c if column.name not in ("device_id", "account_id")]
_REFRESHED = ("host", "port", "lifetime", "binding", "queue_mode", "expires", "updated_at")
_INSERT = Statement(sa.insert(registrations), ["device_id", "account_id", *_COLUMNS])
_REPLACE = Statement(_SET.values({name: sa.bindparam(name) for name in _COLUMNS}))
_REFRESH = Statement(_SET.values({name: sa.bindparam(name) for name in _REFRESHED}))
_DELETE = Statement(sa.delete(registrations).where(registrations.c.device_id == sa.bindparam("device")))
_LISTENING = Statement(
    sa.select(channels.c.api_key_id).where(channels.c.account_id == sa.bindparam("account")).limit(1)
)
_DEVICE = sa.update(devices).where(devices.c.id == sa.bindparam("device"))
_REGISTERED = Statement(
    _DEVICE.values({n: sa.bindparam(n) for n in ("state", "endpoint_name", "endpoint_type", "updated_at")})
)
_DEREGISTERED = Statement(_DEVICE.values(state="deregistered", updated_at=sa.bindparam("updated_at")))


class Registrations:
    """All registrations: the table is the truth, this is its index by device and by address."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._register = Register(core.now, self._expired)
        self.find, self.at = self._register.find, self._register.at

    def __len__(self) -> int:
        return len(self._register)

    def __iter__(self) -> Iterator[Registration]:
        return iter(self._register)

    def load(self) -> None:
        """Read the table, and expire what ran out meanwhile."""
        self._register.clear()
        for row in self._store.rows(sa.select(registrations)):
            peer = row.pop("host"), row.pop("port")
            self._register.keep(Registration(peer=peer, heard=0.0, **row))
        self._register.expire()

    def close(self) -> None:
        """Expire nothing any more."""
        self._register.close()

    def hear(self, device_id: str) -> None:
        """Note that a device has just sent something; one in queue mode is awake then."""
        registration = self.find(device_id)
        if registration is not None:
            registration.heard = self._core.now()

    # -- what devices ask ------------------------------------------------------------------------------

    async def register(self, message: Message, peer: Address) -> Message:
        """Answer POST /rd: 2.01 with the location, when all of it is on disk."""
        wish = read_wish(message)
        if isinstance(wish, Message):
            return wish
        links = parse_links(message.payload)
        with self._store.batch() as db:
            found = self._device(wish)
            if isinstance(found, Message):
                return found
            device_id, account_id = found["id"], found["account_id"]
            old, now, at = self.find(device_id), self._core.now(), self._store.timestamp()
            new = Registration(
                device_id=device_id,
                account_id=account_id,
                endpoint_name=wish.endpoint_name,
                endpoint_type=wish.endpoint_type,
                peer=peer,
                lifetime=wish.lifetime or DEFAULT_LIFETIME,
                binding=wish.binding or "U",
                queue_mode=wish.queue_mode,
                lwm2m_version=wish.lwm2m_version,
                generation=max(int(now * 1000), old.generation + 1 if old is not None else 0),
                expires=now + (wish.lifetime or DEFAULT_LIFETIME),
                registered_at=at,
                updated_at=at,
                heard=now,
            )
            if old is None:
                _INSERT.run(db, device_id=device_id, account_id=account_id, **_columns(new))
            else:
                _REPLACE.run(db, device=device_id, **_columns(new))
            shown = {"state": "registered", "endpoint_name": wish.endpoint_name, "endpoint_type": wish.endpoint_type}
            if any(found[name] != value for name, value in shown.items()):
                _REGISTERED.run(db, device=device_id, updated_at=at, **shown)
            self._core.resources.replace(account_id, device_id, links, new=True)
            self._learn(found, links)
            self._core.directory.event(
                account_id,
                device_id,
                "update.device.device-registered",
                description=f"Registered from {peer[0]}:{peer[1]} for {new.lifetime} s with {len(links)} paths",
                changes={"state": "registered"} if found["state"] != "registered" else {},
                state_change=found["state"] != "registered",
            )
            self._core.observations.lost(new)
            if self._somebody_listens(account_id):
                self._core.channels.broadcast(account_id, {"registrations": [_event(new, _listed(links))]})
            self._register.keep(new)
        await self._written()
        self._follow_up(new, full=True)
        created = Message(code=codes.CREATED)
        created.opt.location_path = new.location
        return created

    async def update(self, message: Message, peer: Address) -> Message:
        """Answer POST to a location: 2.04, or 4.04 if it is nobody's any more."""
        old = self._located(message)
        if old is None:
            return _stale()
        wish = read_wish(message, update=True)
        if isinstance(wish, Message):
            return wish
        links = parse_links(message.payload) if message.payload else []
        now, lifetime = self._core.now(), wish.lifetime or old.lifetime
        renewed = replace(
            old,
            peer=peer,  # another address than before is the same device behind a NAT
            lifetime=lifetime,
            binding=wish.binding or old.binding,
            queue_mode=old.queue_mode if wish.binding is None else wish.queue_mode,
            expires=now + lifetime,
            updated_at=self._store.timestamp(),
            heard=now,
        )
        with self._store.batch() as db:
            row = _columns(renewed)
            _REFRESH.run(db, device=renewed.device_id, **{name: row[name] for name in _REFRESHED})
            if links:
                self._core.resources.replace(renewed.account_id, renewed.device_id, links, new=False)
                self._core.observations.relisted(renewed)
            if self._somebody_listens(renewed.account_id):
                listed = as_listed(self._core.resources.list(renewed.device_id))
                self._core.channels.broadcast(renewed.account_id, {"reg-updates": [_event(renewed, listed)]})
            self._register.keep(renewed)
        await self._written()
        self._follow_up(renewed, full=False)
        return Message(code=codes.CHANGED)

    async def deregister(self, message: Message, peer: Address) -> Message:
        """Answer DELETE of a location: 2.02, or 4.04 if it is nobody's any more."""
        registration = self._located(message)
        if registration is None:
            return _stale()
        self._end(registration, "update.device.device-deregistered", "de-registrations")
        await self._written()
        return Message(code=codes.DELETED)

    def forget(self, device_id: str) -> None:
        """Drop a device that is no longer in the directory."""
        if self._register.drop(device_id) is not None:
            self._core.observations.forget(device_id)

    # -- inside ------------------------------------------------------------------------------------------

    def _device(self, wish: Wish) -> Row | Message:
        """Return the device that registers: the one whose id it brings, else the one of that name, else a new one."""
        directory = self._core.directory
        account_id = wish.account_id or self._core.account_id
        if not self._core.knows_account(account_id):
            return answer(codes.BAD_REQUEST, f"there is no account {account_id}")
        if wish.device_id is not None:
            device = directory.identity(wish.device_id)
            if device is not None and device["account_id"] == account_id:
                return device
            # Not 4.04: on 4.03 the stock client drops what it was told and bootstraps anew.
            return answer(codes.FORBIDDEN, f"there is no device {wish.device_id}: bootstrap again")
        device = directory.identity_named(account_id, wish.endpoint_name)
        return device or directory.add(account_id, endpoint_name=wish.endpoint_name, endpoint_type=wish.endpoint_type)

    def _learn(self, device: dict[str, Any], links: list[Link]) -> None:
        """Take over what the directory shows of a device's own resources."""
        learnt = {name: value for name, value in facts_of(links).items() if device[name] != value}
        if learnt:
            self._core.directory.change(device["id"], **learnt)

    def _located(self, message: Message) -> Registration | None:
        _, account_id, device_id = message.opt.uri_path
        registration = self.find(device_id)
        return registration if registration is not None and registration.account_id == account_id else None

    def _somebody_listens(self, account_id: str) -> bool:
        return self._store.row(_LISTENING, account=account_id) is not None

    async def _written(self) -> None:
        try:
            await self._store.written()
        except ServiceError:
            self.load()  # what could not be written has not happened
            raise

    def _follow_up(self, registration: Registration, *, full: bool) -> None:
        core = self._core
        if full:
            core.delivery.restarted(registration.device_id, registration.peer)
        core.observations.kick(registration.device_id)
        core.requests.kick(registration.device_id)
        core.campaigns.registered(registration, full=full)

    def _expired(self, registration: Registration) -> None:
        self._end(registration, "update.device.registration-expired", "registrations-expired")

    def _end(self, registration: Registration, event: str, told: str) -> None:
        device_id, account_id = registration.device_id, registration.account_id
        with self._store.batch() as db:
            _DELETE.run(db, device=device_id)
            _DEREGISTERED.run(db, device=device_id, updated_at=self._store.timestamp())
            self._core.directory.event(
                account_id, device_id, event, changes={"state": "deregistered"}, state_change=True
            )
            self._core.observations.ended(registration)
            self._core.channels.broadcast(account_id, {told: [device_id]})
        self.forget(device_id)


def _columns(registration: Registration) -> dict[str, Any]:
    names = [
        name for name in Registration.__dataclass_fields__ if name not in ("device_id", "account_id", "peer", "heard")
    ]
    row = {name: getattr(registration, name) for name in names}
    row["host"], row["port"] = registration.peer
    return row


def _stale() -> Message:
    return answer(codes.NOT_FOUND, "that registration is gone: register again")


def _listed(links: list[Link]) -> list[dict[str, Any]]:
    shown = leaves(str(link.path) for link in links)
    rows = (
        {
            "path": str(link.path),
            "rt": link.rt or "",
            "content_format": None,
            "observable": link.obs or link.aobs is not None,
        }
        for link in links
    )
    return as_listed(row for row in rows if row["path"] in shown)


def _event(registration: Registration, listed: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "ep": registration.device_id,
        "original-ep": registration.endpoint_name,
        "ept": registration.endpoint_type,
        "q": registration.queue_mode,
        "resources": listed,
    }
