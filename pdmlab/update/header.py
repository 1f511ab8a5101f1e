"""Firmware headers v3: what stands before an image, active or candidate, and the mark of a whole candidate.

Little endian, offsets without and with the image's signature (mbed-cloud-client 4.13, fota_header_info.h,
fota_candidate.h; a build has signatures if MBED_CLOUD_CLIENT_FOTA_SIGNED_IMAGE_SUPPORT is defined):

      0    0  magic u32 · size u32 · version u64
           16 signature[64], r and s
     16   80  SHA-256[32] · reserved[64]
    112  176  barrier u8 · flags u8 · bytes from here on u16 (48, or 80 with a wrapped key) · block size u16
    118  182  precursor SHA-256[32] · wrapped key: key[16], CCM tag[8], padding[2], IV u64
    152  216  magic u32 · padding[4]; 32 B further on with a wrapped key

Nothing in it says whether it is signed: in a signed header the bytes that would count the second part are
reserved ones, zeros. size_t and pointers are not in it, and ARM aligns u64 to 8 B on 32 and on 64 bits alike.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pdmlab.errors import ConfigError, ImageRejected
from pdmlab.update.version import Version

FIRMWARE_MAGIC = 0x5C0253A3
READY_MAGIC = 0xFED54E01
HEADER_SIZE = 160
"""A header without signature and wrapped key (B)."""
SIGNED_HEADER_SIZE = 224
MAX_HEADER_SIZE = 256
"""The longest header, with both (B): read as much before `FirmwareHeader.parse`."""
ACTIVE_SIZE = 112
"""What bootloaders write of an active image's header, without a signature (B)."""
READY_SIZE = 20
FLAG_ENCRYPTED = 1
FLAG_RESUME = 2
NO_PRECURSOR = bytes(32)
SIGNATURE_SIZE = 64

_START = struct.Struct("<IIQ")
_MIDDLE = struct.Struct("<32s64xBBHH32s")
_KEY = struct.Struct("<16s8s2xQ")
_FOOTER = struct.Struct("<I4x")
_READY = struct.Struct("<I9s3xI")
_BARRIER = 96  # from the SHA-256 to the barrier (B)
_SECOND_PART, _WITH_KEY = 48, 80


@dataclass(frozen=True)
class WrappedKey:
    """A candidate's own key, encrypted under the device's: AES-CCM, with its tag and the nonce's counter."""

    key: bytes
    tag: bytes
    iv: int


