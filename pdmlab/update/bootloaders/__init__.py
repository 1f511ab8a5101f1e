"""Bootloaders: what decides which image a board starts, and installs a candidate.

    bootloader = bootloaders.build("fota", hardware)
    bootloader.boot(print)

`fota` reads firmware headers v3, as the 4.x clients' bootloader does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pdmlab.errors import ConfigError
from pdmlab.update.bootloaders.fota import FotaBootloader
from pdmlab.update.bootloaders.interface import (
    DEFAULT,
    KINDS,
    Bootloader,
    BootResult,
    Hardware,
    ImageHeader,
    Kind,
    Slot,
    kind,
)
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.layout import FlashLayout
from pdmlab.update.version import Version

__all__ = [
    "DEFAULT",
    "KINDS",
    "BootResult",
    "Bootloader",
    "Hardware",
    "ImageHeader",
    "Kind",
    "Slot",
    "build",
    "candidate_slot",
    "check_options",
    "header_of",
    "kind",
    "programmed",
]

Piece = tuple[int, bytes]
"""An offset in flash (B), and what a programmer writes there."""


def candidate_slot(of: Kind, hardware: Hardware) -> CandidateSlot:
    """Make the candidate slot, in the layout that a bootloader reads."""
    area = hardware.layout.candidate
    return CandidateSlot(hardware.storage, offset=area.offset, size=area.size)


def build(of: Kind, hardware: Hardware, options: Mapping[str, Any] | None = None) -> Bootloader:
    """Make a bootloader for one start of a board; options are what was compiled into it.

    Raises:
        ConfigError: it has no such option.
    """
    check_options(of, options or {})
    return FotaBootloader(hardware, candidate_slot(of, hardware))


def check_options(of: Kind, options: Mapping[str, Any]) -> None:
    """Refuse what a bootloader cannot be built with.

    Raises:
        ConfigError: it has no such option.
    """
    if options:
        raise ConfigError(f"the bootloader {of!r} has no option {', '.join(options)}")


def programmed(of: Kind, layout: FlashLayout, image: bytes, version: Version) -> list[Piece]:
    """Return what a programmer at the debug port writes for an application, its header with it."""
    header = FirmwareHeader(len(image), version, hashlib.sha256(image).digest())
    return [(layout.header_offset, header.pack()), (layout.app_offset, image)]


def header_of(of: Kind, data: bytes) -> ImageHeader:
    """Read an active image's header, in the layout that a bootloader reads.

    Raises:
        ImageRejected: there is none.
    """
    return FirmwareHeader.parse(data)
