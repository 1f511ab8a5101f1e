"""How fast simulated storage runs: device seconds for each host second, by write buffer, without a suite around it."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.table import Table
from pdmlab.clock import SECOND, Clock, DeviceClock
from pdmlab.firmware.corpus import corpus
from pdmlab.storage import (
    FATFileSystem,
    FileSystem,
    LittleFileSystem2,
    Medium,
    ProfilingBlockDevice,
    QSPIFBlockDevice,
    SDBlockDevice,
    SPIFBlockDevice,
)
from pdmlab.storage.benchmark import Transfer, benchmark_file
from pdmlab.storage.blockdevice import BlockDevice

WRITE_BUFFERS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
DEVICES: dict[str, Callable[[Clock], BlockDevice]] = {
    "SD": lambda clock: SDBlockDevice(Medium(64 << 20, erase_value=0), clock=clock),
    "SPIF": lambda clock: SPIFBlockDevice(Medium(8 << 20), clock=clock),
    "QSPIF": lambda clock: QSPIFBlockDevice(Medium(8 << 20), clock=clock),
}
FILE_SYSTEMS: dict[str, Callable[[], FileSystem]] = {"FAT": FATFileSystem, "LFS": LittleFileSystem2}


def measure(stack: str, buffer: int) -> tuple[Transfer, Transfer, float]:
    """Write and read the corpus once; return what came of it and how long the host took (s)."""
    device, file_system = stack.split("+")
    with DeviceClock() as clock:
        fs = FILE_SYSTEMS[file_system]()

        def main() -> tuple[Transfer, Transfer]:
            fs.reformat(ProfilingBlockDevice(DEVICES[device](clock)))
            return benchmark_file(fs, corpus(), buffer)

        start = time.perf_counter()
        written, read = clock.call(main)
        return written, read, time.perf_counter() - start


def bench() -> None:
    """Write and read the corpus once with each stack and buffer."""
    table = Table(
        "File systems on simulated parts: device seconds for each host second",
        {"storage": "", "buffer (B)": "d", "write (kB/s)": ".1f", "read (kB/s)": ".1f", "programs": "d",
         "device (s)": ".2f", "host (s)": ".3f", "ratio": ".1f"},
    )  # fmt: skip
    for stack in ("SD+FAT", "SD+LFS", "SPIF+LFS", "QSPIF+LFS", "QSPIF+FAT"):
        for buffer in WRITE_BUFFERS:
            written, read, host = measure(stack, buffer)
            device = (written.duration + read.duration) / SECOND
            rates = written.throughput / 1000, read.throughput / 1000
            table.row(stack, buffer, *rates, written.operations["programs"], device, host, device / host)
