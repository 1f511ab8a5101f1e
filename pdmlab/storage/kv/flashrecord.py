"""A record of NVStore or SOTP, as bytes: u16 number and flags, u16 size, u32 CRC over the rest, data; little-endian."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pdmlab.storage.kv.areas import align
from pdmlab.storage.kv.crc import crc32

HEADER = struct.Struct("<HHI")
MASTER = struct.Struct("<HHI")
"""A master record's data: u16 version, u16 of the store's own, u32 0."""
MASTER_KEY = 0xFFE
DELETED, SET_ONCE, KEY_MASK = 0x8000, 0x4000, 0x0FFF


@dataclass(frozen=True)
class FlashRecord:
    """A record as it lies there; next is where another one may begin (offset in the area, B)."""

    offset: int
    flags: int
    key: int
    size_field: int
    data: bytes
    next: int


def pack(key: int, flags: int, size_field: int, data: bytes) -> bytes:
    """Return a record's bytes, without what aligns it."""
    head = struct.pack("<HH", key | flags, size_field)
    return head + struct.pack("<I", crc32(head + data)) + data


def parse(raw: bytes, offset: int, size_mask: int, unit: int) -> FlashRecord | None:
    """Return the record that raw begins with, which lies at an offset of its area; None if damaged, or none."""
    if len(raw) < HEADER.size:
        return None
    key, size_field, crc = HEADER.unpack_from(raw)
    end = HEADER.size + (size_field & size_mask)
    data = raw[HEADER.size : end]
    if len(raw) < end or crc32(raw[:4] + data) != crc:
        return None
    return FlashRecord(offset, key & ~KEY_MASK, key & KEY_MASK, size_field, data, align(offset + end, unit))
