"""Attributes applied to a series of values, and the same series for the same seed."""

from pdmlab.lwm2m.attributes import NotificationAttributes
from pdmlab.measurements import temperatures, told


def reasons(values, **attributes):
    frame = told(values, NotificationAttributes(**attributes))
    return [(row.time_s, row.reason) for row in frame.itertuples() if row.told]


def test_without_attributes_every_change_is_told():
    assert reasons([20, 20, 21, 21, 20]) == [(0, "observe"), (2, "change"), (4, "change")]


def test_pmin_holds_back_and_pmax_repeats():
    assert reasons([20, 21, 21, 21], pmin=3) == [(0, "observe"), (3, "change")]
    assert reasons([20] * 7, pmax=3) == [(0, "observe"), (3, "pmax"), (6, "pmax")]


def test_a_value_that_waits_says_with_what():
    frame = told([20, 21, 21, 21], NotificationAttributes(pmin=3))
    assert list(frame["waits_for"]) == ["", "change", "change", ""]
    assert list(frame["known"]) == [20, 20, 20, 21] and list(frame["error"]) == [0, 1, 1, 0]


def test_a_seed_gives_its_series_again():
    assert temperatures(3) == temperatures(3) != temperatures(4)
    assert len(temperatures(1)) == 600 and all(10 < value < 30 for value in temperatures(1))
