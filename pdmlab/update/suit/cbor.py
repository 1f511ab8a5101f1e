"""CBOR as SUIT uses it: maps and sequences in byte strings, read from strangers without trust."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from pdmlab.errors import ManifestRejected
from pdmlab.update.results import FotaResult, rejected
from pdmlab.update.suit.numbers import SHA256

MAX_DEPTH = 12
MAX_ITEMS = 2000


def malformed(what: str) -> ManifestRejected:
    """Make the error of an envelope that is none (result 22)."""
    return rejected(FotaResult.MANIFEST_MALFORMED, what)


def encode(value: Any) -> bytes:  # any CBOR value
    """Encode a value, deterministically (RFC 8949, 4.2.1)."""
    import cbor2

    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, what: str) -> Any:  # any CBOR value
    """Decode exactly one value; `what` names it in the error.

    Raises:
        ManifestRejected: the bytes are no CBOR, too deep, or more follow (22).
    """
    import cbor2

    stream = io.BytesIO(data)
    try:
        value = cbor2.CBORDecoder(stream).decode()
    # Beside its own errors the decoder lets through what a tag's value raises: dates, fractions, regular expressions.
    except (cbor2.CBORError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError) as error:
        raise malformed(f"{what} is no CBOR: {str(error)[:100]}") from error
    if stream.tell() != len(data):
        raise malformed(f"{len(data) - stream.tell()} B follow {what}")
    _bounded(value, what)
    return value


def _bounded(value: Any, what: str) -> None:
    left, seen = [(value, 0)], 0
    while left:
        item, depth = left.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_ITEMS:
            raise malformed(f"{what} is nested {depth} deep with {seen} items")
        if isinstance(item, list | tuple):
            left.extend((each, depth + 1) for each in item)
        elif isinstance(item, dict):
            left.extend((each, depth + 1) for pair in item.items() for each in pair)


def a_map(value: Any, what: str) -> dict[Any, Any]:
    """Return a value that must be a map."""
    if not isinstance(value, dict):
        raise malformed(f"{what} is no map")
    return value


def an_array(value: Any, what: str) -> list[Any]:
    """Return a value that must be an array."""
    if not isinstance(value, list):
        raise malformed(f"{what} is no array")
    return value


def a_number(value: Any, what: str, *, most: int = (1 << 64) - 1) -> int:
    """Return a value that must be an unsigned integer."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise malformed(f"{what} is no number of 0 to {most}")
    return value


def some_bytes(value: Any, what: str, *, size: int | None = None) -> bytes:
    """Return a value that must be a byte string, of a size (B) if one is given."""
    if not isinstance(value, bytes) or (size is not None and len(value) != size):
        raise malformed(f"{what} is no byte string" + (f" of {size} B" if size is not None else ""))
    return value


def some_text(value: Any, what: str, *, most: int) -> str:
    """Return a value that must be text of at most `most` bytes."""
    if not isinstance(value, str) or len(value.encode("utf-8", "surrogatepass")) > most:
        raise malformed(f"{what} is no text of at most {most} B")
    return value


def wrapped_digest(data: bytes) -> bytes:
    """Return the SHA-256 of bytes as a byte string, its head included: what SUIT's digests of its members cover."""
    return hashlib.sha256(encode(data)).digest()


def digest_of(data: bytes) -> bytes:
    """Return the SUIT_Digest of a member's bytes: algorithm and SHA-256, encoded."""
    return encode([SHA256, wrapped_digest(data)])


def read_digest(data: Any, what: str) -> bytes:
    """Read an encoded SUIT_Digest; return the SHA-256, the one algorithm that boards here have."""
    pair = an_array(decode(some_bytes(data, what), what), what)
    if len(pair) != 2 or pair[0] != SHA256:
        raise malformed(f"{what} is no SHA-256")
    return some_bytes(pair[1], what, size=32)
