"""Filters: three spellings, one meaning, the same in SQL as row by row."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import ConfigError
from pdmlab.service import filters
from pdmlab.service.schema import device_group_members, device_groups, devices
from pdmlab.service.store import Store

# Taken from what the vendor's SDK sent: an outer layer of encoding that HTTP takes off, an inner one that stays.
FROM_SDK = "custom_attributes__k__neq=v&device_class=abc&state__in=registered%2Cderegistered"


def spelt(filter: filters.Filter) -> list[str]:
    return [str(condition) for condition in filter]


def test_the_sdks_query_in_a_query_is_read() -> None:
    assert spelt(filters.parse(FROM_SDK)) == [
        "custom_attributes__k__neq=v",
        "device_class__eq=abc",
        "state__in=registered,deregistered",
    ]


def test_a_list_as_the_older_sdk_writes_it_is_a_list() -> None:
    assert spelt(filters.parse("state__in=%5B%27registered%27%2C+%27bootstrapped%27%5D")) == [
        "state__in=registered,bootstrapped"
    ]
    assert spelt(filters.parse("id__nin=['a']&name__eq=['a']")) == ["id__nin=a", "name__eq=['a']"]


def test_the_three_spellings_mean_the_same() -> None:
    by_filter = filters.from_parameters([("limit", "50"), ("filter", "state=registered&name__neq=desk%201")])
    by_parameters = filters.from_parameters([("state__eq", "registered"), ("name__neq", "desk 1"), ("order", "ASC")])
    by_campaign = filters.parse("?state__eq=registered&name__neq=desk 1")
    assert by_filter == by_parameters == by_campaign


@pytest.mark.parametrize(
    "text",
    [
        "colour=red",
        "state__between=1,2",
        "state",
        "custom_attributes__=x",
        'custom_attributes__a"b=x',
        "created_at__gte=yesterday",
        "auto_update=perhaps",
        "auto_update__gte=true",
        "created_at__like=2016",
        "device_execution_mode=one",
        "name__gte=a",  # each database would have another order
        "custom_attributes__k__lt=a",
        "groups__like=a",
        "groups__gt=a",
        "name=a%00b",  # PostgreSQL takes no NUL
        "&".join(["state=registered"] * 101),
        "id__in=" + ",".join(["a"] * 1001),
        "name__like=" + "_" * 1001,  # SQLite takes no long patterns
    ],
)
def test_what_no_device_could_be_compared_with_is_refused_and_not_ignored(text: str) -> None:
    with pytest.raises(ConfigError):
        filters.parse(text)


def test_a_call_has_so_many_conditions_at_most() -> None:
    with pytest.raises(ConfigError, match="at most 100"):
        filters.from_parameters([("filter", "state=registered")] * 101)


@given(st.text(max_size=80))
def test_any_text_is_a_filter_or_a_config_error(text: str) -> None:
    try:
        filters.where(filters.parse(text), devices)
    except ConfigError:
        pass


@pytest.mark.parametrize(
    "text",
    [
        "2016-11-30T16:25:12Z",
        "2016-11-30T16:25:12.000000Z",
        "20161130T162512Z",
        "2016-11-30T17:25:12+01:00",
        "2016-11-30T17:25:12 01:00",  # a query turned its + into a space
        "2016-11-30T16:25:12+00:00Z",  # as the SDK writes the time of a campaign it sends again
    ],
)
def test_times_are_read_in_every_form_that_clients_write(text: str) -> None:
    assert filters.parse_time(text) == datetime.datetime(2016, 11, 30, 16, 25, 12, tzinfo=datetime.UTC)


TEXTS = ("", "a", "A", "ab", "b%", "b_c", "0")
TIMES = ("2020-01-01T00:00:00.000000Z", "2020-01-01T00:00:00.500000Z", "2021-06-01T00:00:00.000000Z")
GROUPS = ("1" * 32, "2" * 32)
FIELDS = {
    "name": st.none() | st.sampled_from(TEXTS),
    "endpoint_type": st.none() | st.sampled_from(TEXTS),
    "bootstrapped_timestamp": st.none() | st.sampled_from(TIMES),
    "connector_expiration_date": st.none() | st.sampled_from(("2020-01-01", "2021-06-01")),
    "auto_update": st.booleans(),
    "device_execution_mode": st.sampled_from((0, 1, 5)),
    "groups": st.lists(st.sampled_from(GROUPS), max_size=2, unique=True),
    "custom_attributes": st.dictionaries(st.sampled_from(("k", "a.b", "$x")), st.sampled_from(TEXTS[1:]), max_size=2),
}
VALUES = {
    "name": TEXTS,
    "endpoint_type": TEXTS,
    "bootstrapped_timestamp": TIMES,
    "connector_expiration_date": TIMES,
    "auto_update": ("true", "false"),
    "device_execution_mode": ("0", "1", "5"),
    "groups": (*GROUPS, ""),
    "custom_attributes__k": TEXTS[1:],
    "custom_attributes__a.b": TEXTS[1:],
    "custom_attributes__$x": TEXTS[1:],
}


ORDERED = ("bootstrapped_timestamp", "connector_expiration_date", "device_execution_mode")


@st.composite
def conditions(draw: st.DrawFn) -> str:
    field = draw(st.sampled_from(sorted(VALUES)))
    operators = ["", "__eq", "__neq", "__in", "__nin"]
    operators += ["__gte", "__lte", "__gt", "__lt"] if field in ORDERED else []
    operators += ["__like"] if field in ("name", "endpoint_type") else []
    operator = draw(st.sampled_from(operators))
    count = draw(st.integers(1, 3)) if operator in ("__in", "__nin") else 1
    value = ",".join(draw(st.sampled_from(VALUES[field])) for _ in range(count))
    return f"{field}{operator}={quote(value)}"


@pytest.fixture(scope="module")
def database(shared_database: str) -> Iterator[Store]:
    """A database with an account and two groups, of each kind."""
    store = Store(shared_database)
    store.open()
    at, account = TIMES[0], {"account_id": store.account_id}
    with store.begin() as db:
        for group in GROUPS:
            db.execute(sa.insert(device_groups).values(id=group, name=group, created_at=at, updated_at=at, **account))
    yield store
    store.close()


@settings(max_examples=150)
@given(rows=st.lists(st.fixed_dictionaries(FIELDS), max_size=6), wanted=st.lists(conditions(), min_size=1, max_size=3))
def test_the_database_finds_what_a_row_by_row_search_finds(
    database: Store, rows: list[dict[str, Any]], wanted: list[str]
) -> None:
    filter = filters.parse("&".join(wanted))
    with contextlib.suppress(Undone), database.begin() as db:
        at = TIMES[0]
        for number, row in enumerate(rows):
            fixed = {"id": f"{number:032x}", "account_id": database.account_id, "created_at": at, "updated_at": at}
            kept = {name: value for name, value in row.items() if name != "groups"}
            db.execute(sa.insert(devices).values(**fixed, **kept))
            for group in row["groups"]:
                db.execute(sa.insert(device_group_members).values(group_id=group, device_id=fixed["id"]))
        found = set(db.scalars(sa.select(devices.c.id).where(*filters.where(filter, devices))))
        expected = {f"{n:032x}" for n, row in enumerate(rows) if filters.matches(filter, row)}
        assert found == expected
        raise Undone


class Undone(Exception):
    """Ends a transaction that is to leave nothing."""


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ("name=a", {"a"}),
        ("name__neq=a", {"b", None}),
        ("name__in=a,b", {"a", "b"}),
        ("name__nin=a,b", {None}),
        ("name=", {None}),
        ("name__neq=", {"a", "b"}),
        ("name__like=A", {"a"}),
    ],
)
def test_nothing_equals_no_value_and_no_value_is_empty_text(filter: str, found: set[str | None]) -> None:
    names = ("a", "b", None)
    assert {name for name in names if filters.matches(filters.parse(filter), {"name": name})} == found


def test_a_filter_survives_being_encoded_twice() -> None:
    inner = urlencode({"name": "a&b=c", "custom_attributes__k": "50 %"})
    assert spelt(filters.parse(inner)) == ["name__eq=a&b=c", "custom_attributes__k__eq=50 %"]
