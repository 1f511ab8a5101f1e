"""Who opens a bridge on this machine is told that a virtual board is behind it, though no byte on the line says so."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pdmlab
from pdmlab.boards import bridged
from pdmlab.boards.replay_line import ReplayLine, open_line
from pdmlab.greentea import run_suite
from pdmlab.sim import VirtualBoard, bridge
from tests.boards.test_replay import CASE, SUITE

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


@pytest.fixture
def board() -> Iterator[VirtualBoard]:
    with VirtualBoard("K66F", memory=True) as board:
        board.attach("the bridge")
        yield board


def test_a_bridge_over_tcp_is_known_for_what_it_is(board: VirtualBoard) -> None:
    with bridge.tcp_bridge(board.uart, board=board.target) as (host, port):
        for name in (host, "localhost"):
            with pdmlab.connect(f"socket://{name}:{port}") as opened:
                assert opened.simulated and opened.target == "K66F"
                assert repr(opened).startswith("<board SIMULATED K66F on socket://")
                assert "SIMULATED" in opened._repr_html_()
                # A board that runs no suite, and so prints no row, is told apart too.
                result = run_suite(opened, sync=1, sync_timeout=0.2)
                assert result.simulated and result.board == "SIMULATED K66F"
        url = f"socket://{host}:{port}"
    assert bridged.find(url) is None


@posix
def test_a_bridge_on_a_pty_is_known_by_its_link_too(board: VirtualBoard, tmp_path: Path) -> None:
    link = tmp_path / "ttyBOARD"
    with bridge.pty_bridge(board.uart, link=link, board=board.target) as name:
        for path in (name, str(link)):
            with pdmlab.connect(path) as opened:
                assert opened.simulated and opened.target == "K66F"
    assert bridged.find(name) is None


def test_a_target_that_was_given_goes_before_the_bridges(board: VirtualBoard) -> None:
    with (
        bridge.tcp_bridge(board.uart, board=board.target) as (host, port),
        pdmlab.connect(f"socket://{host}:{port}", target="K64F") as opened,
    ):
        assert opened.target == "K64F" and opened.simulated


def test_of_a_line_that_nobody_noted_nobody_knows(board: VirtualBoard) -> None:
    with (
        bridge.tcp_bridge(board.uart, board=None) as (host, port),
        pdmlab.connect(f"socket://{host}:{port}", target="K64F") as opened,
    ):
        assert opened.simulated is None and "nobody knows" in opened._repr_html_()
        assert run_suite(opened, sync=1, sync_timeout=0.2).simulated is None


def test_what_a_killed_bridge_left_behind_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path))
    with bridged.announced("127.0.0.1:4000", "K64F"):
        assert bridged.find("socket://127.0.0.1:4000") == "K64F"
        kept = {path.name: path.read_text() for path in (tmp_path / "bridges").iterdir()}
    for name, text in kept.items():
        (tmp_path / "bridges" / name).write_text(text)
    assert bridged.find("socket://127.0.0.1:4000") is None
    with bridged.announced("127.0.0.1:4000", "K66F"):  # and is no obstacle to the next
        assert bridged.find("socket://127.0.0.1:4000") == "K66F"


@pytest.mark.parametrize("url", ["socket://host.example:4000", "socket://x", "rfc2217://127.0.0.1:4000", "loop://", ""])
def test_lines_that_no_bridge_can_be_on_are_nobodys(url: str) -> None:
    assert bridged.find(url) is None


def test_a_state_folder_that_cannot_be_written_hinders_no_bridge(
    board: VirtualBoard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path / "file"))
    with bridge.tcp_bridge(board.uart, board="K66F") as (host, port):
        assert bridged.find(f"socket://{host}:{port}") is None


@pytest.fixture
def line(tmp_path: Path) -> Iterator[ReplayLine]:
    path = tmp_path / "suite.log"
    path.write_text("\n".join(SUITE))
    with open_line(f"replay://{path}?pace=0") as line:
        yield line


def test_a_log_on_a_bridge_is_a_board_to_any_program(line: ReplayLine) -> None:
    with bridge.tcp_bridge(line, board=None) as (host, port):
        for _ in range(2):
            with pdmlab.connect(f"socket://{host}:{port}", target="K64F") as opened:
                assert opened.simulated is None
                result = run_suite(opened, "fs-single", sync=1)
            assert result.ok, result
            assert result.cases["case"].to_list() == [CASE]
            assert result.rows["simulated"].isna().all()
            line.restart()
    assert "suite.log" in repr(line)
