"""Measure how fast simulated storage runs: device seconds per host second, by write buffer.

python benchmarks/storage.py [SD+FAT | SD+LFS | SPIF+LFS | QSPIF+LFS | QSPIF+FAT ...]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

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


def main() -> None:
    """Print a table."""
    print(
        f"{'storage':10} {'buffer (B)':>10} {'write (kB/s)':>13} {'read (kB/s)':>12} "
        f"{'programs':>9} {'device (s)':>10} {'host (s)':>9} {'ratio':>8}"
    )
    for stack in sys.argv[1:] or ("SD+FAT", "SD+LFS", "SPIF+LFS", "QSPIF+LFS", "QSPIF+FAT"):
        for buffer in WRITE_BUFFERS:
            written, read, host = measure(stack, buffer)
            device = (written.duration + read.duration) / SECOND
            print(
                f"{stack:10} {buffer:10} {written.throughput / 1000:13.1f} {read.throughput / 1000:12.1f} "
                f"{written.operations['programs']:9} {device:10.2f} {host:9.3f} {device / host:8.1f}"
            )


if __name__ == "__main__":
    main()
