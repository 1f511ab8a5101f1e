"""The certificates of a device: whom they name, requests for them, and chains as the enrolment server sends them."""

from __future__ import annotations

import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from cryptography.x509.oid import NameOID

from pdmlab.errors import ConfigError

LONGEST_FIELD = 64
"""Characters that a name in a subject may have (RFC 5280, upper bounds)."""
CHAIN_VERSION = 1


def fields(certificate: bytes) -> tuple[str | None, str | None]:
    """Return a certificate's common name and its locality, which are the endpoint name and the device id.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        subject = x509.load_der_x509_certificate(certificate).subject
        return _field(subject, NameOID.COMMON_NAME), _field(subject, NameOID.LOCALITY_NAME)
    except ValueError as error:
        raise ConfigError(
            f"a certificate of {len(certificate)} B cannot be read: {error}", hint="X.509, DER"
        ) from error


def _field(subject: x509.Name, oid: x509.ObjectIdentifier) -> str | None:
    found = subject.get_attributes_for_oid(oid)
    value = found[0].value if found else None
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_FIELD else None


def belong_together(certificate: bytes, private_key: bytes) -> bool:
    """Whether a certificate is for that key (PKCS#8 or SEC1, DER)."""
    try:
        key = load_der_private_key(private_key, None)
        public = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, TypeError):
        return False
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key().public_bytes(*form) == public.public_bytes(
        *form
    )


def make_key() -> bytes:
    """Make a P-256 key and return it (PKCS#8, DER). It is real randomness: what it opens is real."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def request(private_key: bytes, endpoint_name: str, device_id: str, account_id: str) -> bytes:
    """Return the request for a certificate (PKCS#10, DER): subject L=device id, OU=account, CN=endpoint name.

    Raises:
        ConfigError: a name is empty, or has more than 64 characters.
    """
    try:
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.LOCALITY_NAME, device_id),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, account_id),
                x509.NameAttribute(NameOID.COMMON_NAME, endpoint_name),
            ]
        )
    except ValueError as error:
        raise ConfigError(f"no certificate can name this device: {error}") from error
    key = load_der_private_key(private_key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.DER)


def read_chain(data: bytes) -> tuple[bytes, ...]:
    """Read the certificates that enrolment brings, the device's own first.

    Layout: u8 version 1, u8 count, then for each u16 (big endian) length and the certificate (DER).

    Raises:
        ConfigError: that is not what the bytes are.
    """
    if len(data) < 2 or data[0] != CHAIN_VERSION or not data[1]:
        raise ConfigError(f"{len(data)} B are no certificate chain of version {CHAIN_VERSION}")
    chain, at = [], 2
    for number in range(data[1]):
        if at + 2 > len(data):
            raise ConfigError(f"the chain ends after {number} of {data[1]} certificates")
        (size,) = struct.unpack_from(">H", data, at)
        at += 2 + size
        if not size or at > len(data):
            raise ConfigError(f"certificate {number + 1} of the chain has {size} B, which are not there")
        chain.append(data[at - size : at])
    if at != len(data):
        raise ConfigError(f"{len(data) - at} B follow the chain's last certificate")
    return tuple(chain)
