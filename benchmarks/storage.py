"""How fast simulated storage runs, without a suite around it: against device time, and against bytes in RAM."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from littlefs import UserContext

from benchmarks.table import Table
from pdmlab.clock import SECOND, Clock, DeviceClock
from pdmlab.firmware.corpus import corpus
from pdmlab.firmware.device import Device
from pdmlab.firmware.fs_suites import WRITE_BUFFERS, exercise_file, format_storage
from pdmlab.sim import VirtualBoard
from pdmlab.storage import (
    FATFileSystem,
    FileSystem,
    LittleFileSystem2,
    Medium,
    ProfilingBlockDevice,
    QSPIFBlockDevice,
    SDBlockDevice,
    SlicingBlockDevice,
    SPIFBlockDevice,
)
from pdmlab.storage.benchmark import Transfer, benchmark_file
from pdmlab.storage.blockdevice import BlockDevice, HeapBlockDevice
from pdmlab.storage.fat import Disk
from pdmlab.storage.filesystem import Kept

MHZ = 1_000_000
DEVICES: dict[str, Callable[[Clock], BlockDevice]] = {
    "SD 1 MHz": lambda clock: SDBlockDevice(Medium(64 << 20, erase_value=0), clock=clock, frequency=MHZ),
    "SPIF 1 MHz": lambda clock: SPIFBlockDevice(Medium(8 << 20), clock=clock, frequency=MHZ),
    "SPIF 40 MHz": lambda clock: SPIFBlockDevice(Medium(8 << 20), clock=clock),
    "QSPIF 40 MHz": lambda clock: QSPIFBlockDevice(Medium(8 << 20), clock=clock),
}
FILE_SYSTEMS: dict[str, Callable[[], FileSystem]] = {"FAT": FATFileSystem, "LFS": LittleFileSystem2}
STACKS = (
    ("SD 1 MHz", "FAT"), ("SD 1 MHz", "LFS"), ("SPIF 1 MHz", "LFS"), ("SPIF 40 MHz", "LFS"), ("QSPIF 40 MHz", "LFS"),
    ("QSPIF 40 MHz", "FAT"),
)  # fmt: skip
SMALL, LARGE = 16, 256
REPEATS = 7


def device_time_target(device: str, buffer: int) -> float | None:
    """Return how often faster than the device a row has to be, or None."""
    if buffer == 1:
        return 10
    return 500 if buffer >= LARGE and device.endswith(" 1 MHz") else None


def measure(device: str, file_system: str, buffer: int) -> tuple[Transfer, Transfer, float]:
    """Write and read the corpus over the shipped stack; return what came of it, and the host's time for it (s)."""
    with DeviceClock() as clock:
        fs = FILE_SYSTEMS[file_system]()

        def main() -> tuple[Transfer, Transfer, float]:
            part = DEVICES[device](clock)
            fs.reformat(ProfilingBlockDevice(SlicingBlockDevice(part, 0, part.size)))
            start = time.perf_counter()
            written, read = benchmark_file(fs, corpus(), buffer)
            host = time.perf_counter() - start
            fs.unmount()
            return written, read, host

        return clock.call(main)


class _RamContext(UserContext):
    """What littlefs-python needs of a device, and nothing else."""

    def __init__(self, size: int, block_size: int) -> None:
        super().__init__(buffer=bytearray(b"\xff" * size))
        self._block_size = block_size

    def read(self, config: object, block: int, offset: int, size: int) -> bytes:
        at = block * self._block_size + offset
        return bytes(self.buffer[at : at + size])

    def prog(self, config: object, block: int, offset: int, data: bytes) -> int:
        at = block * self._block_size + offset
        self.buffer[at : at + len(data)] = data
        return 0

    def erase(self, config: object, block: int) -> int:
        return 0

    def sync(self, config: object) -> int:
        return 0


class _RamDisk(Disk):
    def __init__(self, device: BlockDevice, kept: Kept) -> None:
        super().__init__(device, kept)
        self._buffer = bytearray(device.size)

    def read(self, sector: int, size: int) -> bytes:
        at = sector * self.sector
        return bytes(self._buffer[at : at + size])

    def write(self, sector: int, size: int, data: bytes) -> None:
        at = sector * self.sector
        self._buffer[at : at + size] = data


class _BareLittle(LittleFileSystem2):
    """littlefs and our file API over bytes in RAM, in the units of a device that only says them."""

    _ram: UserContext | None = None

    def context(self, device: BlockDevice, block_size: int) -> UserContext:
        if self._ram is None:
            self._ram = _RamContext(device.size, block_size)
        return self._ram


