"""Trusted certificates: CAs of accounts, whose certificates devices come with, and developer certificates.

Whoever shakes hands reads them from the database: what is set here holds from the next handshake on, in every process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pdmlab.service.authority import Authority, key_of_name, name_of, read_authority, time_of
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import trusted_certificates as table
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core

MAX_AUTHORITIES = 100
"""CAs of an account."""
DEVELOPER = 1
"""The device execution mode of developer certificates."""


class TrustedCertificates:
    """Those of all accounts."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    def __repr__(self) -> str:
        return f"<TrustedCertificates in {self._store!r}>"

    def get(self, account_id: str, id: str) -> Row:
        """Return a row.

        Raises:
            Refused: the account has none of that id (404).
        """
        row = self._store.row(sa.select(table).where(table.c.account_id == account_id, table.c.id == id))
        if row is None:
            raise not_found("trusted certificate", id)
        return row

    def add(
        self,
        account_id: str,
        name: str,
        certificate: str,
        service: str,
        *,
        status: str = "ACTIVE",
        description: str = "",
        enrollment_mode: bool = False,
        signature: str | None = None,
        owner_id: str | None = None,
    ) -> Row:
        """Believe a CA (PEM) from now on; return the row.

        service: at which server its devices come, bootstrap or lwm2m; enrollment_mode: whether a device is the
        account's only if it is enrolled; the others as in `read_authority`.

        Raises:
            Refused: the certificate is of no use (400), the account has that name or subject already (409), or
                MAX_AUTHORITIES of them (403).
        """
        authority = self._read(account_id, certificate, signature, enrollment_mode)
        count = sa.select(sa.func.count()).where(table.c.account_id == account_id, table.c.device_execution_mode == 0)
        if self._store.scalar(count) >= MAX_AUTHORITIES:
            raise Refused(403, f"an account has at most {MAX_AUTHORITIES} CAs", type="account_limit_exceeded")
        said = said_of(authority.certificate)
        self._check_free(account_id, name, service, said["subject_key"])
        values: Row = {"service": service, "status": status, "description": description, "owner_id": owner_id}
        return self.keep(account_id, name, authority.pem, said, enrollment_mode=enrollment_mode, **values)

    def keep(self, account_id: str, name: str, pem: str, said: Row, **values: object) -> Row:
        """Insert a row; said: what `said_of` says of the certificate. Part of the open transaction, if there is one.

        Raises:
            Refused: the account has that name already (409).
        """
        at = self._store.timestamp()
        row: Row = {"id": self._store.ids.new(), "account_id": account_id, "name": name, "certificate": pem, **said}
        row |= {"created_at": at, "updated_at": at, **values}
        try:
            with self._store.begin() as db:
                db.execute(sa.insert(table).values(row))
        except sa.exc.IntegrityError as error:  # another process was faster
            raise _taken("name", name) from error
        return self.get(account_id, row["id"])

    def change(self, account_id: str, id: str, changes: Row, *, signature: str | None = None) -> Row:
        """Set name, description, status, service, enrollment_mode or certificate; return the row.

        A developer certificate keeps what it is: its name, description and status can be set.

        Raises:
            Refused: as `add` and `get`, and 400 for what cannot be set.
        """
        row = self.get(account_id, id)
        changes = {what: value for what, value in changes.items() if value is not None and value != row[what]}
        if "".join(changes.get("certificate", "-").split()) == "".join(row["certificate"].split()):
            del changes["certificate"]  # as it was, written otherwise
        if row["device_execution_mode"] == DEVELOPER:
            if fixed := changes.keys() - {"name", "description", "status"}:
                what = f"{', '.join(sorted(fixed))} of a developer certificate cannot be changed"
                raise Refused(400, what, type="validation_error", hint="make another one")
        elif changes.keys() & {"certificate", "service", "enrollment_mode"}:
            wanted: Row = {**row, **changes}
            # What was proved once is believed at another server, too.
            unproved = wanted["enrollment_mode"] or not (row["enrollment_mode"] or "certificate" in changes)
            authority = self._read(account_id, wanted["certificate"], signature, unproved)
            said = said_of(authority.certificate)
            self._check_free(account_id, "", wanted["service"], said["subject_key"], id)
            changes |= {"certificate": authority.pem, **said}
        if "name" in changes:
            self._check_free(account_id, changes["name"], "", "", id)
        if changes:
            mine = sa.update(table).where(table.c.account_id == account_id, table.c.id == id)
            at = self._store.timestamp()
            try:
                with self._store.begin() as db:
                    db.execute(mine.values(version=table.c.version + 1, updated_at=at, **changes))
            except sa.exc.IntegrityError as error:
                raise _taken("name", str(changes.get("name"))) from error
        return self.get(account_id, id)

    def remove(self, account_id: str, id: str) -> None:
        """Believe it no more; a developer certificate's key is forgotten with it.

        Raises:
            Refused: the account has none of that id (404).
        """
        with self._store.begin() as db:
            mine = sa.delete(table).where(table.c.account_id == account_id, table.c.id == id)
            if not db.execute(mine).rowcount:
                raise not_found("trusted certificate", id)

    def _read(self, account_id: str, pem: str, signature: str | None, unproved: bool) -> Authority:
        authority = read_authority(pem, account_id, self._core.now(), signature=signature, unproved=unproved)
        own = x509.load_der_x509_certificate(self._core.pki.certificate)
        if authority.certificate.public_key() == own.public_key():
            # It is believed already, and what it signs is for the accounts that it names.
            raise Refused(
                400, "that is this service's own CA: it is trusted for every account", type="validation_error"
            )
        return authority

    def _check_free(self, account_id: str, name: str, service: str, subject_key: str, but: str = "") -> None:
        mine = [table.c.account_id == account_id, table.c.id != but]
        if name and self._store.row(sa.select(table.c.id).where(*mine, table.c.name == name)) is not None:
            raise _taken("name", name)
        same = sa.select(table.c.subject).where(
            *mine, table.c.subject_key == subject_key, table.c.service == service, table.c.device_execution_mode == 0
        )
        if subject_key and (found := self._store.row(same)) is not None:
            raise _taken("subject", found["subject"])


def said_of(certificate: x509.Certificate) -> Row:
    """Return what a row says of its certificate."""
    return {
        "certificate_fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "subject": name_of(certificate.subject),
        "subject_key": key_of_name(certificate.subject),
        "issuer": name_of(certificate.issuer),
        "not_before": time_of(certificate.not_valid_before_utc),
        "not_after": time_of(certificate.not_valid_after_utc),
    }


def _taken(what: str, value: str) -> Refused:
    return Refused(409, f"the account has a certificate of the {what} {value[:100]} already", type="duplicate")
