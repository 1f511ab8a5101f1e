"""Any program that takes a pyserial URL opens sim:// once pdmlab is imported, and finds a port like any other."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator

import pytest
import serial

import pdmlab
from pdmlab.sim import VirtualBoard


@pytest.fixture
def port(board: VirtualBoard) -> Iterator[serial.Serial]:
    with serial.serial_for_url(board.url, timeout=20) as port:
        yield port


def test_pyserial_opens_the_board_of_this_process(port: serial.Serial) -> None:
    assert b"".join(port.readline() for _ in range(7)).endswith(b"Type 'help'.\r\n")
    assert port.write(b"version\n") == 8
    assert port.readline() == b"idle 1.0.0 (build 0)\r\n"


def test_pyserial_starts_a_board_that_nobody_has_open_and_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with serial.serial_for_url("sim://K64F?id=fresh", timeout=20) as port:
        assert port.readline() == b"[BOOT] Bootloader build at: SIMULATED\r\n"
        assert port.cts and port.dsr and port.cd and not port.ri and port.out_waiting == 0
    with VirtualBoard("K64F", id="fresh") as board:  # given back
        board.console.expect("Type 'help'")


def test_a_read_waits_for_all_it_asks_for_or_for_its_timeout(port: serial.Serial) -> None:
    port.read_until(b"'help'.\r\n")
    port.write(b"version\nversion\n")
    assert port.read(2 * 22) == b"idle 1.0.0 (build 0)\r\n" * 2
    port.timeout = 0.01
    assert port.read(10) == b""
    port.timeout = 0
    assert port.read(10) == b""


def test_a_reader_in_another_thread_can_be_woken(port: serial.Serial) -> None:
    port.read_until(b"'help'.\r\n")
    port.timeout = None
    got = []
    thread = threading.Thread(target=lambda: got.append(port.read(1)))
    thread.start()
    port.cancel_read()
    thread.join(20)
    assert got == [b""]


def test_a_break_resets_the_board_as_daplink_does(board: VirtualBoard, port: serial.Serial) -> None:
    port.read_until(b"'help'.\r\n")
    port.send_break()
    assert port.readline() == b"[BOOT] Bootloader build at: SIMULATED\r\n"
    port.break_condition = True
    port.break_condition = False
    assert (board.boots, board.machine.reset_reason) == (3, "pin")


def test_what_nobody_read_can_be_thrown_away(port: serial.Serial) -> None:
    port.read_until(b"All clear")
    while not port.in_waiting:
        port.read(0)
    port.reset_input_buffer()
    port.reset_output_buffer()
    port.write(b"version\n")
    assert port.read_until(b"(build 0)\r\n").endswith(b"idle 1.0.0 (build 0)\r\n")


@pytest.mark.parametrize("url", ["sim://K99F", "sim://K64F?id=a b", "sim://K64F?x=1"])
def test_a_wrong_url_is_the_exception_that_pyserial_programs_expect(url: str) -> None:
    with pytest.raises(serial.SerialException, match="hint: "):
        serial.serial_for_url(url)


def test_a_line_that_is_open_already_is_refused(board: VirtualBoard, port: serial.Serial) -> None:
    with pytest.raises(serial.SerialException, match="open in this process already"):
        serial.serial_for_url(board.url)


def test_a_closed_port_says_that_it_is_closed(board: VirtualBoard) -> None:
    port = serial.serial_for_url(board.url)
    port.close()
    port.close()
    for use in (port.read, lambda: port.write(b"x"), port.send_break, lambda: port.in_waiting):
        with pytest.raises(serial.PortNotOpenError):
            use()
    with serial.serial_for_url(board.url) as again:
        assert again.is_open


def test_a_port_of_a_board_that_was_closed_ends_its_reader(board: VirtualBoard, port: serial.Serial) -> None:
    port.read_until(b"'help'.\r\n")
    board.close()
    with pytest.raises(serial.SerialException, match="the virtual board was closed"):
        port.read(1)


def test_pyserials_own_terminal_talks_to_a_board(board: VirtualBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    miniterm = pytest.importorskip("serial.tools.miniterm")
    typed = iter("version\n\x1d")  # Ctrl-] ends it

    class Keyboard:
        """A console whose keyboard types a line when the board has greeted, and Ctrl-] when it has answered."""

        def __init__(self) -> None:
            self.output = io.StringIO()
            self.changed = threading.Condition()

        def setup(self) -> None: ...

        def cleanup(self) -> None: ...

        def cancel(self) -> None: ...

        def getkey(self) -> str:
            key = next(typed)
            until = "\nidle 1.0.0" if key == "\x1d" else "Type 'help'"
            with self.changed:
                assert self.changed.wait_for(lambda: until in self.output.getvalue(), 20)
            return key

        def write(self, text: str) -> None:
            with self.changed:
                self.output.write(text)
                self.changed.notify_all()

        def write_bytes(self, data: bytes) -> None:
            self.write(data.decode())

    keyboard = Keyboard()
    monkeypatch.setattr(miniterm, "Console", lambda *_: keyboard)
    monkeypatch.setattr(sys, "argv", ["miniterm", board.url, "--eol", "LF", "--quiet"])
    miniterm.main()
    assert "\nidle 1.0.0" in keyboard.output.getvalue()


def test_importing_pdmlab_is_all_it_takes() -> None:
    assert pdmlab.__name__ in serial.protocol_handler_packages[-1]
