"""Who a peer has proved to be, in LwM2M's words: of which account, under which name, and which device."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cryptography import x509

from pdmlab.coap.transport import Identity
from pdmlab.service.certificates import subject_of
from pdmlab.service.refusal import Refused

Kind: TypeAlias = Literal["none", "psk", "certificate"]


@dataclass(frozen=True, slots=True)
class Proof:
    """What transport has proved of a peer.

    endpoint_name  the certificate's CN, or the identity of the pre-shared key
    device_id      the certificate's L: what a device registers with has one, what it is built with has none
    account_id     the certificate's OU
    serial_number  of the certificate, in hex
    fingerprint    SHA-256 of the certificate, in hex
    fault          why the certificate proves nothing, though a CA that is believed has signed it
    """

    kind: Kind = "none"
    endpoint_name: str = ""
    device_id: str | None = None
    account_id: str | None = None
    serial_number: str = ""
    fingerprint: str = ""
    fault: str = ""


NOTHING = Proof()


def proof_of(identity: Identity | None) -> Proof:
    """Return what an identity says."""
    if identity is None:
        return NOTHING
    if identity.kind == "psk":
        return Proof("psk", identity.name)
    return _certified(identity.certificates[0])


@functools.lru_cache(maxsize=4096)
def _certified(certificate: bytes) -> Proof:
    # Read once a connection, not once a message: the bytes are the same object each time.
    try:
        subject = subject_of(certificate)
        serial = f"{x509.load_der_x509_certificate(certificate).serial_number:x}"
    except (Refused, ValueError) as error:
        return Proof("certificate", fault=str(getattr(error, "message", error)))
    return Proof(
        "certificate",
        subject.endpoint_name,
        subject.device_id,
        subject.account_id,
        serial,
        hashlib.sha256(certificate).hexdigest(),
    )
