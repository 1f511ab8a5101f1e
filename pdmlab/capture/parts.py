"""A kept message taken apart, leniently: what can be read of its bytes, which may be cut off.

The endpoint's own decoder is strict, and refuses; a log has to show also what it has only in part.
"""

from __future__ import annotations

from dataclasses import dataclass, field

URI_PATH, CONTENT_FORMAT, URI_QUERY, LOCATION_PATH = 11, 12, 15, 8
BLOCK2, BLOCK1, SIZE2, SIZE1, ACCEPT = 23, 27, 28, 60, 17
CON, NON, ACK, RST = range(4)
MOST_OPTIONS = 24
"""Option values that are read: a registration of the stock client has 13."""


@dataclass(slots=True)
class Parts:
    """Header, options by number, and payload as far as it is there; `size` is how long it was (B)."""

    type: int
    code: int
    mid: int
    token: bytes
    options: dict[int, list[bytes]] = field(default_factory=dict)
    payload: bytes = b""
    payload_at: int = 0
    size: int = 0

    @property
    def is_request(self) -> bool:
        """Whether it asks for something."""
        return 0 < self.code < 32

    @property
    def is_response(self) -> bool:
        """Whether it answers something."""
        return 64 <= self.code < 192

    def texts(self, number: int) -> tuple[str, ...]:
        """Return the values of an option of text."""
        return tuple(each.decode(errors="replace") for each in self.options.get(number, ()))

    def number(self, option: int) -> int | None:
        """Return the value of an option that holds a number."""
        values = self.options.get(option)
        return int.from_bytes(values[0], "big") if values else None

    def block(self, option: int) -> tuple[int, bool, int] | None:
        """Return a block option as its number, whether more follow, and its size (B)."""
        value = self.number(option)
        return None if value is None else (value >> 4, bool(value & 8), 1 << (min(value & 7, 6) + 4))


def take_apart(data: bytes, whole: int | None = None) -> Parts:
    """Read a message (RFC 7252 section 3); `whole` is how long it was, if this is its beginning (B)."""
    whole = len(data) if whole is None else whole
    if len(data) < 4:
        return Parts(NON, 0, 0, b"")
    parts = Parts(data[0] >> 4 & 3, data[1], data[2] << 8 | data[3], b"")
    if parts.code == 0:
        return parts
    at = 4 + (data[0] & 15)
    parts.token = data[4:at]
    parts.payload_at = whole
    number = count = 0
    while at < len(data):
        head = data[at]
        at += 1
        if head == 0xFF:
            parts.payload, parts.payload_at = data[at:], at
            break
        delta, at = _extended(data, at, head >> 4)
        length, at = _extended(data, at, head & 15)
        number += delta
        count += 1
        if count <= MOST_OPTIONS and at + length <= len(data):
            parts.options.setdefault(number, []).append(data[at : at + length])
        at += length
    parts.size = whole - parts.payload_at
    return parts


def _extended(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    if nibble == 13 and at < len(data):
        return data[at] + 13, at + 1
    if nibble == 14 and at + 1 < len(data):
        return (data[at] << 8 | data[at + 1]) + 269, at + 2
    return nibble, at
