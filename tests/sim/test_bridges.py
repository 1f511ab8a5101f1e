"""A virtual board on a pty or a TCP port: any serial program can open it, leave and come back."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from pdmlab.boards import Console
from pdmlab.errors import BoardError, ConfigError
from pdmlab.sim import VirtualBoard, bridge

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


@posix
def test_a_pty_carries_both_directions_and_programs_come_and_go(board: VirtualBoard) -> None:
    with bridge.pty_bridge(board.uart) as name:
        for _ in range(3):
            with Console(name) as console:
                console.write_line("version")
                console.expect("idle 1.0.0")


@posix
def test_what_nobody_reads_waits_in_the_board_and_not_in_a_busy_thread(board: VirtualBoard) -> None:
    text = "0123456789abcdef" * 63 + "\r\n"
    with bridge.pty_bridge(board.uart) as name:
        board.run(lambda device: [device.uart.write(text) for _ in range(200)])
        board.flash_application("idle")
        with Console(name) as console:  # opening drops what the pty itself held, as on any port
            console.expect("Type 'help'", timeout=20)
            lines = console.transcript["text"].to_list()
        assert lines.count(text.strip()) > 100


@posix
def test_a_link_names_the_pty_and_goes_with_it(board: VirtualBoard, tmp_path: Path) -> None:
    link = tmp_path / "ttyBOARD"
    link.symlink_to("/dev/pts/from-a-board-that-was-killed")
    with bridge.pty_bridge(board.uart, link=link) as name:
        assert os.readlink(link) == name
    assert not link.is_symlink()


@posix
def test_a_link_never_takes_the_place_of_a_file(board: VirtualBoard, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with (
        pytest.raises(ConfigError, match=r"cannot make the link .*: File exists"),
        bridge.pty_bridge(board.uart, link=file),
    ):
        raise AssertionError("it took the place of a file")
    assert file.read_text() == "mine"


def test_a_tcp_port_serves_one_program_after_the_other(board: VirtualBoard) -> None:
    with bridge.tcp_bridge(board.uart) as (host, port):
        assert host == "127.0.0.1"
        for _ in range(3):
            with Console(f"socket://{host}:{port}") as console:
                console.write_line("version")
                console.expect("idle 1.0.0")


def test_a_taken_tcp_port_is_named(board: VirtualBoard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(BoardError, match=rf"cannot listen on 127.0.0.1:{port}: .*\nhint: take --port 0"),
            bridge.tcp_bridge(board.uart, port=port),
        ):
            raise AssertionError("it listens on a taken port")
