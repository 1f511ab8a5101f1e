"""Who a peer has proved to be, in LwM2M's words: of which account, under which name, and which device."""

from __future__ import annotations

import functools
import hashlib
import warnings
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pdmlab.coap.transport import Identity
from pdmlab.service.authority import issued
from pdmlab.service.certificates import MAX_ATTRIBUTE, subject_of
from pdmlab.service.refusal import Refused

Kind: TypeAlias = Literal["none", "psk", "certificate", "factory"]


@dataclass(frozen=True, slots=True)
class Proof:
    """What transport has proved of a peer.

    kind           certificate is one that this service's CA has signed, factory one of another CA, which an account
                   trusts, or did when it was shown
    endpoint_name  the certificate's CN, or the identity of the pre-shared key
    device_id      the certificate's L: what a device registers with has one, what it is built with has none; what
                   another CA writes there says nothing
    account_id     the certificate's OU, of this service's CA
    unit           the OU of a factory's certificate
    serial_number  of the certificate, in hex
    fingerprint    SHA-256 of the certificate, in hex
    certificates   a factory's certificate, and those that lead to its CA (DER)
    fault          why the certificate proves nothing, though a CA that is believed has signed it
    """

    kind: Kind = "none"
    endpoint_name: str = ""
    device_id: str | None = None
    account_id: str | None = None
    unit: str | None = None
    serial_number: str = ""
    fingerprint: str = ""
    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    fault: str = ""


NOTHING = Proof()


def proof_of(identity: Identity | None, authority: bytes) -> Proof:
    """Return what an identity says; authority: the certificate (DER) of this service's CA."""
    if identity is None:
        return NOTHING
    if identity.kind == "psk":
        return Proof("psk", identity.name)
    return _certified(identity.certificates, authority)


@functools.lru_cache(maxsize=4096)
def _certified(certificates: tuple[bytes, ...], authority: bytes) -> Proof:
    # Read once a connection, not once a message: the bytes are the same objects each time.
    kind: Kind = "factory"
    try:
        own = x509.load_der_x509_certificate(certificates[0])
        if issued(own, x509.load_der_x509_certificate(authority)):
            kind = "certificate"
        said = f"{own.serial_number:x}", hashlib.sha256(certificates[0]).hexdigest()
        if kind == "factory":
            return _factory(own, *said, certificates)
        subject = subject_of(certificates[0])
    except (Refused, ValueError, UnsupportedAlgorithm) as error:
        return Proof(kind, fault=str(getattr(error, "message", error)))
    return Proof(kind, subject.endpoint_name, subject.device_id, subject.account_id, None, *said)


def _factory(own: x509.Certificate, serial: str, fingerprint: str, certificates: tuple[bytes, ...]) -> Proof:
    """Return what a factory's certificate says: its CN is the endpoint name, and an OU may name the account."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lengths and encodings
        names, units = (
            [str(each.value) for each in own.subject.get_attributes_for_oid(oid)]
            for oid in (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
        )
    fault = ""
    if len(names) != 1 or not names[0].isprintable() or not 0 < len(names[0].encode()) <= MAX_ATTRIBUTE:
        fault = f"it has not one CN of 1 to {MAX_ATTRIBUTE} B, which is the endpoint name"
    unit = units[0] if len(units) == 1 else None
    return Proof("factory", "" if fault else names[0], None, None, unit, serial, fingerprint, certificates, fault)
