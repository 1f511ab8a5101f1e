"""`pdmlab board`: a virtual board as a process of its own, which any serial program can talk to."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

import pdmlab
from pdmlab.boards import Console
from pdmlab.errors import PortBusy
from pdmlab.sim import VirtualBoard
from tests.cli.processes import finished, started

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals and no signals")
STARTED = re.compile(r"^SIMULATED K64F, process (\d+), until Ctrl-C: (\S+)$")


def place(line: str, pid: int) -> str:
    """Return where the board says that it is."""
    found = STARTED.match(line)
    assert found is not None and int(found[1]) == pid, line
    return found[2]


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_board_on_a_pty_answers_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    link = tmp_path / "ttyBOARD"
    with started("board", "K64F", "--link", str(link)) as process:
        assert process.stdout is not None and process.stderr is not None
        name = place(process.stdout.readline(), process.pid)
        assert os.readlink(link) == name
        with Console(str(link)) as console:
            console.write_line("version")
            console.expect("^idle 1.0.0", timeout=20)
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    assert not link.is_symlink()
    with VirtualBoard("K64F"):  # its state directory is free again
        pass


@posix
def test_a_board_ends_when_its_terminal_goes(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    link = tmp_path / "ttyBOARD"
    with started(
        "board", "--link", str(link), stdin=None, stdout=None, stderr=None, preexec_fn=lambda: os.login_tty(theirs)
    ) as process:
        os.close(theirs)
        assert b"SIMULATED K64F" in os.read(ours, 200)
        os.close(ours)  # the window is closed
        assert process.wait(20) == 0
    assert not link.is_symlink()


@posix
def test_a_signal_presses_the_reset_button() -> None:
    with started("board") as process:
        assert process.stdout is not None
        with Console(place(process.stdout.readline(), process.pid)) as console:
            console.write_line("version")
            console.expect("^idle", timeout=20)
            process.send_signal(signal.SIGUSR1)
            console.expect("Bootloader build at", timeout=20)
            console.expect("Type 'help'", timeout=20)


def test_a_board_on_tcp_runs_the_application_that_it_was_given() -> None:
    with started("board", "k64f", "--tcp", "--id", "tcp", "--application", "fs-single") as process:
        assert process.stdout is not None
        url = place(process.stdout.readline(), process.pid)
        with pdmlab.connect(url) as board:  # another process's bridge
            assert board.target == "K64F" and board.simulated
            board.console.write_line("{{__sync;00000000-0000-4000-8000-000000000000}}")
            board.console.expect("{{__sync;00000000-0000-4000-8000-000000000000}}", timeout=20)
            board.console.expect("{{__host_test_name;default_auto}}", timeout=20)


def test_a_board_that_runs_elsewhere_is_busy_and_says_where() -> None:
    with started("board", "--tcp", "--id", "shared") as process:
        assert process.stdout is not None
        place(process.stdout.readline(), process.pid)
        with pytest.raises(PortBusy, match=rf"'shared' is open in process {process.pid}"):
            pdmlab.connect("sim://K64F?id=shared")
        second = finished("board", "--id", "shared")
    assert second.returncode == 1
    assert second.stderr.startswith("PortBusy: the virtual board 'shared' is open in process")


@posix
def test_a_board_flashes_the_image_that_it_is_given(tmp_path: Path) -> None:
    with VirtualBoard("K64F", memory=True) as builder:
        (tmp_path / "firmware.bin").write_bytes(builder.build("idle", version="4.5.6"))
    with started("board", "--image", str(tmp_path / "firmware.bin"), "--tcp") as process:
        assert process.stdout is not None
        with Console(place(process.stdout.readline(), process.pid)) as console:
            console.expect("pdmlab idle 4.5.6", timeout=20)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("K64",), "BoardNotFound: no board 'K64' in the catalogue\nhint: did you mean K64F?"),
        (("--application", "blinky"), "ImageRejected: the image names the application 'blinky'"),
        (("--tcp", "--link", "x"), "ConfigError: --link names a pty, and --tcp has none"),
        (("--application", "idle", "--image", __file__), "ConfigError: a board starts one program"),
        (("--link", "/"), "ConfigError: cannot make the link /"),
    ],
)
def test_what_cannot_be_is_an_error_with_a_hint(arguments: tuple[str, ...], said: str) -> None:
    done = finished("board", *arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(said) and "\nhint: " in done.stderr


def test_a_log_is_played_on_a_port_like_a_board(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("Mbed Bootloader\r\nbooting...\r\n")
    with started("board", f"replay://{log}?pace=0", "--tcp") as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith(f"<log a.log, plain text, 2 lines of the board>, process {process.pid}, until Ctrl-C: ")
        with pdmlab.connect(said.split()[-1]) as board:
            assert board.simulated is None and board.console.expect("booting", timeout=20)
    refused = finished("board", f"replay://{log}", "--seed", "1")
    assert refused.returncode == 1 and "a log has no --seed" in refused.stderr


def test_what_makes_no_build_says_so(tmp_path: Path) -> None:
    for words, hint in {
        ("--build", "fw.bin"): "--application example",
        ("--fw-version", "1.0.1"): "--application example",
        ("--application", "example", "--build", str(tmp_path / "none" / "fw.bin")): "name another file",
    }.items():
        done = finished("board", *words)
        assert done.returncode == 1 and hint in done.stderr, done.stderr
