"""Certificates for tests: a CA on P-256, and what it signs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pdmlab.coap.security import Security

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


class Authority:
    """A CA with a certificate signed by itself."""

    def __init__(self, name: str = "Test CA") -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._number = 0
        self.certificate = self._sign(self.name, self.key.public_key(), ALWAYS, ca=True)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, valid: tuple[datetime, datetime], *, ca: bool = False
    ) -> x509.Certificate:
        self._number += 1
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(self._number)
            .not_valid_before(valid[0])
            .not_valid_after(valid[1])
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, name: str, valid: tuple[datetime, datetime] = ALWAYS) -> tuple[bytes, bytes]:
        """Return a certificate with this common name, and its key in PKCS#8; both DER."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), valid).public_bytes(Encoding.DER)
        return certificate, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def security(self, name: str, valid: tuple[datetime, datetime] = ALWAYS) -> Security:
        """Return the security of one end that has a certificate of this CA and trusts this CA."""
        certificate, key = self.issue(name, valid)
        return Security((certificate,), key, trust=(self.der,))

    def write(self, folder: Path, name: str) -> tuple[Path, Path, Path]:
        """Write a certificate, its key and the CA's certificate as PEM, for other programs."""
        from cryptography.hazmat.primitives.serialization import load_der_private_key

        der, key = self.issue(name)
        paths = folder / f"{name}.crt", folder / f"{name}.key", folder / f"{name}-ca.crt"
        paths[0].write_bytes(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM))
        private = load_der_private_key(key, None)
        paths[1].write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        paths[2].write_bytes(self.certificate.public_bytes(Encoding.PEM))
        return paths
