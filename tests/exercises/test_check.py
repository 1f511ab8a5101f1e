"""Exercises: right, wrong, and not a crash on anything."""

import pytest

from pdmlab.errors import ConfigError
from pdmlab.exercises import check, equal, exercise, hint, near


def test_a_number_is_right_within_its_tolerance_and_says_which_way_it_errs():
    exercise("x.1", "How fast?", near(100, within=0.1), "Think of the bus.", "Divide.")
    assert check("x.1", 109)
    assert not check("x.1", 111) and "too large" in repr(check("x.1", 111))
    assert "too small" in repr(check("x.1", "80"))
    assert [hint("x.1"), hint("x.1"), hint("x.1")] == ["Think of the bus.", "Divide.", "Divide."]


@pytest.mark.parametrize("answer", [None, "fast", [], object()])
def test_an_answer_that_cannot_be_judged_is_wrong_not_an_error(answer):
    exercise("x.2", "How fast?", near(100, within=0.1))
    assert not check("x.2", answer)


def test_text_is_compared_as_a_person_would():
    exercise("x.3", "Which step?", equal("Verify application"))
    assert check("x.3", " verify APPLICATION ") and not check("x.3", "erase")


def test_an_exercise_that_was_not_posed_is_named():
    with pytest.raises(ConfigError, match=r"no exercise 'x\.9'"):
        check("x.9", 1)
