"""Files: a benchmark of write and read calls, and a logger that must not lose what arrives.

Both take every factor of a volume (volumes.py) by keyword, and both say in their rows what they came to be.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pdmlab.clock import MS, SECOND
from pdmlab.errors import NotMeasurable
from pdmlab.firmware.corpus import text_of
from pdmlab.measurements.bench import Bench, Row, on_board
from pdmlab.measurements.factors import require_name, whole, whole_or_none
from pdmlab.measurements.volumes import Volume, VolumeSetup, make_volume
from pdmlab.storage.benchmark import Transfer, read_all, together, write_all

if TYPE_CHECKING:
    from pdmlab.firmware.device import Device

FILE_SIZE = 64 * 1024
"""What is written in one point unless it says otherwise (B)."""
Mode = Literal["new", "append", "overwrite"]
_OPEN: dict[Mode, str] = {"new": "w", "append": "a", "overwrite": "r+"}


def file_transfer(
    board: Bench,
    buffer_B: int = 4096,
    bus_Hz: int | None = None,
    sync_every_B: int | None = None,
    *,
    file_B: int = FILE_SIZE,
    mode: Mode = "new",
    threads: int = 1,
    **volume: Any,  # the factors of VolumeSetup, which a sweep gives by name
) -> list[Row]:
    """Write a file, buffer_B a call, and read what was written back: a row each.

    The calls go straight to the file system, as those of Mbed's `File` do. `bytes` are those of the file,
    amplification is what the device moved for each of them; `most_erased_block` is how often the most worn erase unit
    was erased (on a card: rewritten).

    Args:
        sync_every_B: sync each time so much has been written; None, or file_B or more, syncs when the file is closed.
        mode: what is written: a new file; the same again behind an old one; an old one from its start.
        threads: so many files at once, each written by a thread of its own.
        volume: part, timing, bus, file_system, volume_B, fill_percent, read_size_B, prog_size_B, block_size_B,
            cache_size_B, lookahead_size_B (measurements.VolumeSetup).

    Raises:
        ConfigError: a factor is a name that there is not, or no number.
        NotMeasurable: a number cannot be, or these do not go together; a sweep leaves the point out and says why.
    """
    require_name("mode", mode, _OPEN)
    buffer_B, file_B, threads = whole("buffer_B", buffer_B), whole("file_B", file_B), whole("threads", threads)
    sync_every_B = whole_or_none("sync_every_B", sync_every_B)
    setup = VolumeSetup.of(bus_Hz=bus_Hz, **volume)
    given: Row = {
        "buffer_B": buffer_B, "sync_every_B": sync_every_B, "mode": mode, "file_B": file_B, "threads": threads,
    }  # fmt: skip

    def main(device: Device) -> list[Row]:
        measured = make_volume(board, device.clock, setup)
        old = file_B if mode != "new" else 0
        measured.require_room(threads * (old + file_B), "file_B")
        fs, data = measured.fs, text_of(file_B)
        paths = [f"/benchmark{number or ''}.bin" for number in range(threads)]
        for path in paths if old else ():
            with fs.open(path, "w") as file:
                file.write(data)
        measured.device.wear.clear()
        files = [fs.open(path, _OPEN[mode]) for path in paths]
        written = _at_once(
            measured, [partial(write_all, fs, file, data, buffer_B, sync_every=sync_every_B) for file in files]
        )
        worn = max(measured.device.wear.values(), default=0)
        files = [fs.open(path, "r") for path in paths]
        for file in files if mode == "append" else ():
            file.seek(old)
        read = _at_once(
            measured,
            [partial(read_all, fs, file, data, buffer_B, what=path) for file, path in zip(files, paths, strict=True)],
        )
        return [
            {
                **_transfer_row(measured, transfer, worn if transfer is written else 0),
                **given,
                **_about(measured, threads),
            }
            for transfer in (written, read)
        ]

    rows: list[Row] = on_board(board, main)
    return rows


def log_stream(
    board: Bench,
    rate_Bps: int,
    write_B: int,
    sync_every_B: int,
    bus_Hz: int | None = None,
    ring_B: int | None = None,
    *,
    log_B: int = FILE_SIZE,
    **volume: Any,  # as of file_transfer
) -> Row:
    """Log log_B bytes that arrive at rate_Bps through a ring buffer of ring_B bytes, and count what is lost.

    An interrupt fills the ring buffer; a thread writes to the file, write_B a call, as soon as there is so
    much, and frees it when the call returns. With no ring_B nothing is lost, and `fullest_B` is the least
    that this way of writing needs. `busy_percent` is the time in calls, of the time in which what they wrote arrives:
    at 100 and more no buffer is large enough for ever.

    Raises:
        ConfigError, NotMeasurable: as of file_transfer.
    """
    rate_Bps, write_B, log_B = whole("rate_Bps", rate_Bps), whole("write_B", write_B), whole("log_B", log_B)
    sync_every_B, ring_B = whole("sync_every_B", sync_every_B), whole_or_none("ring_B", ring_B)
    room = log_B if ring_B is None else ring_B
    if write_B > room:
        what = "a log" if ring_B is None else "a ring buffer"
        raise NotMeasurable(f"{what} of {room} B never holds a write of {write_B} B", hint="a smaller write_B")
    setup = VolumeSetup.of(bus_Hz=bus_Hz, **volume)

    def main(device: Device) -> Row:
        measured = make_volume(board, device.clock, setup)
        measured.require_room(log_B, "log_B")
        clock = device.clock
        file = measured.fs.open("/log.bin", "w")
        held = lost = fullest = written = longest = busy = 0.0
        due, seen = sync_every_B, clock.now()
        while written + write_B <= log_B:
            if held < write_B:
                clock.sleep(int((write_B - held) * SECOND / rate_Bps) + 1)
                held, seen = held + (clock.now() - seen) * rate_Bps / SECOND, clock.now()
            before = clock.now()
            file.write(bytes(write_B))
            written += write_B
            if written >= due:
                file.sync()
                due += sync_every_B
            took = clock.now() - before
            busy, longest = busy + took, max(longest, took)
            arrived = held + (clock.now() - seen) * rate_Bps / SECOND
            seen = clock.now()
            fullest = max(fullest, min(arrived, room))
            lost += max(arrived - room, 0)
            held = min(arrived, room) - write_B
        file.close()
        return {
            "lost_B": round(lost),
            "fullest_B": math.ceil(fullest),
            "longest_stall_ms": round(longest / MS, 3),
            "busy_percent": round(100 * busy * rate_Bps / (written * SECOND), 3) if written else 0.0,
            **_about(measured, files=1),
        }

    row: Row = on_board(board, main)
    return row


def _at_once(volume: Volume, works: list[partial[Transfer]]) -> Transfer:
    return works[0]() if len(works) == 1 else together(volume.fs, works)


def _about(volume: Volume, files: int) -> Row:
    """Return what the volume was made of, what RAM it takes, and what its figures hang on."""
    return {
        **volume.settings,
        "ram_B": sum(volume.ram(files).values()),
        "file_system_version": volume.fs.version,
        "estimates": volume.estimates,
    }


def _transfer_row(volume: Volume, transfer: Transfer, worn: int) -> Row:
    moved = transfer.operations
    return {
        "operation": transfer.operation,
        "bytes": transfer.bytes,
        "calls": len(transfer.latencies),
        "duration_s": round(transfer.duration / SECOND, 9),
        "throughput_kBps": round(transfer.throughput / 1000, 6),
        "latency_p50_ms": round(transfer.latency(50) / MS, 6),
        "latency_p99_ms": round(transfer.latency(99) / MS, 6),
        "latency_p99.9_ms": round(transfer.latency(99.9) / MS, 6),
        "latency_max_ms": round(transfer.latency(100) / MS, 6),
        "reads": moved["reads"],
        "programs": moved["programs"],
        "erases": moved["erases"],
        "read_B": moved["read_bytes"],
        "programmed_B": moved["programmed_bytes"],
        "erased_B": moved["erased_bytes"],
        "read_amplification": round(moved["read_bytes"] / transfer.bytes, 6),
        "write_amplification": round(moved["programmed_bytes"] / transfer.bytes, 6),
        "erased_blocks": moved["erased_bytes"] // volume.device.erase_size,
        "most_erased_block": worn,
    }
