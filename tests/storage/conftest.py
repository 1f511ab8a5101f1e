"""Devices and file systems under test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pdmlab.clock import Clock, WallClock
from pdmlab.storage import (
    DataFlashBlockDevice,
    FATFileSystem,
    FileSystem,
    FlashIAPBlockDevice,
    HeapBlockDevice,
    LittleFileSystem2,
    Medium,
    QSPIFBlockDevice,
    SDBlockDevice,
    SPIFBlockDevice,
)
from pdmlab.storage.blockdevice import BlockDevice

MakeDevice = Callable[[Clock], BlockDevice]

DEVICES: dict[str, MakeDevice] = {
    "heap": lambda clock: HeapBlockDevice(1 << 20, clock=clock),
    "SD": lambda clock: SDBlockDevice(Medium(4 << 20, erase_value=0), clock=clock),
    "SPIF": lambda clock: SPIFBlockDevice(Medium(1 << 20), clock=clock),
    "QSPIF": lambda clock: QSPIFBlockDevice(Medium(1 << 20), clock=clock, part="N25Q128A"),
    "DATAFLASH": lambda clock: DataFlashBlockDevice(Medium(1 << 20), clock=clock),
    "FLASHIAP": lambda clock: FlashIAPBlockDevice(Medium(1 << 20), clock=clock, part="K64F"),
}
FILE_SYSTEMS: dict[str, type[LittleFileSystem2] | type[FATFileSystem]] = {
    "littlefs": LittleFileSystem2,
    "FAT": FATFileSystem,
}


@pytest.fixture(params=DEVICES)
def make_device(request: pytest.FixtureRequest) -> MakeDevice:
    return DEVICES[request.param]


@pytest.fixture
def device(make_device: MakeDevice) -> BlockDevice:
    return make_device(WallClock())


@pytest.fixture(params=FILE_SYSTEMS)
def fs(request: pytest.FixtureRequest) -> FileSystem:
    return FILE_SYSTEMS[request.param]("fs")
