"""Enrollment: which device of a factory is whose, and which devices were not let in.

An enrollment identity is "A-" and the SHA-256 of the certificate that a device bootstraps with, in hex with colons, as
the vendor has it ("Ownership claiming configuration", Izuma Device Management Factory Provisioning 1.3): the letter
is the version, and behind it stands what a device's device_key is as well. Whoever knows it may claim the device.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.service.ids import timestamp
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import device_enrollments as table
from pdmlab.service.schema import enrollment_denials as denials
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Rows

if TYPE_CHECKING:
    from pdmlab.service.core import Core

KEPT_S = 365 * 86_400.0
"""How long an enrollment waits for its device; the vendor says that it ends, not when."""
MAX_DENIALS = 10_000
"""Denials of an account that are kept, about."""
ROOM_EVERY = 1_000
PAUSE_S = 60.0
"""Between two denials of one device, and between two looks for enrollments whose time is up."""
_MOST_HELD = 10_000  # devices whose latest denial is remembered

_IDENTITY = re.compile(r"A-((?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2})")
_OF = Statement(sa.select(table).where(table.c.fingerprint == sa.bindparam("fingerprint")))


def fingerprint_of(identity: str) -> str | None:
    """Return the SHA-256 that an enrollment identity has, as 64 hex digits; None if it is none."""
    match = _IDENTITY.fullmatch(identity)
    return None if match is None else match[1].replace(":", "").lower()


def identity_of(certificate: bytes) -> str:
    """Return the enrollment identity of a device, by the certificate (DER) that it bootstraps with."""
    return f"A-{colons(hashlib.sha256(certificate).hexdigest())}"


def colons(digest: str) -> str:
    """Write hex digits as bytes with colons, as certificates' fingerprints are written."""
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2)).upper()


