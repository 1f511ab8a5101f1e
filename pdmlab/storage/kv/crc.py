"""The CRC-32 of Mbed's stores, in the two forms that lie on flash; neither is inverted at the end, as zlib's is."""

from __future__ import annotations

import zlib

_ALL = 0xFFFF_FFFF


def crc32(data: bytes) -> int:
    """Return the CRC of NVStore's and SOTP's records: reflected 0xEDB88320 from 0xFFFFFFFF."""
    return zlib.crc32(data) ^ _ALL


def crc32_unreflected(*pieces: bytes) -> int:
    """Return the CRC of TDBStore's records, over all pieces: bits go in reflected, and the remainder stays as it is.

    It is `MbedCRC<POLY_32BIT_ANSI, 32>(0xFFFFFFFF, 0, true, false)`: crc32() with its 32 bits in reverse.
    """
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return unreflected(value)


def unreflected(running: int) -> int:
    """Return zlib's running CRC as crc32_unreflected() gives it."""
    value = running ^ _ALL
    value = (value >> 1 & 0x5555_5555) | (value & 0x5555_5555) << 1
    value = (value >> 2 & 0x3333_3333) | (value & 0x3333_3333) << 2
    value = (value >> 4 & 0x0F0F_0F0F) | (value & 0x0F0F_0F0F) << 4
    return int.from_bytes(value.to_bytes(4, "little"), "big")
