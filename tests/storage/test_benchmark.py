"""What is measured is what the device did, on the device's clock."""

from __future__ import annotations

import pytest

from pdmlab.clock import DeviceClock
from pdmlab.errors import CorruptMedium
from pdmlab.firmware.corpus import corpus
from pdmlab.storage import (
    FATFileSystem,
    FileSystem,
    LittleFileSystem2,
    Medium,
    ProfilingBlockDevice,
    QSPIFBlockDevice,
    SDBlockDevice,
)
from pdmlab.storage.benchmark import Transfer, benchmark_file, read_all


def run(
    make: type[FATFileSystem] | type[LittleFileSystem2],
    buffer: int,
    *,
    size: int = 32 << 10,
    frequency: int = 1_000_000,
    sync_every: int | None = None,
) -> tuple[Transfer, Transfer]:
    with DeviceClock() as clock:

        def main() -> tuple[Transfer, Transfer]:
            fs: FileSystem = make("fs")
            if make is FATFileSystem:
                part = SDBlockDevice(Medium(64 << 20, erase_value=0), clock=clock, frequency=frequency)
                fs.reformat(ProfilingBlockDevice(part))
            else:
                fs.reformat(ProfilingBlockDevice(QSPIFBlockDevice(Medium(8 << 20), clock=clock)))
            return benchmark_file(fs, corpus()[:size], buffer, sync_every=sync_every)

        return clock.call(main)


def test_the_same_work_measures_the_same_to_the_nanosecond() -> None:
    first, second = run(LittleFileSystem2, 100), run(LittleFileSystem2, 100)
    assert first == second
    assert first[0].clock == "device"
    assert first[0].file_system == "littlefs 2.11, disk 2.0"


def test_a_row_has_a_unit_in_each_measure_and_counts_what_happened() -> None:
    written, read = run(FATFileSystem, 512)
    row = written.measures()
    assert (row["operation"], row["bytes"], row["calls"]) == ("write", 32768, 64)
    assert row["duration_ns"] == written.duration >= sum(written.latencies) > 0
    assert row["throughput_Bps"] == pytest.approx(32768 / (written.duration / 1e9), abs=0.001)
    assert written.latency(50) <= written.latency(99) <= written.latency(99.9) <= written.latency(100)
    assert read.operations["read_bytes"] == 32768 + 512  # the data, and the allocation table once
    assert read.operations["programs"] == 0


def test_fat_writes_the_directory_with_each_write_that_holds_a_sector() -> None:
    sectors = 32768 // 512
    whole, parts, large = (run(FATFileSystem, size)[0].operations["programs"] for size in (512, 64, 8192))
    assert parts < sectors + 8  # flush-on-new-sector leaves writes of less than a sector alone
    assert 2 * sectors <= whole < 2 * sectors + 40
    assert large < 32


def test_fat_on_a_card_at_1_mhz_writes_at_a_published_pace_and_faster_clocks_show_the_buffer() -> None:
    # forums.mbed.com t/14402 measured 27.7 kB/s with SDBlockDevice at 1 MHz, little changed by the buffer.
    slow = run(FATFileSystem, 512)[0].throughput
    assert 20_000 < slow < 40_000
    fast = [run(FATFileSystem, size, frequency=25_000_000)[0].throughput for size in (512, 8192)]
    assert fast[1] > 2 * fast[0] > 2 * slow


def test_small_calls_to_littlefs_cost_time_and_no_operations() -> None:
    one, many = run(LittleFileSystem2, 1, size=8192)[0], run(LittleFileSystem2, 64, size=8192)[0]
    assert one.operations == many.operations
    assert sum(one.latencies) >= sum(many.latencies)
    assert one.latency(50) < many.latency(50) // 100  # most find room in the cache
    # The driver sleeps to the next tick of 1 ms before every look at the chip: what the calls take is slept away.
    assert one.duration == many.duration


def test_syncing_more_often_costs_erases() -> None:
    rare, often = run(LittleFileSystem2, 1024)[0], run(LittleFileSystem2, 1024, sync_every=2048)[0]
    assert often.operations["erases"] > rare.operations["erases"]
    assert often.duration > rare.duration


def test_a_byte_that_changed_on_the_medium_is_found() -> None:
    medium = Medium(1 << 20, erase_value=0)
    fs = FATFileSystem("fs")
    fs.reformat(SDBlockDevice(medium))
    with fs.open("/f", "w") as file:
        file.write(corpus()[:4096])
    at = medium.peek(0, medium.size).index(corpus()[1024:1536])
    medium.poke(at, b"?")
    with pytest.raises(CorruptMedium, match=r"f differs from what was written, in the 512 B at 1024 \(EILSEQ, -84\)"):
        read_all(fs, fs.open("/f"), corpus()[:4096], 512, what="f")
