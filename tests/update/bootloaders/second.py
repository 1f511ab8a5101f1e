"""A second decoder of whole K64F flashes, written from the description of the 4.x bootloader alone.

It shares nothing with pdmlab.update, and says of a flash what a bootloader does at the next start: install, or not and
why. Where the active image is not whole the description says nothing, and so does it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

FLASH = 1 << 20
ACTIVE_HEADER, ACTIVE_IMAGE, SLOT = 0x8000, 0x8200, 0x88000
ROOM = 0x80000 - ACTIVE_IMAGE  # KVStore comes after the application
UNIT = 8


@dataclass
class Verdict:
    """What is to happen; reasons: all that speaks against installing, by one word each."""

    active_is_whole: bool
    reasons: set[str] = field(default_factory=set)
    image: bytes = b""
    """The candidate's, if there is one to read."""

    @property
    def installs(self) -> bool:
        return self.active_is_whole and not self.reasons


def look(content: bytes | bytearray) -> Verdict:
    """Judge a flash of 1 MiB."""
    assert len(content) == FLASH
    flash = memoryview(content)
    active = flash[ACTIVE_HEADER : ACTIVE_HEADER + 112]
    size, version, digest = le(active, 4, 4), le(active, 8, 8), active[16:48]
    whole = (
        le(active, 0, 4) == 0x5C0253A3
        and 0 < size <= ROOM
        and hashlib.sha256(flash[ACTIVE_IMAGE : ACTIVE_IMAGE + size]).digest() == digest
    )
    verdict = Verdict(whole)
    against, slot = verdict.reasons, flash[SLOT:]
    if le(slot, 0, 4) != 0xFED54E01 or le(slot, 16, 4) != 0xFED54E01:
        against.add("no ready marker")
        return verdict
    if bytes(slot[4:13]).split(b"\0")[0] != b"MAIN":
        against.add("component")
        return verdict
    header = slot[24:]
    length = 112 + le(header, 114, 2)
    if le(header, 0, 4) != 0x5C0253A3 or le(header, length - 8, 4) != 0x5C0253A3:
        against.add("header")
        return verdict
    size, flags, page = le(header, 4, 4), header[113], le(header, 116, 2)
    if size == 0:
        against.add("header")
        return verdict
    if flags & 1:
        against.add("encrypted")
        return verdict
    start = 24 + length + -length % UNIT
    if flags & 2 and page <= 2:
        against.add("header")
        return verdict
    if size > ROOM or start + size > len(slot):
        against.add("size")
        return verdict
    verdict.image = in_pages(slot[start:], size, page) if flags & 2 else bytes(slot[start : start + size])
    if hashlib.sha256(verdict.image).digest() != header[16:48]:
        against.add("sha256")
    if header[118:150] != digest:
        against.add("precursor")
    if le(header, 8, 8) <= version:
        against.add("version")
    return verdict


def in_pages(data: memoryview, size: int, page: int) -> bytes:
    """Put the image together from pages of a checksum and data; b"" where a page is not whole."""
    image = b""
    while len(image) < size:
        if page <= 2 or len(data) < 3:
            return b""
        payload = data[2:page][: size - len(image)]
        if sum(payload) % 65536 != le(data, 0, 2):
            return b""
        image += bytes(payload)
        data = data[page:]
    return image


def le(data: memoryview, at: int, size: int) -> int:
    """Read a little-endian number."""
    return int.from_bytes(data[at : at + size], "little")
