"""Write a file, read it back, and measure both: device time, latency of each call, operations on the device.

>>> def measure(board, buffer_B):
...     return board.run(lambda: benchmark_file(mount(), corpus(), buffer_B).measures())
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from pdmlab.clock import SECOND, Clock, DeviceClock
from pdmlab.errors import CorruptMedium
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.filesystem import FileSystem
from pdmlab.storage.wrappers import ProfilingBlockDevice, Wrapper

ILSEQ = -84


class Opened(Protocol):
    """What is measured: a File, or a C library's FILE over one."""

    def now(self) -> int:
        """Return device time as the file's thread sees it (ns)."""
        ...

    def write(self, data: bytes, /) -> int:
        """Write data and return its length (B)."""
        ...

    def read(self, size: int, /) -> bytes:
        """Read at most size bytes."""
        ...

    def sync(self) -> None:
        """Write everything to the device."""
        ...

    def close(self) -> None:
        """Write everything to the device and give the file up."""
        ...


@dataclass(frozen=True)
class Transfer:
    """What came of writing or reading one file; times are of the device's clock."""

    operation: Literal["write", "read"]
    bytes: int
    buffer: int
    """Size of each call (B)."""
    duration: int
    """From the first call to the end of close (ns)."""
    latencies: list[int] = field(repr=False)
    """How long each call took (ns), the smallest first."""
    operations: dict[str, int]
    """Reads, programs and erases of the device below and their bytes; empty where nothing counts them."""
    file_system: str
    clock: str

    @property
    def throughput(self) -> float:
        """Bytes over duration (B/s)."""
        return self.bytes * SECOND / self.duration if self.duration else 0.0

    def latency(self, percent: float) -> int:
        """Return the percentile of the calls' durations (ns): the smallest that percent of them do not exceed."""
        return self.latencies[max(math.ceil(len(self.latencies) * percent / 100) - 1, 0)] if self.latencies else 0

    def measures(self) -> dict[str, str | int | float]:
        """Return a row of it, each unit in its column's name."""
        return {
            "operation": self.operation,
            "bytes": self.bytes,
            "calls": len(self.latencies),
            "duration_ns": self.duration,
            "throughput_Bps": round(self.throughput, 3),
            "latency_p50_ns": self.latency(50),
            "latency_p99_ns": self.latency(99),
            "latency_p99.9_ns": self.latency(99.9),
            "latency_max_ns": self.latency(100),
            **self.operations,
            "file_system": self.file_system,
            "clock": self.clock,
        }


def benchmark_file(
    fs: FileSystem, data: bytes, buffer: int, *, path: str = "/benchmark.bin", sync_every: int | None = None
) -> tuple[Transfer, Transfer]:
    """Write data to a new file and read it back, buffer bytes a call; call it from device code.

    The calls go straight to the file system, as those of Mbed's File class do.

    Args:
        sync_every: sync the file each time so many bytes have been written; None for once, at close.

    Raises:
        CorruptMedium: what was read is not what was written.
    """
    written = write_all(fs, fs.open(path, "w"), data, buffer, sync_every=sync_every)
    return written, read_all(fs, fs.open(path, "r"), data, buffer, what=path)


def write_all(fs: FileSystem, file: Opened, data: bytes, buffer: int, *, sync_every: int | None = None) -> Transfer:
    """Write data to an open file, buffer bytes a call, close it, and measure."""
    measuring = _Measuring(fs, file)
    now, latencies = file.now, []
    due = sync_every or len(data) + 1
    for start, piece in _pieces(data, buffer):
        before = now()
        file.write(piece)
        if start + len(piece) >= due:
            file.sync()
            due += sync_every or 0
        latencies.append(now() - before)
    file.close()
    return measuring.end("write", len(data), buffer, latencies)


def read_all(fs: FileSystem, file: Opened, expected: bytes, buffer: int, *, what: str = "the file") -> Transfer:
    """Read an open file, buffer bytes a call, compare each with what is expected, close it, and measure.

    Raises:
        CorruptMedium: a byte differs, or is missing.
    """
    measuring = _Measuring(fs, file)
    now, latencies = file.now, []
    for start, piece in _pieces(expected, buffer):
        before = now()
        got = file.read(len(piece))
        latencies.append(now() - before)
        if got != piece:
            raise CorruptMedium(
                f"{what} differs from what was written, in the {len(piece)} B at {start} (EILSEQ, {ILSEQ})",
                code=ILSEQ,
                hint="the part may be worn out",
            )
    file.close()
    return measuring.end("read", len(expected), buffer, latencies)


class _Measuring:
    def __init__(self, fs: FileSystem, file: Opened) -> None:
        device = fs.device
        self._clock: Clock = device.clock
        self._fs = fs
        self._now = file.now
        self._profile = find_profile(device)
        self._before = self._profile.snapshot() if self._profile is not None else {}
        self._start = file.now()

    def end(self, operation: Literal["write", "read"], size: int, buffer: int, latencies: list[int]) -> Transfer:
        duration = self._now() - self._start
        after = self._profile.snapshot() if self._profile is not None else {}
        operations = {name: count - self._before[name] for name, count in after.items()}
        return Transfer(
            operation, size, buffer, duration, sorted(latencies), operations, self._fs.version, self._clock.name
        )


def together(fs: FileSystem, works: Sequence[Callable[[], Transfer]]) -> Transfer:
    """Do several transfers at once, each in a thread of the volume's clock, and measure them as one.

    Its duration is that of the whole; its calls are all of theirs.
    """
    clock = fs.device.clock
    assert isinstance(clock, DeviceClock)
    profile = find_profile(fs.device)
    before, start = profile.snapshot() if profile is not None else {}, clock.now()
    threads = [clock.spawn(work) for work in works]
    each = [thread.join() for thread in threads]
    duration, after = clock.now() - start, profile.snapshot() if profile is not None else {}
    return replace(
        each[0],
        bytes=sum(transfer.bytes for transfer in each),
        duration=duration,
        latencies=sorted(latency for transfer in each for latency in transfer.latencies),
        operations={name: count - before[name] for name, count in after.items()},
    )


def find_profile(device: BlockDevice) -> ProfilingBlockDevice | None:
    """Return the counter in a stack of block devices, or None."""
    while not isinstance(device, ProfilingBlockDevice):
        if not isinstance(device, Wrapper):
            return None
        device = device.device
    return device


def _pieces(data: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(data), size):
        yield start, data[start : start + size]
