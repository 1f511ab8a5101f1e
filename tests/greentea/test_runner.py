"""The runner against boards that are scripts: every way in which a suite can end."""

from __future__ import annotations

import pytest

from pdmlab.errors import ServiceError
from pdmlab.greentea import HostTest, run_suite
from pdmlab.greentea.result import WORDS, Result
from tests.greentea.scripted import ScriptedBoard, suite

CASE = ("{{__testcase_start;adds up}}", "{{__testcase_finish;adds up;1;0}}")
DONE = ("{{__testcase_summary;1;0}}", "{{end;success}}", "{{__exit;0}}")


def run(board: ScriptedBoard, **options: object) -> Result:
    return run_suite(board, "sums", **{"sync_timeout": 0.01, "timeout": 0.05, **options})  # type: ignore[arg-type]


def test_the_words_are_the_official_ones() -> None:
    assert len(WORDS) == 13 == len(set(WORDS))


def test_a_suite_that_succeeds_is_ok() -> None:
    board = ScriptedBoard(suite("{{__testcase_count;1}}", "{{__testcase_name;adds up}}", *CASE, *DONE), ["booting..."])
    result = run(board)
    assert (result.result, result.ok, result.reason) == ("OK", True, "")
    assert (result.host_test, result.version, result.target) == ("default_auto", "1.3.0", "K64F")
    assert result.cases[["case", "result", "passed"]].to_numpy().tolist() == [["adds up", "OK", 1]]
    assert board.resets == 1
    assert board.heard[0].startswith("mbed" * 10 + "{{__sync;")
    assert repr(result).startswith("<sums on K64F: OK, 1 OK")
    assert "adds up" in result._repr_html_()


def test_a_failure_says_which_case_and_why() -> None:
    lines = ("{{__testcase_name;a}}", "{{__testcase_name;b}}", "{{__testcase_start;a}}", ":7::FAIL: Expected 1 Was 2",
             "{{__testcase_finish;a;0;1}}", "{{end;failure}}", "{{__exit;0}}")  # fmt: skip
    result = run(ScriptedBoard(suite(*lines)))
    assert (result.result, result.reason) == ("FAIL", "a: line 7: Expected 1 Was 2")
    assert result.cases["result"].to_list() == ["FAIL", "SKIPPED"]


def test_success_with_a_failed_case_is_not_ok() -> None:
    result = run(ScriptedBoard(suite("{{__testcase_start;a}}", "{{__testcase_finish;a;0;1}}", *DONE)))
    assert (result.result, result.ok) == ("OK", False)


def test_key_values_before_the_sync_are_not_heard() -> None:
    board = ScriptedBoard(suite(*DONE), ["{{end;failure}}", "{{__exit;0}}", "{{__timeout;1}}"])
    assert run(board).result == "OK"


def test_a_silent_board_fails_to_sync_and_gets_no_invented_case() -> None:
    board = ScriptedBoard(lambda _: [])
    result = run(board, sync=3)
    assert result.result == "SYNC_FAILED"
    assert board.resets == 3 and len(board.heard) == 3
    assert "the board's side was silent: not a byte came; 3 syncs sent" in result.reason
    assert result.cases.empty
    assert "115200 baud" in result.hint


def test_a_board_that_prints_but_hears_nothing_says_so() -> None:
    result = run(ScriptedBoard(lambda _: [], ["Mbed Bootloader", "booting...", "hello"]), sync=1)
    assert result.result == "SYNC_FAILED"
    assert "the host's side was silent to it" in result.reason
    assert "'hello'" in result.reason
    assert result.last_lines[-1] == "hello"


def test_a_board_that_faulted_says_that_it_stopped() -> None:
    report = ["++ MbedOS Error Info ++", "Error Status: 0x80FF013D Code: 317 Module: 255",
              "Error Message: Fault exception", "-- MbedOS Error Info --"]  # fmt: skip
    result = run(ScriptedBoard(lambda _: [], report), sync=1)
    assert result.result == "SYNC_FAILED"
    assert "it could answer: Fault exception (status 0x80FF013D)" in result.reason


def test_noise_is_called_another_baud_rate() -> None:
    result = run(ScriptedBoard(lambda _: [], ["\x00\ufffd\ufffd\x13\ufffdx"]), sync=1)
    assert "cannot be read" in result.reason and "baud" in result.hint


def test_a_late_echo_of_an_earlier_sync_is_taken() -> None:
    heard: list[str] = []

    def answers(line: str) -> list[str]:
        heard.append(line)
        return list(suite(*DONE)(heard[0])) if len(heard) == 2 else []

    assert run(ScriptedBoard(answers)).result == "OK"


def test_another_sync_is_no_echo() -> None:
    result = run(ScriptedBoard(lambda _: ["{{__sync;not-yours}}"]), sync=1)
    assert result.result == "SYNC_FAILED"
    assert "echoed 1 other sync" in result.reason


def test_a_suite_that_hangs_times_out_and_says_where() -> None:
    result = run(ScriptedBoard(suite("{{__testcase_name;a}}", "{{__testcase_start;a}}", "waiting for Godot")))
    assert result.result == "TIMEOUT"
    assert "in case 'a'; last line: 'waiting for Godot'" in result.reason
    assert result.cases["result"].to_list() == ["ERROR"]