class Enrollments:
    """The enrollments of all accounts: a device has one at most, in one account."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._looked = -PAUSE_S
        self._denied: dict[tuple[str, str], float] = {}
        self._noted: dict[str, int] = {}

    def find(self, account_id: str, id: str) -> Row:
        """Return an enrollment's row.

        Raises:
            Refused: the account has no such enrollment (404).
        """
        row = self._store.row(sa.select(table).where(table.c.account_id == account_id, table.c.id == id))
        if row is None or self._over(row):
            raise not_found("enrollment", id)
        return row

    def of(self, fingerprint: str) -> Row | None:
        """Return the enrollment of a device, in whichever account, by its certificate's SHA-256 (hex)."""
        row = self._store.row(_OF, fingerprint=fingerprint)
        return None if row is None or self._over(row) else row

    def add(self, account_id: str, identity: str) -> Row:
        """Enroll a device: it comes into the account when it bootstraps.

        Raises:
            Refused: it is no enrollment identity (400), or one that an account has already (409): this or another.
        """
        fingerprint = fingerprint_of(identity)
        if fingerprint is None:
            raise Refused(
                400,
                f"{identity[:100]!r} is no enrollment identity",
                type="validation_error",
                hint="A- and the SHA-256 of the device's bootstrap certificate: 32 bytes in hex with colons",
            )
        self.expire()
        (row,) = self.rows(account_id, {fingerprint: identity})
        try:
            with self._store.begin() as db:
                if self.of(fingerprint) is None:
                    db.execute(sa.delete(table).where(table.c.fingerprint == fingerprint))  # its time is up
                    db.execute(sa.insert(table).values(row))
                    return self.find(account_id, row["id"])
        except sa.exc.IntegrityError:
            pass  # another process was quicker
        raise Refused(409, "the enrollment identity is claimed already", type="duplicate")

    def rows(self, account_id: str, identities: Mapping[str, str]) -> Rows:
        """Return the rows of new enrollments; identities: as they were written, by their fingerprints."""
        at, ids = self._store.timestamp(), self._store.ids
        same = {"account_id": account_id, "created_at": at, "updated_at": at}
        same["expires_at"] = timestamp(self._store.now() + KEPT_S)
        return [
            {"id": ids.new(), "fingerprint": fingerprint, "enrollment_identity": identity, **same}
            for fingerprint, identity in identities.items()
        ]

    def remove(self, account_id: str, id: str) -> None:
        """Delete an enrollment: its device leaves the account, and is let in again by whoever enrolls it next.

        Raises:
            Refused: the account has no such enrollment (404).
        """
        with self._store.begin():
            self.let_go(self.find(account_id, id))

    def let_go(self, row: Row) -> None:
        """Delete an enrollment and its device, as part of the open transaction."""
        with self._store.begin() as db:
            db.execute(sa.delete(table).where(table.c.id == row["id"]))
            if row["enrolled_device_id"] is not None:
                self._core.directory.remove(row["account_id"], row["enrolled_device_id"])

    def claimed(self, row: Row, device_id: str) -> str:
        """Note which device an enrollment has brought; return it: another process may have been quicker."""
        mine, none = table.c.id == row["id"], table.c.enrolled_device_id.is_(None)
        at = self._store.timestamp()
        with self._store.batch() as db:
            taken = db.execute(
                sa.update(table)
                .where(mine, none)
                .values(enrolled_device_id=device_id, claimed_at=row["claimed_at"] or at, updated_at=at)
            ).rowcount
            if not taken:
                return str(db.scalar(sa.select(table.c.enrolled_device_id).where(mine)) or device_id)
            self._core.directory.change(device_id, enrolment_list_timestamp=at)
            self._core.directory.event(
                row["account_id"],
                device_id,
                "update.device.device-enrolled",
                description="The device came into the account that has enrolled it",
                data={"enrollment_id": row["id"]},
            )
        return device_id

    def denied(self, endpoint_name: str, trusted: Sequence[Row], why: str) -> None:
        """Note that a device was not let in, for each account whose CA (its id and account_id) has signed for it."""
        now = self._store.now()
        if len(self._denied) > _MOST_HELD:
            self._denied.clear()
        for each in trusted:
            whom = each["id"], endpoint_name
            if now - self._denied.get(whom, -PAUSE_S) < PAUSE_S:
                continue
            self._denied[whom] = now
            row = {
                "id": self._store.ids.new(),
                "account_id": each["account_id"],
                "trusted_certificate_id": each["id"],
                "endpoint_name": endpoint_name,
                "created_at": self._store.timestamp(),
            }
            with self._store.batch() as db:
                db.execute(sa.insert(denials).values(row))
                self._make_room(db, each["account_id"])
                self._core.directory.event(
                    each["account_id"],
                    "",  # of no device: there is none
                    "update.device.enrollment-denied",
                    description=f"{endpoint_name} was not let in: {why}",
                    data={"trusted_certificate_id": each["id"], "endpoint_name": endpoint_name},
                )

    def denial(self, account_id: str, id: str) -> Row:
        """Return the row of a denial.

        Raises:
            Refused: the account has no such denial (404).
        """
        row = self._store.row(sa.select(denials).where(denials.c.account_id == account_id, denials.c.id == id))
        if row is None:
            raise not_found("enrollment denial", id)
        return row

    def expire(self) -> None:
        """Delete enrollments whose time is up, now and then."""
        now = self._store.now()
        if now - self._looked < PAUSE_S:
            return
        self._looked = now
        with self._store.begin() as db:
            db.execute(sa.delete(table).where(table.c.claimed_at.is_(None), table.c.expires_at <= timestamp(now)))

    def _over(self, row: Row) -> bool:
        return row["claimed_at"] is None and row["expires_at"] <= self._store.timestamp()

    def _make_room(self, db: sa.Connection, account_id: str) -> None:
        noted = self._noted[account_id] = self._noted.get(account_id, 0) + 1
        if noted < ROOM_EVERY:
            return
        del self._noted[account_id]
        mine = denials.c.account_id == account_id
        last = db.scalar(sa.select(denials.c.id).where(mine).order_by(denials.c.id.desc()).offset(MAX_DENIALS).limit(1))
        if last is not None:
            db.execute(sa.delete(denials).where(mine, denials.c.id <= last))
