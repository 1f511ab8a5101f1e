"""The directory over REST: pages, filters, changes, events."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service.restlab import RestLab

COUNT = 23


@pytest.fixture(scope="module")
def lab(shared_database: str) -> Iterator[RestLab]:
    lab = RestLab(shared_database, hold_s=0.05)

    async def fill() -> None:
        for number in range(COUNT):
            lab.core.directory.add(
                lab.core.account_id,
                endpoint_name=f"desk{number}",
                state="bootstrapped" if number % 3 else "deregistered",
                custom_attributes={"row": str(number % 2)},
            )

    lab.run(fill())
    yield lab
    lab.close()


def pages(lab: RestLab, limit: int, order: str) -> Iterator[dict[str, Any]]:
    after = ""
    while True:
        page = lab.get(f"/v3/devices/?limit={limit}&order={order}&include=total_count{after}")
        yield page
        if not page["has_more"]:
            return
        after = f"&after={page['data'][-1]['id']}"


@settings(max_examples=20, deadline=None)
@given(limit=st.integers(2, 30), order=st.sampled_from(["ASC", "DESC"]))
def test_pages_hold_every_device_once_and_in_order(lab: RestLab, limit: int, order: str) -> None:
    seen = list(pages(lab, limit, order))
    names = [device["endpoint_name"] for page in seen for device in page["data"]]
    expected = [f"desk{number}" for number in range(COUNT)]
    assert names == (expected if order == "ASC" else expected[::-1])
    assert all(len(page["data"]) <= limit and page["total_count"] == COUNT for page in seen)
    assert all(page["order"] == order and page["limit"] == limit and page["object"] == "list" for page in seen)


def test_devices_are_counted_on_the_first_page_and_where_that_is_asked_for(lab: RestLab) -> None:
    first = lab.get("/v3/devices?limit=2")
    assert first["total_count"] == COUNT
    after = f"/v3/devices?limit=2&after={first['data'][-1]['id']}"
    assert "total_count" not in lab.get(after)
    assert lab.get(f"{after}&include=limits,+total_count")["total_count"] == COUNT


def test_a_page_after_a_device_that_was_deleted_meanwhile_goes_on_behind_it(lab: RestLab) -> None:
    async def add(name: str) -> str:
        return str(lab.core.directory.add(lab.core.account_id, endpoint_name=name)["id"])

    first, second = lab.run(add("gone")), lab.run(add("stays"))
    assert lab.call("DELETE", f"/v3/devices/{first}").status_code == 204
    assert [device["id"] for device in lab.get(f"/v3/devices?after={first}")["data"]] == [second]
    assert lab.call("DELETE", f"/v3/devices/{second}").status_code == 204


@pytest.mark.parametrize(
    ("asked", "given"), [("1", 2), ("0", 2), ("-5", 2), ("5000", 1000), ("9" * 40, 1000), ("", 50)]
)
def test_limits_out_of_range_are_brought_into_it(lab: RestLab, asked: str, given: int) -> None:
    assert lab.get(f"/v3/devices?limit={asked}")["limit"] == given


@pytest.mark.parametrize(
    "query", ["limit=many", "order=UP", "state__eq=x&colour__eq=red", "filter=colour%3Dred", "filter=x"]
)
def test_a_list_that_cannot_be_made_says_why(lab: RestLab, query: str) -> None:
    answer = lab.call("GET", f"/v3/devices?{query}")
    assert (answer.status_code, answer.json()["type"]) == (400, "validation_error")


@pytest.mark.parametrize(
    "query",
    [
        "filter=state%3Dderegistered%26custom_attributes__row__neq%3D1",
        "state__eq=deregistered&custom_attributes__row__eq=0",
        "filter=state__in%3Dderegistered%252Cregistered%26custom_attributes__row__nin%3D1",
    ],
)
def test_each_spelling_of_a_filter_finds_the_same(lab: RestLab, query: str) -> None:
    found = lab.get(f"/v3/devices/?{query}")
    assert [device["endpoint_name"] for device in found["data"]] == [f"desk{n}" for n in range(0, COUNT, 6)]
    assert found["total_count"] == len(found["data"])


def test_a_device_has_every_field_of_the_vendors_with_dates_that_its_sdk_can_read(lab: RestLab) -> None:
    device = lab.get("/v3/devices?limit=2")["data"][0]
    fields = (
        "id object account_id state name description device_class vendor_id serial_number endpoint_name endpoint_type"
        " host_gateway mechanism mechanism_url device_execution_mode device_key ca_id issuer_fingerprint"
        " bootstrap_expiration_date connector_expiration_date bootstrapped_timestamp enrolment_list_timestamp"
        " created_at updated_at etag custom_attributes groups firmware_checksum manifest manifest_timestamp"
        " deployed_state deployment auto_update"
    )
    assert set(fields.split()) <= device.keys()
    for name in ("created_at", "updated_at", "etag"):  # the SDK takes etag for a time as well
        assert datetime.datetime.strptime(device[name], "%Y-%m-%dT%H:%M:%S.%fZ")
    assert "" not in [device[name] for name in device if name.endswith(("timestamp", "date", "_at", "etag"))]
    assert isinstance(device["device_execution_mode"], int)


def test_what_a_change_names_is_changed_and_recorded(lab: RestLab) -> None:
    id = lab.get("/v3/devices?limit=2")["data"][1]["id"]
    wanted = {"name": "kitchen", "description": "ünïcode ✓", "custom_attributes": {"a": "b"}, "unknown": 1}
    changed = lab.call("PUT", f"/v3/devices/{id}/", json=wanted)
    assert changed.status_code == 200
    device = lab.get(f"/v3/devices/{id}")
    assert device == changed.json()
    assert (device["name"], device["description"], device["custom_attributes"]) == ("kitchen", "ünïcode ✓", {"a": "b"})
    assert device["endpoint_name"] == "desk1"
    events = lab.get(f"/v3/device-events/?filter=device_id%3D{id}")["data"]
    assert events[-1]["changes"]["name"] == "kitchen"
    assert lab.get(f"/v3/devicelog/{events[-1]['id']}/") == lab.get(f"/v3/device-events/{events[-1]['id']}")
    lab.call("PUT", f"/v3/devices/{id}", json={"name": None, "custom_attributes": {"row": "1"}})
    assert lab.get(f"/v3/devices/{id}")["name"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x" * 129},
        {"name": 5},
        {"custom_attributes": {str(n): "v" for n in range(6)}},
        {"custom_attributes": {"a": {"deep": 1}}},
        {"groups": "all"},
        [],
        "text",
        5,
        None,
    ],
)
def test_a_change_that_no_device_could_take_is_refused(lab: RestLab, change: object) -> None:
    id = lab.get("/v3/devices?limit=2")["data"][0]["id"]
    answer = lab.call("PUT", f"/v3/devices/{id}", json=change)
    assert answer.status_code == 400 and answer.json()["type"] == "validation_error" and answer.json()["fields"]


def test_events_are_listed_by_both_names(lab: RestLab) -> None:
    for path in ("/v3/device-events", "/v3/devicelog/"):
        found = lab.get(f"{path}?limit=2&include=total_count&event_type__eq=update.device.device-created")
        assert found["has_more"] and found["total_count"] >= COUNT
        assert found["data"][0]["object"] == "device-event" and found["data"][0]["event_type_category"]


def test_an_account_sees_nothing_of_another(lab: RestLab) -> None:
    async def neighbour() -> tuple[str, str]:
        row, _, key = lab.core.accounts.create_account({"display_name": "neighbour"}, {"email": "n@example.com"})
        return key, str(lab.core.directory.add(row["id"], endpoint_name="theirs")["id"])

    key, device = lab.run(neighbour())
    assert lab.get("/v3/devices", key=key)["total_count"] == 1
    assert device not in str(lab.get("/v3/devices?limit=1000"))
    mine = lab.get("/v3/devices?limit=2")["data"][0]["id"]
    for method, path in (
        ("GET", f"/v3/devices/{mine}"),
        ("DELETE", f"/v3/devices/{mine}"),
        ("GET", f"/v2/endpoints/{mine}"),
        ("PUT", f"/v2/subscriptions/{mine}/3/0/0"),
        ("GET", f"/lab/queue/{mine}"),
        ("GET", f"/lab/log/{mine}"),
        ("GET", f"/v3/api-keys/{lab.key_id(lab.key)}"),
    ):
        assert lab.call(method, path, key=key).status_code == 404
    spoke = lab.device("speaks").id
    assert spoke in str(lab.get("/lab/log")) and spoke not in str(lab.get("/lab/log", key=key))
    assert lab.get("/v3/device-events", key=key)["total_count"] == 1
    assert lab.get("/v3/api-keys", key=key)["total_count"] == 1
