"""A bench for the older update hub: a board whose bootloader reads headers v2."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from pdmlab.storage.blockdevice import HeapBlockDevice
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.interface import Hardware
from pdmlab.update.candidate_v2 import UpdateStorage
from pdmlab.update.header_v2 import FirmwareHeaderV2
from tests.client.bench import Bench

IMAGE = random.Random(3).randbytes(20_003)
OLD = IMAGE[:9_000] + b"as it was" + IMAGE[9_500:]
RUNNING = 1_600_000_000


class HubBench(Bench):
    """A bench whose bootloader reads headers v2."""

    def __init__(self) -> None:
        super().__init__()
        storage = HeapBlockDevice(512 * 1024, clock=self.clock)
        storage.init()
        hardware = Hardware(self.layout, self.flash, storage, self.nvstore)
        self.bootloader = bootloaders.build("mbed", hardware)
        self.storage = bootloaders.candidate_slot("mbed", hardware)
        self.candidate: Any = self.storage
        self.runs(OLD, RUNNING)

    def runs(self, image: bytes, version: int) -> None:
        header = FirmwareHeaderV2(len(image), version, hashlib.sha256(image).digest()).pack_internal()
        unit = self.flash.program_size
        for at, data in ((self.layout.header_offset, header), (self.layout.app_offset, image)):
            self.flash.program(at, data.ljust(-(-len(data) // unit) * unit, b"\xff"))

    @property
    def stored(self) -> FirmwareHeaderV2 | None:
        assert isinstance(self.storage, UpdateStorage)
        return self.storage.locations[0].header()
