"""Suites on media that are full, worn or gone: a failed case with a named code on the console, and an end."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from pdmlab.clock import DeviceClock
from pdmlab.firmware import fs_suites
from pdmlab.storage import FATFileSystem, Medium, ProfilingBlockDevice, SDBlockDevice
from pdmlab.storage.faults import MediumFaults
from tests.firmware.test_fs_suites import Line


def play(medium: Medium, spoil: Callable[[Medium], None] = lambda medium: None) -> str:
    """Run fs-single on a card of its own; spoil it once the card is formatted."""
    with DeviceClock() as clock:
        line = Line()

        def make(name: str = "fs") -> FATFileSystem:
            fs = FATFileSystem(name)
            reformat = fs.reformat

            def then_spoil(device: object) -> None:
                reformat(device)  # type: ignore[arg-type]
                spoil(medium)

            fs.reformat = then_spoil  # type: ignore[assignment, method-assign]
            return fs

        board = SimpleNamespace(
            simulated=True,
            clock=clock,
            uart=line,
            block_device=ProfilingBlockDevice(SDBlockDevice(medium, clock=clock)),
            block_device_name="SD",
            make_file_system=make,
        )
        clock.call(fs_suites.fs_single, board)
        return line.text


def wear(medium: Medium) -> None:
    """Wear out all that the tables and the root directory do not take."""
    for at in range(64 << 10, medium.size, 512):
        MediumFaults.of(medium).wear_out(at)


def pull(medium: Medium) -> None:
    medium.seated = False


@pytest.mark.parametrize(
    ("size", "spoil", "said"),
    [
        pytest.param(96 << 10, None, r"ENOSPC, -28", id="full"),
        pytest.param(1 << 20, wear, r"is worn out \(SD_BLOCK_DEVICE_ERROR_\w+, -50\d\d\)", id="worn"),
        pytest.param(1 << 20, pull, r"SD_BLOCK_DEVICE_ERROR_NO_DEVICE, -5005", id="pulled"),
    ],
)
def test_each_case_fails_with_a_named_code_and_the_suite_ends(
    size: int, spoil: Callable[[Medium], None] | None, said: str
) -> None:
    text = play(Medium(size, erase_value=0), spoil or (lambda medium: None))
    assert re.search(said, text), text[-2000:]
    finished = re.findall(r"\{\{__testcase_finish;[^;]+;(\d);(\d)\}\}", text)
    assert finished[0] == ("1", "0")  # format
    assert ("0", "1") in finished
    assert "{{end;failure}}" in text
    assert "Traceback" not in text


def test_the_same_board_is_usable_again_with_another_card() -> None:
    assert "{{end;failure}}" in play(Medium(96 << 10, erase_value=0))
    assert "{{end;success}}" in play(Medium(4 << 20, erase_value=0))
