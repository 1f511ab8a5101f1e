"""Suites on virtual boards, through the serial line, to frames: as they should go, and as they should not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pdmlab.boards.board import SerialBoard
from pdmlab.boards.catalog import boards
from pdmlab.firmware import registry
from pdmlab.firmware.fs_suites import WRITE_BUFFERS
from pdmlab.firmware.net_suites import RECEIVE_BUFFERS
from pdmlab.firmware.utest import Suite
from pdmlab.greentea import run, run_suite
from pdmlab.sim import VirtualBoard, bridge


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path))


@pytest.fixture
def board() -> Iterator[VirtualBoard]:
    with VirtualBoard("K64F", memory=True, seed=1) as board:
        yield board


def hang(device: Any) -> None:
    """A suite whose only case never ends."""
    with Suite(device, timeout=60, host_test="default_auto", cases=["waits"]) as suite, suite.case("waits"):
        device.uart.readline()


@pytest.fixture
def hanging(board: VirtualBoard, monkeypatch: pytest.MonkeyPatch) -> VirtualBoard:
    registry.register("hang", hang)
    monkeypatch.setitem(registry._in_process, "hang", hang)
    board.flash_application("hang")
    return board


EXPECTED = {
    "fs-single": 1 + len(WRITE_BUFFERS),
    "fs-multi": 1 + len(WRITE_BUFFERS),
    "net-single": 1 + len(RECEIVE_BUFFERS),
    "net-multi": 4,
    "stress-net-fs": 6,
}


@pytest.mark.parametrize("suite", EXPECTED)
def test_each_basic_suite_comes_back_as_frames(board: VirtualBoard, suite: str) -> None:
    result = run(board, suite)
    assert result.ok, result
    assert len(result.cases) == EXPECTED[suite]
    assert set(result.cases["result"]) == {"OK"}
    rows = result.rows
    assert set(rows["operation"]) <= {"write", "read", "download"}
    assert (rows["bytes"] == 128 * 1024).all() and (rows["duration_s"] > 0).all()
    assert set(rows["board"]) == {"K64F"} and rows["simulated"].all() and set(rows["clock"]) == {"device"}
    assert rows.attrs["units"]["throughput_kBps"] == "kB/s"
    assert result.transcript is not None
    assert {"board", "host"} == set(result.transcript["direction"])


@pytest.mark.parametrize("target", boards())
def test_every_board_of_the_catalogue_runs_a_suite(target: str) -> None:
    with VirtualBoard(target, memory=True) as board:
        result = run(board, "net-multi")
    assert result.ok, result
    assert len(result.rows) == 6


def test_a_qspi_flash_with_littlefs_gives_rows_too() -> None:
    with VirtualBoard("DISCO_L475VG_IOT01A", memory=True) as board:
        result = run(board, "fs-single")
    assert result.ok, result
    assert result.cases.loc[0, "case"] == "QSPIF+LFS format"
    assert (result.rows["file_system"] == "LFS").all() and result.rows["file_system_version"].str.startswith(
        "littlefs 2"
    ).all()


def test_fs_single_has_a_row_for_each_buffer_and_direction(board: VirtualBoard) -> None:
    rows = run(board, "fs-single").rows
    assert rows.groupby("operation")["buffer_B"].apply(list).to_dict() == {
        "write": list(WRITE_BUFFERS), "read": list(WRITE_BUFFERS),
    }  # fmt: skip
    speed = rows[rows["operation"] == "write"].set_index("buffer_B")["throughput_kBps"]
    assert speed[4096] > speed[1]


def test_the_same_suite_gives_the_same_rows(board: VirtualBoard) -> None:
    first, second = run(board, "net-multi").rows, run(board, "net-multi").rows
    pd.testing.assert_frame_equal(first, second)


def test_a_board_that_runs_no_suite_does_not_sync(board: VirtualBoard) -> None:
    result = run_suite(board, "connect", sync=1, sync_timeout=1.0)
    assert result.result == "SYNC_FAILED"
    assert "the board repeats what it hears, but answers no sync" in result.reason
    assert "unknown command" in "\n".join(result.last_lines)
    assert result.cases.empty
    assert run(board, "net-multi").ok  # and the board is as good as before


@pytest.mark.parametrize(
    ("wire", "silent"), [("tx", "the board's side was silent"), ("rx", "the host's side was silent to it")]
)
def test_a_cut_wire_says_which_side_is_silent(board: VirtualBoard, wire: str, silent: str) -> None:
    board.flash_application("net-multi")
    board.faults.cut_wire(wire)
    board.console.skip()
    result = run_suite(board, sync=1, sync_timeout=1.0)
    assert (result.result, silent in result.reason) == ("SYNC_FAILED", True), result.reason
    board.faults.mend_wires()
    assert run_suite(board).ok


def test_an_image_that_names_nothing_faults_and_is_called_so(board: VirtualBoard) -> None:
    board.flash(b"\xff" * 4096)
    result = run_suite(board, sync=1, sync_timeout=1.0)
    assert result.result == "SYNC_FAILED"
    assert "Fault exception (status 0x80FF013D)" in result.reason
    assert "flash a suite" in result.hint


def test_no_image_of_that_name_is_no_image(board: VirtualBoard) -> None:
    result = run(board, "fs-simple")
    assert (result.result, result.cases.empty) == ("NO_IMAGE", True)


def test_a_card_that_is_pulled_fails_the_case_and_skips_the_others(board: VirtualBoard) -> None:
    board.faults.pull_card()
    result = run(board, "fs-single")
    assert result.result == "FAIL"
    assert result.cases["result"].to_list() == ["FAIL", *["SKIPPED"] * len(WRITE_BUFFERS)]
    assert "SD_BLOCK_DEVICE_ERROR_NO_DEVICE" in result.cases.loc[0, "message"]
    board.faults.seat_card()
    assert run(board, "net-multi").ok


def test_a_suite_that_hangs_times_out_and_leaves_the_board_usable(hanging: VirtualBoard) -> None:
    result = run_suite(hanging, "hang", timeout=1.0)
    assert (result.result, result.cases["result"].to_list()) == ("TIMEOUT", ["ERROR"])
    assert run(hanging, "net-multi").ok


def test_a_board_that_goes_away_in_a_suite_is_ioerr_serial(hanging: VirtualBoard) -> None:
    hanging.attach("the bridge")
    with ExitStack() as stack:
        host, port = stack.enter_context(bridge.tcp_bridge(hanging.uart))

        def cut(event: Any) -> None:
            if getattr(event, "key", "") == "__testcase_start":
                stack.close()

        with SerialBoard(f"socket://{host}:{port}", target="K64F") as board:
            result = run_suite(board, "hang", on_event=cut, timeout=30)
    assert result.result == "IOERR_SERIAL", result
    assert "broke off" in result.reason and "plug it in again" in result.hint
    assert result.cases["result"].to_list() == ["ERROR"]
    assert result.notes and "not reset" in result.notes[0]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_bridged_board_is_driven_like_a_real_one(board: VirtualBoard) -> None:
    board.flash_application("net-multi")
    board.attach("the bridge")
    with bridge.pty_bridge(board.uart) as name, SerialBoard(name, target="K64F") as real:
        result = run_suite(real, "net-multi")
    assert result.ok, result
    assert result.notes and "carries no break" in result.notes[0]
    rows = result.rows
    assert len(rows) == 6 and rows["simulated"].all()  # the board's own word


def test_ctrl_c_leaves_the_board_usable(hanging: VirtualBoard) -> None:
    def interrupt(event: Any) -> None:
        if getattr(event, "key", "") == "__testcase_start":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_suite(hanging, "hang", on_event=interrupt)
    assert run(hanging, "net-multi").ok
