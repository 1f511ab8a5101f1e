"""Who a device may be that bootstraps or registers: of which account, and which of its devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import sqlalchemy as sa
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.transport import Address, text_of
from pdmlab.service.factory import Claim
from pdmlab.service.proof import Proof
from pdmlab.service.registering import Wish, answer
from pdmlab.service.schema import bootstrap_endpoints as table
from pdmlab.service.schema import devices
from pdmlab.service.store import Row, Rows

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_LOOKED_AT = 50  # unfinished attempts of one certificate
_FINGERPRINT = sa.select(table.c.fingerprint).where(table.c.device_id == sa.bindparam("device"))


class BootstrapClaims:
    """Decides at bootstrap; `busy(device id, peer)` says whether somebody else is being told that it is a device."""

    def __init__(self, core: Core, busy: Callable[[str, Address], bool]) -> None:
        self._core = core
        self._store = core.store
        self._busy = busy

    def account(self, query: Mapping[str, str], name: str, proof: Proof) -> str | Claim | Message:
        """Return the account that a device belongs to, or what to answer: the one of its certificate, or of its key."""
        core = self._core
        asked = query.get("aid")
        if proof.kind == "factory":
            return core.factory.claim("bootstrap", name, asked, proof)
        if proof.kind == "psk":
            return shared_key_account(core, name, asked, proof)
        if proof.fault:
            return answer(codes.FORBIDDEN, f"the certificate names nobody: {proof.fault}")
        if proof.kind == "certificate":
            if proof.account_id is None:
                return answer(codes.FORBIDDEN, "the certificate names no account (OU)")
            if asked is not None and asked != proof.account_id:
                return answer(codes.FORBIDDEN, f"aid={asked[:64]} is not the account of the certificate")
            if name != proof.endpoint_name:
                return answer(codes.BAD_REQUEST, f"ep={name} is not the name in the certificate")
            if proof.device_id is None and (fault := core.belief.developer_fault(proof.fingerprint)) is not None:
                return answer(codes.FORBIDDEN, fault)
        account_id = proof.account_id or asked or core.account_id
        if not core.knows_account(account_id):
            return answer(codes.BAD_REQUEST, f"there is no account {account_id[:64]}")
        return account_id

    def of_factory(self, claim: Claim, device_id: str | None, proof: Proof) -> Row | Message:
        """Return the device that a factory's certificate is of; device_id is the one that it says it has."""
        device = self._core.factory.device(claim, proof, "cloud_enrolling")
        if isinstance(device, Message) or device_id in (None, device["id"]):
            return device
        if self._core.directory.find(device_id) is None:
            return device  # deleted from the directory: it is another device from now on
        return answer(codes.FORBIDDEN, f"the device {device_id[:64]} has another certificate")

    def of_shared_key(self, account_id: str, name: str, device_id: str | None) -> Row | Message:
        """Return the device that a pre-shared key is of; device_id is the one that it says it has."""
        directory = self._core.directory
        named = directory.identity_named(account_id, name)
        if named is None and (full := directory.full(account_id)) is not None:
            return answer(codes.SERVICE_UNAVAILABLE, full)
        device = None if named is None else directory.find(named["id"], account_id)
        device = device or directory.add(account_id, endpoint_name=name, state="cloud_enrolling")
        if device_id not in (None, device["id"]) and directory.find(device_id) is not None:
            return answer(codes.FORBIDDEN, f"the device {device_id[:64]} has not this pre-shared key")
        return device

    def device(
        self, account_id: str, name: str, device_id: str | None, proof: Proof, peer: Address, mine: Row | None
    ) -> Row | Message:
        """Return the device that a peer is, made if need be, or what to answer.

        device_id is the one that it says it has; mine is what it is being told already, on the same connection.
        """
        directory = self._core.directory
        if proof.device_id is not None:
            if device_id not in (None, proof.device_id) or not self._core.credentials.good(proof):
                return answer(codes.FORBIDDEN, "the certificate is not that device's, or a newer one took its place")
            device_id = proof.device_id
        if device_id is not None:
            known = directory.find(device_id)
            if known is not None:
                fault = self._fault(known, account_id, proof)
                return known if fault is None else answer(codes.FORBIDDEN, fault)
            # Deleted from the directory: it is another device from now on.
        if mine is not None:
            return mine
        if (tried := self._tried(account_id, name, proof, peer)) is not None:
            # Whoever it was, and whatever it was told: it has not come through, and gets all of it anew.
            self._core.credentials.withdraw(tried["id"])
            return tried
        full = directory.full(account_id)
        if full is not None:
            return answer(codes.SERVICE_UNAVAILABLE, full)
        return directory.add(account_id, endpoint_name=name, state="cloud_enrolling")

    def _fault(self, device: Row, account_id: str, proof: Proof) -> str | None:
        """Say why a peer is not the device whose id it brings; None if it is."""
        device_id = device["id"]
        if device["account_id"] != account_id:
            return f"the device {device_id} is not of this account"
        if proof.device_id is not None:
            return None
        with_what = self._store.scalar(_FINGERPRINT, device=device_id)
        if with_what is not None and with_what != proof.fingerprint:
            return f"the device {device_id} has another certificate"
        if with_what is None and proof.kind == "none" and self._core.credentials.secured(device_id):
            return f"the device {device_id} has a certificate"
        return None

    def _tried(self, account_id: str, name: str, proof: Proof, peer: Address) -> Row | None:
        """Return the device that this peer was told to be, and has not become.

        One certificate is in many boards, and each try may come from another port. So it takes whichever came from
        this host, never came through, and is nobody else's just now. Without a certificate the port counts too.
        """
        same = table.c.fingerprint == proof.fingerprint if proof.fingerprint else table.c.fingerprint.is_(None)
        rows = self._store.rows(
            sa.select(table.c.device_id, table.c.address)
            .join(devices, devices.c.id == table.c.device_id)
            .where(
                table.c.account_id == account_id,
                table.c.endpoint_name == name,
                table.c.state != "finished",
                devices.c.state == "cloud_enrolling",
                same,
            )
            .order_by(table.c.device_id.desc())
            .limit(_LOOKED_AT)
        )
        here = text_of(peer)
        for row in rows:
            alike = row["address"] == here or (proof.fingerprint and _host(row["address"]) == _host(here))
            if alike and not self._busy(row["device_id"], peer):
                return self._core.directory.find(row["device_id"], account_id)
        return None


