"""Metrics: what happens is counted where it happens, once, and added to what others count."""

from __future__ import annotations

import asyncio
import datetime
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiocoap.numbers import codes

from pdmlab.service.core import Core
from pdmlab.service.metrics import BUCKET_S, KEPT_S, WRITE_S, blocks, grid
from pdmlab.service.schema import metric_counts
from pdmlab.service.schema.metrics import METRICS
from tests.service.corelab import EPOCH, CoreLab, Stage, request
from tests.service.restlab import RestLab
from tests.service.secure import registered, secure_device

PATH = "/v3/metrics"
ALL = ",".join(METRICS)


@pytest.fixture
def lab(database: str) -> Iterator[RestLab]:
    lab = RestLab(database)
    yield lab
    lab.close()


def counted(lab: CoreLab, account_id: str = "") -> dict[str, int]:
    """Return what was counted so far, without what is 0."""
    first = int(EPOCH) // BUCKET_S * BUCKET_S
    length = 365 * 86_400
    (sums,) = lab.core.metrics.sums(account_id or lab.core.account_id, [first], length)
    return {name: number for name, number in sums.items() if number}


# -- what is counted -------------------------------------------------------------------------------------------------


def test_a_devices_life_is_counted(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered(aobs=())
        assert counted(lab)["bootstraps_successful"] == counted(lab)["full_registrations"] == 1
        await device.update()
        await device.update()
        await lab.core.observations.subscribe(lab.key_id, device.id, "/3/0/0")
        await lab.answers()
        for number in range(3):
            await device.notify("/3/0/0", f"{number}")
        await lab.ask(device, "GET", "/5000/0/1")
        await lab.ask(device, "GET", "/3/0/0")
        await lab.answers(2)
        device.refuse = codes.METHOD_NOT_ALLOWED
        await lab.ask(device, "PUT", "/5000/0/1", b"x")
        await lab.core.observations.subscribe(lab.key_id, device.id, "/5000/0/1")
        await lab.answers(2)
        device.refuse = None
        await device.deregister()
        await device.register()
        await asyncio.sleep(device.lifetime + 1)
        found = counted(lab)
        transactions = found.pop("transactions")
        assert found == {
            "bootstraps_successful": 1,
            "full_registrations": 2,
            "registration_updates": 2,
            "deleted_registrations": 1,
            "expired_registrations": 1,
            "device_observations": 3,
            "device_proxy_request_success": 2,
            "device_proxy_request_error": 1,
            "device_subscription_request_success": 1,
            "device_subscription_request_error": 1,
        }
        assert transactions > 20
        assert counted(lab, lab.new_account()) == {}

    play(story)


def test_a_transaction_is_512_bytes_of_a_message(play: Stage) -> None:
    assert [blocks(size) for size in (0, 1, 511, 512, 513, 1024, 1025)] == [1, 1, 1, 1, 2, 2, 3]

    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        before = counted(lab)["transactions"]
        await device.endpoint.request(request(codes.POST, "/".join(device.location)), device.service)
        assert counted(lab)["transactions"] == before + 2  # what it said, and what it was told

    play(story)


def test_a_bootstrap_is_pending_until_it_ends(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await secure_device(lab)
        device.silent_at = "/0"
        await device.connect("bootstrap")
        task = asyncio.ensure_future(device.bootstrap())
        await asyncio.sleep(1)
        assert counted(lab)["bootstraps_pending"] == 1
        await asyncio.sleep(400)
        assert "bootstraps_pending" not in counted(lab) and counted(lab)["bootstraps_failed"] == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    play(story)


def test_counts_are_written_every_few_seconds_and_at_the_end(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        await registered(lab)
        await asyncio.sleep(WRITE_S + 1)
        assert len(lab.core.store.rows(sa.select(metric_counts))) == 1 and "0 accounts" in repr(lab.core.metrics)
        before = counted(lab)
        lab.core.metrics.count(lab.core.account_id, "device_observations", 7)
        await lab.restart()
        after = counted(lab)
        assert after["device_observations"] == 7 and after["full_registrations"] == before["full_registrations"]
        written = lab.core.store.commits
        await asyncio.sleep(600)
        assert lab.core.store.commits - written < 3  # where nothing happens, nothing is written

    play(story)


def test_processes_add_to_each_others_counts(database: str) -> None:
    async def both() -> None:
        first, second = Core(database), Core(database)
        for core in (first, second):
            core.store.open()
        account, now = first.account_id, int(first.now())
        try:
            for _ in range(3):
                for core, number in ((first, 2), (second, 5)):
                    core.metrics.count(account, "transactions", number)
                    core.metrics.flush()
                    core.store.flush()
            start = now // BUCKET_S * BUCKET_S
            for core in (first, second):
                assert sum(sums["transactions"] for sums in core.metrics.sums(account, [start], 2 * BUCKET_S)) == 21
        finally:
            for core in (first, second):
                core.metrics.close()
                core.store.close()

    asyncio.run(both())


def test_what_cannot_be_written_is_kept_until_it_can(tmp_path: Path) -> None:
    async def story() -> None:
        core = Core(f"sqlite:///{tmp_path}/lab.sqlite")
        core.store.open()
        core.metrics.count(core.account_id, "transactions", 3)
        core.store.connection.exec_driver_sql("PRAGMA query_only = ON")
        core.metrics.flush()
        core.metrics.count(core.account_id, "transactions", 4)
        core.store.connection.exec_driver_sql("PRAGMA query_only = OFF")
        core.metrics.close()
        assert core.store.scalar(sa.select(sa.func.sum(metric_counts.c.transactions))) == 7
        core.store.close()

    asyncio.run(story())


def test_counts_of_a_deleted_account_go_nowhere(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        lab.core.metrics.count("0" * 32, "transactions")
        lab.core.metrics.count(lab.core.account_id, "transactions")
        lab.core.metrics.flush()
        assert counted(lab) == {"transactions": 1}

    play(story)


def test_counts_are_forgotten_after_a_year(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        lab.core.metrics.count(lab.core.account_id, "transactions", at=EPOCH - KEPT_S - 86_400)
        lab.core.metrics.count(lab.core.account_id, "transactions")
        lab.core.metrics.flush()
        await asyncio.sleep(2 * 86_400)
        lab.core.metrics.count(lab.core.account_id, "transactions")
        await asyncio.sleep(WRITE_S + 1)
        begins = [row["begins"] for row in lab.core.store.rows(sa.select(metric_counts))]
        assert len(begins) == 2 and min(begins) > EPOCH - BUCKET_S

    play(story)


# -- how it is asked for ---------------------------------------------------------------------------------------------


def get(lab: RestLab, **query: str) -> Any:
    return lab.get(PATH, params={"include": ALL, "interval": "1h", "period": "2h", **query})


def test_calls_of_the_connect_api_are_counted_by_account(lab: RestLab) -> None:
    lab.get("/v2/endpoints")
    lab.get("/v2/subscriptions")
    assert lab.call("GET", "/v2/endpoints/none").status_code == 404
    lab.get("/v3/devices")  # another API
    assert lab.call("GET", "/v2/endpoints", key="ak_none").status_code == 401
    sums = {name: sum(each[name] for each in get(lab)["data"]) for name in METRICS}
    assert (sums["connect_rest_api_success"], sums["connect_rest_api_error"]) == (2, 1)


def test_a_page_has_the_intervals_that_cover_the_period(lab: RestLab) -> None:
    lab.device()
    page = get(lab, include="full_registrations,total_count", interval="5m", period="1h")
    assert (page["object"], page["has_more"], page["after"], page["order"]) == ("list", False, None, "ASC")
    assert page["total_count"] == len(page["data"]) in (12, 13)
    times = [datetime.datetime.fromisoformat(each["timestamp"]) for each in page["data"]]
    assert {later - time for time, later in itertools.pairwise(times)} == {datetime.timedelta(minutes=5)}
    assert all(time.minute % 5 == time.second == 0 for time in times)
    assert set(page["data"][0]) == {"id", "timestamp", "full_registrations"}
    assert [each["full_registrations"] for each in page["data"]][:-2] == [0] * (len(times) - 2)
    assert sum(each["full_registrations"] for each in page["data"]) == 1
    assert len({each["id"] for each in page["data"]}) == len(times)
    descending = get(lab, include="full_registrations", interval="5m", period="1h", order="DESC")
    assert [each["timestamp"] for each in descending["data"]] == [each["timestamp"] for each in page["data"]][::-1]
    assert sum(each["full_registrations"] for each in descending["data"]) == 1


def days_ago(days: int) -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days)


def test_a_list_is_read_page_by_page(lab: RestLab) -> None:
    span = {"start": f"{days_ago(100):%Y%m%d}", "end": f"{days_ago(41):%Y%m%d}"}
    query = {"include": "transactions", "interval": "1d", "limit": "20", **span}
    for order in ("ASC", "DESC"):
        found: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = lab.get(PATH, params={**query, **after, "order": order})
            assert page["total_count"] == 59
            found += [each["timestamp"] for each in page["data"]]
            if not page["has_more"]:
                break
            after = {"after": page["data"][-1]["id"]}
        days = [f"{days_ago(100 - number)}T00:00:00Z" for number in range(59)]
        assert found == (days if order == "ASC" else days[::-1])


def test_times_are_taken_in_each_of_the_vendors_forms(lab: RestLab) -> None:
    day, end = days_ago(40), f"{days_ago(10):%Y%m%d}"
    for start in (
        f"{day:%Y%m%d}T092056990Z",
        f"{day}T09:20:56.990Z",
        f"{day:%Y%m%d}",
        f"{day}",
        f"{day}T10:20:56+01:00",
    ):
        page = lab.get(PATH, params={"include": "transactions", "start": start, "end": end, "interval": "1d"})
        assert page["data"][0]["timestamp"] == f"{day}T00:00:00Z", start
    year = days_ago(0).year
    page = lab.get(PATH, params={"include": "transactions", "start": f"{year}", "end": f"{year + 1}", "interval": "1d"})
    assert page["data"][0]["timestamp"] == f"{year}-01-01T00:00:00Z"
    weeks = lab.get(PATH, params={"include": "transactions", "start": f"{day}", "end": end, "interval": "1w"})
    assert all(datetime.datetime.fromisoformat(each["timestamp"]).weekday() == 0 for each in weeks["data"])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"include": ""}, "include"),
        ({"include": "transactions,weather"}, "include"),
        ({"interval": ""}, "interval"),
        ({"interval": "1y"}, "interval"),
        ({"interval": "4m"}, "interval"),
        ({"interval": "0h"}, "interval"),
        ({"interval": "366d"}, "interval"),
        ({"interval": "54w"}, "interval"),
        ({"interval": "-1h"}, "interval"),
        ({"period": "8761h"}, "period"),
        ({"period": "always"}, "period"),
        ({"period": ""}, "period"),
        ({"period": "1d", "start": "2026", "end": "2027"}, "period"),
        ({"start": "2026"}, "end"),
        ({"end": "2026"}, "start"),
        ({"start": "20260201", "end": "20260101"}, "end"),
        ({"start": "20250101", "end": "20260301"}, "end"),
        ({"start": "yesterday", "end": "2026"}, "start"),
        ({"start": "2026", "end": "20261399"}, "end"),
        ({"start": "0000", "end": "9999"}, "start"),
        ({"limit": "many", "period": "1d"}, "limit"),
        ({"order": "UP", "period": "1d"}, "order"),
        ({"after": "x", "period": "1d"}, "after"),
        ({"after": "f" * 32, "period": "1d"}, "after"),
    ],
)
def test_what_cannot_be_asked_is_said_with_its_field(lab: RestLab, query: dict[str, str], field: str) -> None:
    answer = lab.call("GET", PATH, params={"include": "transactions", "interval": "1h", **query})
    body = answer.json()
    assert (answer.status_code, body["type"], body["fields"][0]["name"]) == (400, "validation_error", field)


def test_what_is_not_there_at_all_is_wanted(lab: RestLab) -> None:
    for query in ({}, {"include": "transactions"}, {"interval": "1d"}, {"include": "transactions", "interval": "1d"}):
        assert lab.call("GET", PATH, params=query).status_code == 400


def test_a_year_of_five_minutes_is_a_page_as_any_other(lab: RestLab) -> None:
    page = get(lab, include="transactions", interval="5m", period="365d", limit="1000")
    assert len(page["data"]) == 1000 and page["has_more"] and 105_120 <= page["total_count"] <= 105_122


def test_intervals_cover_the_time_without_gaps() -> None:
    monday = int(datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC).timestamp())
    week = 7 * 86_400
    assert list(grid(monday + 5, monday + week, week)) == [monday]
    assert list(grid(monday - 1, monday + 1, week)) == [monday - week, monday]
    assert list(grid(1000, 2000, 300)) == [900, 1200, 1500, 1800]
    assert list(grid(1000, 1000, 300)) == [900]
