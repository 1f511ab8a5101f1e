"""Judges that try answers out say what happened, and accept every answer that keeps what was asked for."""

import dataclasses

import numpy
import pytest

from pdmlab.exercises import check, exercise, misconfigured, transcripts, trials
from pdmlab.greentea import WORDS
from pdmlab.measurements import temperatures
from pdmlab.sim.board import VirtualBoard
from pdmlab.update.credentials import Credentials


@pytest.fixture(scope="module")
def board():
    with VirtualBoard("K64F", id="trials", memory=True, power=False) as board:
        yield board


def test_a_true_of_numpys_is_right():
    exercise("t.1", "?", lambda answer: numpy.float64(answer) > 1)
    assert check("t.1", 2) and not check("t.1", 0) and not check("t.1", "x")


def test_a_mapping_without_a_key_is_an_answer_that_cannot_be_judged():
    exercise("t.2", "?", lambda answer: answer["a"] == 1)
    assert "cannot be judged" in repr(check("t.2", {}))


def test_the_least_ring_is_right_and_too_small_or_too_large_ones_say_why(board):
    judge = trials.least_ring(board, rate_Bps=20_000, sync_every_B=4096, bus_Hz=1_000_000)
    assert judge((720, 16)) is True
    assert "are lost" in judge((300, 16))
    assert judge((6144, 4096)) == "Nothing is lost, but a smaller ring would do."  # how small is the question
    assert "never holds" in judge((16, 64)) and "never holds" in judge((0, 0))


def test_an_answer_is_judged_after_the_notebook_has_closed_its_board():
    with VirtualBoard("K64F", id="closed", memory=True, power=False) as closed:
        judge = trials.least_ring(closed, rate_Bps=20_000, sync_every_B=4096, bus_Hz=1_000_000)
    assert "are lost" in judge((300, 16))


def test_a_predicted_speed_is_right_within_a_tenth_and_says_which_way_it_errs(board):
    judge = trials.download_speed(board, bearer="cellular", round_trip_ms=600, receive_buffer_B=1024, seed=1)
    assert judge(1.36) is True
    assert "below" in judge(1.7) and "above" in judge(1.0)


def test_attributes_are_held_to_every_budget():
    judge = trials.attributes_within(temperatures(1), most=20, off_by=0.5, for_s=10, silence_s=90)
    assert judge({"pmin": 10, "pmax": 90, "st": 0.7}) is True
    assert judge({"st": 0.5}).startswith("24 notifications, 20 are allowed")
    assert "s on end" in judge({"st": 5.0, "pmax": 60}) and "without a notification" in judge({"st": 5.0})
    assert "would refuse" in judge({"pmin": 9, "pmax": 3})


@pytest.mark.parametrize(("flags", "longest"), [([], 0), ([1, 1, 0, 1], 2), ([0, 1, 1, 1], 3), ([0, 0], 0)])
def test_the_longest_run_is_counted_to_the_end(flags, longest):
    assert trials.longest_run(flags) == longest


def test_a_code_bricks_only_if_the_card_in_its_place_does_not_help(board):
    judge = trials.bricks(board, image_B=24 * 1024)
    assert judge("download boot!20 format-card boot") is True
    assert judge("download boot!20 format-card") is True
    assert "2.0.0 running" in judge("download boot!20 pull-card boot")
    assert "0 times" in judge("download format-card boot")
    assert "2 times" in judge("download boot!20 boot!20 format-card")
    assert "is no step" in judge("download explode")


GOOD = Credentials("ep", f"coap://127.0.0.1:5683?aid={'a' * 32}", "a" * 32)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_one_thing_is_wrong_in_credentials_and_the_last_step_is_known(seed):
    fault = misconfigured.misconfigure(GOOD, seed=seed)
    changed = {
        field.name
        for field in dataclasses.fields(GOOD)
        if getattr(GOOD, field.name) != getattr(fault.credentials, field.name)
    }
    one_thing = [
        {"bootstrap_server_uri"},
        {"bootstrap_server_root_ca_certificate", "lwm2m_server_root_ca_certificate"},
        {"bootstrap_device_certificate", "bootstrap_device_private_key"},
    ]
    assert changed == one_thing[seed % 3]
    judge = misconfigured.names_the_last_step(fault)
    assert judge((fault.last_step, fault.alert)) is True
    assert judge(("registered", "")) == "It did not get that far."
    assert "none of the steps" in judge(("a walk in the park", ""))
    assert "what ended it" in judge((fault.last_step, "close_notify"))


def test_a_step_too_early_is_told_from_one_too_late():
    fault = misconfigured.misconfigure(GOOD, seed=1)
    assert misconfigured.names_the_last_step(fault)(("network connected", "")) == "It got further."


@pytest.mark.slow
def test_conversations_end_in_words_that_can_be_told_apart(board):
    held = transcripts.hold(board, seed=1)
    words = [each.result.result for each in held.values()]
    assert list(held) == list("ABCDEFG") and set(words) <= set(WORDS)
    assert sorted(words) == ["ERROR", "FAIL", "MBED_ASSERT", "OK", "SYNC_FAILED", "SYNC_FAILED", "TIMEOUT"]
    judge = transcripts.sorted_into_words(held)
    right = {letter: each.result.result for letter, each in held.items()}
    assert judge(right) is True
    assert judge({letter.lower(): f" {word.lower()} " for letter, word in right.items()}) is True
    assert judge({**right, "A": "UNDEF"}) == "6 of 7 are right."
    assert judge({}) == "0 of 7 are right."
    other = transcripts.hold(board, seed=2)
    assert [each.result.result for each in other.values()] != words
