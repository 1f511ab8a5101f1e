"""Conversations between host and board that went well or wrong: which of Greentea's 13 words ends each?

They are not written down but held: each runs on a fresh board, and the runner's own word is the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pdmlab.firmware import registry
from pdmlab.firmware.utest import Greentea, Suite
from pdmlab.greentea.result import Result
from pdmlab.greentea.runner import run_suite
from pdmlab.prng import SplitMix64
from pdmlab.sim.fault_handler import error_info

if TYPE_CHECKING:
    import pandas as pd

    from pdmlab.exercises import Judge
    from pdmlab.firmware.device import Device

ASSERTION_FAILED = 0x80FF0144
"""MBED_ERROR_ASSERTION_FAILED: type system, module unknown (255), code 324."""
PATIENCE_S = 0.5
"""How long the host waits for an echo here, and a suite for its end (host clock)."""


@dataclass(frozen=True)
class Conversation:
    """A conversation as a bystander saw it, and how the runner ended it."""

    letter: str
    result: Result

    @property
    def transcript(self) -> pd.DataFrame:
        """Both directions: time, direction (board or host), text."""
        assert self.result.transcript is not None
        return self.result.transcript


def hold(board: Any, *, seed: int) -> dict[str, Conversation]:  # Any: a virtual board
    """Hold all conversations on fresh boards, in an order of the seed's, and return them by their letters."""
    stories = list(_STORIES)
    random = SplitMix64(seed).split("transcripts")
    for last in range(len(stories) - 1, 0, -1):
        other = random.below(last + 1)
        stories[last], stories[other] = stories[other], stories[last]
    held = {}
    for number, story in enumerate(stories):
        letter = chr(ord("A") + number)
        registry.register(f"conversation-{letter}", story)
        with board.scratch(seed=seed) as fresh:
            fresh.flash_application(f"conversation-{letter}")
            result = run_suite(fresh, f"conversation {letter}", sync=1, sync_timeout=PATIENCE_S)
        held[letter] = Conversation(letter, result)
    return held


def sorted_into_words(held: dict[str, Conversation]) -> Judge:
    """Judge a mapping of letter to result word: {"A": "OK", …}."""

    def judge(answer: Any) -> bool | str:
        words = {str(letter).upper(): str(word).strip().upper() for letter, word in dict(answer).items()}
        right = sum(words.get(letter) == each.result.result for letter, each in held.items())
        return True if right == len(held) else f"{right} of {len(held)} are right."

    return judge


def _all_well(device: Device) -> None:
    with Suite(device, timeout=10, host_test="default_auto", cases=["adds up"]) as suite, suite.case("adds up"):
        pass


def _wrong_sum(device: Device) -> None:
    with Suite(device, timeout=10, host_test="default_auto", cases=["adds up"]) as suite, suite.case("adds up"):
        raise AssertionError("Expected 4 Was 5")


def _hangs(device: Device) -> None:
    name = "waits for a packet"
    with Suite(device, timeout=1, host_test="default_auto", cases=[name]) as suite, suite.case(name):
        device.uart.readline()  # nobody ever sends one


def _unknown_host_test(device: Device) -> None:
    with Suite(device, timeout=10, host_test="barometer_auto", cases=["adds up"]):
        device.uart.readline()


def _asserts(device: Device) -> None:
    name = "fills the buffer"
    with Suite(device, timeout=10, host_test="default_auto", cases=[name]) as suite, suite.case(name):
        report = error_info(ASSERTION_FAILED, "Assertion failed: size <= sizeof(buffer)", location=0x1_2F4C)
        device.uart.write(report)
        device.uart.readline()


def _speaks_too_early(device: Device) -> None:
    line = Greentea(device)
    line.send("__version", "1.3.0")
    line.send("__timeout", 10)
    line.send("__host_test_name", "default_auto")
    line.send("end", "success")
    line.send("__exit", 0)


def _no_suite(device: Device) -> None:
    device.uart.write("Blinky 1.2. Press the button.\r\n")
    while device.uart.readline() is not None:
        device.uart.write("?\r\n")


_STORIES: tuple[Callable[[Device], object], ...] = (
    _all_well, _wrong_sum, _hangs, _unknown_host_test, _asserts, _speaks_too_early, _no_suite,
)  # fmt: skip
