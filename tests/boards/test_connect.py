"""`connect` opens any board by one call, again when its cell is run again, and says what is wrong with a URL."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import pdmlab
from pdmlab.boards import opening
from pdmlab.boards.board import SerialBoard, UnknownBoard
from pdmlab.errors import BoardError, BoardNotFound, ConfigError, ConsoleLost
from pdmlab.experiment import board_row

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_said", False)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def url(server: socket.socket) -> str:
    return f"socket://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def terminal() -> Iterator[str]:
    host_end, board_end = os.openpty()
    yield os.ttyname(board_end)
    os.close(host_end)
    os.close(board_end)


def test_without_a_url_it_opens_a_virtual_board_and_says_so_loudly_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pdmlab.connect() as board:
        assert board.simulated and board.target == "K64F"
    said = capsys.readouterr().err
    assert said.startswith("SIMULATED board sim://K64F") and "connect('/dev/ttyACM0')" in said
    with pdmlab.connect():
        assert capsys.readouterr().err == ""


def test_without_a_url_it_opens_what_the_setting_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PDMLAB_BOARD", "sim://DISCO_L475VG_IOT01A?seed=7")
    with pdmlab.connect() as board:
        assert board.target == "DISCO_L475VG_IOT01A" and board.seed == 7
    assert capsys.readouterr().err == ""


def test_a_cell_that_is_run_again_replaces_a_virtual_board() -> None:
    first = pdmlab.connect("sim://K64F?id=cell")
    with pdmlab.connect("sim://K64F?id=cell") as second:
        second.console.expect("Type 'help'")
        assert "closed" in repr(first)


@posix
def test_a_cell_that_is_run_again_replaces_a_real_board(terminal: str) -> None:
    first = pdmlab.connect(terminal)
    with pdmlab.connect(terminal) as second:
        assert "open" in repr(second) and "closed" in repr(first)
        with pytest.raises(BoardError, match=r"is closed\nhint: pdmlab.connect\('"):
            first.console.write_line("x")


@posix
def test_a_port_by_another_name_is_the_same_board(terminal: str, tmp_path: Path) -> None:
    (tmp_path / "board").symlink_to(terminal)
    first = pdmlab.connect(terminal)
    with pdmlab.connect(str(tmp_path / "board")):
        assert "closed" in repr(first)


def test_a_line_over_tcp_is_a_board_of_the_name_it_is_given(server: socket.socket, url: str) -> None:
    with pdmlab.connect(url, target="frdm-k64f") as board:
        line, _ = server.accept()
        with line:
            line.sendall(b"Mbed Bootloader\r\n")
            assert board.console.expect("Mbed", timeout=20)
            assert (board.target, board.simulated, board.url) == ("K64F", None, url)  # nobody knows
            assert board_row(board)["mcu"] == "MK64FN1M0VLL12"
            assert repr(board) == f"<board K64F on {url}, open>"


def test_a_board_that_is_not_recognised_says_why_and_has_no_row(url: str) -> None:
    with pdmlab.connect(url) as board:
        assert board.target == "unknown" and isinstance(board.info, UnknownBoard)
        assert board_row(board) == {}
        html = board._repr_html_()
        assert "not a USB port" in html and "SIMULATED" not in html and "not mounted" in html


def test_a_line_without_breaks_says_that_it_cannot_reset(url: str) -> None:
    with (
        pdmlab.connect(url, target="K64F") as board,
        pytest.raises(BoardError, match=r"carries no break, so K64F cannot be reset .*\nhint: press its reset"),
    ):
        board.reset()


def test_a_board_that_was_unplugged_is_opened_again_by_its_console(server: socket.socket, url: str) -> None:
    with pdmlab.connect(url, target="K64F") as board:
        line, _ = server.accept()
        before = board.console
        line.close()
        with pytest.raises(ConsoleLost, match="broke off"):
            before.read_line(20)
        answered = threading.Thread(target=lambda: server.accept()[0].close())
        answered.start()
        assert board.console is not before
        answered.join(20)


def test_a_real_board_measures_on_itself(url: str) -> None:
    with pdmlab.connect(url, target="K64F") as board, board.scratch(seed=5) as same:
        assert same is board


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("gopher://K64F", ConfigError, r"scheme 'gopher' is unknown\nhint: known are .*sim://.*socket://.*COM7"),
        ("  ", ConfigError, "an empty URL names no board"),
        ("/dev/ttyNOWHERE7", BoardNotFound, r"no serial port /dev/ttyNOWHERE7\nhint: pdmlab detect"),
        ("COM99", BoardError, r"COM99"),
        ("K64F", BoardNotFound, r"no serial port K64F\nhint: a virtual K64F is connect\('sim://K64F'\)"),
        ("frdm-k64f", BoardNotFound, r"connect\('sim://K64F'\)"),
        (5, ConfigError, r"as text, not by 5\nhint: such as 'sim://K64F'"),
        ("socket://127.0.0.1:99999", ConfigError, r"names no host:port\nhint: such as socket://127.0.0.1:4000"),
        ("socket://127.0.0.1", ConfigError, "names no host:port"),
        ("rfc2217://a:b", ConfigError, "names no host:port"),
        ("socket://127.0.0.1:1?x=1", ConfigError, "has an option that pyserial does not know"),
        ("loop://?x=1", ConfigError, "has an option that pyserial does not know"),
        ("sim://K99", BoardNotFound, "no board 'K99'"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pdmlab.connect(url)


def test_a_target_that_is_not_in_the_catalogue_is_refused(url: str) -> None:
    with pytest.raises(BoardNotFound, match="no board 'K99F'"):
        pdmlab.connect(url, target="K99F")
    with pytest.raises(ConfigError, match=r"names its board itself"):
        pdmlab.connect("sim://K64F", target="K64F")


def test_another_package_adds_a_scheme_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = SimpleNamespace(load=lambda: lambda url: f"opened {url}")
    entries = SimpleNamespace(select=lambda name: [entry] if name == "qemu" else [], names={"qemu"})
    monkeypatch.setattr(opening.metadata, "entry_points", lambda group: entries)
    assert pdmlab.connect("qemu://K64F") == "opened qemu://K64F"


def test_a_real_board_says_that_it_cannot_be_opened_up(url: str) -> None:
    with pdmlab.connect(url, target="K64F") as board:
        assert not hasattr(board, "flash_application") and not hasattr(board, "no_such_thing")
        with pytest.raises(AttributeError, match=r"K64F on socket.* has no 'run': only a virtual board .* sim://K64F"):
            board.run(lambda: 1)
        with pytest.raises(AttributeError, match="'SerialBoard' object has no attribute 'storag'"):
            _ = board.storag
    with pytest.raises(BoardError, match="is closed"), board.scratch(seed=1):
        raise AssertionError("it gave a closed board")


@posix
def test_a_board_is_a_card_in_a_notebook(terminal: str) -> None:
    with SerialBoard(terminal, target="K64F") as board:
        assert re.search(r"<b [^>]*>K64F</b>.*NXP FRDM-K64F", board._repr_html_())