class RegistrationClaims:
    """Decides at registration."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def device(self, wish: Wish, proof: Proof) -> Row | Message:
        """Return the device that registers, or what to answer.

        With a certificate it is the one that the certificate names; with a pre-shared key the one of the key's name.
        Who proves nothing is the device whose id it brings, else the one of its name, else a new one; but no device
        that has ever had anything to prove.
        """
        if proof.kind == "certificate":
            return self._certified(wish, proof)
        if proof.kind == "psk":
            return self._shared(wish, proof)
        if proof.kind == "factory":
            return self._factory(wish, proof)
        core, directory = self._core, self._core.directory
        account_id = wish.account_id or core.account_id
        if not core.knows_account(account_id):
            return answer(codes.BAD_REQUEST, f"there is no account {account_id}")
        if wish.device_id is not None:
            device = directory.identity(wish.device_id)
            if device is None or device["account_id"] != account_id:
                # Not 4.04: on 4.03 the stock client drops what it was told and bootstraps anew.
                return answer(codes.FORBIDDEN, f"there is no device {wish.device_id}: bootstrap again")
            if core.credentials.secured(wish.device_id):
                return answer(codes.FORBIDDEN, f"the device {wish.device_id} has a certificate: use it, over coaps")
            name = device["endpoint_name"] or ""
        else:
            device, name = None, wish.endpoint_name
        if core.credentials.account_of(name) == account_id:
            return answer(codes.FORBIDDEN, f"the endpoint {name} has a pre-shared key: use it, over coaps")
        return device or self._named(account_id, wish)

    def of_shared_key(self, proof: Proof) -> Row | None:
        """Return the device of a pre-shared key; None if it has never registered, or the key is known no more."""
        account_id = self._core.credentials.account_of(proof.endpoint_name)
        if account_id is None:
            return None
        return self._core.directory.identity_named(account_id, proof.endpoint_name)

    def of_factory(self, proof: Proof) -> Rows:
        """Return the devices of a factory's certificate, in each account that trusts its CA still."""
        leading = self._core.belief.authorities("lwm2m", proof.certificates)
        known = (self._core.factory.known(trusted["account_id"], proof) for trusted in leading)
        return [device for device in known if device is not None]

    def _factory(self, wish: Wish, proof: Proof) -> Row | Message:
        claim = self._core.factory.claim("lwm2m", wish.endpoint_name, wish.account_id, proof)
        if isinstance(claim, Message):
            return claim
        device = self._core.factory.device(claim, proof, "bootstrapped")
        if isinstance(device, Message) or wish.device_id in (None, device["id"]):
            return device
        return answer(codes.FORBIDDEN, f"iep={wish.device_id[:64]} is not the device of the certificate")

    def _certified(self, wish: Wish, proof: Proof) -> Row | Message:
        core = self._core
        if proof.fault or proof.device_id is None:
            why = proof.fault or "it has no L"
            return answer(codes.FORBIDDEN, f"the certificate names no device: {why}; bootstrap first")
        device = core.directory.identity(proof.device_id)
        if device is None or device["account_id"] != proof.account_id:
            return answer(codes.FORBIDDEN, f"there is no device {proof.device_id}: bootstrap again")
        if wish.account_id not in (None, proof.account_id):
            return answer(codes.BAD_REQUEST, f"the certificate is not of the account {wish.account_id}")
        if wish.endpoint_name != proof.endpoint_name:
            return answer(codes.BAD_REQUEST, f"ep={wish.endpoint_name} is not the name in the certificate")
        if wish.device_id not in (None, proof.device_id):
            return answer(codes.FORBIDDEN, f"iep={wish.device_id} is not the device of the certificate")
        if not core.credentials.good(proof):
            return answer(codes.FORBIDDEN, "another certificate has taken the place of this one: bootstrap again")
        return device

    def _shared(self, wish: Wish, proof: Proof) -> Row | Message:
        account_id = shared_key_account(self._core, wish.endpoint_name, wish.account_id, proof)
        if isinstance(account_id, Message):
            return account_id
        device = self._named(account_id, wish)
        if isinstance(device, Message):
            return device
        if wish.device_id not in (None, device["id"]):
            return answer(codes.FORBIDDEN, f"iep={wish.device_id} is not the device of the pre-shared key")
        return device

    def _named(self, account_id: str, wish: Wish) -> Row | Message:
        directory = self._core.directory
        device = directory.identity_named(account_id, wish.endpoint_name)
        if device is None and (full := directory.full(account_id)) is not None:
            # Not 4.00 or 4.03: on those the stock client drops what it was told; so it registers again, later.
            return answer(codes.SERVICE_UNAVAILABLE, full)
        return device or directory.add(account_id, endpoint_name=wish.endpoint_name, endpoint_type=wish.endpoint_type)


def shared_key_account(core: Core, name: str, asked: str | None, proof: Proof) -> str | Message:
    """Return whose a pre-shared key is, or what to answer; asked: the account that the device says, None for none."""
    account_id = core.credentials.account_of(proof.endpoint_name)
    if account_id is None:
        return answer(codes.FORBIDDEN, f"the key of {proof.endpoint_name} was withdrawn")
    if name != proof.endpoint_name:
        return answer(codes.BAD_REQUEST, f"ep={name} is not the identity of the pre-shared key")
    if asked not in (None, account_id):
        return answer(codes.BAD_REQUEST, f"the pre-shared key is not of the account {(asked or '')[:64]}")
    return account_id


def _host(address: str) -> str:
    return address.rpartition("://")[2].rpartition(":")[0]
