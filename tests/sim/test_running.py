"""`board.run(function)` gives what the function returns or raises, ends in time, and leaves the board usable."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from pdmlab.clock import SECOND, halting
from pdmlab.errors import BoardError, ConfigError
from pdmlab.firmware.device import Device, current_device
from pdmlab.sim import VirtualBoard


def test_it_returns_what_the_function_returns_every_time(board: VirtualBoard) -> None:
    assert board.run(lambda: 5) == 5
    assert board.run(lambda: "six") == "six"
    assert board.run(lambda a, b=0: a - b, 9, b=2) == 7


def test_a_parameter_called_device_gets_the_board_from_inside(board: VirtualBoard) -> None:
    def application(device: Device, text: str) -> tuple[str, str, bool]:
        return device.target, text, current_device.get() is device

    assert board.run(application, "hello") == ("K64F", "hello", True)


def test_a_parameter_that_nothing_else_fills_gets_it_too(board: VirtualBoard) -> None:
    assert board.run(lambda d: d.target) == "K64F"
    assert board.run(lambda d, text, end="!": d.target + text + end, "?") == "K64F?!"


@pytest.mark.parametrize("arguments", [(), (1, 2, 3, 4)])
def test_what_cannot_be_called_says_how_applications_are(board: VirtualBoard, arguments: tuple[int, ...]) -> None:
    def application(one: int, two: int, three: int) -> None: ...

    with pytest.raises(ConfigError, match=r"application\(one.* with \d arguments on a board\nhint: .* f\(device, a"):
        board.run(application, *arguments)


def test_a_function_without_a_signature_runs_too(board: VirtualBoard) -> None:
    assert board.run(dict) == {}


def test_it_raises_what_the_function_raises_and_the_board_prints_it(board: VirtualBoard) -> None:
    def application() -> None:
        raise KeyError("no such sensor\nsecond line")

    with pytest.raises(KeyError, match="no such sensor"):
        board.run(application)
    board.console.expect(r"\+\+ MbedOS Error Info \+\+")
    board.console.expect("Error Message: KeyError: .*no such sensor")
    assert board.run(lambda: 1) == 1


def test_even_exit_is_an_end(board: VirtualBoard) -> None:
    with pytest.raises(SystemExit):
        board.run(sys.exit)


def test_it_waits_over_restarts_that_the_function_makes(board: VirtualBoard) -> None:
    def application(device: Device) -> str:
        if device.reset_reason != "software":
            device.reset()
        return device.reset_reason

    assert board.run(application) == "software"


def test_a_function_that_does_not_end_in_time_is_named(board: VirtualBoard) -> None:
    def wait_for_input(device: Device) -> None:
        device.uart.readline()

    with pytest.raises(BoardError) as caught:
        board.run(wait_for_input, timeout=0.05)
    assert str(caught.value).startswith("wait_for_input on K64F has not ended after 0.05 s (host clock)\nhint: ")
    assert board.run(lambda: 1) == 1


def test_days_of_device_time_pass_in_no_time(board: VirtualBoard) -> None:
    def application(device: Device) -> int:
        start = device.clock.now()
        device.clock.sleep(7 * 24 * 3600 * SECOND)
        return device.clock.now() - start

    assert board.run(application, timeout=30) == 7 * 24 * 3600 * SECOND


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to oneself")
def test_ctrl_c_stops_the_board_which_stays_usable(board: VirtualBoard) -> None:
    def application(device: Device) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        device.uart.readline()

    with pytest.raises(KeyboardInterrupt):
        board.run(application)
    assert not board.powered
    assert board.run(lambda: 1) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to oneself")
def test_ctrl_c_stops_a_loop_that_waits_for_nothing(board: VirtualBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halting, "HOGGED", 0.1)

    def application() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            pass

    with pytest.raises(KeyboardInterrupt):
        board.run(application)
    assert board.run(lambda: 1) == 1


def test_a_call_that_never_returns_is_an_error_and_not_a_hang(
    board: VirtualBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halting, "HOGGED", 0.02)
    release = threading.Event()

    def application() -> None:
        release.wait(60)

    with pytest.raises(BoardError, match=r"has not ended after 0\.01 s"):
        board.run(application, timeout=0.01)
    try:
        with pytest.raises(BoardError, match=r"has not given up its thread after 0.1 s .*\nhint: .*restart the kernel"):
            board.power_off()
    finally:
        release.set()


def test_its_background_threads_go_on_after_it_and_end_with_the_power(board: VirtualBoard) -> None:
    def application(device: Device) -> None:
        def background() -> None:
            device.uart.write("background ready\r\n")
            device.uart.readline()
            device.uart.write("background heard\r\n")

        device.clock.spawn(background)

    board.run(application)
    board.console.expect("background ready")
    board.console.write_line("hello")
    board.console.expect("background heard")


def test_a_board_that_is_closed_under_a_waiting_run_ends_it(board: VirtualBoard) -> None:
    ready = threading.Event()

    def application(device: Device) -> None:
        ready.set()
        device.uart.readline()

    def closer() -> None:
        ready.wait(20)
        board.close()

    thread = threading.Thread(target=closer)
    thread.start()
    with pytest.raises(BoardError, match="did not end: the board was closed"):
        board.run(application)
    thread.join()


def test_waiting_for_a_board_that_was_never_supplied_is_an_error() -> None:
    with VirtualBoard("K64F", memory=True, power=False) as board, pytest.raises(BoardError, match="has no power"):
        board.wait_for_end()


def test_a_function_of_a_process_that_has_ended_is_not_kept(desk: VirtualBoard) -> None:
    desk.run(lambda: 5)
    with VirtualBoard("K64F", id="desk1") as again:
        assert str(again.installed()) == "idle 1.0.0 (build 0)"


def while_it_waits(board: VirtualBoard, meanwhile: Callable[[], object]) -> BaseException | None:
    """Run what never ends in another thread, do something when it has begun, and return what it ended with."""
    begun, ended = threading.Event(), Future[object]()

    def first(device: Device) -> None:
        begun.set()
        device.uart.readline()

    def wait() -> None:
        try:
            ended.set_result(board.run(first))
        except BaseException as error:
            ended.set_exception(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert begun.wait(60)
    meanwhile()
    error = ended.exception(timeout=60)
    thread.join()
    return error


def test_who_waits_for_a_function_is_told_that_another_one_was_flashed(board: VirtualBoard) -> None:
    results = []
    error = while_it_waits(board, lambda: results.append(board.run(lambda: 42)))
    assert isinstance(error, BoardError) and "first on K64F did not end: another function was flashed" in str(error)
    assert str(error).endswith("a board runs one function at a time")
    assert results == [42]


def test_who_waits_is_told_of_a_loss_of_power_that_is_over_already(board: VirtualBoard) -> None:
    def blink() -> None:
        board.power_off()  # whoever waits may look in between, or not
        board.power_on()

    error = while_it_waits(board, blink)
    assert isinstance(error, BoardError) and re.search(r"first on K64F did not end: .*power.* after", str(error))
