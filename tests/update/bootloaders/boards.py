"""Two media and a bootloader over them: the least that a bootloader's test needs of a board."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pdmlab.storage.kv.nvstore import NVStore, root_of_trust
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.interface import (
    CORTEX_M4_SHA256,
    Bootloader,
    BootResult,
    Hardware,
    HashRate,
    Kind,
    ResetReason,
)
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.candidate_v2 import storage_locations
from pdmlab.update.header_v2 import FirmwareHeaderV2, device_key
from pdmlab.update.layout import Area, FlashGeometry, FlashLayout
from pdmlab.update.manifest import Manifest
from pdmlab.update.version import Version

Medium = Callable[[str, int], Any]  # a CuttableFlash, which lives in conftest.py
K = 1024
OLD, NEW = random.Random(1).randbytes(21_000), random.Random(2).randbytes(25_003)
OLD_DIGEST = hashlib.sha256(OLD).digest()
ROOT_OF_TRUST = bytes(range(16))

LAYOUT = FlashLayout(
    FlashGeometry(0, 64 * K, ((16, 4 * K),), program_size=8),
    Area("bootloader", 0, 8 * K),
    Area("header", 8 * K, K),
    Area("application", 9 * K, 47 * K),
    (Area("SOTP section 1", 56 * K, 4 * K), Area("SOTP section 2", 60 * K, 4 * K)),
    Area("candidate", 0, 64 * K),
    "SD",
)


class Board:
    """A board's two media, with an old application in its flash unless it is to be empty."""

    kind: Kind = "fota"

    def __init__(
        self,
        medium: Medium,
        part: str = "SD",
        *,
        layout: FlashLayout = LAYOUT,
        options: dict[str, Any] | None = None,
        programmed: bool = True,
    ) -> None:
        self.layout, self.options = layout, options or {}
        self.flash = medium("FLASHIAP", layout.geometry.size)
        self.storage = self.flash if layout.candidate_on == "FLASHIAP" else medium(part, 64 * K)
        self.retained: dict[str, int] = {}
        self.lines: list[str] = []
        if programmed:
            self.program(OLD, "1.0.0")

    def program(self, image: bytes, version: str) -> None:
        """Write an application and its header, as a programmer does."""
        content = bytearray(self.flash.contents())
        for at, data in bootloaders.programmed(self.kind, self.layout, image, Version.parse(version)):
            content[at : at + len(data)] = data
        self.flash.restore(bytes(content))

    def hardware(self, rate: HashRate = CORTEX_M4_SHA256) -> Hardware:
        return Hardware(self.layout, self.flash, self.storage, self.nvstore, self.retained, rate)

    @property
    def nvstore(self) -> NVStore:
        return NVStore(self.flash, [(area.offset, area.size) for area in self.layout.sotp])

    @property
    def bootloader(self) -> Bootloader:
        return bootloaders.build(self.kind, self.hardware(), self.options)

    def boot(self, reason: ResetReason = "power-on") -> BootResult:
        self.lines = []
        if reason == "power-on":
            self.retained.clear()
        return self.bootloader.boot(self.lines.append, reason)

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def damage(self, offset: int) -> None:
        """Turn a bit of the flash."""
        content = bytearray(self.flash.contents())
        content[offset] ^= 1
        self.flash.restore(bytes(content))

    def running(self) -> bytes:
        header = self.bootloader.active()
        assert header is not None
        image: bytes = self.flash.read(self.layout.app_offset, header.size)
        assert hashlib.sha256(image).digest() == header.digest
        return image


class FotaBoard(Board):
    """A board with the 4.x bootloader."""

    def slot(self) -> CandidateSlot:
        area = self.layout.candidate
        return CandidateSlot(self.storage, offset=area.offset, size=area.size)

    def offer(
        self,
        image: bytes = NEW,
        version: str = "1.0.1",
        precursor: bytes = OLD_DIGEST,
        component: str = "MAIN",
        **how: Any,
    ) -> None:
        slot = self.slot()
        manifest = Manifest.for_image(
            image, version=version, uri="/fw", vendor_id=bytes(16), class_id=bytes(16), component=component
        )
        slot.begin(manifest, precursor=precursor, **how)
        slot.write(0, image)
        slot.finish()


class MbedBoard(Board):
    """A board with mbed-bootloader, and a root of trust; an image's version is a number of seconds."""

    kind: Kind = "mbed"

    def __init__(self, *arguments: Any, locations: int = 1, **others: Any) -> None:
        layout = replace(others.pop("layout", LAYOUT), storage_locations=locations)
        super().__init__(*arguments, layout=layout, **others)
        root_of_trust(self.nvstore, lambda n: ROOT_OF_TRUST[:n])

    def offer(
        self,
        image: bytes = NEW,
        version: int = 1_700_000_000,
        slot: int = 0,
        *,
        digest: bytes | None = None,
        campaign: bytes = bytes(16),
    ) -> None:
        location = storage_locations(self.hardware(), self.layout.storage_locations)[slot]
        header = FirmwareHeaderV2(len(image), version, hashlib.sha256(image).digest(), campaign)
        location.begin(header)
        location.write(0, image)
        location.finish()
        if digest is not None:  # over the header of a card, which takes that
            packed = replace(header, digest=digest).pack_external(device_key(ROOT_OF_TRUST))
            self.storage.program(location.region.offset, packed.ljust(512, b"\xff"))
