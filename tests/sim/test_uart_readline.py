"""A line from the host wakes the device, whenever it comes."""

from __future__ import annotations

import gc
import warnings

import pytest

from pdmlab.clock import DeviceClock
from pdmlab.sim.uart import VirtualUart


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_line_that_comes_just_as_the_device_begins_to_wait_is_read(timeout: float | None) -> None:
    with DeviceClock() as clock:
        uart = VirtualUart(clock)

        def work() -> str | None:
            uart.host_write(b"hello\r\n")  # received on the loop's next turn, before the wait begins
            return uart.readline(timeout)

        assert clock.call(work) == "hello"


def test_a_line_in_pieces_is_read_when_it_ends() -> None:
    with DeviceClock() as clock:
        uart = VirtualUart(clock)

        def work() -> str | None:
            uart.host_write(b"hel")
            uart.host_write(b"lo\n")
            return uart.readline(5.0)

        assert clock.call(work) == "hello"


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_device_that_is_halted_as_it_begins_to_wait_leaves_nothing_behind(timeout: float | None) -> None:
    with warnings.catch_warnings(record=True) as warned, DeviceClock() as clock:
        warnings.simplefilter("always")
        uart = VirtualUart(clock)

        def work() -> None:
            clock.spawn(uart.readline, timeout)
            clock.loop.call_soon(clock.halt_then, lambda: None)

        clock.on_loop(work)
        clock.halt()
        gc.collect()
    assert [str(warning.message) for warning in warned] == []
