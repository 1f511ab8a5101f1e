"""Bootloaders: what decides which image a board starts, and installs a candidate.

    bootloader = bootloaders.build("fota", hardware)
    bootloader.boot(print)

`fota` reads firmware headers v3, as the 4.x clients' bootloader does; `mbed` is the seed's mbed-bootloader, with
headers v2. What both do badly can be mended by name, or all of it: `build("mbed", hardware, {"fixed": True})`.
`trial` is pdmlab's own: it starts images that
are signed by the key among its options, each new one on trial until the application confirms it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from pdmlab.errors import ConfigError
from pdmlab.update.bootloaders import switches
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
from pdmlab.update.bootloaders.mbed import MbedBootloader
from pdmlab.update.bootloaders.trial import TrialBootloader, places
from pdmlab.update.bootloaders.trial import key as image_key
from pdmlab.update.bootloaders.trial.records import programmer_mark
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.candidate_v2 import UpdateStorage, storage_locations
from pdmlab.update.header import FirmwareHeader, HeaderFields
from pdmlab.update.header_v2 import FirmwareHeaderV2
from pdmlab.update.layout import FlashLayout
from pdmlab.update.region import round_up
from pdmlab.update.version import Version

__all__ = [
    "DEFAULT",
    "KINDS",
    "BootResult",
    "Bootloader",
    "CandidatePlace",
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
    "timestamp_of",
]

Piece = tuple[int, bytes]
"""An offset in flash (B), and what a programmer writes there."""


CandidatePlace = CandidateSlot | UpdateStorage
"""Where a downloaded image waits: a slot with headers v3, or the older client's storage locations."""


def candidate_slot(of: Kind, hardware: Hardware) -> CandidatePlace:
    """Make the candidate slot, or slots, in the layout that a bootloader reads."""
    if of == "mbed":
        return UpdateStorage(storage_locations(hardware, hardware.layout.storage_locations))
    return _slot(of, hardware)


def _slot(of: Kind, hardware: Hardware) -> CandidateSlot:
    if of == "trial":
        return places.candidate_slot(hardware)
    area = hardware.layout.candidate
    return CandidateSlot(hardware.storage, offset=area.offset, size=area.size)


def build(of: Kind, hardware: Hardware, options: Mapping[str, Any] | None = None) -> Bootloader:
    """Make a bootloader for one start of a board; options are what was compiled into it.

    Raises:
        ConfigError: it has no such option.
    """
    check_options(of, options or {})
    if of == "trial":
        return TrialBootloader(hardware, _slot(of, hardware), image_key.point_of(options or {}))
    given = switches.arguments(of, options or {})
    return MbedBootloader(hardware, **given) if of == "mbed" else FotaBootloader(hardware, _slot(of, hardware), **given)


def check_options(of: Kind, options: Mapping[str, Any]) -> None:
    """Refuse what a bootloader cannot be built with.

    Raises:
        ConfigError: it has no such option, or not with that value.
    """
    if of == "trial":
        image_key.point_of(options)
        options = {name: value for name, value in options.items() if name != image_key.OPTION}
    switches.arguments(of, options)


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
    digest = hashlib.sha256(image).digest()
    if of == "mbed":
        head = FirmwareHeaderV2(len(image), timestamp_of(version), digest).pack_internal()
    else:
        head = FirmwareHeader(len(image), version, digest).pack()
    return [(layout.header_offset, head), (layout.app_offset, image)]


def timestamp_of(version: Version) -> int:
    """Return what stands for a.b.c in a header v2, whose versions are seconds since 1970: three digits for each.

    The least is 0 and the most 999,999,999, in 2001: whatever an update brings since is newer, as it is on a board
    that was programmed before the update was signed.
    """
    return (version.major * 1000 + version.minor) * 1000 + version.patch


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
    if of == "mbed":
        return FirmwareHeaderV2.parse_internal(data)
    return HeaderFields.parse_active(data) if of == "fota" else FirmwareHeader.parse(data)
