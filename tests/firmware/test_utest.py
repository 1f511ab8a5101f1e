"""The harness prints what greentea-client and utest print, to the byte."""

from __future__ import annotations

from typing import Any

import pytest

from pdmlab.errors import NoSpace
from pdmlab.firmware.utest import Greentea, Suite
from tests.firmware.boards import SYNC, play

UUID = "9f2c1a0e-0000-4000-8000-000000000001"


def add(device: Any) -> None:
    with Suite(device, timeout=60, host_test="default_auto", cases=["adds up", "subtracts"]) as suite:
        for name, total in (("adds up", 2), ("subtracts", 0)):
            with suite.case(name):
                assert total < 3, "too much"


PASSED = f"""mbedmbedmbedmbedmbedmbedmbedmbed
{{{{__sync;{UUID}}}}}
{{{{__version;1.3.0}}}}
{{{{__timeout;60}}}}
{{{{__host_test_name;default_auto}}}}
{{{{__testcase_count;2}}}}
>>> Running 2 test cases...
{{{{__testcase_name;adds up}}}}
{{{{__testcase_name;subtracts}}}}

>>> Running case #1: 'adds up'...
{{{{__testcase_start;adds up}}}}
{{{{__testcase_finish;adds up;1;0}}}}
>>> 'adds up': 1 passed, 0 failed

>>> Running case #2: 'subtracts'...
{{{{__testcase_start;subtracts}}}}
{{{{__testcase_finish;subtracts;1;0}}}}
>>> 'subtracts': 1 passed, 0 failed

>>> Test cases: 2 passed, 0 failed
{{{{__testcase_summary;2;0}}}}
{{{{end;success}}}}
{{{{__exit;0}}}}
"""


def test_a_suite_that_passes() -> None:
    assert play(add) == PASSED.replace("\n", "\r\n")


def test_a_failure_ends_the_suite_as_in_utest() -> None:
    def fail(device: Any) -> None:
        with Suite(device, timeout=60, host_test="default_auto", cases=["adds up", "subtracts"]) as suite:
            with suite.case("adds up"):
                raise NoSpace("the card is full", code=-28, hint="take a larger one")
            with suite.case("subtracts"):
                raise AssertionError("never gets here")

    text = play(fail)
    line = fail.__code__.co_firstlineno + 3
    assert text.endswith(
        f"""{{{{__testcase_start;adds up}}}}
:{line}::FAIL: the card is full (test_utest.py)
{{{{__testcase_finish;adds up;0;1}}}}
>>> 'adds up': 0 passed, 1 failed with reason 'Assertion Failed'

>>> Test cases: 0 passed, 1 failed with reason 'Assertion Failed'
>>> TESTS FAILED!
{{{{__testcase_summary;0;1}}}}
{{{{end;failure}}}}
{{{{__exit;0}}}}
""".replace("\n", "\r\n")
    )
    assert "subtracts'" not in text


def test_an_assertion_without_words_says_so() -> None:
    def fail(device: Any) -> None:
        with Suite(device, timeout=1, host_test="default_auto", cases=["a"]) as suite, suite.case("a"):
            raise AssertionError

    assert "::FAIL: Expression Evaluated To FALSE (test_utest.py)\r\n" in play(fail)


def test_a_defect_of_the_firmware_is_no_failed_case() -> None:
    def broken(device: Any) -> None:
        with Suite(device, timeout=1, host_test="default_auto", cases=["a"]) as suite, suite.case("a"):
            raise TypeError("a defect")

    with pytest.raises(TypeError):
        play(broken)


def test_an_error_between_cases_is_no_failed_case() -> None:
    def broken(device: Any) -> None:
        with Suite(device, timeout=1, host_test="default_auto", cases=["a"]):
            raise AssertionError("between")

    with pytest.raises(AssertionError, match="between"):
        play(broken)


def test_key_values_before_the_sync_are_not_heard_and_each_brings_the_preamble() -> None:
    lines = ["noise", "{{iteration;3}}", "mbed" * 10 + SYNC]
    text = play(add, lines=lines)
    assert text.startswith("mbed" * 8 + "\r\n" + "mbed" * 8 + "\r\n{{__sync;")


def test_keys_come_and_go_after_the_sync() -> None:
    heard: list[object] = []

    def talk(device: Any) -> None:
        line = Greentea(device)
        line.handshake(30, "mine")
        line.send("device_ready", 1)
        heard.append(line.wait_for("iteration", timeout=5))
        heard.append(line.wait_for("iteration", "timeout", timeout=5))
        heard.append(line.receive(5))

    text = play(talk, lines=[SYNC, "{{other;1}}", "{{iteration;0}}", "{{iteration;0}}"])
    assert heard == [("iteration", "0"), ("iteration", "0"), None]
    assert text.endswith("{{__host_test_name;mine}}\r\n{{device_ready;1}}\r\n")
