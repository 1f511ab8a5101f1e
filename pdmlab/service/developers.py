"""Developer credentials: a certificate and a key that a firmware is built with, to bootstrap here.

The certificate stands among the trusted ones, by the same id: INACTIVE or deleted there, it opens nothing any more. The
vendor's API gives the private key again to whoever asks with the account's key; so it has to be kept, in the database,
which is for the service's owner only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pdmlab.service import certificates
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import developer_keys, trusted_certificates
from pdmlab.service.store import Row
from pdmlab.service.trusted import DEVELOPER, said_of
from pdmlab.update.credentials import Credentials

if TYPE_CHECKING:
    from pdmlab.service.core import Core

MAX_CERTIFICATES = 10_000  # of an account: a fleet of virtual boards has one each

_ROW = sa.select(trusted_certificates, developer_keys.c.endpoint_name, developer_keys.c.private_key).join(
    developer_keys, developer_keys.c.id == trusted_certificates.c.id
)


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
        owner_id: str | None = None,
    ) -> Row:
        """Make a certificate and its key; without an endpoint name, the new id is it. Return the row.

        Raises:
            Refused: the account has that name already (409) or MAX_CERTIFICATES of them (403), or the endpoint
                name does not fit into a certificate (400).
        """
        count = sa.select(sa.func.count()).where(developer_keys.c.account_id == account_id)
        if self._store.scalar(count) >= MAX_CERTIFICATES:
            raise Refused(403, f"an account has at most {MAX_CERTIFICATES} of them", type="account_limit_exceeded")
        id = self._store.ids.new()
        certificate, key, said = self._certified(account_id, endpoint_name or id)
        values = {"id": id, "description": description, "service": "bootstrap", "owner_id": owner_id}
        with self._store.begin() as db:
            row = self._core.trusted.keep(
                account_id, name, certificate, said, device_execution_mode=DEVELOPER, **values
            )
            kept = {"endpoint_name": endpoint_name or id, "private_key": key}
            db.execute(sa.insert(developer_keys).values(id=id, account_id=account_id, **kept))
        return row | kept

    def get(self, account_id: str, id: str) -> Row:
        """Return a row; one that was made before the service had a CA is given its certificate now.

        Raises:
            Refused: the account has none of that id (404).
        """
        row = self._store.row(_ROW.where(developer_keys.c.account_id == account_id, developer_keys.c.id == id))
        if row is None:
            raise not_found("developer certificate", id)
        if not row["certificate"]:
            certificate, key, said = self._certified(account_id, row["endpoint_name"])
            with self._store.begin() as db:
                trusted = trusted_certificates
                db.execute(sa.update(trusted).where(trusted.c.id == id).values(certificate=certificate, **said))
                db.execute(sa.update(developer_keys).where(developer_keys.c.id == id).values(private_key=key))
            row |= {"certificate": certificate, "private_key": key, **said}
        return row

    def of_endpoint(self, account_id: str, endpoint_name: str) -> Row:
        """Return the row of an endpoint name; made if there is none that may be used. Raises as `add` does."""
        mine = developer_keys.c.account_id == account_id, developer_keys.c.endpoint_name == endpoint_name
        found = self._store.row(
            _ROW.where(*mine, trusted_certificates.c.status == "ACTIVE").order_by(developer_keys.c.id)
        )
        if found is not None:
            return self.get(account_id, found["id"])
        name = f"endpoint {endpoint_name}"
        taken = sa.select(trusted_certificates.c.id).where(
            trusted_certificates.c.account_id == account_id, trusted_certificates.c.name == name
        )
        if self._store.scalar(taken) is not None:  # of one that is INACTIVE
            name += f" {self._store.ids.new()[-20:]}"
        return self.add(account_id, name, endpoint_name=endpoint_name)

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

    def _certified(self, account_id: str, endpoint_name: str) -> tuple[str, str, Row]:
        """Return a new certificate and its key (PEM), and what rows say of the certificate."""
        key = certificates.new_key()
        der = self._core.pki.developer_certificate(key.public_key(), endpoint_name, account_id)
        certificate = x509.load_der_x509_certificate(der)
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return certificate.public_bytes(pem).decode(), private.decode(), said_of(certificate)
