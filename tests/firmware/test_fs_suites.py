"""The file-system suites print a stock board's lines, on device time."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pdmlab.clock import DeviceClock
from pdmlab.errors import CorruptMedium
from pdmlab.firmware import fs_suites
from pdmlab.firmware.fs_suites import THREADS, WRITE_BUFFERS, exercise_file
from pdmlab.storage import (
    FATFileSystem,
    LittleFileSystem2,
    Medium,
    ProfilingBlockDevice,
    QSPIFBlockDevice,
    SDBlockDevice,
)

WROTE = re.compile(r'\[FS\] Wrote: "mbed-file-test-(\d)\.txt" 128\.00KB \((\d+\.\d\d)KB/s, (\d+\.\d\d) secs\)\r\n')
READ = re.compile(r'\[FS\] Read : "mbed-file-test-(\d)\.txt" 128\.00KB \((\d+\.\d\d)KB/s, (\d+\.\d\d) secs\)\r\n')
ROW = re.compile(r"\{\{pdmlab_row;([^}]+)\}\}\r\n")


class Line:
    """A serial line whose host sends the sync and listens."""

    def __init__(self) -> None:
        self.text = ""
        self._lines = ["{{__sync;9f2c1a0e-0000-4000-8000-000000000001}}"]

    def write(self, text: str) -> None:
        self.text += text

    def readline(self, timeout_s: float | None = None) -> str | None:
        return self._lines.pop(0) if self._lines else None


def play(application: Callable[[Any], object], storage: str = "SD") -> tuple[str, int]:
    """Run an application on a board made of a clock, a part and a serial line; return what it printed, and when."""
    with DeviceClock() as clock:
        line = Line()
        part = (
            SDBlockDevice(Medium(64 << 20, erase_value=0), clock=clock)
            if storage == "SD"
            else QSPIFBlockDevice(Medium(8 << 20), clock=clock)
        )
        board = SimpleNamespace(
            simulated=True,
            clock=clock,
            uart=line,
            block_device=ProfilingBlockDevice(part),
            block_device_name=storage,
            make_file_system=lambda name="fs": (FATFileSystem if storage == "SD" else LittleFileSystem2)(name),
        )
        clock.call(application, board)
        return line.text, clock.now()


def rows(text: str) -> list[dict[str, str]]:
    return [dict(pair.split("=") for pair in row.split(",")) for row in ROW.findall(text)]


@pytest.mark.parametrize(("storage", "name"), [("SD", "SD+FAT"), ("QSPIF", "QSPIF+LFS")])
def test_fs_single_writes_and_reads_the_corpus_with_each_buffer(storage: str, name: str) -> None:
    text, _ = play(fs_suites.fs_single, storage)
    cases = [
        f"{name} format",
        *(f"{name} 1 file, buff {size:5}" for size in WRITE_BUFFERS),
    ]
    assert re.findall(r"\{\{__testcase_start;([^}]+)\}\}", text) == cases
    assert re.findall(r"\{\{__testcase_finish;[^;]+;(\d);(\d)\}\}", text) == [("1", "0")] * len(cases)
    assert "{{end;success}}" in text
    assert [n for n, _, _ in WROTE.findall(text)] == [n for n, _, _ in READ.findall(text)] == ["0"] * 9
    measured = rows(text)
    assert [(row["operation"], int(row["buffer_B"])) for row in measured] == [
        (operation, size) for size in WRITE_BUFFERS for operation in ("write", "read")
    ]
    for row, (_, speed, seconds) in zip(measured[::2], WROTE.findall(text), strict=True):
        duration = int(row["duration_ns"]) / 1e9
        assert (f"{duration:.2f}", f"{128 / duration:.2f}") == (seconds, speed)
        assert row["clock"] == "device" and int(row["programs"]) > 30


def test_the_seeds_write_buffers_are_all_there() -> None:
    assert WRITE_BUFFERS == (1, 4, 16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10)


def test_fs_multi_writes_files_at_the_same_time_on_one_clock() -> None:
    text, _ = play(fs_suites.fs_multi)
    assert sorted(n for n, _, _ in WROTE.findall(text)) == sorted("123" * 9)
    one, _ = play(fs_suites.fs_single)
    alone = next(row for row in rows(one) if row["buffer_B"] == "1024")
    together = [row for row in rows(text) if row["buffer_B"] == "1024" and row["operation"] == "write"]
    assert len(together) == THREADS
    for row in together:  # they share the bus
        assert int(row["duration_ns"]) > 2 * int(alone["duration_ns"])


def test_the_same_suite_prints_the_same_bytes_at_the_same_time() -> None:
    assert play(fs_suites.fs_multi) == play(fs_suites.fs_multi)


def test_a_part_that_loses_a_byte_fails_the_comparison() -> None:
    class Forgetful(Medium):
        def program(self, offset: int, data: bytes) -> None:
            super().program(offset, data.replace(b"battery", b"battary"))

    def main() -> None:
        with DeviceClock() as clock:
            fs = FATFileSystem("fs")
            board: Any = SimpleNamespace(simulated=True, clock=clock, uart=Line())

            def work() -> None:
                fs.reformat(SDBlockDevice(Forgetful(16 << 20, erase_value=0), clock=clock))
                exercise_file(board, fs, 0, 256)

            clock.call(work)

    with pytest.raises(CorruptMedium, match=r"mbed-file-test-0\.txt differs"):
        main()
