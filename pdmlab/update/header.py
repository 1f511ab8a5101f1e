"""Firmware headers v3: what stands before an image, active or candidate, and the mark of a whole candidate.

Offsets as mbed-cloud-client 4.13.4 and its newer bootloader have them (fota_header_info.h,
fota_candidate.h), little endian, without image signature and vendor data:

    0 magic u32 · 4 size u32 · 8 version u64 · 16 SHA-256[32] · 48 reserved[64] · 112 barrier u8
    113 flags u8 · 114 bytes from 112 on u16 (48) · 116 block size u16 · 118 precursor SHA-256[32]
    150 padding · 152 magic u32 · 156 padding · 160
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pdmlab.errors import ConfigError, ImageRejected
from pdmlab.update.version import Version

FIRMWARE_MAGIC = 0x5C0253A3
READY_MAGIC = 0xFED54E01
HEADER_SIZE = 160
READY_SIZE = 20
FLAG_ENCRYPTED = 1
FLAG_RESUME = 2
NO_PRECURSOR = bytes(32)

_HEADER = struct.Struct("<IIQ32s64xBBHH32s2xI4x")
_READY = struct.Struct("<I9s3xI")
_EXTERNAL_SIZE = HEADER_SIZE - 112


@dataclass(frozen=True)
class FirmwareHeader:
    """The header of an image of `size` bytes; `precursor` is the SHA-256 of the image it replaces, or zeros."""

    size: int
    version: Version
    digest: bytes
    precursor: bytes = NO_PRECURSOR
    flags: int = 0
    block_size: int = 1024

    @property
    def version_number(self) -> int:
        """The number that bootloaders compare."""
        return self.version.number

    @property
    def version_text(self) -> str:
        """The version, a.b.c."""
        return str(self.version)

    def pack(self) -> bytes:
        """Return the header's 160 bytes; raise ConfigError for what its fields cannot hold."""
        if not 0 < self.size <= 0xFFFF_FFFF or not 0 <= self.flags <= 0xFF or not 0 <= self.block_size <= 0xFFFF:
            raise ConfigError(f"a firmware header cannot hold an image of {self.size} B, flags {self.flags}")
        if len(self.digest) != 32 or len(self.precursor) != 32:
            raise ConfigError("digest and precursor of a firmware header are SHA-256 values of 32 bytes")
        return _HEADER.pack(
            FIRMWARE_MAGIC, self.size, self.version.number, self.digest, 0, self.flags, _EXTERNAL_SIZE,
            self.block_size, self.precursor, FIRMWARE_MAGIC,
        )  # fmt: skip

    @classmethod
    def parse(cls, data: bytes) -> FirmwareHeader:
        """Read a header from the first 160 bytes of data; raise ImageRejected if there is no whole one."""
        if len(data) < HEADER_SIZE:
            raise ImageRejected(f"a firmware header has {HEADER_SIZE} B, here are {len(data)}")
        magic, size, number, digest, _, flags, external, block_size, precursor, footer = _HEADER.unpack_from(data)
        if magic != FIRMWARE_MAGIC or footer != FIRMWARE_MAGIC:
            raise ImageRejected(
                f"no firmware header v3: magic 0x{magic:08x} at 0, 0x{footer:08x} at 152, not 0x{FIRMWARE_MAGIC:08x}",
                hint="an erased or half-written header reads like this",
            )
        if external != _EXTERNAL_SIZE or size == 0:
            raise ImageRejected(f"a firmware header of an image of {size} B with {external} B from offset 112 on")
        try:
            version = Version.from_number(number)
        except ConfigError as error:
            raise ImageRejected(f"firmware header: {error.message}") from error
        return cls(size, version, digest, precursor, flags, block_size)


def pack_ready(component: str = "MAIN") -> bytes:
    """Return the 20 bytes that mark a candidate as whole: magic, component name, magic."""
    name = component.encode()
    if not 1 <= len(name) <= 8:
        raise ConfigError(f"the component name {component!r} is not 1 to 8 characters")
    return _READY.pack(READY_MAGIC, name, READY_MAGIC)


def parse_ready(data: bytes) -> str | None:
    """Return the component a ready header names; None unless both its magic numbers are there."""
    if len(data) < READY_SIZE:
        return None
    first, name, last = _READY.unpack_from(data)
    if first != READY_MAGIC or last != READY_MAGIC:
        return None
    return str(name.split(b"\0", 1)[0].decode("ascii", "replace"))
