"""The lab's own CA, and what it signs: the service's servers, and its devices.

The keys lie in the service's database: it is for its owner only, a transaction leaves no half of them behind, and
whoever copies the folder has moved the CA with the devices that believe in it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pdmlab.coap.security import Security
from pdmlab.errors import ServiceError
from pdmlab.service import certificates
from pdmlab.service.certificates import Subject
from pdmlab.service.schema import device_certificates, own_certificates
from pdmlab.service.store import Row, Store

Role: TypeAlias = Literal["bootstrap", "lwm2m"]

AUTHORITY = "authority"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MAX_ADDRESSES = 16  # in a server's certificate: its flight has to fit the client's record buffer of 4096 B
_NEVER = certificates.NOT_AFTER.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, repr=False)
class _Own:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


class Pki:
    """The CA of a service, kept in its database; it is made when it is opened first.

    addresses   what the servers' certificates are for, besides loopback; clients that are not stock ones compare them
    """

    def __init__(self, store: Store, addresses: tuple[str, ...] = ()) -> None:
        self.addresses = addresses
        self._store = store

    def __repr__(self) -> str:
        return f"<Pki {self.name!r}, P-256>" if "_authority" in self.__dict__ else "<Pki>"

    def open(self) -> None:
        """Read the CA, or make it: in a transaction of its own, before anything is signed in another.

        Raises:
            ServiceError: what is kept cannot be used, or a new one cannot be kept (503).
        """
        _ = self._authority

    @property
    def name(self) -> str:
        """The CA's name, by which its certificates name their issuer."""
        return str(self._authority.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    @property
    def certificate(self) -> bytes:
        """The CA's certificate (DER), which devices and other clients are to trust."""
        return self._authority_der

    @cached_property
    def _authority_der(self) -> bytes:
        return self._authority.der  # each message asks for it

    @property
    def created_at(self) -> str:
        """When the CA was made, as rows carry times."""
        _ = self._authority
        return str(self._rows[AUTHORITY]["created_at"])

    @property
    def pem(self) -> bytes:
        """The same as PEM, as most programs take it."""
        return self._authority.certificate.public_bytes(serialization.Encoding.PEM)

    def server_certificate(self, role: Role) -> bytes:
        """Return the certificate (DER) that one of the two servers shows."""
        return self._server(role).der

    def security(self, role: Role) -> Security:
        """Return what one of the two servers proves itself with: clients need a certificate of the CA."""
        own = self._server(role)
        # The CA's certificate is not sent along: the client has it, and little room for more.
        return Security(
            certificates=(own.der,), private_key=certificates.key_der(own.key), trust=(self._authority.der,)
        )

    def https(self) -> tuple[bytes, bytes]:
        """Return the certificate and the key (DER) of the REST API by HTTPS, for all addresses that there are."""
        own = self._server("rest", None)
        return own.der, certificates.key_der(own.key)

    # -- what it signs -------------------------------------------------------------------------------------

    def developer_certificate(
        self, public_key: ec.EllipticCurvePublicKey, endpoint_name: str, account_id: str
    ) -> bytes:
        """Return the certificate (DER) that devices are built with, to bootstrap with it.

        Raises:
            Refused: the endpoint name does not fit into a certificate (400).
        """
        return self._signed(public_key, Subject(endpoint_name, account_id=account_id)).public_bytes(
            serialization.Encoding.DER
        )

    def device_certificate(
        self,
        public_key: ec.EllipticCurvePublicKey,
        endpoint_name: str,
        device_id: str,
        account_id: str,
        *,
        name: str = "LWM2M",
    ) -> bytes:
        """Return a certificate (DER) of a device of the directory, and note that it was signed.

        It registers with the one whose name is LWM2M.

        Raises:
            Refused: the endpoint name does not fit into a certificate (400).
            ServiceError: it cannot be noted (503).
        """
        signed = self._signed(public_key, Subject(endpoint_name, device_id, account_id))
        der = signed.public_bytes(serialization.Encoding.DER)
        with self._store.batch() as db:
            db.execute(
                sa.insert(device_certificates).values(
                    serial_number=f"{signed.serial_number:x}",
                    account_id=account_id,
                    device_id=device_id,
                    endpoint_name=endpoint_name,
                    certificate=der,
                    not_after=_NEVER,
                    name=name,
                    created_at=self._store.timestamp(),
                )
            )
        return der

    def sign(self, public_key: ec.EllipticCurvePublicKey, subject: Subject) -> bytes:
        """Return a certificate (DER) that names a subject; that it was signed is noted nowhere.

        Raises:
            Refused: the subject cannot be written (400).
        """
        return self._signed(public_key, subject).public_bytes(serialization.Encoding.DER)

    def _signed(self, public_key: ec.EllipticCurvePublicKey, subject: Subject) -> x509.Certificate:
        own = self._authority
        return certificates.client_certificate(own.certificate, own.key, public_key, subject)

    # -- its own -------------------------------------------------------------------------------------------

    @cached_property
    def _authority(self) -> _Own:
        kept = self._kept(AUTHORITY)
        if kept is None:
            key = certificates.new_key()
            kept = _Own(certificates.authority_certificate(key, f"pdmlab CA {secrets.token_hex(4)}"), key)
            self._keep(AUTHORITY, kept)
        return kept

    def _server(self, role: str, most: int | None = MAX_ADDRESSES) -> _Own:
        """Return a server's certificate and key; made anew when it is for other addresses, of which it has at most so
        many."""
        authority, kept = self._authority, self._kept(role)
        addresses = tuple(dict.fromkeys((*LOOPBACK, *self.addresses)))[:most]
        if kept is None or certificates.addresses_of(kept.certificate) != addresses:
            with self._store.alone():
                self.__dict__.pop("_rows", None)
                kept = self._kept(role)  # another process may just have made it
                key = certificates.new_key() if kept is None else kept.key
                signed = certificates.server_certificate(
                    authority.certificate, authority.key, key.public_key(), f"pdmlab {role} server", addresses
                )
                kept = _Own(signed, key)
                self._keep(role, kept)
        return kept

    @cached_property
    def _rows(self) -> dict[str, Row]:
        return {row["role"]: row for row in self._store.rows(sa.select(own_certificates))}

    def _kept(self, role: str) -> _Own | None:
        row = self._rows.get(role)
        if row is None:
            return None
        try:
            certificate = x509.load_der_x509_certificate(row["certificate"])
            key = serialization.load_der_private_key(row["private_key"], None)
            whole = isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == certificate.public_key()
        except ValueError as error:
            raise self._broken(role, str(error)) from error
        if not whole:
            raise self._broken(role, "certificate and key do not belong together")
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return _Own(certificate, key)

    def _broken(self, role: str, why: str) -> ServiceError:
        return ServiceError(
            f"the certificate {role!r} in {self._store!r} cannot be used: {why}",
            status=503,
            hint="put back a copy of the database; or move it away to start anew: devices then need new credentials",
        )

    def _keep(self, role: str, own: _Own) -> None:
        values = {
            "certificate": own.der,
            "private_key": certificates.key_der(own.key),
            "created_at": self._store.timestamp(),
        }
        with self._store.begin() as db:
            table = own_certificates
            if not db.execute(sa.update(table).where(table.c.role == role).values(values)).rowcount:
                db.execute(sa.insert(table).values(role=role, **values))
        self._rows[role] = {"role": role, **values}
