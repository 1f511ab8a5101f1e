"""Certificates and what belongs to them in a few words: whom they name, and how large they are."""

from __future__ import annotations

from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

VERSION_OF_CHAIN = 1
_ATTRIBUTES = {
    NameOID.COMMON_NAME: "CN",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.ORGANIZATION_NAME: "O",
}


@lru_cache(maxsize=1024)
def subject_of(der: bytes) -> dict[str, str] | None:
    """Return what a certificate (DER) says of its owner, by the short names CN, L, OU and O; None if it is none."""
    try:
        return _named(x509.load_der_x509_certificate(der).subject)
    except (ValueError, x509.InvalidVersion):
        return None


def certificate_in_words(der: bytes) -> str | None:
    """Return "X.509 certificate, 412 B, CN=desk1"; None if it is none."""
    if der[:1] != b"\x30":  # a SEQUENCE; spares what is no certificate the parser
        return None
    subject = subject_of(bytes(der))
    return None if subject is None else f"X.509 certificate, {len(der)} B, {_joined(subject)}".rstrip(", ")


def request_in_words(der: bytes) -> str | None:
    """Return "certificate request, 250 B, L=…, CN=desk1" of a PKCS#10 one; None if it is none."""
    try:
        subject = _named(x509.load_der_x509_csr(der).subject)
    except (ValueError, x509.InvalidVersion):
        return None
    return f"certificate request, {len(der)} B, {_joined(subject)}".rstrip(", ")


def chain_of(payload: bytes) -> list[bytes]:
    """Return the certificates of an enrolment's answer (version, count, then each behind its length); else none."""
    if len(payload) < 2 or payload[0] != VERSION_OF_CHAIN:
        return []
    chain, at = [], 2
    for _ in range(payload[1]):
        size = int.from_bytes(payload[at : at + 2], "big")
        chain.append(payload[at + 2 : at + 2 + size])
        at += 2 + size
    return chain if at == len(payload) else []


def _named(name: x509.Name) -> dict[str, str]:
    return {_ATTRIBUTES[each.oid]: str(each.value) for each in name if each.oid in _ATTRIBUTES}


def _joined(subject: dict[str, str]) -> str:
    return ", ".join(f"{short}={value}" for short, value in subject.items())
