"""The slider over operations: what it shows is what replay() gives."""

import pytest

from pdmlab import widgets
from pdmlab.errors import ConfigError
from pdmlab.storage.powercuts import Player, replay, stories
from pdmlab.widgets.cutting import draw_instant


def test_the_slider_shows_the_instant_that_replay_gives():
    fat = stories.fat(steps=["write /a 600", "write /a 300"])
    view = widgets.power_cuts({"littlefs": stories.littlefs("emmc", size=64 * 512, length=5), "FAT": fat}, start=3)
    first = view.image.value
    view.operation.value = 4
    assert view.image.value != first and "nothing is lost" in view.verdict.value
    view.story.value = "FAT"
    view.way.value = "before it"
    view.operation.value = 7
    assert view.at.finding == replay("7b", fat).finding and view.at.finding.outcome == "lost"
    assert "LOST" in view.verdict.value and "SIMULATED" in view.verdict.value
    assert view.operation.max == 10 and "data:image/png" in view._still()


def test_every_way_of_cutting_is_a_code():
    view = widgets.power_cuts({"NVStore": stories.nvstore(length=2)})
    for way, kind in (("before it", "b"), ("in it: a prefix", "p"), ("in it: between", "x"), ("after it", "a")):
        view.way.value = way
        assert view.code[1] == kind and view.code in view.at.code


def test_the_strip_says_that_it_is_simulated_and_that_no_time_is_measured():
    ax = draw_instant(Player(stories.nvstore(length=2)).at("1b"))
    assert "SIMULATED, no time is measured" in [text.get_text() for text in ax.texts]


def test_no_story_is_an_error():
    with pytest.raises(ConfigError, match="no story"):
        widgets.power_cuts({})
