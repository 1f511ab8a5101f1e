"""What the format of update manifests v3 says of their fields: sizes, ranges, and a device's result otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pdmlab.update.results import FotaResult
from pdmlab.update.version import is_version

MAX_COMPONENT = 8
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
        if len(self.installed_digest) != 32:
            yield FotaResult.CRYPTO, f"the installed digest has {len(self.installed_digest)} bytes, not 32"
        if (self.precursor_digest is None) == (payload_format is PayloadFormat.DELTA):
            yield _MALFORMED, "a precursor digest belongs to a delta, and to nothing else"
        if self.precursor_digest is not None and len(self.precursor_digest) != 32:
            yield FotaResult.CRYPTO, f"the precursor digest has {len(self.precursor_digest)} bytes, not 32"


def _component_fault(name: str) -> str:
    fits = 1 <= len(name.encode()) <= MAX_COMPONENT
    return "" if fits else f"the component name {name[:40]!r} is not 1 to {MAX_COMPONENT} characters"


def _uri_fault(uri: str) -> str:
    size = len(uri.encode())
    return "" if 1 <= size <= MAX_URI else f"the URI has {size} bytes, not 1 to {MAX_URI}"


def _of(size: int, what: str) -> Callable[[bytes], str]:
    return lambda value: "" if len(value) == size else f"the {what} has {len(value)} bytes, not {size}"


def _within(least: int, most: int, what: str) -> Callable[[int], str]:
    return lambda number: "" if least <= number <= most else f"the {what} {number} is outside {least} to {most}"


RULES: Mapping[str, tuple[FotaResult, Callable[[Any], str]]] = {  # Any: each field has a type of its own
    "vendor_id": (_MALFORMED, _of(16, "vendor id")),
    "class_id": (_MALFORMED, _of(16, "class id")),
    "priority": (_MALFORMED, _within(0, 0xFFFF_FFFF, "priority")),
    "component": (_MALFORMED, _component_fault),
    "version": (_MALFORMED, lambda text: "" if is_version(text) else f"{text[:40]!r} is not a version"),
    "payload_digest": (FotaResult.CRYPTO, _of(32, "payload digest")),
    "payload_size": (_MALFORMED, _within(1, MAX_IMAGE, "payload size in bytes")),
    "uri": (FotaResult.BAD_URI, _uri_fault),
}
"""What the format says of each field before the payload's format, in the order in which they come: the result that a
device gives, and what names the fault, or nothing."""


def field_faults(name: str, value: object) -> Iterator[tuple[FotaResult, str]]:
    """Name what the format does not allow of one of the fields in RULES, with the result a device would give."""
    result, fault = RULES[name][0], RULES[name][1](value)
    if fault:
        yield result, fault
