"""Firmware headers v2: what mbed-bootloader reads before an image, active (internal) or stored (external).

Offsets as update-client-hub and mbed-bootloader have them (arm_uc_metadata_header_v2.h), big endian:

    0 magic u32 · 4 header version u32 (2) · 8 firmware version u64 · 16 size u64 · 24 SHA-256 in 64 B
    internal: 88 campaign[16] · 104 signature size u32 · 108 CRC-32 of the first 108 B · 112
    external: 88 payload size u64 · 96 payload SHA-256 in 64 B · 160 campaign[16] · 176 transformation u32
              180 cipher key[32] · 212 IV[16] · 228 signature size u32 · 232 HMAC of the first 232 B, in 64 B · 296

The HMAC's key is `device_key(root of trust)`. An image's version is its manifest's timestamp.
"""

from __future__ import annotations

import hmac
import struct
import zlib
from dataclasses import dataclass

from pdmlab.errors import ConfigError, ImageRejected

MAGIC = 0x5A51B3D4
HEADER_VERSION = 2
INTERNAL_SIZE = 112
EXTERNAL_SIZE = 296
NO_CAMPAIGN = bytes(16)
OFF_MBED_ROOT_OF_TRUST = b"\x27" * 16
"""The root of trust of stock clients that do not run on Mbed OS (fota_header_info_v2.c)."""

_KEY_LABEL = b"StorageEnc256HMACSHA256SIGNATURE"
_COMMON = struct.Struct(">IIQQ32s32x")
_INTERNAL = struct.Struct(">16sII")
_EXTERNAL = struct.Struct(">Q32s32x16s56x")
_CRC_AT = INTERNAL_SIZE - 4
_HMAC_AT = 232
_U64 = 1 << 64


def device_key(root_of_trust: bytes) -> bytes:
    """Derive the key of external headers (32 B) from a board's root of trust (16 B).

    As ARM_UC_getDeviceKey256Bit does it (update-client-hub, modules/common): HMAC-SHA256 of a label.

    Raises:
        ConfigError: it is no root of trust.
    """
    if len(root_of_trust) != 16:
        raise ConfigError(f"a root of trust has 16 bytes, not {len(root_of_trust)}")
    return hmac.digest(root_of_trust, _KEY_LABEL, "sha256")


@dataclass(frozen=True)
class FirmwareHeaderV2:
    """The header of an image of `size` bytes; `version` is its manifest's timestamp, `campaign` a GUID or zeros."""

    size: int
    version: int
    digest: bytes
    campaign: bytes = NO_CAMPAIGN

    def __repr__(self) -> str:
        campaign = "" if self.campaign == NO_CAMPAIGN else f", campaign={self.campaign.hex()}"
        return f"FirmwareHeaderV2({self.version}, {self.size} B, sha256={self.digest.hex()}{campaign})"

    @property
    def version_number(self) -> int:
        """The number that bootloaders compare."""
        return self.version

    @property
    def version_text(self) -> str:
        """The version, as decimal digits."""
        return str(self.version)

    def pack_internal(self) -> bytes:
        """Return the 112 bytes of an active image's header; raise ConfigError for what its fields cannot hold."""
        body = self._common() + _INTERNAL.pack(self.campaign, 0, 0)[:-4]
        return body + zlib.crc32(body).to_bytes(4, "big")

    def pack_external(self, key: bytes) -> bytes:
        """Return the 296 bytes of a stored image's header, under a device key; raise ConfigError likewise."""
        body = self._common() + _EXTERNAL.pack(self.size, self.digest, self.campaign)
        return body + hmac.digest(key, body, "sha256") + bytes(32)

    @classmethod
    def parse_internal(cls, data: bytes) -> FirmwareHeaderV2:
        """Read an active image's header from the first 112 bytes of data.

        Raises:
            ImageRejected: they are too few, or no header, or one whose CRC-32 is wrong.
        """
        version, size, digest = _parse_common(data, INTERNAL_SIZE)
        found = int.from_bytes(data[_CRC_AT:INTERNAL_SIZE], "big")
        right = zlib.crc32(data[:_CRC_AT])
        if found != right:
            raise ImageRejected(
                f"firmware header v2: its CRC-32 is 0x{found:08x}, that of its bytes 0x{right:08x}",
                hint="a half-written header reads like this",
            )
        campaign, _, _ = _INTERNAL.unpack_from(data, _COMMON.size)
        return cls(size, version, digest, campaign)

    @classmethod
    def parse_external(cls, data: bytes, key: bytes) -> FirmwareHeaderV2:
        """Read a stored image's header from the first 296 bytes of data, under a device key.

        Raises:
            ImageRejected: they are too few, or no header, or one that another device (or no device) has written.
        """
        version, size, digest = _parse_common(data, EXTERNAL_SIZE)
        right = hmac.digest(key, data[:_HMAC_AT], "sha256")
        if not hmac.compare_digest(right, data[_HMAC_AT : _HMAC_AT + 32]):
            raise ImageRejected(
                "firmware header v2: its HMAC is not one of this board's device key",
                hint="a half-written header reads like this, and one that was written on another board",
            )
        _, _, campaign = _EXTERNAL.unpack_from(data, _COMMON.size)
        return cls(size, version, digest, campaign)

    def _common(self) -> bytes:
        if not 0 <= self.size < _U64 or not 0 <= self.version < _U64:
            raise ConfigError(f"a firmware header v2 cannot hold an image of {self.size} B, version {self.version}")
        if len(self.digest) != 32 or len(self.campaign) != 16:
            raise ConfigError("a firmware header v2 has a SHA-256 value of 32 bytes, and a campaign of 16")
        return _COMMON.pack(MAGIC, HEADER_VERSION, self.version, self.size, self.digest)


def _parse_common(data: bytes, needed: int) -> tuple[int, int, bytes]:
    """Return version, size and digest, after the checks that both headers have."""
    if len(data) < needed:
        raise ImageRejected(f"this firmware header v2 has {needed} B, here are {len(data)}")
    magic, header_version, version, size, digest = _COMMON.unpack_from(data)
    if magic != MAGIC:
        raise ImageRejected(
            f"no firmware header v2: magic 0x{magic:08x}, not 0x{MAGIC:08x}", hint="an erased one reads 0xffffffff"
        )
    if header_version != HEADER_VERSION:
        raise ImageRejected(f"a firmware header of version {header_version}, not {HEADER_VERSION}")
    return version, size, digest
