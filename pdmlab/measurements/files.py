"""Files: a benchmark of write and read calls, and a logger that must not lose what arrives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pdmlab.clock import MS, SECOND
from pdmlab.errors import ConfigError
from pdmlab.firmware.corpus import corpus
from pdmlab.measurements.bench import Bench, Row, on_board
from pdmlab.storage import (
    FATFileSystem,
    LittleFileSystem2,
    ProfilingBlockDevice,
    QSPIFBlockDevice,
    SDBlockDevice,
    SPIFBlockDevice,
)
from pdmlab.storage.benchmark import Transfer, benchmark_file

if TYPE_CHECKING:
    from pdmlab.firmware.device import Device
    from pdmlab.storage.blockdevice import BlockDevice
    from pdmlab.storage.filesystem import FileSystem

FILE_SIZE = 64 * 1024
"""What is written in one point (B)."""


def file_transfer(board: Bench, buffer_B: int, bus_Hz: int, sync_every_B: int) -> list[Row]:
    """Write 64 KiB to a new file on a blank part, buffer_B a call, and read it back: a row each.

    The calls go straight to the file system, as those of Mbed's `File` do; `sync_every_B` of 64 KiB or more
    syncs when the file is closed.
    """

    def main(device: Device) -> tuple[Transfer, Transfer]:
        fs, part = _blank_file_system(board, device, bus_Hz)
        fs.reformat(ProfilingBlockDevice(part))
        return benchmark_file(fs, corpus()[:FILE_SIZE], buffer_B, sync_every=sync_every_B)

    return [_file_row(transfer) for transfer in on_board(board, main)]


def log_stream(
    board: Bench, rate_Bps: int, write_B: int, sync_every_B: int, bus_Hz: int, ring_B: int | None = None
) -> Row:
    """Log 64 KiB that arrive at rate_Bps through a ring buffer of ring_B bytes, and count what is lost.

    An interrupt fills the ring buffer; a thread writes to the file, write_B a call, as soon as there is so
    much, and frees it when the call returns. With no ring_B nothing is lost, and `fullest_B` is the least
    that this way of writing needs.
    """

    def main(device: Device) -> Row:
        fs, part = _blank_file_system(board, device, bus_Hz)
        fs.reformat(part)
        clock, room = device.clock, ring_B if ring_B is not None else FILE_SIZE
        if write_B > room:
            raise ConfigError(f"a ring buffer of {room} B never holds a write of {write_B} B")
        file = fs.open("/log.bin", "w")
        held = lost = fullest = written = longest = 0.0
        due, seen = sync_every_B, clock.now()
        while written + write_B <= FILE_SIZE:
            if held < write_B:
                clock.sleep(int((write_B - held) * SECOND / rate_Bps) + 1)
                held, seen = held + (clock.now() - seen) * rate_Bps / SECOND, clock.now()
            before = clock.now()
            file.write(bytes(write_B))
            written += write_B
            if written >= due:
                file.sync()
                due += sync_every_B
            longest = max(longest, clock.now() - before)
            arrived = held + (clock.now() - seen) * rate_Bps / SECOND
            seen = clock.now()
            fullest = max(fullest, min(arrived, room))
            lost += max(arrived - room, 0)
            held = min(arrived, room) - write_B
        file.close()
        return {"lost_B": round(lost), "fullest_B": math.ceil(fullest), "longest_stall_ms": round(longest / MS, 3)}

    row: Row = on_board(board, main)
    return row


def _blank_file_system(board: Bench, device: Device, bus_Hz: int) -> tuple[FileSystem, BlockDevice]:
    """Return the board's kind of file system, and its storage part at another clock; nothing is on it yet."""
    kinds: dict[str, type[SDBlockDevice] | type[SPIFBlockDevice]] = {
        "SD": SDBlockDevice,
        "SPIF": SPIFBlockDevice,
        "QSPIF": QSPIFBlockDevice,
    }
    name = device.block_device_name
    part = kinds[name](board.media.storage, clock=device.clock, frequency=bus_Hz)
    return (FATFileSystem("fs") if name == "SD" else LittleFileSystem2("fs")), part


def _file_row(transfer: Transfer) -> Row:
    return {
        "operation": transfer.operation,
        "bytes": transfer.bytes,
        "calls": len(transfer.latencies),
        "duration_s": round(transfer.duration / SECOND, 6),
        "throughput_kBps": round(transfer.throughput / 1000, 6),
        "latency_p50_ms": round(transfer.latency(50) / MS, 6),
        "latency_p99_ms": round(transfer.latency(99) / MS, 6),
        "latency_max_ms": round(transfer.latency(100) / MS, 6),
        "reads": transfer.operations["reads"],
        "programs": transfer.operations["programs"],
        "erases": transfer.operations["erases"],
        "programmed_B": transfer.operations["programmed_bytes"],
        "file_system": transfer.file_system,
    }
