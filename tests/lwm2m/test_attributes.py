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


# -- LwM2M 1.1 -------------------------------------------------------------------------------------------------------


def test_1_1_knows_evaluation_periods_and_more_attributes_at_once() -> None:
    queries = ["pmin=1", "pmax=60", "gt=30", "lt=10", "st=0.5", "epmin=2", "epmax=20"]
    found = NotificationAttributes().updated(queries, version="1.1")
    assert (found.epmin, found.epmax) == (2, 20)
    assert found.queries == queries
    assert found.updated(["epmin", "gt"], version="1.1").queries == ["pmin=1", "pmax=60", "lt=10", "st=0.5", "epmax=20"]
    with pytest.raises(Lwm2mError, match="is no notification attribute"):
        NotificationAttributes().updated(["epmin=2"])  # the stock client's


@pytest.mark.parametrize("queries", [["epmin=5", "epmax=4"], ["epmin=x"], ["gt=" + "1" * 90], ["pmax=4294967296"]])
def test_1_1_refuses_what_makes_no_sense(queries: list[str]) -> None:
    with pytest.raises(Lwm2mError):
        NotificationAttributes().updated(queries, version="1.1")


@pytest.mark.parametrize(
    ("own", "above", "together"),
    [
        ({"pmin": 5}, {"pmin": 1, "pmax": 60}, {"pmin": 5, "pmax": 60}),
        ({"pmin": 5}, {"pmax": 2}, {"pmin": 5}),  # a pmax shorter than pmin is ignored
        ({"pmax": 2}, {"pmin": 5}, {"pmin": 5}),
        ({"epmin": 5}, {"epmax": 2}, {"epmin": 5}),
        ({"gt": 30}, {"lt": 10}, {"gt": 30, "lt": 10}),
        ({"gt": 5}, {"lt": 10, "st": 1}, {"gt": 5}),  # contradicts what is above
        ({"gt": 5, "st": 9}, {"lt": 1, "pmax": 7}, {"gt": 5, "st": 9, "pmax": 7}),
        ({}, {"gt": 1, "lt": 0}, {"gt": 1, "lt": 0}),
    ],
)
def test_attributes_are_completed_by_those_above(own: dict, above: dict, together: dict) -> None:
    assert NotificationAttributes(**own).under(NotificationAttributes(**above)) == NotificationAttributes(**together)


SETS = st.dictionaries(
    st.sampled_from(["pmin", "pmax", "gt", "lt", "st", "epmin", "epmax"]), st.integers(0, 100), max_size=7
)


@given(SETS, SETS)
def test_any_two_levels_make_attributes_that_make_sense(own: dict, above: dict) -> None:
    try:
        one, other = NotificationAttributes(**own), NotificationAttributes(**above)
    except Lwm2mError:
        return
    found = one.under(other)
    assert dict(one.items()).items() - {("pmax", one.pmax), ("epmax", one.epmax)} <= dict(found.items()).items()
