"""A second decoder of whole K64F flashes for mbed-bootloader, written from its description alone.

Header at 0x8000, application at 0x8400, one slot at 0x88000, all of it in internal flash: so every header is the
internal one of 112 B. It shares nothing with pdmlab.update.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

FLASH = 1 << 20
ACTIVE_HEADER, ACTIVE_IMAGE, SLOT = 0x8000, 0x8400, 0x88000
ROOM, SLOT_SIZE, HEADER = 0x80000 - ACTIVE_IMAGE, FLASH - SLOT, 112


@dataclass
class Found:
    """An image as its header has it."""

    version: int
    size: int
    digest: bytes


@dataclass
class Verdict:
    """What the next start from power-on does; line: what it says of the slot, "" if it installs what lies there."""

    installs: bool
    starts: bool
    line: str
    image: bytes = b""


def look(content: bytes | bytearray) -> Verdict:
    """Judge a flash of 1 MiB."""
    assert len(content) == FLASH
    flash = memoryview(content)
    active = header(flash[ACTIVE_HEADER : ACTIVE_HEADER + HEADER])
    whole = active is not None and 0 < active.size <= ROOM and is_whole(flash[ACTIVE_IMAGE:], active)
    best = active.version if whole and active is not None else 0
    stored = header(flash[SLOT : SLOT + HEADER])
    if stored is None:
        return Verdict(False, whole, "No Update image")
    if stored.version <= best or stored.size == 0:
        return Verdict(False, whole, "Update image is older")
    if stored.size > SLOT_SIZE - HEADER or not is_whole(flash[SLOT + HEADER :], stored):
        return Verdict(False, whole, "Update image integrity check failed")
    if stored.size > ROOM:
        return Verdict(False, whole, "Update image too large")
    return Verdict(True, True, "", bytes(flash[SLOT + HEADER :][: stored.size]))


def header(data: memoryview) -> Found | None:
    """Read a header; None if there is none, or one that is not whole."""
    if be(data, 0, 4) != 0x5A51B3D4 or be(data, 4, 4) != 2 or be(data, 108, 4) != zlib.crc32(data[:108]):
        return None
    return Found(be(data, 8, 8), be(data, 16, 8), bytes(data[24:56]))


def is_whole(data: memoryview, found: Found) -> bool:
    """Whether the image that lies there is the header's."""
    return hashlib.sha256(data[: found.size]).digest() == found.digest


def be(data: memoryview, at: int, size: int) -> int:
    """Read a big-endian number."""
    return int.from_bytes(data[at : at + size], "big")
