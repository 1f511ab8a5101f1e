"""Lines of stock firmware, and rows that add to them, become a frame with units."""

from __future__ import annotations

import pandas as pd
import pytest

from pdmlab.greentea.rows import Measured

CASE = "SD+FAT 1 file, buff  1024"
WROTE = '[FS] Wrote: "mbed-file-test-0.txt" 128.00KB (42.00KB/s, 3.05 secs)'
READ = '[FS] Read : "mbed-file-test-0.txt" 128.00KB (88.94KB/s, 1.44 secs)'


def measured() -> Measured:
    return Measured("K64F", False, "fs-single")


def test_stock_lines_alone_give_bytes_speed_and_duration() -> None:
    seen = measured()
    seen.line(WROTE, CASE, 1.0)
    seen.line(READ, CASE, 2.0)
    seen.line("[NET-2] Downloaded: 128.00KB (165.75KB/s, 0.77 secs)", "Ethernet  1024 buffer", 3.0)
    seen.line("[FS] nonsense", CASE, 4.0)
    frame = seen.rows()
    assert frame["operation"].to_list() == ["write", "read", "download"]
    assert frame["thread"].to_list() == [0, 0, 2]
    assert frame["bytes"].to_list() == [131072] * 3
    # The speed says the time again, and finer: 128 KB at 42.00 KB/s take 3.0476 s.
    assert frame["duration_s"].to_list() == pytest.approx([3.04762, 1.43917, 0.77225], abs=1e-5)
    assert frame["duration_resolution_s"].to_list() == pytest.approx([0.96e-3, 0.27e-3, 0.11e-3], abs=1e-5)
    assert frame["buffer_B"].to_list()[:2] == [1024, 1024]
    assert frame["receive_buffer_B"].to_list()[2] == 1024
    assert frame["throughput_kBps"].to_list()[0] == pytest.approx(42.00 * 1.024, abs=0.0001)  # kB are 1000 B, KB 1024
    assert frame["throughput_resolution_kBps"].to_list()[0] == pytest.approx(0.0136, abs=0.0001)
    assert frame["threads"].to_list()[:2] == [1, 1] and frame["block_device"].to_list()[0] == "SD"
    assert frame["file_system"].to_list()[0] == "FAT" and frame["interface"].to_list()[2] == "Ethernet"
    assert set(frame["board"]) == {"K64F"} and not frame["simulated"].any() and set(frame["clock"]) == {"device"}
    assert frame.attrs["units"]["duration_s"] == "s" and frame.attrs["units"]["throughput_kBps"] == "kB/s"


def test_a_row_takes_the_place_of_its_line() -> None:
    seen = measured()
    seen.line(WROTE, CASE, 1.0)
    seen.row("suite=fs,thread=0,buffer_B=1024,operation=write,bytes=131072,duration_ns=3049732576,programs=289", CASE)
    frame = seen.rows()
    assert len(frame) == 1
    assert frame.loc[0, "duration_s"] == 3.049732576
    assert "duration_resolution_s" not in frame  # it was not rounded
    assert frame.loc[0, "threads"] == 1  # the case's name says so
    assert frame.loc[0, "programs"] == 289
    assert frame.loc[0, "suite"] == "fs-single"
    assert frame.loc[0, "throughput_kBps"] == round(131072 * 1e6 / 3049732576, 6)


def test_the_board_says_itself_whether_it_is_simulated() -> None:
    seen = measured()
    seen.line("[NET-0] Received bytes: 65536, (50.00%, 100.00KB/s, ETA: 00:01:05)", "Ethernet   128 buffer", 0.5)
    seen.line(READ, CASE, 1.0)
    assert not seen.rows()["simulated"].any()
    seen.row("simulated=1", CASE)
    assert len(seen.rows()) == 1 and seen.rows()["simulated"].all() and seen.progress()["simulated"].all()


def test_rows_of_threads_find_their_own_lines() -> None:
    seen = measured()
    for number in (1, 2):
        seen.line(WROTE.replace("test-0", f"test-{number}"), CASE, 1.0)
    seen.row("suite=fs,thread=2,operation=write,bytes=131072,duration_ns=2", CASE)
    seen.row("suite=fs,thread=1,operation=write,bytes=131072,duration_ns=1", CASE)
    frame = seen.rows()
    assert dict(zip(frame["thread"], frame["duration_s"], strict=True)) == {1: 1e-9, 2: 2e-9}


def test_progress_is_a_frame_of_its_own() -> None:
    seen = Measured("K64F", True, "update")
    seen.line("[NET-0] Received bytes: 65536, (50.00%, 100.00KB/s, ETA: 00:01:05)", "Ethernet   128 buffer", 5.0)
    seen.line("[INFO] Firmware download started. Size: 192.00KB", "Firmware Download", 6.0)
    seen.line("[INFO] Downloading: 25.00% (48.00KB/s, ETA: 00:00:03)", "Firmware Download", 7.0)
    seen.line("[INFO] Firmware download completed. 192.00KB in 4.00 seconds (48.00KB/s)", "Firmware Download", 8.0)
    steps = seen.progress()
    assert steps["received_B"].to_list() == [65536, 49152]
    assert steps["eta_s"].to_list() == [65, 3]
    assert steps["host_s"].to_list() == [0.0, 2.0]
    done = seen.rows()
    assert done["operation"].to_list() == ["firmware"]
    assert done["duration_s"].to_list() == pytest.approx([4], abs=0.0002)


def test_broken_rows_are_passed_over() -> None:
    seen = measured()
    for value in ("", "no pairs at all", "a=nan,b=", "=,="):
        seen.row(value, CASE)
    seen.row("bytes=1,kind=text", CASE)
    seen.row("bytes=x,kind=2", CASE)
    frame = seen.rows()
    assert isinstance(frame, pd.DataFrame)
    assert frame["bytes"].dropna().to_list() == ["1", "x"]


def test_nothing_measured_is_an_empty_frame() -> None:
    assert measured().rows().empty and measured().progress().empty