def test_a_line_that_breaks_off_is_ioerr_serial() -> None:
    result = run(ScriptedBoard(suite("{{__testcase_start;a}}", ScriptedBoard.LOST)))
    assert (result.result, result.hint) == ("IOERR_SERIAL", "plug it in again")
    assert result.cases["result"].to_list() == ["ERROR"]


def test_an_exit_without_a_result_is_an_error() -> None:
    assert run(ScriptedBoard(suite("{{__exit;0}}"))).result == "ERROR"


def test_an_end_without_an_exit_is_enough() -> None:
    assert run(ScriptedBoard(suite("{{end;success}}"))).result == "OK"


def test_a_board_that_stops_in_a_suite_ends_it_at_once() -> None:
    report = ("++ MbedOS Error Info ++", "Error Status: 0x80FF0100 Code: 256 Module: 255",
              "Error Message: TypeError: no", "-- MbedOS Error Info --")  # fmt: skip
    result = run(ScriptedBoard(suite("{{__testcase_start;a}}", *report)), timeout=1000)
    assert (result.result, result.reason) == ("ERROR", "the board stopped: TypeError: no (status 0x80FF0100)")


@pytest.mark.parametrize(
    "lines",
    [
        ["mbed assertation failed: ptr, file: a.c, line 3"],
        ["++ MbedOS Error Info ++", "Error Status: 0x80FF0144", "Error Message: Assertion failed: ptr",
         "-- MbedOS Error Info --"],
    ],
)  # fmt: skip
def test_a_failed_assertion_of_the_system_has_its_own_word(lines: list[str]) -> None:
    result = run(ScriptedBoard(suite(*lines)))
    assert result.result == "MBED_ASSERT"
    assert "ptr" in result.reason


def test_malformed_events_are_passed_over() -> None:
    result = run(ScriptedBoard(suite("{{__testcase_finish;a}}", "{{__timeout;soon}}", "{{", *CASE, *DONE)))
    assert result.result == "OK"
    assert (result.events_frame["kind"] == "malformed").sum() == 3


def test_an_unknown_host_test_is_an_error_with_the_known_ones() -> None:
    result = run(ScriptedBoard(suite(host_test="rtc_auto")))
    assert result.result == "ERROR"
    assert "'rtc_auto'" in result.reason and "default_auto" in result.hint


def test_echo_sends_and_compares() -> None:
    def answers(line: str) -> list[str]:
        if "__sync" in line:
            return list(suite("{{echo_count;2}}", host_test="echo")(line))
        if line.startswith("{{echo;"):
            echoes.append(line)
            return [line] if len(echoes) < 2 else [line, "{{__exit;0}}"]
        return []

    echoes: list[str] = []
    assert run(ScriptedBoard(answers)).result == "OK"
    assert len(set(echoes)) == 2


def test_a_host_test_of_ones_own_answers_and_decides() -> None:
    class Sum(HostTest):
        ended = False

        def __init__(self) -> None:
            super().__init__()
            self.answers = {"add": self.add, "sum": lambda value: self.talk.complete(value == "3", f"{value} is not 3")}

        def add(self, value: str) -> None:
            self.talk.log(f"adding {value}")
            self.talk.send("numbers", value.replace("+", ","))

        def teardown(self) -> None:
            Sum.ended = True

    def answers(line: str) -> list[str]:
        if "__sync" in line:
            return list(suite("{{add;1+2}}", host_test="sum")(line))
        return ["{{sum;4}}"] if line == "{{numbers;1,2}}" else []

    result = run(ScriptedBoard(answers), host_tests={"sum": Sum})
    assert (result.result, result.reason, result.notes) == ("FAIL", "4 is not 3", ["adding 1+2"])
    assert Sum.ended


def test_what_goes_wrong_in_a_host_test_is_an_error_with_its_hint() -> None:
    class Broken(HostTest):
        def __init__(self) -> None:
            super().__init__()
            self.answers = {"ask": self.ask}

        def ask(self, value: str) -> None:
            raise ServiceError("GET /v3/devices: 401, no reason given", status=401, hint="is the key right?")

    result = run(ScriptedBoard(suite("{{ask;1}}", host_test="broken")), host_tests={"broken": Broken})
    assert result.result == "ERROR"
    assert result.reason == "the host test broken: GET /v3/devices: 401, no reason given"
    assert result.hint == "is the key right?"


def test_the_boards_time_out_begins_when_it_arrives() -> None:
    result = run_suite(ScriptedBoard(suite("{{__timeout_set;0}}")), "sums", sync_timeout=0.01)
    assert result.result == "TIMEOUT"
    assert "after 0 s" in result.reason


@pytest.mark.parametrize("line", ["{{__timeout_adjust;-60}}", "{{__timeout_set;0}}"])
def test_a_time_out_that_the_caller_gave_stays(line: str) -> None:
    assert "after 0.05 s" in run(ScriptedBoard(suite(line))).reason


def test_events_are_told_as_they_come() -> None:
    seen: list[str] = []
    run(ScriptedBoard(suite("hello", *DONE)), on_event=lambda event: seen.append(str(event)))
    assert "{{end;success}}" in seen
