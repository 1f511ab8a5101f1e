"""DER as manifests have it, read and written, and ECDSA signatures over it, in DER or as r||s."""

from __future__ import annotations

import functools

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from pdmlab.errors import ConfigError

BOOLEAN, INTEGER, OCTETS, ENUMERATED, UTF8, SEQUENCE = 0x01, 0x02, 0x04, 0x0A, 0x0C, 0x30
RAW_SIGNATURE = 64  # bytes of r||s on P-256

_ECDSA = ec.ECDSA(SHA256())
_ECDSA_PREHASHED = ec.ECDSA(utils.Prehashed(SHA256()))


class Reader:
    """Reads the values in a body one after the other, each as the tag says that is due; raises ValueError.

    Strict, as a signature over DER wants it: lengths and numbers in the fewest bytes, no indefinite lengths.
    """

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._end = data, 0, len(data)

    def value(self, tag: int) -> bytes:
        """Read the next value; return its body."""
        data, at = self._data, self._at + 2
        if at > self._end or data[at - 2] != tag:
            raise ValueError(f"tag {tag:#04x} was due {self._end - self._at} B before the end")
        size = data[at - 1]
        if size > 0x7F:
            at, size = self._long(at, size & 0x7F)
        end = at + size
        if end > self._end:
            raise ValueError(f"a value says that it has {size} B; there are {self._end - at}")
        self._at = end
        return data[at:end]

    def maybe(self, tag: int) -> bytes | None:
        """Read the next value if it is this one."""
        return self.value(tag) if self.comes(tag) else None

    def comes(self, tag: int) -> bool:
        """Whether the next value is this one."""
        return self._at < self._end and self._data[self._at] == tag

    def whole(self, tag: int) -> bytes:
        """Read the next value; return it with its tag and its length."""
        start = self._at
        self.value(tag)
        return self._data[start : self._at]

    def sequence(self) -> Reader:
        """Read the next value, which is a SEQUENCE; return what reads that."""
        return Reader(self.value(SEQUENCE))

    def text(self) -> str:
        """Read a UTF8String."""
        return self.value(UTF8).decode()

    def number(self, tag: int = INTEGER) -> int:
        """Read an INTEGER, or an ENUMERATED, of at most 64 bits."""
        body = self.value(tag)
        number = int.from_bytes(body, "big", signed=True)
        if not 1 <= len(body) <= 9 or len(body) != _size_of(number):
            raise ValueError(f"a number has {len(body)} B")
        return number

    def rest(self) -> bytes:
        """Return what has not been read."""
        return self._data[self._at :]

    def end(self) -> None:
        """Raise ValueError unless everything has been read."""
        if self._at != self._end:
            raise ValueError(f"{self._end - self._at} B follow that belong to nothing")

    def _long(self, at: int, count: int) -> tuple[int, int]:
        body = self._data[at : at + count]
        size = int.from_bytes(body, "big")
        if not 1 <= count <= 4 or len(body) < count or body[0] == 0 or size < 0x80:
            raise ValueError("a length is not in its shortest form")
        return at + count, size


def sequence(body: bytes) -> bytes:
    """Write a SEQUENCE of values that are written already."""
    return _header(SEQUENCE, len(body)) + body


def octets(value: bytes) -> bytes:
    """Write an OCTET STRING."""
    return _header(OCTETS, len(value)) + value


def utf8(text: str) -> bytes:
    """Write a UTF8String."""
    body = text.encode()
    return _header(UTF8, len(body)) + body


def integer(number: int) -> bytes:
    """Write an INTEGER."""
    size = _size_of(number)
    return _header(INTEGER, size) + number.to_bytes(size, "big", signed=True)


@functools.lru_cache(64)  # there are few
def enumerated(number: int) -> bytes:
    """Write an ENUMERATED."""
    size = _size_of(number)
    return _header(ENUMERATED, size) + number.to_bytes(size, "big", signed=True)


def boolean(value: bool) -> bytes:
    """Write a BOOLEAN."""
    return _header(BOOLEAN, 1) + (b"\xff" if value else b"\x00")


def _size_of(number: int) -> int:
    return (number if number >= 0 else ~number).bit_length() // 8 + 1


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
    # SEQUENCE { INTEGER r, INTEGER s }, and neither has more than 33 bytes, of which the first is 0 then
    r_end = 4 + signature[3]
    return signature[4:r_end][-32:].rjust(32, b"\0") + signature[r_end + 2 :][-32:].rjust(32, b"\0")


def _der_signature(signature: bytes) -> bytes:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:RAW_SIGNATURE], "big")
    return utils.encode_dss_signature(r, s)


def _verifies(public_key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, algorithm: ec.ECDSA) -> bool:
    try:
        public_key.verify(signature, data, algorithm)
    except InvalidSignature:
        return False
    return True
