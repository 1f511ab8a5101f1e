"""The console: lines in order, nothing lost, time-outs and broken lines that say what happened."""

from __future__ import annotations

import errno
import gc
import math
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import serial

from benchmarks.paced_sender import FIFO, LINE, PACE, SCRIPT, numbered
from pdmlab.boards import Console
from pdmlab.boards import console as module
from pdmlab.boards.console import LONGEST_LINE
from pdmlab.boards.port import Port
from pdmlab.boards.source import Source
from pdmlab.errors import BoardError, BoardNotFound, ConfigError, ConsoleLost, ConsoleTimeout, PortBusy

LONG = "TEST_LONG" in os.environ
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


class Peer:
    """The other end of a console: a TCP server that a test speaks through."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._server.getsockname()[1]}"

    def accept(self) -> None:
        self.line, _ = self._server.accept()
        self.line.settimeout(60)

    def send(self, text: str | bytes) -> None:
        self.line.sendall(text.encode() if isinstance(text, str) else text)

    def hang_up(self) -> None:
        self.line.close()

    def close(self) -> None:
        if hasattr(self, "line"):
            self.line.close()
        self._server.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def console(peer: Peer) -> Iterator[Console]:
    with Console(peer.url, name="K64F") as console:
        peer.accept()
        yield console


def test_it_reads_lines_in_order_without_their_ends(peer: Peer, console: Console) -> None:
    peer.send("one\r\ntwo\n\r\nthree\r")
    assert [console.read_line(60).text for _ in range(3)] == ["one", "two", ""]
    assert console.last == "three\r"  # not ended yet
    peer.send("\n")
    assert console.read_line(60).text == "three"


def test_a_line_that_comes_in_pieces_is_one(peer: Peer, console: Console) -> None:
    for piece in ("boot", "ing", "...\r", "\n"):
        peer.send(piece)
    assert console.expect("^booting...$", timeout=60)


def test_expect_reads_on_and_returns_the_match(peer: Peer, console: Console) -> None:
    peer.send("temperature 21\r\nvalue 42 mV\r\nrest\r\n")
    assert console.expect(r"value (\d+)", timeout=60)[1] == "42"
    assert console.expect(re.compile("REST", re.IGNORECASE), timeout=60)


def test_a_line_that_does_not_come_says_what_came_last(peer: Peer, console: Console) -> None:
    peer.send("Mbed Bootloader\r\n")
    console.expect("Mbed", timeout=60)
    with pytest.raises(ConsoleTimeout) as caught:
        console.expect("booting", timeout=0.01)
    assert re.fullmatch(
        r"no line matching 'booting' from K64F on socket://\S+ in 0.0 s; last line: 'Mbed Bootloader'\n"
        r"hint: try board.reset\(\)",
        str(caught.value),
    )


def test_a_silent_board_gets_another_hint(console: Console) -> None:
    with pytest.raises(ConsoleTimeout, match=r"it has sent nothing\nhint: does it run at 115200 baud"):
        console.expect("booting", timeout=0.01)
    assert console.read_line(timeout=0) is None and list(console.lines(timeout=0)) == []


def test_skip_leaves_out_what_came_before(peer: Peer, console: Console) -> None:
    peer.send("old\r\nhalf of an o")
    console_has(console, "half of an o")
    console.skip()
    peer.send("ld line\r\nnew\r\n")
    assert console.read_line(60).text == "ld line"
    assert console.read_line(60).text == "new"


def console_has(console: Console, text: str) -> None:
    """Wait until the console has taken so much."""
    with console._changed:
        assert console._changed.wait_for(lambda: bytes(console._tail) == text.encode(), 60)


def test_the_transcript_has_both_directions_with_their_times(peer: Peer, console: Console) -> None:
    peer.send("hello\r\n")
    console.expect("hello", timeout=60)
    console.write_line("version")
    assert peer.line.recv(100) == b"version\n"
    transcript = console.transcript
    assert list(transcript.columns) == ["time", "direction", "text"]
    assert transcript["direction"].to_list() == ["board", "host"]
    assert transcript["text"].to_list() == ["hello", "version"]
    assert isinstance(transcript["time"].dtype, pd.DatetimeTZDtype) and transcript["time"].is_monotonic_increasing
    console.close()
    assert len(console.transcript) == 2


def test_bytes_that_are_no_text_are_kept_as_lines(peer: Peer, console: Console) -> None:
    peer.send(b"\xff\xfe\x00\r\n")
    assert console.read_line(60).text == "��\x00"


def test_binary_without_line_ends_does_not_grow_for_ever(peer: Peer, console: Console) -> None:
    peer.send(bytes([65]) * (LONGEST_LINE + 1))
    assert len(console.read_line(60).text) > 0


def test_only_so_many_lines_are_kept_as_asked_for(peer: Peer) -> None:
    with Console(peer.url, keep=10) as console:
        peer.accept()
        peer.send("".join(f"line {n}\r\n" for n in range(100)) + "end\r\n")
        console.expect("end", timeout=60)
        assert len(console.transcript) == 10 and console.forgotten == 91


def test_a_line_that_breaks_off_says_so_after_everything_has_been_read(peer: Peer, console: Console) -> None:
    peer.send("last words\r\n")
    peer.hang_up()
    assert console.read_line(60).text == "last words"
    with pytest.raises(ConsoleLost, match=r"the line to K64F on socket://\S+ broke off: .*\nhint: plug it in again"):
        console.read_line(60)
    assert console.closed
    with pytest.raises(ConsoleLost, match="broke off"):
        console.write_line("anybody?")
    assert console.transcript["text"].to_list() == ["last words"]
    assert "lost" in repr(console)


def test_a_closed_console_says_how_to_open_it(console: Console) -> None:
    console.close()
    console.close()
    for use in (lambda: console.write_line("x"), console.send_break):
        with pytest.raises(BoardError, match=r"is closed\nhint: pdmlab.connect\(\)"):
            use()
    assert "closed" in repr(console)


def test_it_closes_while_another_thread_waits_for_a_line(console: Console) -> None:
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            console.read_line(60)
        except BoardError as error:
            failed.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    console.close()
    thread.join(60)
    assert not thread.is_alive() and "is closed" in str(failed[0])


@posix
def test_a_second_program_is_told_who_has_the_port(tmp_path: Path) -> None:
    host_end, board_end = os.openpty()
    program = "import sys; from pdmlab.boards import Console; Console(sys.argv[1]); print('open', flush=True); input()"
    try:
        with subprocess.Popen(
            [sys.executable, "-c", program, os.ttyname(board_end)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as other:
            assert other.stdout is not None and other.stdout.readline() == "open\n"
            with pytest.raises(PortBusy, match=rf"{os.ttyname(board_end)} is open in \S+ \(process {other.pid}\)"):
                Console(os.ttyname(board_end))
            other.communicate("\n", timeout=60)
    finally:
        os.close(host_end)
        os.close(board_end)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("/dev/ttyNOWHERE7", BoardNotFound, "there is no serial port /dev/ttyNOWHERE7\nhint: pdmlab detect"),
        ("socket://127.0.0.1:1", BoardError, "socket://127.0.0.1:1 cannot be opened: .*\nhint: is the board plugged"),
        ("gopher://hole", ConfigError, "'gopher://hole' cannot be opened: .*\nhint: such as /dev/ttyACM0"),
        ("socket://127.0.0.1:no", ConfigError, "names no host:port"),
    ],
)
def test_a_line_that_cannot_be_opened_says_why(url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Console(url)


@pytest.mark.parametrize(
    ("problem", "error", "message"),
    [
        (
            serial.SerialException(errno.EACCES, "could not open port"),
            BoardError,
            r"permission denied\nhint: .*dialout",
        ),
        (serial.SerialException(errno.EBUSY, "busy"), PortBusy, r"is open in another program\nhint: close it there"),
        (serial.SerialException("could not open port 'COM7': Access is denied."), PortBusy, "is open in another"),
        (serial.SerialException("could not open port 'COM7': FileNotFoundError(2)"), BoardNotFound, "no serial port"),
    ],
)
def test_what_the_operating_system_refuses_is_explained(
    problem: Exception, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(serial, "serial_for_url", refuse)
    with pytest.raises(error, match=message) as caught:
        Console("COM7")
    assert caught.value.__cause__ is problem


def test_a_break_reaches_a_board_only_over_lines_that_carry_it(console: Console) -> None:
    assert not console.carries_break
    with serial.serial_for_url("loop://") as loop:
        assert loop.is_open


class Watched(Source):
    """A source that notes for how long nobody comes to read it."""

    def __init__(self, port: Port) -> None:
        super().__init__(port)
        self.rounds: list[float] = []
        """Seconds of the processor that this process took from one read's end to the next one's."""
        self.absences: list[float] = []
        """Seconds on the wall from one read's end to the next one's begin."""
        self._left = self._used = math.nan

    def read(self) -> bytes:
        came = time.monotonic()
        data = super().read()
        used = time.process_time()
        if data:  # otherwise nobody was kept waiting
            self.rounds.append(used - self._used)
            self.absences.append(came - self._left)
        self._used, self._left = used, time.monotonic()
        return data


@pytest.fixture
def small_heap() -> Iterator[None]:
    """Leave to the garbage collector what the test makes alone: to walk what a whole suite has made takes 40 ms."""
    gc.freeze()
    yield
    gc.unfreeze()


@posix
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize("size", [2_000_000, 10_000_000])
def test_a_sender_that_waits_for_nobody_loses_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if size > 2_000_000 and not LONG:
        pytest.skip("takes 35 s at its pace; TEST_LONG=1 runs it")
    sources: list[Watched] = []

    def watched(port: Port) -> Watched:
        sources.append(Watched(port))
        return sources[-1]

    monkeypatch.setattr(module, "Source", watched)
    # A machine that gives its processors to others makes any reader lose bytes of a FIFO that is full in 13 ms. So the
    # sender's holds everything here, and what a small one would have lost is told by the time that the console itself
    # takes: a read takes all that came since the one before, which has to have room.
    dropped, seconds, received = _listen(size)
    rounds, absences = sources[0].rounds[1:], sources[0].absences[1:]
    print(f"{seconds} s; processor: {sum(rounds):.2f} s, at most {max(rounds):.4f} s in a row; {len(rounds)} reads")
    assert dropped == 0 and seconds >= size / PACE
    assert received.to_list() == [numbered(n).decode().strip() for n in range(size // LINE)] + ["the end"]
    assert max(rounds) < FIFO / PACE and sum(rounds) < size / PACE
    assert statistics.median(absences) < FIFO / PACE  # it does not sleep while there is something to read


def _listen(size: int) -> tuple[int, float, pd.Series[str]]:
    """Return bytes dropped by a sender's FIFO, the seconds that it sent, and the lines that arrived."""
    program = f"from benchmarks import paced_sender; paced_sender.FIFO = {size}; paced_sender.main({size})"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(SCRIPT).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as sender:
        assert sender.stdin is not None and sender.stdout is not None
        with Console(sender.stdout.readline().strip()) as console:
            sender.stdin.write("go\n")
            sender.stdin.flush()
            console.expect("^the end$", timeout=250)
            dropped, seconds = sender.stdout.readline().split()
            received = console.transcript["text"]
        sender.communicate("\n", timeout=60)
    return int(dropped), float(seconds), received
