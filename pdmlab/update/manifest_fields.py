"""Limits of fields in update manifests v3, payload formats, and what belongs to a payload that is not raw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from pdmlab.update.results import FotaResult

ID_SIZE = 16  # of vendor and class (B)
DIGEST_SIZE = 32  # SHA-256 (B)
MAX_COMPONENT = 8
MAX_PRIORITY = 0xFFFF_FFFF  # the client keeps it in 32 bits
MAX_URI = 255
MAX_IMAGE = 0xFFFF_FFFF  # the firmware header's size field has 32 bits

_MALFORMED = FotaResult.MANIFEST_MALFORMED


class PayloadFormat(IntEnum):
    """How the payload makes the image."""

    RAW = 1
    DELTA = 5
    COMBINED = 6
    ENCRYPTED_RAW = 0x101
    ENCRYPTED_COMBINED = 0x106


@dataclass(frozen=True)
class PayloadMetadata:
    """The image that a payload which is not raw unpacks to (size in B, SHA-256), and what a delta applies to."""

    installed_size: int
    installed_digest: bytes
    precursor_digest: bytes | None = None

    def faults(self, payload_format: PayloadFormat) -> Iterator[tuple[FotaResult, str]]:
        """Name each field that the format does not allow, with the result a device would give."""
        if not 1 <= self.installed_size <= MAX_IMAGE:
            yield _MALFORMED, f"the installed size {self.installed_size} B is outside 1 to {MAX_IMAGE}"
        if len(self.installed_digest) != DIGEST_SIZE:
            yield FotaResult.CRYPTO, f"the installed digest has {len(self.installed_digest)} bytes, not {DIGEST_SIZE}"
        if (self.precursor_digest is None) == (payload_format is PayloadFormat.DELTA):
            yield _MALFORMED, "a precursor digest belongs to a delta, and to nothing else"
        if self.precursor_digest is not None and len(self.precursor_digest) != DIGEST_SIZE:
            yield FotaResult.CRYPTO, f"the precursor digest has {len(self.precursor_digest)} bytes, not {DIGEST_SIZE}"