@dataclass(frozen=True)
class FirmwareHeader:
    """The header of an image of `size` bytes; `precursor` is the SHA-256 of the image it replaces, or zeros.

    signature: r and s of the image's signature, 64 B, in builds that have one; empty in the others.
    wrapped_key: in candidates that are encrypted under a key of their own.
    """

    size: int
    version: Version
    digest: bytes
    precursor: bytes = NO_PRECURSOR
    flags: int = 0
    block_size: int = 1024
    signature: bytes = b""
    wrapped_key: WrappedKey | None = None

    def __repr__(self) -> str:
        return _shown("FirmwareHeader", self)

    @property
    def version_number(self) -> int:
        """The number that bootloaders compare."""
        return self.version.number

    @property
    def version_text(self) -> str:
        """The version, a.b.c."""
        return str(self.version)

    @property
    def length(self) -> int:
        """The header's own size (B)."""
        return header_size(signed=bool(self.signature), wrapped_key=self.wrapped_key is not None)

    def pack(self) -> bytes:
        """Return the header's bytes, `length` of them; raise ConfigError for what its fields cannot hold."""
        if not 0 < self.size <= 0xFFFF_FFFF or not 0 <= self.flags <= 0xFF or not 0 <= self.block_size <= 0xFFFF:
            raise ConfigError(f"a firmware header cannot hold an image of {self.size} B, flags {self.flags}")
        if len(self.digest) != 32 or len(self.precursor) != 32:
            raise ConfigError("digest and precursor of a firmware header are SHA-256 values of 32 bytes")
        if len(self.signature) not in (0, SIGNATURE_SIZE):
            raise ConfigError(f"an image's signature in a firmware header has 64 B, not {len(self.signature)}")
        wrapped = self.wrapped_key
        if wrapped is not None and (len(wrapped.key) != 16 or len(wrapped.tag) != 8):
            raise ConfigError("a wrapped key in a firmware header has 16 B, and its tag 8")
        second = _SECOND_PART if wrapped is None else _WITH_KEY
        return b"".join(
            (
                _START.pack(FIRMWARE_MAGIC, self.size, self.version.number),
                self.signature,
                _MIDDLE.pack(self.digest, 0, self.flags, second, self.block_size, self.precursor),
                bytes(2) if wrapped is None else _KEY.pack(wrapped.key, wrapped.tag, wrapped.iv),
                _FOOTER.pack(FIRMWARE_MAGIC),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> FirmwareHeader:
        """Read a header from the start of data, in whichever form it has; raise ImageRejected if there is no whole one.

        data: MAX_HEADER_SIZE bytes, where the medium has as many.
        """
        found = HeaderFields.parse(data)
        try:
            version = Version.from_number(found.version_number)
        except ConfigError as error:
            raise ImageRejected(f"firmware header: {error.message}") from error
        return cls(
            found.size,
            version,
            found.digest,
            found.precursor,
            found.flags,
            found.block_size,
            found.signature,
            found.wrapped_key,
        )


@dataclass(frozen=True)
class HeaderFields:
    """What a bootloader reads of a header: it compares version numbers, whether or not they are those of an a.b.c."""

    size: int
    version_number: int
    digest: bytes
    precursor: bytes = NO_PRECURSOR
    flags: int = 0
    block_size: int = 1024
    signature: bytes = b""
    wrapped_key: WrappedKey | None = None

    def __repr__(self) -> str:
        return _shown("HeaderFields", self)

    @property
    def version_text(self) -> str:
        """The version, a.b.c, or its number."""
        try:
            return str(Version.from_number(self.version_number))
        except ConfigError:
            return str(self.version_number)

    @property
    def length(self) -> int:
        """A candidate's header's own size (B)."""
        return header_size(signed=bool(self.signature), wrapped_key=self.wrapped_key is not None)

    @classmethod
    def parse_active(cls, data: bytes) -> HeaderFields:
        """Read the header of an active image: only the first part is there for certain.

        data: ACTIVE_SIZE bytes, or more. With the image's signature, reserved bytes come after 112: zeros.

        Raises:
            ImageRejected: there is none.
        """
        if len(data) < ACTIVE_SIZE:
            raise ImageRejected(f"an active firmware header has {ACTIVE_SIZE} B, here are {len(data)}")
        size, number = _parse_start(data)
        signed = len(data) >= ACTIVE_SIZE + SIGNATURE_SIZE and not any(data[ACTIVE_SIZE : ACTIVE_SIZE + SIGNATURE_SIZE])
        at = _START.size + (SIGNATURE_SIZE if signed else 0)
        return cls(size, number, data[at : at + 32], signature=data[_START.size : at])

    @classmethod
    def parse(cls, data: bytes) -> HeaderFields:
        """Read a whole header from the start of data, in whichever form it has; raise ImageRejected if there is none.

        data: MAX_HEADER_SIZE bytes, where the medium has as many.
        """
        if len(data) < HEADER_SIZE:
            raise ImageRejected(f"a firmware header has {HEADER_SIZE} B, here are {len(data)}")
        size, number = _parse_start(data)
        signed, second = _form(data)
        at = _START.size + (SIGNATURE_SIZE if signed else 0)
        digest, _, flags, _, block_size, precursor = _MIDDLE.unpack_from(data, at)
        end = at + _BARRIER + second - _FOOTER.size
        (footer,) = _FOOTER.unpack_from(data, end)
        if footer != FIRMWARE_MAGIC:
            raise _no_header(f"0x{footer:08x} at {end}, not 0x{FIRMWARE_MAGIC:08x}")
        signature = data[_START.size : at]
        wrapped = WrappedKey(*_KEY.unpack_from(data, at + _MIDDLE.size)) if second == _WITH_KEY else None
        return cls(size, number, digest, precursor, flags, block_size, signature, wrapped)


def _parse_start(data: bytes) -> tuple[int, int]:
    """Return size (B) and version's number."""
    magic, size, number = _START.unpack_from(data)
    if magic != FIRMWARE_MAGIC:
        raise _no_header(f"magic 0x{magic:08x} at 0, not 0x{FIRMWARE_MAGIC:08x}")
    if size == 0:
        raise ImageRejected("a firmware header of an image of 0 B")
    return size, number


def _form(data: bytes) -> tuple[bool, int]:
    """Say whether the header is signed, and how long its second part is (B)."""
    for signed in (False, True):
        barrier = _START.size + (SIGNATURE_SIZE if signed else 0) + _BARRIER
        (second,) = struct.unpack_from("<H", data[barrier + 2 : barrier + 4].ljust(2, b"\0"))
        if second in (_SECOND_PART, _WITH_KEY) and len(data) >= barrier + second:
            return signed, second
    raise _no_header(f"{int.from_bytes(data[114:116], 'little')} B from offset 112 on")


def header_size(*, signed: bool = False, wrapped_key: bool = False) -> int:
    """Return how long a header is (B)."""
    return HEADER_SIZE + (SIGNATURE_SIZE if signed else 0) + (_WITH_KEY - _SECOND_PART if wrapped_key else 0)


def _no_header(found: str) -> ImageRejected:
    return ImageRejected(f"no firmware header v3: {found}", hint="an erased or half-written header reads like this")


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


def _shown(name: str, header: FirmwareHeader | HeaderFields) -> str:
    """Return a header in a line: version, size, digests in hex, and what else it has."""
    parts = [header.version_text, f"{header.size} B", f"sha256={header.digest.hex()}"]
    if header.precursor != NO_PRECURSOR:
        parts.append(f"precursor={header.precursor.hex()}")
    if header.flags:
        parts.append(f"flags=0x{header.flags:02x}")
    if header.signature:
        parts.append("signed")
    if header.wrapped_key is not None:
        parts.append("with a key of its own")
    return f"{name}({', '.join(parts)})"
