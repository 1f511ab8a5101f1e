"""Bootloaders: what decides which image a board starts, and installs a candidate.

    bootloader = bootloaders.build("fota", hardware)
    bootloader.boot(print)

`fota` reads firmware headers v3, as the 4.x clients' bootloader does. `trial` is pdmlab's own: it starts images that
are signed by the key among its options, each new one on trial until the application confirms it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from pdmlab.errors import ConfigError
from pdmlab.update.bootloaders import trial_key, trial_places
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
from pdmlab.update.bootloaders.trial import TrialBootloader
from pdmlab.update.bootloaders.trial_records import programmer_mark
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.layout import FlashLayout
from pdmlab.update.region import round_up
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
    if of == "trial":
        return trial_places.candidate_slot(hardware)
    area = hardware.layout.candidate
    return CandidateSlot(hardware.storage, offset=area.offset, size=area.size)


def build(of: Kind, hardware: Hardware, options: Mapping[str, Any] | None = None) -> Bootloader:
    """Make a bootloader for one start of a board; options are what was compiled into it.

    Raises:
        ConfigError: it has no such option.
    """
    check_options(of, options or {})
    if of == "trial":
        return TrialBootloader(hardware, candidate_slot(of, hardware), trial_key.point_of(options or {}))
    return FotaBootloader(hardware, candidate_slot(of, hardware))


def check_options(of: Kind, options: Mapping[str, Any]) -> None:
    """Refuse what a bootloader cannot be built with.

    Raises:
        ConfigError: it has no such option, or not with that value.
    """
    if of == "trial":
        trial_key.point_of(options)
        options = {name: value for name, value in options.items() if name != trial_key.OPTION}
    if options:
        raise ConfigError(f"the bootloader {of!r} has no option {', '.join(options)}")


def programmed(
    of: Kind, layout: FlashLayout, image: bytes, version: Version, *, sign: Callable[[bytes], bytes] | None = None
) -> list[Piece]:
    """Return what a programmer at the debug port writes for an application, its header with it.

    sign: returns the image's signature (r and s, 64 B) for its SHA-256, where the bootloader asks for one.

    Raises:
        ConfigError: it asks for one, and there is nobody to sign.
    """
    if of == "trial":
        return _programmed_signed(layout, image, version, sign)
    header = FirmwareHeader(len(image), version, hashlib.sha256(image).digest())
    return [(layout.header_offset, header.pack()), (layout.app_offset, image)]


def _programmed_signed(
    layout: FlashLayout, image: bytes, version: Version, sign: Callable[[bytes], bytes] | None
) -> list[Piece]:
    if sign is None:
        raise ConfigError("the trial bootloader starts signed images only, and there is no key to sign with")
    digest = hashlib.sha256(image).digest()
    packed = FirmwareHeader(len(image), version, digest, signature=sign(digest)).pack()
    at = round_up(len(packed), layout.geometry.program_size)
    head = packed.ljust(at, b"\xff") + programmer_mark(digest)
    return [(layout.header_offset, head), (layout.app_offset, image)]


def header_of(of: Kind, data: bytes) -> ImageHeader:
    """Read an active image's header, in the layout that a bootloader reads.

    Raises:
        ImageRejected: there is none.
    """
    return FirmwareHeader.parse(data)
