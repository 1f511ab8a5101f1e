"""Certificates as the lab's CA signs them, and requests as devices make them: P-256 and SHA-256 alone.

Every certificate is valid from 1970 to 9999. A device whose clock was never set believes that it is 1970, and one
that has heard a wrong time may believe anything up to 2106: neither is to find a certificate in the future, or expired.
"""

from __future__ import annotations

import datetime
import ipaddress
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from pdmlab.service.refusal import Refused

NOT_BEFORE = datetime.datetime(1970, 1, 1)
NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59)
MAX_ATTRIBUTE = 64  # characters of a subject's attribute: ub-common-name of RFC 5280, and the client's buffers
MAX_DER = 1024  # B: the client's MAX_CERTIFICATE_SIZE


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate names: CN, L and OU. A developer certificate has no device id."""

    endpoint_name: str
    device_id: str | None = None
    account_id: str | None = None

    @property
    def name(self) -> x509.Name:
        """As a certificate carries it.

        Raises:
            Refused: a part is empty, or has more than MAX_ATTRIBUTE characters (400).
        """
        parts = (
            ("endpoint name", NameOID.COMMON_NAME, self.endpoint_name),
            ("device id", NameOID.LOCALITY_NAME, self.device_id),
            ("account id", NameOID.ORGANIZATIONAL_UNIT_NAME, self.account_id),
        )
        attributes = []
        for what, oid, value in parts:
            if value is None:
                continue
            size = len(value.encode())
            if not 0 < size <= MAX_ATTRIBUTE:
                raise Refused(400, f"the {what} {value[:80]!r} has {size} B; a certificate takes 1 to {MAX_ATTRIBUTE}")
            attributes.append(x509.NameAttribute(oid, value))
        return x509.Name(attributes)


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """What a device asks for by PKCS#10: whom the certificate is to name, and the key that it has proved to have."""

    subject: Subject
    public_key: ec.EllipticCurvePublicKey


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a private key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def key_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a private key as unencrypted PKCS#8: 138 B."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def authority_certificate(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    """Return the CA's own certificate; it signs end entities only."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    public = key.public_key()
    return (
        _builder(subject, subject, public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def server_certificate(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    name: str,
    addresses: Sequence[str],
) -> x509.Certificate:
    """Return a server's certificate; the addresses and host names are for clients that compare them."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, authority.subject, public_key)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(each) for each in addresses]), critical=False)
    return _leaf(builder, authority, authority_key, ExtendedKeyUsageOID.SERVER_AUTH)


def client_certificate(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    subject: Subject,
) -> x509.Certificate:
    """Return a device's certificate.

    Raises:
        Refused: the subject cannot be written (400).
    """
    builder = _builder(subject.name, authority.subject, public_key)
    return _leaf(builder, authority, authority_key, ExtendedKeyUsageOID.CLIENT_AUTH)


def addresses_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the addresses and host names that a server's certificate is for."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(str(name.value) for name in names)


def subject_of(certificate: bytes) -> Subject:
    """Return whom a certificate (DER) names.

    Raises:
        Refused: it cannot be read, or has not one CN and at most one L and OU (400).
    """
    with _readable("certificate"):
        return _subject(x509.load_der_x509_certificate(certificate).subject)


def read_request(der: bytes) -> CertificateRequest:
    """Read a PKCS#10 request, and check that its sender has the key.

    Extensions that it asks for are left aside: what a device's certificate says is the CA's to decide.

    Raises:
        Refused: it is larger than MAX_DER or no request, its key is not on P-256, it is not signed with SHA-256 by
            that key, or its subject has not one CN and at most one L and OU (400).
    """
    if len(der) > MAX_DER:
        raise Refused(400, f"the certificate request has {len(der)} B; at most {MAX_DER} B are taken")
    with _readable("certificate request"):
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Refused(400, "the key of the certificate request is not on P-256")
        if not isinstance(request.signature_hash_algorithm, hashes.SHA256) or not request.is_signature_valid:
            raise Refused(400, "the certificate request is not signed with SHA-256 by the key that it names")
        return CertificateRequest(_subject(request.subject), key)


def _subject(name: x509.Name) -> Subject:
    common, locality, unit = (
        _only(name, oid) for oid in (NameOID.COMMON_NAME, NameOID.LOCALITY_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)
    )
    if common is None:
        raise Refused(400, "the subject has no CN, which is the endpoint name")
    subject = Subject(common, locality, unit)
    _ = subject.name  # refuses what is too long
    return subject


def _only(name: x509.Name, oid: ObjectIdentifier) -> str | None:
    values = [attribute.value for attribute in name.get_attributes_for_oid(oid)]
    if len(values) > 1 or any(isinstance(value, bytes) for value in values):
        raise Refused(
            400, f"the subject has more than one {name.get_attributes_for_oid(oid)[0].rfc4514_attribute_name}"
        )
    return str(values[0]) if values else None


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Turn what cryptography says of bytes from a stranger into a refusal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of lengths and encodings; what matters is checked here
            yield
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        # Not in the parser's words: they are for who wrote the parser, and other ones with its next version.
        raise Refused(400, f"the {what} cannot be read: its DER is broken, cut off, or of something else") from error


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
    )


def _leaf(
    builder: x509.CertificateBuilder,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    purpose: ObjectIdentifier,
) -> x509.Certificate:
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        builder.add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return certificate


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return x509.DNSName(address)
