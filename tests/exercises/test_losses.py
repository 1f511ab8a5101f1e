"""The smallest trace that FAT loses: hunted by everybody on a card of their own."""

import pytest

from pdmlab.exercises import losses


@pytest.mark.parametrize("seed", [1, 2, 4, 9])
def test_one_rename_torn_between_two_entries_is_the_answer_at_a_place_that_hangs_on_the_seed(seed):
    judge = losses.smallest_loss(seed)
    place = 32 * ((seed - 1) % 5) + 16
    assert judge((["rename /settings /s"], f"1p{place}")) is True
    assert judge(("rename /settings /s", f"1p{place}")) is True
    assert "nothing is lost" in judge((["rename /settings /s"], f"1p{place + 200}"))


def test_other_answers_are_replayed_and_said_what_they_do():
    judge = losses.smallest_loss(2)
    assert "with 5 device operations" in judge((["write /settings 10"], "2b"))
    assert "One cut is asked for" in judge((["rename /settings /s"], "1x7"))
    assert "is no step" in judge((["explode"], "1b")) and "cannot be taken" in judge((["remove /x"], "1b"))
    assert "is not what was lost" in judge((["rename /log-0 /s"], "1p16"))
