"""Developer credentials: a certificate and a key that a firmware is built with, to bootstrap here.

The vendor's API gives the private key again to whoever asks with the account's key; so it has to be kept, in the
database, which is for the service's owner only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pdmlab.service import certificates
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import developer_certificates
from pdmlab.service.store import Row
from pdmlab.update.credentials import Credentials

if TYPE_CHECKING:
    from pdmlab.service.core import Core

MAX_CERTIFICATES = 10_000  # of an account: a fleet of virtual boards has one each


class Developers:
    """The developer certificates of all accounts."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    def add(
        self,
        account_id: str,
        name: str,
        *,
        description: str = "",
        endpoint_name: str | None = None,
    ) -> Row:
        """Make a certificate and its key; without an endpoint name, the new id is it. Return the row.

        Raises:
            Refused: the account has that name already (409) or MAX_CERTIFICATES of them (403), or the endpoint
                name does not fit into a certificate (400).
        """
        c = developer_certificates.c
        mine = c.account_id == account_id
        if self._store.scalar(sa.select(c.id).where(mine, c.name == name)) is not None:
            raise Refused(409, f"there is a developer certificate {name} already")
        count = sa.select(sa.func.count()).select_from(developer_certificates).where(mine)
        if self._store.scalar(count) >= MAX_CERTIFICATES:
            raise Refused(403, f"an account has at most {MAX_CERTIFICATES} of them", type="account_limit_exceeded")
        id, at = self._store.ids.new(), self._store.timestamp()
        row = {
            "id": id,
            "account_id": account_id,
            "name": name,
            "description": description,
            "endpoint_name": endpoint_name or id,
            "created_at": at,
            "updated_at": at,
        }
        row |= self._certified(row)
        with self._store.begin() as db:
            db.execute(sa.insert(developer_certificates).values(row))
        return row

    def get(self, account_id: str, id: str) -> Row:
        """Return a row; one that was made before the service had a CA is given its certificate now.

        Raises:
            Refused: the account has none of that id (404).
        """
        c = developer_certificates.c
        row = self._store.row(sa.select(developer_certificates).where(c.account_id == account_id, c.id == id))
        if row is None:
            raise not_found("developer certificate", id)
        if row["certificate"] is None:
            made = self._certified(row)
            with self._store.begin() as db:
                db.execute(sa.update(developer_certificates).where(c.id == id).values(made))
            row |= made
        return row

    def of_endpoint(self, account_id: str, endpoint_name: str) -> Row:
        """Return the row of an endpoint name; made if there is none. Raises as `add` does."""
        c = developer_certificates.c
        mine = sa.select(c.id).where(c.account_id == account_id, c.endpoint_name == endpoint_name)
        if (id := self._store.scalar(mine)) is None:
            return self.add(account_id, f"endpoint {endpoint_name}", endpoint_name=endpoint_name)
        return self.get(account_id, str(id))

    def credentials(self, row: Row, *, secure: bool | None = None) -> Credentials:
        """Return what a firmware compiles in; without security, the same name and no certificate.

        secure: None for security if the service has it.

        Raises:
            ServiceError: the service is not reached so (503).
        """
        uri = self._core.uri("bootstrap", secure=secure, account_id=row["account_id"])
        if not uri.startswith("coaps:"):
            return Credentials(row["endpoint_name"], uri, row["account_id"])
        key = serialization.load_pem_private_key(row["private_key"].encode(), None)
        return Credentials(
            row["endpoint_name"],
            uri,
            row["account_id"],
            bootstrap_device_certificate=x509.load_pem_x509_certificate(row["certificate"].encode()).public_bytes(
                serialization.Encoding.DER
            ),
            bootstrap_server_root_ca_certificate=self._core.pki.certificate,
            bootstrap_device_private_key=key.private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )

    def _certified(self, row: Row) -> Row:
        key = certificates.new_key()
        der = self._core.pki.developer_certificate(key.public_key(), row["endpoint_name"], row["account_id"])
        pem = serialization.Encoding.PEM
        return {
            "certificate": x509.load_der_x509_certificate(der).public_bytes(pem).decode(),
            "private_key": key.private_bytes(
                pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
        }
