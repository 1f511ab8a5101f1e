"""What manifests need of DER beside cryptography's decoder: ENUMERATED, where a value ends, signatures as r||s."""

from __future__ import annotations

import functools

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from pdmlab.errors import ConfigError

RAW_SIGNATURE = 64  # bytes of r||s on P-256

_ECDSA = ec.ECDSA(SHA256())
_ECDSA_PREHASHED = ec.ECDSA(utils.Prehashed(SHA256()))
_ENUMERATED = b"\x0a"


@functools.cache
def enumerated(number: int) -> asn1.TLV:
    """Make an ENUMERATED, which `cryptography.hazmat.asn1` has no type for."""
    body = number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)
    return asn1.decode_der(asn1.TLV, _ENUMERATED + bytes([len(body)]) + body)


def enumerated_number(value: asn1.TLV) -> int:
    """Read an ENUMERATED; raise ValueError if it is something else, or not in DER."""
    body = bytes(value.data)
    if value.tag_bytes != _ENUMERATED or not 1 <= len(body) <= 8:
        raise ValueError(f"an ENUMERATED was due, not tag {value.tag_bytes.hex()} with {len(body)} B")
    number = int.from_bytes(body, "big", signed=True)
    if len(body) != number.bit_length() // 8 + 1 and number != -(1 << 8 * len(body) - 1):
        raise ValueError("an ENUMERATED has more bytes than it needs")
    return number


def value_size(data: bytes) -> int:
    """Return how many bytes the value has that stands at the beginning; raise ValueError if they are not all there."""
    if len(data) < 2:
        raise ValueError(f"{len(data)} B are no value")
    size = data[1]
    header = 2
    if size & 0x80:
        header += size & 0x7F
        size = int.from_bytes(data[2:header], "big")
    if header > 6 or header + size > len(data):
        raise ValueError(f"the value says that it has {header + size} B, of {len(data)}")
    return header + size


def sequence(body: bytes) -> bytes:
    """Put the header of a SEQUENCE before its body."""
    size = len(body)
    if size < 0x80:
        return bytes((0x30, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x30, 0x80 | len(length))) + length + body


def sign(private_key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Sign with ECDSA and SHA-256; return the signature in DER.

    Raises:
        ConfigError: the key is not on P-256, as update clients have it.
    """
    if private_key.curve.name != "secp256r1":
        raise ConfigError(
            f"manifests are signed with P-256 keys; this one is on {private_key.curve.name}",
            hint="`pdmlab dm init` makes the right kind of key",
        )
    return private_key.sign(data, _ECDSA)


def sign_digest(private_key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """Sign a SHA-256 digest; return r||s (64 B)."""
    return raw_signature(private_key.sign(digest, _ECDSA_PREHASHED))


def is_signature(public_key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    """Whether a signature in DER is of these bytes and this key's owner."""
    return _verifies(public_key, signature, data, _ECDSA)


def is_raw_signature(public_key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    """Whether a signature r||s is of these bytes and this key's owner."""
    return _verifies(public_key, _der_signature(signature), data, _ECDSA)


def is_digest_signature(public_key: ec.EllipticCurvePublicKey, signature: bytes, digest: bytes) -> bool:
    """Whether a signature r||s is of what has this SHA-256 digest, and of this key's owner."""
    return len(digest) == 32 and _verifies(public_key, _der_signature(signature), digest, _ECDSA_PREHASHED)


def raw_signature(signature: bytes) -> bytes:
    """Turn a signature in DER into r||s (64 B)."""
    r, s = utils.decode_dss_signature(signature)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _der_signature(signature: bytes) -> bytes:
    return utils.encode_dss_signature(
        int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:RAW_SIGNATURE], "big")
    )


def _verifies(public_key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, algorithm: ec.ECDSA) -> bool:
    try:
        public_key.verify(signature, data, algorithm)
    except InvalidSignature:
        return False
    return True
