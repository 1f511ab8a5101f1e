"""A CA's certificate as somebody gives it to the service: read, and judged before anything is believed by it."""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import itertools
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from pdmlab.service.refusal import Refused

MAX_PEM = 16 << 10  # B of a chain
MAX_CHAIN = 8  # certificates
MAX_CERTIFICATE = 4096  # B of each in DER: the stock client's own are below 1024 B, RSA roots below 2000 B
MIN_RSA = 2048  # bits
MAX_NAME = 1000  # characters of a subject

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*?)-----END CERTIFICATE-----", re.ASCII)
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_WEAK = (hashes.MD5, hashes.SHA1)


@dataclass(frozen=True)
class Authority:
    """A CA that devices' certificates may be of: `certificate` is it, `pem` is all that was given of its chain."""

    certificate: x509.Certificate
    pem: str

    @property
    def der(self) -> bytes:
        """The CA's certificate in DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)


def read_authority(pem: str, account_id: str, now: float, *, signature: str | None, unproved: bool) -> Authority:
    """Read the certificate of a CA, alone or in its chain, in any order (PEM); now: Unix s.

    signature: of the account's id by the CA's key (SHA-256, base64), for a chain without its root; unproved: whether a
    chain may lack it without one.

    Raises:
        Refused: it is too large, none, no CA's, expired, has a weak key or signature, or does not hang together, or
            the signature is missing or wrong (400).
    """
    if len(pem) > MAX_PEM:
        raise _refused(f"{len(pem)} B of certificates are too much: at most {MAX_PEM} B are taken")
    given = _certificates(pem)
    chain = _in_order(given)
    own = chain[0]
    _judge(own, now)
    for lower, upper in itertools.pairwise(chain):
        if not issued(lower, upper):
            raise _refused(f"{name_of(lower.subject)} is not signed by {name_of(upper.subject)}, which is its issuer")
    if signature:
        _check_signature(own, signature, account_id)
    elif not issued(chain[-1], chain[-1]) and not unproved:
        raise _refused(
            f"the chain ends with {name_of(chain[-1].subject)}, which is no root",
            "give all certificates up to the root; or a signature of the account's id by the CA's key",
        )
    return Authority(own, b"".join(each.public_bytes(serialization.Encoding.PEM) for each in given).decode())


def issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    """Tell whether a certificate is signed by another one's key, and names that as its issuer."""
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def name_of(name: x509.Name) -> str:
    """Write a distinguished name as lists and filters have it: CN=factory,O=maker."""
    return name.rfc4514_string()


def key_of_name(name: x509.Name) -> str:
    """Return by what a name is looked up: SHA-256 in hex, whichever type of string it is written in."""
    return hashlib.sha256(name_of(name).encode("utf-8", "replace")).hexdigest()


def time_of(when: datetime.datetime) -> str:
    """Write a certificate's time as rows carry times."""
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _certificates(pem: str) -> list[x509.Certificate]:
    found = _PEM.findall(pem)
    if not found or "PRIVATE KEY" in pem:
        raise _refused(
            "a trusted certificate is wanted as PEM, and without a private key",
            "-----BEGIN CERTIFICATE-----, base64, -----END CERTIFICATE-----",
        )
    if len(found) > MAX_CHAIN:
        raise _refused(f"a chain of {len(found)} certificates is too long: at most {MAX_CHAIN} are taken")
    read = []
    for each in found:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of encodings; what matters is judged here
                certificate = x509.load_der_x509_certificate(base64.b64decode("".join(each.split()), validate=True))
                _ = certificate.extensions, certificate.subject, certificate.issuer, certificate.public_key()
                names = name_of(certificate.subject), name_of(certificate.issuer)
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, binascii.Error) as error:
            raise _refused("what is between BEGIN and END CERTIFICATE cannot be read as one") from error
        size = len(certificate.public_bytes(serialization.Encoding.DER))
        if size > MAX_CERTIFICATE or max(map(len, names)) > MAX_NAME:
            raise _refused(f"a certificate of {size} B is too large: at most {MAX_CERTIFICATE} B are taken")
        if any("\0" in each for each in names):
            raise _refused("a certificate's name has a NUL in it")
        read.append(certificate)
    return read


def _in_order(certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return a chain from the CA that it is about to its root."""
    left = list(dict.fromkeys(certificates))
    lowest = [each for each in left if not any(other is not each and other.issuer == each.subject for other in left)]
    if len(lowest) != 1:
        raise _refused("the certificates are no chain: there must be one that has issued none of the others")
    chain = lowest
    left.remove(chain[0])
    while left:
        above = next((each for each in left if each.subject == chain[-1].issuer), None)
        if above is None:
            raise _refused(f"the issuer of {name_of(chain[-1].subject)} is not among the certificates")
        chain.append(above)
        left.remove(above)
    return chain


def _judge(certificate: x509.Certificate, now: float) -> None:
    who = name_of(certificate.subject)
    if not who:
        raise _refused("the certificate has no subject, and so devices' certificates cannot name it")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        is_ca = constraints.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca:
        raise _refused(f"{who} is no CA's certificate: its basic constraints do not say CA")
    try:
        if not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            raise _refused(f"{who} may not sign certificates: its key usage leaves that out")
    except x509.ExtensionNotFound:
        pass
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise _refused(f"the key of {who} is weak: it is on {key.curve.name}; P-256 is what the stock client has")
    elif isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA:
            raise _refused(f"the key of {who} is weak: RSA with {key.key_size} bits; at least {MIN_RSA} are wanted")
    else:
        raise _refused(f"the key of {who} is of a kind that devices do not check: EC and RSA are taken")
    if is_weak(certificate):
        raise _refused(f"the signature of {who} is weak: SHA-256 or better is wanted")
    until = certificate.not_valid_after_utc
    if until.timestamp() < now:
        raise _refused(f"{who} was valid until {until:%Y-%m-%d %H:%M} UTC")


def is_weak(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate is signed with a digest for which others can be forged."""
    try:
        return isinstance(certificate.signature_hash_algorithm, _WEAK)
    except UnsupportedAlgorithm:
        return True


def _check_signature(certificate: x509.Certificate, signature: str, account_id: str) -> None:
    key = certificate.public_key()
    try:
        said = base64.b64decode(signature, validate=True)
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(said, account_id.encode(), ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(said, account_id.encode(), padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise _refused("the signature is not one of the account's id by the CA's key, in base64") from error


def _refused(message: str, hint: str | None = None) -> Refused:
    return Refused(400, message, type="validation_error", hint=hint)
