"""What devices prove themselves with: certificates that this service has signed, and keys that were agreed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.capture import Who
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, Identity
from pdmlab.service.proof import Proof, proof_of
from pdmlab.service.schema import device_certificates as table
from pdmlab.service.schema import shared_keys
from pdmlab.service.statements import Statement
from pdmlab.service.store import Rows

if TYPE_CHECKING:
    from pdmlab.service.core import Core

LWM2M = "LWM2M"
"""The certificate that a device registers with, by the client's own name for it."""

KEPT = 16
"""Certificates of a device that are remembered: it may ask for as many as it likes."""

_DEVICE = table.c.device_id == sa.bindparam("device")
_THIS = table.c.serial_number == sa.bindparam("serial")
_GOOD = Statement(sa.select(table.c.device_id).where(_THIS, table.c.name == LWM2M, table.c.replaced_at.is_(None)))
_ANY = Statement(sa.select(table.c.serial_number).where(_DEVICE, table.c.name == LWM2M).limit(1))
_OTHERS = Statement(
    sa.update(table)
    .where(
        _DEVICE,
        table.c.serial_number != sa.bindparam("serial"),
        table.c.name == LWM2M,
        table.c.replaced_at.is_(None),
        table.c.created_at <= sa.select(table.c.created_at).where(_THIS).scalar_subquery(),
    )
    .values(replaced_at=sa.bindparam("at"))
)
_ALL = Statement(
    sa.update(table)
    .where(_DEVICE, table.c.name == LWM2M, table.c.replaced_at.is_(None))
    .values(replaced_at=sa.bindparam("at"))
)
_ACCOUNT = Statement(sa.select(shared_keys.c.account_id).where(shared_keys.c.identity == sa.bindparam("identity")))


class Credentials:
    """Which proofs are good."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    def proof(self, endpoint: Endpoint, peer: Address) -> Proof:
        """Return what a peer of an endpoint has proved."""
        return proof_of(endpoint.identity(peer), self._core.pki.certificate)

    def who(self, identity: Identity) -> Who:
        """Return whom an identity names, for the log: the id of a device only by this service's own word for it."""
        proof = proof_of(identity, self._core.pki.certificate)
        return Who(proof.device_id or "", proof.endpoint_name)

    def good(self, proof: Proof) -> bool:
        """Whether a device may still register with a certificate: no newer one has taken its place."""
        return bool(self._store.scalar(_GOOD, serial=proof.serial_number) == proof.device_id)

    def secured(self, device_id: str) -> bool:
        """Whether a device has certificates, so that nobody is that device who has none."""
        return self._store.row(_ANY, device=device_id) is not None

    def account_of(self, identity: str) -> str | None:
        """Return whose a pre-shared key is; None if there is none of that identity."""
        found: str | None = self._store.scalar(_ACCOUNT, identity=identity)
        return found

    def of_device(self, device_id: str) -> Rows:
        """Return the certificates that were signed for a device, the oldest first."""
        return self._store.rows(sa.select(table).where(table.c.device_id == device_id).order_by(table.c.created_at))

    def used(self, proof: Proof) -> None:
        """Note that a device has registered with a certificate: older ones are good no more."""
        with self._store.batch() as db:
            _OTHERS.run(db, device=proof.device_id, serial=proof.serial_number, at=self._store.timestamp())

    def prune(self, device_id: str, in_use: str = "") -> None:
        """Forget certificates of a device that are old news: all but the latest, and the one with a serial number."""
        latest = self._store.rows(
            sa.select(table.c.serial_number)
            .where(table.c.device_id == device_id)
            .order_by(table.c.created_at.desc(), table.c.serial_number)
            .limit(KEPT)
        )
        keep = [row["serial_number"] for row in latest]
        if len(keep) < KEPT:
            return
        with self._store.batch() as db:
            db.execute(
                sa.delete(table).where(table.c.device_id == device_id, table.c.serial_number.not_in([*keep, in_use]))
            )

    def withdraw(self, device_id: str) -> None:
        """Let none of the certificates of a device be good any more."""
        with self._store.batch() as db:
            _ALL.run(db, device=device_id, at=self._store.timestamp())
