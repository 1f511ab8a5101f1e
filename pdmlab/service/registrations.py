"""The LwM2M server's registration interface: who is there, where, and until when."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, Connection, scheme_of, text_of
from pdmlab.lwm2m.linkformat import Link, LinkList
from pdmlab.service.claims import RegistrationClaims
from pdmlab.service.proof import Proof
from pdmlab.service.register import Registration
from pdmlab.service.registered import Registered
from pdmlab.service.registering import DEFAULT_LIFETIME, answer, facts_of, in_pieces, read_links, read_wish, span_of
from pdmlab.service.registration_rows import (
    INSERT,
    LISTENING,
    REFRESH,
    REFRESHED,
    REGISTERED,
    REPLACE,
    TAKEN,
    as_it_was,
    columns,
    event_of,
    listed,
)
from pdmlab.service.resources import as_listed, listed_in_pieces
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core


class Registrations(Registered):
    """The interface at which devices register, update and deregister."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._claims = RegistrationClaims(core)

    def speaking(self, peer: Address) -> Registration | None:
        """Return the registration of whoever sends from an address, by the address or by what it has proved.

        So a device is known that has connected again, and has not said yet that its registration goes on.
        """
        found = self.at(peer)
        if found is None and isinstance(peer, Connection):
            found = self._by_proof(self._core.credentials.proof(self._core.lwm2m, peer))
        return found

    def device_of(self, endpoint: Endpoint, peer: Address) -> str | None:
        """Return which device a peer of an endpoint is, registered or not; None if that is not known."""
        if endpoint is self._core.lwm2m and (found := self.at(peer)) is not None:
            return found.device_id
        proof = self._core.credentials.proof(endpoint, peer)
        if proof.device_id is not None:
            return proof.device_id
        found = self._by_proof(proof)
        return None if found is None else found.device_id

    # -- what devices ask ------------------------------------------------------------------------------

    async def register(self, message: Message, peer: Address) -> Message:
        """Answer POST /rd: 2.01 with the location, when all of it is on disk."""
        wish = read_wish(message)
        if isinstance(wish, Message):
            return wish
        proof = self._core.credentials.proof(self._core.lwm2m, peer)  # while its connection is there
        said = await read_links(message.payload)
        links = said.links
        resources = await in_pieces(listed_in_pieces(links))
        lifetime = DEFAULT_LIFETIME if wish.lifetime is None else wish.lifetime
        span = span_of(lifetime, wish.lwm2m_version)
        with self._writing(proof.device_id or wish.device_id) as db:
            found = self._claims.device(wish, proof)
            if isinstance(found, Message):
                return found
            device_id, account_id = found["id"], found["account_id"]
            old = self._read(TAKEN, device_id) if self._store.shared else self.own(device_id)
            now, at = self._core.now(), self._store.timestamp()
            new = Registration(
                device_id=device_id,
                account_id=account_id,
                endpoint_name=wish.endpoint_name,
                endpoint_type=wish.endpoint_type,
                peer=peer,
                lifetime=lifetime,
                binding=wish.binding or "U",
                queue_mode=wish.queue_mode,
                lwm2m_version=wish.lwm2m_version,
                generation=max(int(now * 1000), old.generation + 1 if old is not None else 0),
                expires=now + span,
                registered_at=at,
                updated_at=at,
                heard=now,
                root=said.root,
                node=self._node,
            )
            if old is None:
                INSERT.run(db, device_id=device_id, account_id=account_id, **columns(new))
            else:
                REPLACE.run(db, device=device_id, **columns(new))
            shown = {"state": "registered", "endpoint_name": wish.endpoint_name, "endpoint_type": wish.endpoint_type}
            if any(found[name] != value for name, value in shown.items()):
                REGISTERED.run(db, device=device_id, updated_at=at, **shown)
            self._core.resources.replace(account_id, device_id, resources, new=True)
            self._learn(found, links)
            self._core.directory.event(
                account_id,
                device_id,
                "update.device.device-registered",
                description=f"Registered from {text_of(peer)} for {new.lifetime} s with {len(links)} paths",
                changes={"state": "registered"} if found["state"] != "registered" else {},
                state_change=found["state"] != "registered",
            )
            if proof.device_id is not None:
                self._core.credentials.used(proof)
            self._core.observations.lost(new)
            if self._somebody_listens(account_id):
                self._core.channels.broadcast(account_id, {"registrations": [event_of(new, listed(links))]})
            self._moved(old, new)
            self._register.keep(new)
        await self._written()
        self._follow_up(new, full=True)
        created = Message(code=codes.CREATED)
        created.opt.location_path = new.location
        return created

    async def update(self, message: Message, peer: Address) -> Message:
        """Answer POST to a location: 2.04, or 4.04 if it is nobody's any more."""
        old = self._located(message, peer)
        if old is None:
            return _stale()
        wish = read_wish(message, update=True)
        if isinstance(wish, Message):
            return wish
        said, resources = LinkList([], old.root), None
        if message.payload:
            said = await read_links(message.payload, old.root)
            resources = await in_pieces(listed_in_pieces(said.links))
            old = self._located(message, peer)  # it may have left meanwhile, or may have moved
            if old is None:
                return _stale()
        now, lifetime = self._core.now(), old.lifetime if wish.lifetime is None else wish.lifetime
        span = span_of(lifetime, old.lwm2m_version)
        renewed = replace(
            old,
            peer=peer,  # another address than before is the same device behind a NAT
            lifetime=lifetime,
            binding=wish.binding or old.binding,
            queue_mode=old.queue_mode if wish.binding is None else wish.queue_mode,
            expires=now + span,
            updated_at=self._store.timestamp(),
            heard=now,
            root=said.root,
            lost_at=None,
            lost_why="",
            node=self._node,
        )
        with self._writing(renewed.device_id) as db:
            row = columns(renewed)
            refreshed = {name: row[name] for name in REFRESHED}
            if not REFRESH.run(db, device=renewed.device_id, **as_it_was(old), **refreshed):
                return _stale()
            if said.links and resources is not None:
                self._core.resources.replace(renewed.account_id, renewed.device_id, resources, new=False)
                self._core.observations.relisted(renewed)
            else:
                self._core.observations.presubscribe(renewed, anew=False)
            if self._somebody_listens(renewed.account_id):
                shown = as_listed(self._core.resources.list(renewed.device_id))
                self._core.channels.broadcast(renewed.account_id, {"reg-updates": [event_of(renewed, shown)]})
            self._moved(old, renewed)
            self._register.keep(renewed)
        await self._written()
        self._follow_up(renewed, full=False)
        return Message(code=codes.CHANGED)

    async def deregister(self, message: Message, peer: Address) -> Message:
        """Answer DELETE of a location: 2.02, or 4.04 if it is nobody's any more."""
        registration = self._located(message, peer)
        if registration is None:
            return _stale()
        if not self._end(registration, "update.device.device-deregistered", "de-registrations"):
            return _stale()
        self._core.metrics.count(registration.account_id, "deleted_registrations")
        await self._written()
        return Message(code=codes.DELETED)

    # -- inside ------------------------------------------------------------------------------------------

    def _learn(self, device: Row, links: list[Link]) -> None:
        """Take over what the directory shows of a device's own resources."""
        learnt = {name: value for name, value in facts_of(links).items() if device[name] != value}
        if learnt:
            self._core.directory.change(device["id"], **learnt)

    def _located(self, message: Message, peer: Address) -> Registration | None:
        """Return the registration that a path names, if it is the peer's: those of others are as if there were none."""
        _, account_id, device_id = message.opt.uri_path
        registration = self.find(device_id)
        if registration is None or registration.account_id != account_id:
            return None
        here = self._core.nodes.is_own(registration.node)
        if here and registration.peer == peer and registration.lost_at is None:
            return registration
        proof = self._core.credentials.proof(self._core.lwm2m, peer)
        if proof.kind == "none":
            # Who has proved nothing is believed of devices alone that have never proved anything either.
            insecure = not scheme_of(registration.peer).startswith("coaps")
            return registration if insecure and not self._core.credentials.secured(device_id) else None
        found = self._by_proof(proof)
        return registration if found is not None and found.device_id == device_id else None

    def _by_proof(self, proof: Proof) -> Registration | None:
        """Return the registration of the device that somebody has proved to be."""
        if proof.kind == "certificate" and proof.device_id is not None:
            found = self.find(proof.device_id)
            return found if found is not None and self._core.credentials.good(proof) else None
        if proof.kind == "psk":
            device = self._claims.of_shared_key(proof)
            return None if device is None else self.find(device["id"])
        if proof.kind == "factory":
            registered = (self.find(device["id"]) for device in self._claims.of_factory(proof))
            return next((each for each in registered if each is not None), None)
        return None

    def _somebody_listens(self, account_id: str) -> bool:
        return self._store.row(LISTENING, account=account_id) is not None

    def _follow_up(self, registration: Registration, *, full: bool) -> None:
        core = self._core
        core.metrics.count(registration.account_id, "full_registrations" if full else "registration_updates")
        core.delivery.moved(registration.device_id, registration.peer)
        core.observations.kick(registration.device_id)
        core.requests.kick(registration.device_id)
        core.campaigns.registered(registration, full=full)


def _stale() -> Message:
    return answer(codes.NOT_FOUND, "that registration is gone: register again")
