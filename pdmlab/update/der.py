"""What manifests need of DER beside cryptography's decoder: ENUMERATED, where a value ends, signatures as r||s."""

from __future__ import annotations

import functools

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from pdmlab.errors import ConfigError

ENUMERATED = b"\x0a"
RAW_SIGNATURE = 64  # bytes of r||s on P-256

_ECDSA = ec.ECDSA(SHA256())
_ECDSA_PREHASHED = ec.ECDSA(utils.Prehashed(SHA256()))


@functools.cache
def enumerated(number: int) -> asn1.TLV:
    """Make an ENUMERATED, which `cryptography.hazmat.asn1` has no type for."""
    body = number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)
    return asn1.decode_der(asn1.TLV, ENUMERATED + bytes([len(body)]) + body)


def enumerated_number(value: asn1.TLV) -> int:
    """Read an ENUMERATED; raise ValueError if it is something else, or not in DER."""
    body = bytes(value.data)
    if value.tag_bytes != ENUMERATED or not 1 <= len(body) <= 8:
        raise ValueError(f"an ENUMERATED was due, not tag {value.tag_bytes.hex()} with {len(body)} B")
    number = int.from_bytes(body, "big", signed=True)
    if len(body) != number.bit_length() // 8 + 1 and number != -(1 << 8 * len(body) - 1):
        raise ValueError("an ENUMERATED has more bytes than it needs")
    return number


def extent(data: bytes) -> tuple[int, int]:
    """Return where the body of the first value begins, and where it ends; raise ValueError if data are less."""
    if len(data) < 2:
        raise ValueError(f"{len(data)} B are no value")
    start, size = 2, data[1]
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    if start > 6 or start + size > len(data):
        raise ValueError(f"the value says that it has {size} B more, of {len(data)}")
    return start, start + size


def sequence(body: bytes) -> bytes:
    """Write a SEQUENCE of values that are written already."""
    return _value(0x30, body)


def octets(value: bytes) -> bytes:
    """Write an OCTET STRING."""
    return _value(0x04, value)


def utf8(text: str) -> bytes:
    """Write a UTF8String."""
    return _value(0x0C, text.encode())


def integer(number: int) -> bytes:
    """Write an INTEGER."""
    return _value(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def _value(tag: int, body: bytes) -> bytes:
    return _header(tag, len(body)) + body


@functools.lru_cache(1024)
def _header(tag: int, size: int) -> bytes:
    if size < 0x80:
        return bytes((tag, size))
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length


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
    """Turn a signature in DER, as a P-256 key gives it, into r||s (64 B)."""
    # SEQUENCE { INTEGER r, INTEGER s }, and neither has more than 33 bytes
    r_end = 4 + signature[3]
    r, s = signature[4:r_end], signature[r_end + 2 :]
    return r.lstrip(b"\0").rjust(32, b"\0") + s.lstrip(b"\0").rjust(32, b"\0")


def _der_signature(signature: bytes) -> bytes:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:RAW_SIGNATURE], "big")
    return utils.encode_dss_signature(r, s)


def _verifies(public_key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, algorithm: ec.ECDSA) -> bool:
    try:
        public_key.verify(signature, data, algorithm)
    except InvalidSignature:
        return False
    return True