class _BareFat(FATFileSystem):
    _ram: Disk | None = None

    def disk(self, device: BlockDevice) -> Disk:
        if self._ram is None:
            self._ram = _RamDisk(device, self.kept)
        return self._ram


def measure_bare(device: str, file_system: str, buffer: int) -> float:
    """Do the same over a bare RAM context in the same units, on no device's clock; return the host's time (s)."""
    size, units = (64 << 20, (512, 512, 512)) if device.startswith("SD") else (8 << 20, (1, 1, 4096))
    fs: FileSystem = _BareFat() if file_system == "FAT" else _BareLittle()
    fs.reformat(HeapBlockDevice(size, *units))
    start = time.perf_counter()
    benchmark_file(fs, corpus(), buffer)
    host = time.perf_counter() - start
    fs.unmount()
    return host


def fs_single(device: Device) -> float:
    """Do every case of fs-single; return the host's time for them (s)."""
    fs = device.make_file_system()
    format_storage(device, fs)
    start = time.perf_counter()
    for buffer in WRITE_BUFFERS:
        device.clock.spawn(lambda buffer=buffer: exercise_file(device, fs, 0, buffer)).join()
    return time.perf_counter() - start


def bench() -> None:
    """Print the three tables; a verdict stands where there is a target."""
    corpus()  # made once
    _against_the_device()
    _against_ram()
    _whole_matrix()


def _against_the_device() -> None:
    table = Table(
        f"File systems on simulated parts: device seconds for each host second, median of {REPEATS}",
        {"part": "", "fs": "", "buffer (B)": "d", "write (kB/s)": ".1f", "read (kB/s)": ".1f", "programs": "d",
         "device (s)": ".2f", "host (s)": ".4f", "ratio": ".1f", "at least": ".0f", "verdict": ""},
    )  # fmt: skip
    for device, file_system in STACKS:
        for buffer in WRITE_BUFFERS:
            runs = [measure(device, file_system, buffer) for _ in range(REPEATS if buffer > SMALL else 3)]
            written, read, _ = runs[0]
            host = median(run[2] for run in runs)
            seconds = (written.duration + read.duration) / SECOND
            rates = written.throughput / 1000, read.throughput / 1000
            target = device_time_target(device, buffer)
            ratio = seconds / host
            table.row(
                device, file_system, buffer, *rates, written.operations["programs"], seconds, host, ratio, target,
                "" if target is None else _verdict(ratio / target),
            )  # fmt: skip


def _against_ram() -> None:
    table = Table(
        "Profiling(Slicing(driver(medium))) on a device's clock against a bare RAM context: the best of each",
        {"part": "", "fs": "", "buffer (B)": "d", "bare (ms)": ".2f", "shipped (ms)": ".2f", "ratio": ".2f",
         "at most": ".1f", "verdict": ""},
    )  # fmt: skip
    for device, file_system in STACKS:
        for buffer in WRITE_BUFFERS:
            pairs = [
                (measure_bare(device, file_system, buffer), measure(device, file_system, buffer)[2])
                for _ in range(3 * REPEATS if buffer > SMALL else 3)
            ]
            bare, shipped = (min(times) for times in zip(*pairs, strict=True))
            target = 1.3 if buffer <= SMALL else 4.0
            ratio = shipped / bare
            table.row(device, file_system, buffer, bare * 1000, shipped * 1000, ratio, target, _verdict(target / ratio))


def _whole_matrix() -> None:
    table = Table(
        "Every case of fs-single on a virtual board: seconds are meant, not minutes",
        {"board": "", "storage": "", "cases": "d", "device (s)": ".1f", "host (s)": ".2f", "at most (s)": ".0f",
         "verdict": ""},
        text_width=19,
    )  # fmt: skip
    for target in ("K64F", "DISCO_L475VG_IOT01A"):
        with VirtualBoard(target, memory=True, seed=1) as board:
            began = board.clock.now()
            host = board.run(fs_single)
            device = (board.clock.now() - began) / SECOND
            table.row(target, board.info.storage, len(WRITE_BUFFERS), device, host, 10, _verdict(10 / host))


def _verdict(reached: float) -> str:
    """Say whether a target is reached, and by how much it is beaten or missed."""
    return f"PASS, {100 * (reached - 1):.0f} % to spare" if reached >= 1 else f"short by {100 * (1 - reached):.0f} %"
