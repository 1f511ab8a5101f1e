"""A CA of the tests' own, for devices and servers: P-256, and whatever times and names a test wants."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import NameOID

Times = tuple[datetime.datetime, datetime.datetime]


def years(first: int, last: int) -> Times:
    return datetime.datetime(first, 1, 1, tzinfo=datetime.UTC), datetime.datetime(last, 12, 31, tzinfo=datetime.UTC)


ALWAYS = years(1970, 9999)
NAMES = {
    "CN": NameOID.COMMON_NAME,
    "L": NameOID.LOCALITY_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
}


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def key_der(key: ec.EllipticCurvePrivateKey, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.DER, form, NoEncryption())


@dataclass
class Authority:
    """One CA."""

    name: str = "Test CA"
    times: Times = ALWAYS
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        self.certificate = der(self.sign(self.key.public_key(), self._subject, self.times, ca=True))

    def sign(
        self, key: ec.EllipticCurvePublicKey, subject: x509.Name, times: Times = ALWAYS, *, ca: bool = False
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._subject).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(times[0]).not_valid_after(times[1])
        return builder.add_extension(x509.BasicConstraints(ca, None), True).sign(self.key, hashes.SHA256())

    def issue(self, times: Times = ALWAYS, **names: str) -> tuple[bytes, bytes]:
        """Return a certificate with CN=, L= and OU= as told, and its key; both DER."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NAMES[name], value) for name, value in names.items()])
        return der(self.sign(key.public_key(), subject, times)), key_der(key)


def write_pem(folder: Path, certificate: bytes, key: bytes, *more: bytes) -> tuple[Path, Path]:
    """Write what other programs read: the certificates, and the key."""
    chain = [x509.load_der_x509_certificate(each).public_bytes(Encoding.PEM) for each in (certificate, *more)]
    private = load_der_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(b"".join(chain))
    files[1].write_bytes(private)
    return files
