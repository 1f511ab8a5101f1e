"""What the notebooks measure: each function takes a board and one point of a sweep, and returns its rows.

They live here and not in the notebooks so that a run can be repeated from its sidecar alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pdmlab.clock import MS, SECOND
from pdmlab.errors import ConfigError
from pdmlab.firmware.corpus import corpus
from pdmlab.firmware.net_suites import DOWNLOAD_HOST, DOWNLOAD_PATH
from pdmlab.network.download import download
from pdmlab.network.link import Link
from pdmlab.storage import (
    FATFileSystem,
    LittleFileSystem2,
    ProfilingBlockDevice,
    QSPIFBlockDevice,
    SDBlockDevice,
    SPIFBlockDevice,
    mount_or_format,
    root_of_trust,
)
from pdmlab.storage.benchmark import Transfer, benchmark_file

if TYPE_CHECKING:
    from pdmlab.firmware.device import Device
    from pdmlab.network.interface import NetworkInterface
    from pdmlab.storage.blockdevice import BlockDevice
    from pdmlab.storage.filesystem import FileSystem
    from pdmlab.storage.medium import Medium

Row = dict[str, str | int | float]

FILE_SIZE = 64 * 1024
"""What is written in one point (B)."""


class Media(Protocol):
    """The bytes of a virtual board's storage part."""

    storage: Medium


class Started(Protocol):
    """One start of a virtual board."""

    started_ns: int
    boot_steps: list[tuple[str, int, int]]
    """Name, begin and duration (ns, from the start) of what came before the application."""


class Bench(Protocol):
    """What is measured on: a virtual board, opened up."""

    network: NetworkInterface

    @property
    def media(self) -> Media:
        """What survives power."""
        ...

    @property
    def machine(self) -> Started:
        """The present start."""
        ...

    def run(self, application: Callable[..., Any], /) -> Any:
        """Run a function on the board, as its application."""
        ...


def start_up(board: Bench) -> list[Row]:
    """Boot, mount the file system, read the root of trust and connect: a row for each step, in order.

    What comes before the application (bootloader, reading the image) is in it, as the board's own steps.
    """

    def main(device: Device) -> list[tuple[str, int, int]]:
        clock, steps = device.clock, []

        def step(name: str, work: Callable[[], object]) -> None:
            start = clock.now()
            work()
            steps.append((name, start, clock.now() - start))

        fs = device.make_file_system()
        step("initialise the storage part", device.block_device.init)
        step("mount the file system", lambda: mount_or_format(fs, device.block_device))
        step("root of trust from SOTP", lambda: root_of_trust(device.nvstore, device.random_bytes))
        start = clock.now()
        device.network.connect()
        for part in device.network.link.attach:
            steps.append((f"network: {part.name}", start, part.time))
            start += part.time
        return steps

    inside = board.run(main)
    machine = board.machine
    steps = [(name, machine.started_ns + start, duration) for name, start, duration in machine.boot_steps] + inside
    return [
        {
            "step": name,
            "start_ms": round((start - machine.started_ns) / MS, 6),
            "duration_ms": round(duration / MS, 6),
        }
        for name, start, duration in steps
    ]


def file_transfer(board: Bench, buffer_B: int, bus_Hz: int, sync_every_B: int) -> list[Row]:
    """Write 64 KiB to a new file on a blank part, buffer_B a call, and read it back: a row each.

    The calls go straight to the file system, as those of Mbed's `File` do; `sync_every_B` of 64 KiB or more
    syncs when the file is closed.
    """

    def main(device: Device) -> tuple[Transfer, Transfer]:
        fs, part = _blank_file_system(board, device, bus_Hz)
        fs.reformat(ProfilingBlockDevice(part))
        return benchmark_file(fs, corpus()[:FILE_SIZE], buffer_B, sync_every=sync_every_B)

    return [_file_row(transfer) for transfer in board.run(main)]


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
        return {"lost_B": round(lost), "fullest_B": -int(-fullest // 1), "longest_stall_ms": round(longest / MS, 3)}

    row: Row = board.run(main)
    return row


def http_download(board: Bench, bearer: str, round_trip_ms: int, receive_buffer_B: int) -> Row:
    """Download the corpus (128 KiB) over a bearer whose round trip is so long, through such a receive buffer.

    `bound_kBps` is what a window of receive_buffer_B allows: one window a round trip, the mean of the
    bearer's jitter included.
    """
    board.network.link = Link.of(bearer, latency=round_trip_ms * MS // 2)

    def main(device: Device) -> Row:
        device.network.connect()
        got = download(device.network, DOWNLOAD_HOST, DOWNLOAD_PATH, receive_buffer_B)
        link = device.network.link
        return {
            "bytes": got.bytes,
            "duration_s": round(got.duration / SECOND, 6),
            "throughput_kBps": round(got.throughput / 1000, 6),
            "bound_kBps": round(receive_buffer_B * SECOND / link.mean_round_trip / 1000, 6),
            "link_kBps": round(link.down / 8000, 6),
            "calls": got.calls,
            "wait_p50_ms": round(got.latency(50) / MS, 6),
            "wait_p99_ms": round(got.latency(99) / MS, 6),
        }

    row: Row = board.run(main)
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
