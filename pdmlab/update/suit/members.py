"""Where the members of an envelope lie, found without reading them: an integrated payload is as large as an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pdmlab.update.suit.cbor import malformed

Read = Callable[[int, int], bytes]
"""Returns bytes of the envelope from a position on; fewer at its end."""
MARK = b"\xd8\x6b"
"""The first bytes of every envelope: tag 107."""
MAX_MEMBERS, MAX_KEY = 16, 255
_UNSIGNED, _BYTES, _TEXT, _MAP = 0, 2, 3, 5


@dataclass(frozen=True)
class Member:
    """A member: a label, or the URI of an integrated payload; and where the bytes of its value lie (B)."""

    key: int | str
    offset: int
    size: int


def members(read: Read, size: int) -> list[Member]:
    """Find the members of an envelope of `size` B.

    Raises:
        ManifestRejected: it is none, or its members do not lie in it one after the other (22).
    """
    if read(0, len(MARK)) != MARK:
        raise malformed("an envelope begins with tag 107")
    count, at = _head(read, len(MARK), _MAP, size)
    if count > MAX_MEMBERS:
        raise malformed(f"an envelope of {count} members: boards take {MAX_MEMBERS}")
    found: dict[int | str, Member] = {}
    for _ in range(count):
        key, at = _key(read, at, size)
        length, at = _head(read, at, _BYTES, size)
        if key in found or at + length > size:
            raise malformed(f"the envelope's member {str(key)[:40]} is there twice, or ends outside")
        found[key] = Member(key, at, length)
        at += length
    if at != size:
        raise malformed(f"{size - at} B follow the envelope")
    return list(found.values())


def _key(read: Read, at: int, size: int) -> tuple[int | str, int]:
    first = read(at, 1)
    if first and first[0] >> 5 == _TEXT:
        length, at = _head(read, at, _TEXT, size)
        text = read(at, min(length, MAX_KEY))
        if length > MAX_KEY or len(text) < length:
            raise malformed("an integrated payload's URI is too long, or cut off")
        try:
            return text.decode("utf-8"), at + length
        except UnicodeDecodeError as error:
            raise malformed("an integrated payload's URI is no UTF-8") from error
    return _head(read, at, _UNSIGNED, size)


def _head(read: Read, at: int, major: int, size: int) -> tuple[int, int]:
    """Read a CBOR head of a major type (RFC 8949, 3); return its argument and where what follows begins."""
    head = read(at, 9)
    if not head or head[0] >> 5 != major:
        raise malformed(f"the envelope is not laid out as one, at {at}")
    info = head[0] & 31
    width = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
    if info > 27 or len(head) < 1 + width:
        raise malformed(f"a length in the envelope is cut off, or of no certain size, at {at}")
    value = int.from_bytes(head[1 : 1 + width], "big") if width else info
    return value, at + 1 + width
