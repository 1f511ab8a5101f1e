"""The file-system suites of a stock board: fs-single and fs-multi, with the lines that they print.

Each case writes the corpus through fopen() and fwrite() with one write buffer, reads it back and compares it.
After each "[FS]" line comes a `pdmlab_row` with what the stock line leaves out: operations on the block
device, and percentiles of how long a call took.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pdmlab.clock import SECOND
from pdmlab.firmware.corpus import corpus
from pdmlab.firmware.device import Device
from pdmlab.firmware.stdio import BUFSIZ, CFile
from pdmlab.firmware.utest import Greentea, Suite
from pdmlab.storage.benchmark import Transfer, read_all, write_all
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.driver import MediumDevice
from pdmlab.storage.filesystem import FileSystem
from pdmlab.storage.wrappers import Wrapper

WRITE_BUFFERS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
THREADS = 3
"""Files that are written at the same time, each by a thread of its own."""
HOST_TEST = "default_auto"

Case = tuple[str, Callable[[], None]]


def fs_single(device: Device) -> None:
    """Write, read back and compare the corpus once with each write buffer, 1 B to 64 KiB."""
    fs = device.make_file_system()
    cases = [
        (f"{storage_name(device, fs)} 1 file, buff {size:5}", partial(exercise_file, device, fs, 0, size))
        for size in WRITE_BUFFERS
    ]
    _run(device, 300, fs, cases)


def fs_multi(device: Device) -> None:
    """The same with three threads at once, each with a file of its own, for each write buffer."""
    fs = device.make_file_system()

    def together(size: int) -> None:
        threads = [device.clock.spawn(exercise_file, device, fs, number, size) for number in range(1, THREADS + 1)]
        for thread in threads:
            thread.join()

    name = storage_name(device, fs)
    cases = [(f"{name} {THREADS} files, buff {size:5}", partial(together, size)) for size in WRITE_BUFFERS]
    _run(device, 600, fs, cases)


def storage_name(device: Device, fs: FileSystem) -> str:
    """Return what case names begin with, such as SD+FAT."""
    return f"{device.block_device_name}+{fs.type}"


def exercise_file(device: Device, fs: FileSystem, number: int, buffer: int) -> None:
    """Write the corpus to mbed-file-test-<number>.txt, buffer bytes a call, read it back and compare.

    Raises:
        StorageError: the device or the file system failed, or a byte differs.
    """
    name = f"mbed-file-test-{number}.txt"
    data = corpus()
    clock = device.clock
    # As in the stock code, what it costs to open the file is not measured, and what it costs to close it is.
    written = write_all(fs, CFile(fs, name, "w+", clock), data, buffer)
    _report(device, fs, "Wrote:", name, number, written)
    read = read_all(fs, CFile(fs, name, "r", clock), data, buffer, what=name)
    _report(device, fs, "Read :", name, number, read)


def format_storage(device: Device, fs: FileSystem) -> None:
    """Make an empty file system on the board's block device."""
    fs.reformat(device.block_device)


def _report(device: Device, fs: FileSystem, done: str, name: str, number: int, transfer: Transfer) -> None:
    seconds = transfer.duration / SECOND
    kib = transfer.bytes / 1024
    measures = {
        "suite": "fs", "thread": number, "buffer_B": transfer.buffer, "stdio_B": BUFSIZ, **_medium(fs.device),
        **transfer.measures(),
    }  # fmt: skip
    device.uart.write(f'[FS] {done} "{name}" {kib:.2f}KB ({kib / seconds:.2f}KB/s, {seconds:.2f} secs)\r\n')
    Greentea(device).send_row(measures)


def _medium(device: BlockDevice) -> dict[str, object]:
    """Return what the file system lies on: the part under all wrappers, its bus, and what its times are made from."""
    volume = device.size
    while isinstance(device, Wrapper):
        device = device.device
    if not isinstance(device, MediumDevice):
        return {"volume_B": volume}
    bus = {"QSPIF": "QSPI", "FLASHIAP": "internal"}.get(device.type, "SPI")
    found = {
        "part": device.part.name, "timing": device.timing, "bus": bus, "bus_Hz": getattr(device, "frequency", None),
        "volume_B": volume, "estimates": device.unsourced,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def _run(device: Device, timeout: int, fs: FileSystem, cases: Sequence[Case]) -> None:
    everything: list[Case] = [
        (f"{storage_name(device, fs)} format", partial(format_storage, device, fs)),
        *cases,
    ]
    with Suite(device, timeout=timeout, host_test=HOST_TEST, cases=[name for name, _ in everything]) as suite:
        for name, work in everything:
            with suite.case(name):
                work()
