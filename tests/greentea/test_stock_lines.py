"""Lines of stock firmware are read as exactly as they were printed, and put together where threads tore them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.greentea.case_names import CaseSettings, case_settings
from pdmlab.greentea.rows import Measured
from pdmlab.greentea.stock_lines import (
    CONTRADICTION,
    MISSHAPEN,
    NO_FLOATS,
    PATIENCE,
    TORN,
    Progress,
    StockLines,
    Transfer,
)

WROTE = '[FS] Wrote: "mbed-file-test-1.txt" 128.00KB (42.00KB/s, 3.05 secs)'
READ = '[FS] Read : "mbed-file-test-2.txt" 128.00KB (88.94KB/s, 1.44 secs)'
STEP = "[NET-3] Received bytes: 65536, (50.00%, 100.00KB/s, ETA: 00:01:05)"


def take(*lines: str) -> tuple[list[tuple[str, int]], list[str]]:
    """Return operation and thread of what lines say, and why others could not be read."""
    stock = StockLines()
    found = [found for line in lines for found in stock.take(line)]
    stock.end()
    said = [(f.operation, f.thread) if isinstance(f, Transfer) else ("step", f.thread or 0) for f in found]
    return said, [unread.why for unread in stock.unread]


def stock_line(seconds: float, size: int, done: str = "Wrote:") -> str:
    """Print a transfer as stock firmware does."""
    kib = size / 1024
    return f'[FS] {done} "mbed-file-test-0.txt" {kib:.2f}KB ({kib / seconds:.2f}KB/s, {seconds:.2f} secs)'


def test_a_line_is_read_to_what_its_rounding_leaves() -> None:
    chance = random.Random(1)
    for _ in range(300):
        seconds, size = 10 ** chance.uniform(-3, 2), chance.randrange(1024, 1 << 20)
        (found,) = StockLines().take(stock_line(seconds, size))
        assert isinstance(found, Transfer)
        assert abs(found.seconds - seconds) <= found.half_s * 1.000001
        assert abs(found.bytes - size) <= 6
        assert found.half_s <= 0.005001


def test_speed_says_the_time_finer_than_the_time_does() -> None:
    (slow,) = StockLines().take(stock_line(3.0497, 131072))
    (fast,) = StockLines().take(stock_line(0.0497, 131072))
    assert isinstance(slow, Transfer) and slow.half_s < 0.0006
    assert isinstance(fast, Transfer) and fast.half_s < 0.00001


def test_a_transfer_that_took_no_time_has_no_speed_but_a_row() -> None:
    seen = Measured("K64F", None, "fs-single")
    seen.line('[FS] Wrote: "mbed-file-test-0.txt" 1.00KB (infKB/s, 0.00 secs)', "SD+FAT 1 file, buff 16384", 1.0)
    assert seen.rows()["duration_s"].to_list() == [0.0025]
    assert seen.rows()["duration_resolution_s"].to_list() == [0.005]
    assert seen.rows()["throughput_kBps"].isna().all() and seen.rows()["throughput_resolution_kBps"].isna().all()
    assert seen.unread().empty


@pytest.mark.parametrize(
    "line",
    [
        f"\x1b[39m[INFO][TEST]: {WROTE}\x1b[0m",
        f"  {WROTE}\r",
        f"garbage\ufffd\x00{WROTE}",
        f"{WROTE}{READ}",
        f"{STEP}{WROTE}",
    ],
)
def test_a_line_is_found_among_other_text(line: str) -> None:
    said, unread = take(line)
    assert ("write", 1) in said and not unread


@pytest.mark.parametrize("cut", range(4, len(WROTE)))
def test_a_line_that_another_cuts_in_two_is_put_together(cut: int) -> None:
    left, right = WROTE[:cut], WROTE[cut:]
    for lines in ([f"{left}{STEP}{right}"], [f"{left}{READ}", right], [left, STEP, READ, "[NET] up", right]):
        said, unread = take(*lines)
        assert ("write", 1) in said, lines
        assert not unread


def test_a_piece_that_finds_no_other_is_told() -> None:
    assert take(WROTE[:30], *["[NET] other"] * (PATIENCE + 1), READ) == ([("read", 2)], [TORN])
    assert take(WROTE[30:]) == ([], [TORN])
    assert take(WROTE[:30]) == ([], [TORN])
    assert take(WROTE[:30], READ[:30], READ[30:]) == ([("read", 2)], [TORN])


def test_numbers_that_contradict_each_other_are_told_and_make_no_row() -> None:
    assert take(WROTE.replace("3.05", "30.5")) == ([], [CONTRADICTION])
    assert take(WROTE.replace("128.00KB", "nanKB")) == ([], [CONTRADICTION])


@pytest.mark.parametrize(
    "numbers",
    [
        "128.00KB (0.00KB/s, 3.05 secs)", "128.00KB (infKB/s, 3.05 secs)", "128.00KB (nanKB/s, 3.05 secs)",
        "128.00KB (nanKB/s, 0.00 secs)", "128.00KB (0.00KB/s, 0.00 secs)",
    ],
)  # fmt: skip
def test_a_speed_that_cannot_be_beside_its_time_makes_no_row(numbers: str) -> None:
    assert take(f'[FS] Wrote: "mbed-file-test-1.txt" {numbers}') == ([], [CONTRADICTION])
    assert take(f"[NET-0] Downloaded: {numbers}") == ([], [CONTRADICTION])


def test_a_speed_too_slow_to_be_printed_is_no_contradiction() -> None:
    (slow,) = StockLines().take('[FS] Wrote: "mbed-file-test-1.txt" 0.01KB (0.00KB/s, 3.05 secs)')
    (nothing,) = StockLines().take('[FS] Wrote: "mbed-file-test-1.txt" 0.00KB (nanKB/s, 0.00 secs)')
    assert isinstance(slow, Transfer) and (slow.bytes, slow.seconds) == (10, pytest.approx(3.05))
    assert isinstance(nothing, Transfer) and nothing.bytes == 0


@pytest.mark.parametrize(
    "numbers", ["128,00KB (42,00KB/s, 3,05 secs)", "128.00KB (inf KB/s, 0.00 secs)", "-128.00KB (42.00KB/s, 3.05 secs)"]
)
def test_a_whole_line_with_strange_numbers_is_not_called_a_piece(numbers: str) -> None:
    assert take(f'[FS] Wrote: "mbed-file-test-1.txt" {numbers}', READ) == ([("read", 2)], [MISSHAPEN])
    assert take(f"[NET-2] Downloaded: {numbers}") == ([], [MISSHAPEN])


@pytest.mark.parametrize(
    "line",
    ['[FS] Wrote: "mbed-file-test-0.txt" %.2fKB (%.2fKB/s, %.2f secs)', '[FS] Read : "a.txt" KB (KB/s,  secs)'],
)
def test_a_printf_without_fractions_is_explained(line: str) -> None:
    assert take(line) == ([], [NO_FLOATS])


def test_a_stray_escape_before_a_line_does_not_hide_it() -> None:
    assert take(f"\x1b{WROTE}", f"\x1b{STEP}") == ([("write", 1), ("step", 3)], [])


def test_other_lines_of_stock_firmware_are_no_measurements() -> None:
    lines = [
        "[NET-1] Registered socket callback function", "[NET-1] Request header (57): GET /corpus.txt  HTTP/1.1",
        "[NET-1] Non-blocking socket mode set", "[NET-1] Found body index: 247", "[NET] IP address is '10.0.0.2'",
        "[FS] nonsense", "", ">>> Running case #1: 'SD+FAT format'...",
        "[INFO] Firmware download started. Size: 1.00KB",
    ]  # fmt: skip
    assert take(*lines) == ([], [])
    (step,) = StockLines().take(STEP)
    assert step == Progress(3, 65536, 50.0, 102400.0, 65)


@given(
    st.lists(st.sampled_from([WROTE, READ, STEP]), min_size=1, max_size=4),
    st.integers(min_value=0, max_value=300),
    st.text(st.characters(blacklist_characters="[\n\r"), max_size=20),
)
def test_lines_cut_anywhere_are_read_or_told(lines: list[str], cut: int, noise: str) -> None:
    whole = noise.join(["", *lines])
    said, unread = take(whole[:cut], whole[cut:])
    assert len(said) == len(lines) or unread
    assert len(said) >= len(lines) - 1


@given(st.lists(st.text(max_size=80), max_size=12))
def test_no_text_is_too_odd(lines: list[str]) -> None:
    take(*lines)


def test_names_of_cases_say_buffers_threads_device_and_file_system() -> None:
    assert case_settings("SD+FAT 1 file, buff   256") == CaseSettings("SD", "FAT", None, 1, (256,))
    assert case_settings("NUSD+FAT 1 file, buff 16384").block_device == "NUSD"
    threaded = case_settings("QSPIF+LFS 3 files, buff 256b/1kb/4kb")
    assert [threaded.buffer(thread) for thread in (1, 2, 3, 4)] == [256, 1024, 4096, None]
    ours = case_settings("QSPIF+LFS 3 files, buff   256")
    assert [ours.buffer(thread) for thread in (1, 2, 3)] == [256, 256, 256]
    assert case_settings("Ethernet  1024 buffer") == CaseSettings(interface="Ethernet", threads=1, receive_buffer=1024)
    assert case_settings("Wi-Fi 2 threads").threads == 2
    stress = case_settings("SD+FAT+Ethernet 3 threads, dl, 256b, 1kb")
    assert (stress.threads, stress.interface, stress.buffer(1), stress.buffer(2)) == (3, "Ethernet", 256, 1024)
    sequential = case_settings("SD+FAT+Ethernet 1 thread, dl, file seq.")
    assert sequential.buffer(2) == 1024
    assert case_settings("SD+LFS format").file_system == "LFS"
    assert case_settings("Pelion DM Directory") == case_settings("") == CaseSettings()


def test_what_could_not_be_read_is_a_frame_and_in_the_results_repr() -> None:
    seen = Measured("K64F", None, "fs-single")
    seen.line(WROTE.replace("3.05", "30.5"), "SD+FAT 1 file, buff  1024", 1.0)
    seen.line(WROTE[:20], "SD+FAT 1 file, buff  1024", 2.0)
    seen.end(3.0)
    assert seen.unread()["why"].to_list() == [CONTRADICTION, TORN]
    assert seen.unread()["case"].to_list() == ["SD+FAT 1 file, buff  1024"] * 2
    assert Measured().unread().columns.to_list() == ["case", "host_s", "text", "why"]
