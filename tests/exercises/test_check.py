"""Exercises: right, wrong, and not a crash on anything."""

import pytest

from pdmlab.errors import ConfigError
from pdmlab.exercises import check, exercise, hint


def is_near_100(answer):
    return abs(float(answer) - 100) <= 10 or f"{answer} is not near."


def test_a_judge_says_right_or_what_is_wrong_and_hints_come_one_by_one():
    exercise("x.1", "How fast?", is_near_100, "Think of the bus.", "Divide.")
    assert check("x.1", 109) and check("x.1", "100")
    assert not check("x.1", 111) and "111 is not near. hint('x.1') helps." in repr(check("x.1", 111))
    assert [hint("x.1"), hint("x.1"), hint("x.1")] == ["Think of the bus.", "Divide.", "Divide."]


@pytest.mark.parametrize("answer", [None, "fast", [], object()])
def test_an_answer_that_cannot_be_judged_is_wrong_not_an_error(answer):
    exercise("x.2", "How fast?", is_near_100)
    assert not check("x.2", answer)


def test_an_exercise_that_was_not_posed_is_named():
    with pytest.raises(ConfigError, match=r"no exercise 'x\.9'"):
        check("x.9", 1)
