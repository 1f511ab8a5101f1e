"""A board whose credentials are wrong in one place: the last step that it reached, and the alert that ended it."""

from __future__ import annotations

import dataclasses
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pdmlab.exercises import Judge
    from pdmlab.update.credentials import Credentials

STEPS = (
    "network connected",
    "TCP connected",
    "TLS handshake",
    "bootstrap request",
    "security object written",
    "bootstrap finished",
    "registration request",
    "registered",
)
"""What has to happen before a device is registered, in order."""
UNKNOWN_CA = "unknown_ca", "unknownca", "48"
"""RFC 5246 section 7.2.2, as people may write it."""


@dataclass(frozen=True)
class Fault:
    """Credentials with a fault, the last step that a board with them reaches, and the alert's name; "" if none came."""

    credentials: Credentials
    last_step: str
    alert: str


def misconfigure(credentials: Credentials, *, seed: int) -> Fault:
    """Return the service's credentials with a fault of the seed's choice."""
    if seed % 3 == 0:
        nobody = re.sub(r":\d+", f":{_unused_port()}", credentials.bootstrap_server_uri, count=1)
        return Fault(dataclasses.replace(credentials, bootstrap_server_uri=nobody), "network connected", "")
    other, key = _certificate("another lab's CA")
    if seed % 3 == 1:
        wrong = dataclasses.replace(
            credentials, bootstrap_server_root_ca_certificate=other, lwm2m_server_root_ca_certificate=other
        )
        return Fault(wrong, "TCP connected", "unknown_ca")
    certificate, private_key = _certificate(credentials.bootstrap_endpoint_name, signed_by=(other, key))
    wrong = dataclasses.replace(
        credentials,
        bootstrap_device_certificate=certificate,
        bootstrap_device_private_key=private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    )
    return Fault(wrong, "TCP connected", "unknown_ca")


def names_the_last_step(fault: Fault) -> Judge:
    """Judge (last step reached, name of the alert that ended it, or "" if there was none)."""

    def judge(answer: Any) -> bool | str:
        step, alert = (str(word).strip() for word in answer)
        if step not in STEPS:
            return f"{step!r} is none of the steps: {', '.join(STEPS)}."
        if step != fault.last_step:
            early = STEPS.index(step) < STEPS.index(fault.last_step)
            return "It got further." if early else "It did not get that far."
        said = re.sub(r"\W+", "_", alert.lower())
        right = said in UNKNOWN_CA if fault.alert else said == ""
        return True if right else "That is the step; but what ended it, by the name that the log gives the alert?"

    return judge


def _certificate(
    name: str, signed_by: tuple[bytes, ec.EllipticCurvePrivateKey] | None = None
) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    """Make a certificate (DER) and its key, of a CA or, signed by one, of a device; valid as the service's are."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.load_der_x509_certificate(signed_by[0]).subject if signed_by is not None else subject
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(1970, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=signed_by is None, path_length=None), critical=True)
        .sign(signed_by[1] if signed_by is not None else key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.DER), key


def _unused_port() -> int:
    """Return a port on loopback where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
