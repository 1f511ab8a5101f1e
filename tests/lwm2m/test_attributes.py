"""Notification attributes, and when they let a value be told: a table of the combinations."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.attributes import SECOND, Decision, NotificationAttributes, NotificationRule

ATTRIBUTES = NotificationAttributes


@pytest.mark.parametrize(
    ("queries", "attributes"),
    [
        (["pmin=10", "pmax=60"], ATTRIBUTES(pmin=10, pmax=60)),
        (["gt=30.5", "lt=-1e1", "st=.5"], ATTRIBUTES(gt=30.5, lt=-10.0, st=0.5)),
        (["pmin=0"], ATTRIBUTES(pmin=0)),
        ([], ATTRIBUTES()),
    ],
)
def test_queries_are_read(queries: list[str], attributes: NotificationAttributes) -> None:
    assert ATTRIBUTES().updated(queries) == attributes


def test_an_attribute_without_a_value_is_unset_and_others_stay() -> None:
    attributes = ATTRIBUTES(pmin=10, pmax=60, gt=5)
    assert attributes.updated(["pmax", "gt="]) == ATTRIBUTES(pmin=10)
    assert attributes.updated(["pmin=20"]) == ATTRIBUTES(pmin=20, pmax=60, gt=5)


def test_only_the_whole_is_held_against_the_rules() -> None:
    assert ATTRIBUTES(pmin=10, pmax=20).updated(["pmin=30", "pmax=40"]) == ATTRIBUTES(pmin=30, pmax=40)


@given(st.integers(0, 99999), st.floats(-1000, 1000).map(lambda value: round(value, 3)))
def test_queries_come_back(pmin: int, gt: float) -> None:
    attributes = ATTRIBUTES(pmin=pmin, gt=gt)
    assert ATTRIBUTES().updated(attributes.queries) == attributes


@pytest.mark.parametrize(
    "queries",
    [
        ["pmin=60", "pmax=10"],
        ["lt=30", "gt=30"],
        ["lt=20", "gt=30", "st=5"],
        ["st=-1"],
        ["pmin=-1"],
        ["pmin=1.5"],
        ["pmin=٣"],
        ["gt=nan"],
        ["gt=inf"],
        ["gt=1_0"],
        ["gt=x"],
        ["epmin=1"],
        ["dim=1"],
        [""],
        ["pmin=1"] * 6,
        ["pmin=00000000000000001"],
    ],
)
def test_what_contradicts_or_is_no_attribute_is_refused(queries: list[str]) -> None:
    with pytest.raises(Lwm2mError):
        ATTRIBUTES().updated(queries)


def test_the_edges_of_the_rules_are_allowed() -> None:
    ATTRIBUTES(pmin=10, pmax=10)
    ATTRIBUTES(lt=20, gt=31, st=5)
    ATTRIBUTES(st=0)


# -- when it is told: (attributes, old value, new value) -> reason, long after pmin --------------------

TABLE = [
    ({}, 20, 20, None),
    ({}, 20, 21, "change"),
    ({}, "a", "b", "change"),
    ({}, b"a", b"a", None),
    ({"gt": 30}, 20, 30, None),
    ({"gt": 30}, 20, 31, "gt"),
    ({"gt": 30}, 31, 40, None),
    ({"gt": 30}, 31, 30, "gt"),  # crossing back
    ({"lt": 10}, 20, 10, None),
    ({"lt": 10}, 20, 9, "lt"),
    ({"lt": 10}, 9, 5, None),
    ({"lt": 10}, 9, 10, "lt"),
    ({"st": 5}, 20, 24, None),
    ({"st": 5}, 20, 25, "st"),
    ({"st": 5}, 20, 15, "st"),
    ({"st": 0}, 20, 20, None),
    ({"st": 0}, 20, 20.1, "st"),
    ({"gt": 30, "lt": 10}, 20, 25, None),
    ({"gt": 30, "lt": 10}, 5, 35, "gt"),
    ({"gt": 30, "st": 5}, 20, 25, "st"),
    ({"gt": 30, "st": 50}, 20, 31, "gt"),
    ({"gt": 30, "lt": 10, "st": 5}, 20, 14, "st"),
    ({"gt": 30}, "a", "b", "change"),  # thresholds are for numbers
    ({"gt": 0.5}, False, True, "gt"),
]


@pytest.mark.parametrize(("attributes", "old", "new", "reason"), TABLE)
def test_the_table_of_reasons(attributes: dict[str, float], old: object, new: object, reason: str | None) -> None:
    rule = NotificationRule(ATTRIBUTES(**attributes), old, now=0)  # type: ignore[arg-type]
    decision = rule.update(new, now=100 * SECOND)  # type: ignore[arg-type]
    assert decision == Decision(reason is not None, reason)  # type: ignore[arg-type]


def test_pmin_holds_a_notification_until_it_is_over() -> None:
    rule = NotificationRule(ATTRIBUTES(pmin=10), 20, now=0)
    assert rule.update(21, now=3 * SECOND) == Decision(False, "change", 10 * SECOND)
    assert rule.update(21, now=10 * SECOND - 1) == Decision(False, "change", 10 * SECOND)
    assert rule.update(21, now=10 * SECOND) == Decision(True, "change")
    assert rule.update(21, now=11 * SECOND) == Decision(False)


def test_a_value_that_comes_back_within_pmin_is_not_told() -> None:
    rule = NotificationRule(ATTRIBUTES(pmin=10, gt=30), 20, now=0)
    assert rule.update(31, now=SECOND).reason == "gt"
    assert rule.update(20, now=10 * SECOND) == Decision(False)


def test_pmax_tells_the_same_value_again_and_again() -> None:
    rule = NotificationRule(ATTRIBUTES(pmax=60), 20, now=0)
    assert rule.update(20, now=SECOND) == Decision(False, None, 60 * SECOND)
    assert rule.update(20, now=60 * SECOND) == Decision(True, "pmax", 120 * SECOND)
    assert rule.update(20, now=90 * SECOND) == Decision(False, None, 120 * SECOND)
    assert rule.update(21, now=90 * SECOND) == Decision(True, "change", 150 * SECOND)


def test_pmax_tells_below_a_threshold_too() -> None:
    rule = NotificationRule(ATTRIBUTES(pmax=60, gt=30), 20, now=0)
    assert rule.update(25, now=30 * SECOND) == Decision(False, None, 60 * SECOND)
    assert rule.update(25, now=60 * SECOND) == Decision(True, "pmax", 120 * SECOND)
    assert rule.value == 25


def test_pmax_0_sets_no_longest_time() -> None:
    rule = NotificationRule(ATTRIBUTES(pmax=0), 20, now=0)
    assert rule.update(20, now=1000 * SECOND) == Decision(False)


def test_steps_count_from_the_value_told_last() -> None:
    rule = NotificationRule(ATTRIBUTES(st=5), 20, now=0)
    told = [value for value in range(20, 40) if rule.update(value, now=SECOND).notify]
    assert told == [25, 30, 35]


@given(
    st.integers(0, 20),
    st.integers(0, 40),
    st.lists(st.tuples(st.integers(1, 15), st.integers(0, 5)), min_size=1, max_size=40),
)
def test_notifications_are_never_nearer_than_pmin_and_no_change_is_lost(
    pmin: int, extra: int, steps: list[tuple[int, int]]
) -> None:
    rule = NotificationRule(ATTRIBUTES(pmin=pmin, pmax=pmin + extra or None), 0, now=0)
    now, told_at, told = 0, [0], 0
    for seconds, value in steps:
        now += seconds * SECOND
        decision = rule.update(value, now)
        if decision.notify:
            told_at.append(now)
            told = value
        elif value != told:
            assert decision.at is not None
            assert now < decision.at <= told_at[-1] + pmin * SECOND
        if decision.at is not None:
            assert decision.at > now
    assert all(later - earlier >= pmin * SECOND for earlier, later in pairwise(told_at))
