"""Device groups and device queries over REST, and devices that are made by hand."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest

from pdmlab.service import device_groups
from tests.service.restlab import RestLab

NOBODY = "0" * 32


@pytest.fixture(scope="module")
def lab(shared_database: str) -> Iterator[RestLab]:
    lab = RestLab(shared_database, hold_s=0.05)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def neighbour(lab: RestLab) -> str:
    """The key of another account's administrator."""

    async def make() -> str:
        return lab.core.accounts.create_account({"display_name": "next door"}, {"email": "n@example.com"})[2]

    return lab.run(make())


def made(lab: RestLab, path: str, key: str | None = None, **body: Any) -> dict[str, Any]:
    answer = lab.call("POST", path, json=body, key=key)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def refused(lab: RestLab, status: int, method: str, path: str, **options: Any) -> dict[str, Any]:
    answer = lab.call(method, path, **options)
    assert answer.status_code == status, answer.text
    assert answer.json()["object"] == "error" and answer.json()["code"] == status
    return dict(answer.json())


def is_time(text: str) -> bool:
    return bool(datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ"))


# -- devices made by hand ----------------------------------------------------------------------------------------


def test_a_device_made_by_hand_is_there_as_it_was_asked_for(lab: RestLab) -> None:
    group = made(lab, "/v3/device-groups", name="by hand")["id"]
    wanted = {
        "name": "meter 7",
        "description": "in the cellar",
        "custom_attributes": {"floor": "-1"},
        "endpoint_name": "meter-7",
        "endpoint_type": "meter",
        "host_gateway": NOBODY,
        "device_key": "AA:BB",
        "ca_id": NOBODY,
        "auto_update": True,
        "groups": [group],
        "device_class": "c" * 32,
        "vendor_id": "d" * 32,
        "serial_number": "0007",
        "mechanism": "direct",
        "mechanism_url": "coap://meter",
        "device_execution_mode": 1,
        "state": "bootstrapped",
        "issuer_fingerprint": "C4" * 32,
        "bootstrap_expiration_date": "2030-01-02",
        "connector_expiration_date": "2030-01-03",
        "manifest": "http://manifest",
        "deployment": NOBODY,
    }
    device = made(lab, "/v3/devices/", **wanted, colour="unknown fields are left out")
    assert {name: device[name] for name in wanted} == wanted and "colour" not in device
    assert device == lab.get(f"/v3/devices/{device['id']}/")
    assert is_time(device["etag"]) and device["account_id"] == lab.core.account_id
    (event,) = lab.get(f"/v3/device-events?device_id__eq={device['id']}")["data"]
    assert event["event_type"] == "update.device.device-created"


def test_a_device_with_nothing_said_of_it_has_the_vendors_defaults(lab: RestLab) -> None:
    device = made(lab, "/v3/devices")
    said = {"state": "unenrolled", "mechanism": "connector", "device_execution_mode": 0, "custom_attributes": {}}
    assert {name: device[name] for name in said} == said and device["groups"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "asleep"},
        {"mechanism": "pigeon"},
        {"device_execution_mode": 2},
        {"issuer_fingerprint": "C4"},
        {"bootstrap_expiration_date": "tomorrow"},
        {"custom_attributes": {"1st": "a name begins with a letter"}},
        {"custom_attributes": {f"a{n}": "" for n in range(6)}},
        {"custom_attributes": {"a": "x" * 129}},
        {"name": "a\0b"},
        {"device_class": "x" * 33},
        {"groups": [NOBODY]},
        {"groups": ["\0"]},
    ],
)
def test_a_device_that_cannot_be_is_refused(lab: RestLab, wrong: dict[str, Any]) -> None:
    before = lab.get("/v3/devices?limit=2&include=total_count")["total_count"]
    assert refused(lab, 400, "POST", "/v3/devices", json=wrong)["type"] == "validation_error"
    assert lab.get("/v3/devices?limit=2&include=total_count")["total_count"] == before


def test_two_devices_of_one_key_are_made_in_two_accounts_only(lab: RestLab, neighbour: str) -> None:
    made(lab, "/v3/devices", device_key="11:22")
    assert refused(lab, 409, "POST", "/v3/devices", json={"device_key": "11:22"})["type"] == "duplicate"
    assert made(lab, "/v3/devices", key=neighbour, device_key="11:22")["account_id"] != lab.core.account_id


def test_a_production_device_is_not_deleted(lab: RestLab) -> None:
    device = made(lab, "/v3/devices", device_execution_mode=5)["id"]
    assert "production certificate" in refused(lab, 400, "DELETE", f"/v3/devices/{device}/")["message"]
    assert lab.get(f"/v3/devices/{device}")["id"] == device


def test_what_became_of_a_device_is_told_after_it_is_gone(lab: RestLab) -> None:
    device = made(lab, "/v3/devices")["id"]
    assert lab.call("DELETE", f"/v3/devices/{device}").status_code == 204
    refused(lab, 404, "GET", f"/v3/devices/{device}")
    events = lab.get(f"/v3/device-events?device_id__eq={device}")["data"]
    assert [each["event_type"].rpartition(".")[2] for each in events] == ["device-created", "device-deleted"]
    assert events[-1]["state_change"] is True


# -- groups --------------------------------------------------------------------------------------------------------


def test_a_group_is_made_changed_and_deleted(lab: RestLab) -> None:
    group = made(lab, "/v3/device-groups/", name="cellar", description="dark", custom_attributes={"wet": "yes"})
    assert (group["object"], group["devices_count"]) == ("device-group", 0) and is_time(group["etag"])
    path = f"/v3/device-groups/{group['id']}/"
    changed = lab.call("PUT", path, json={"description": "lit now"})
    assert changed.status_code == 200 and changed.json() == lab.get(path)
    assert (changed.json()["name"], changed.json()["description"]) == ("cellar", "lit now")
    assert changed.json()["custom_attributes"] == {"wet": "yes"}
    assert lab.call("DELETE", path).status_code == 204
    for method in ("GET", "PUT", "DELETE"):
        refused(lab, 404, method, path, json={})


def test_a_groups_name_is_the_accounts_only_one(lab: RestLab, neighbour: str) -> None:
    first = made(lab, "/v3/device-groups", name="twice")
    second = made(lab, "/v3/device-groups", name="once")
    assert refused(lab, 409, "POST", "/v3/device-groups", json={"name": "twice"})["type"] == "duplicate"
    refused(lab, 409, "PUT", f"/v3/device-groups/{second['id']}", json={"name": "twice"})
    assert lab.call("PUT", f"/v3/device-groups/{first['id']}", json={"name": "twice"}).status_code == 200
    made(lab, "/v3/device-groups", key=neighbour, name="twice")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x" * 129},
        {"name": "a\0"},
        {"name": "a", "description": "x" * 2001},
        {"name": "a", "custom_attributes": {f"a{n}": "" for n in range(11)}},
        [],
    ],
)
def test_a_group_that_cannot_be_is_refused(lab: RestLab, body: object) -> None:
    assert refused(lab, 400, "POST", "/v3/device-groups", json=body)["type"] == "validation_error"


def test_devices_are_put_into_groups_and_taken_out(lab: RestLab) -> None:
    cellar, attic = (made(lab, "/v3/device-groups", name=name)["id"] for name in ("the cellar", "the attic"))
    devices = [made(lab, "/v3/devices", name=f"lamp {number}")["id"] for number in range(3)]
    for _ in range(2):  # a second time changes nothing
        answer = lab.call("POST", f"/v3/device-groups/{cellar}/devices/add/", json={"device_id": devices[0]})
        assert answer.status_code == 204 and not answer.content
    add = f"/v3/device-groups/{attic}/devices/add"
    assert lab.call("POST", add, json={"device_ids": devices}).status_code == 204
    assert lab.get(f"/v3/device-groups/{attic}")["devices_count"] == 3
    assert lab.get(f"/v3/devices/{devices[0]}")["groups"] == [cellar, attic]
    members = lab.get(f"/v3/device-groups/{attic}/devices/?name__neq=lamp 1")
    assert [each["id"] for each in members["data"]] == [devices[0], devices[2]]
    assert members["data"][0]["groups"] == [cellar, attic]
    remove = f"/v3/device-groups/{attic}/devices/remove/"
    assert lab.call("POST", remove, json={"device_id": devices[0]}).status_code == 204
    assert lab.call("POST", remove, json={"device_id": devices[0]}).status_code == 204
    # A filter may mean a group; so does a campaign.
    found = lambda query: [each["id"] for each in lab.get(f"/v3/devices?limit=1000&{query}")["data"]]
    assert found(f"groups__in={cellar},{attic}") == devices
    assert found(f"groups__eq={cellar}") == [devices[0]]
    assert found(f"filter=groups__in%3D{attic}%26name__neq%3Dlamp%25201") == [devices[2]]
    assert set(devices).isdisjoint(found("groups__eq="))
    assert lab.call("PUT", f"/v3/devices/{devices[1]}", json={"groups": [cellar]}).json()["groups"] == [cellar]
    # Groups know of devices that go, and devices of groups.
    assert lab.call("DELETE", f"/v3/devices/{devices[1]}").status_code == 204
    assert lab.get(f"/v3/device-groups/{cellar}")["devices_count"] == 1
    assert lab.call("DELETE", f"/v3/device-groups/{cellar}").status_code == 204
    assert lab.get(f"/v3/devices/{devices[0]}")["groups"] == []


def test_all_devices_of_a_call_come_into_a_group_or_none(lab: RestLab) -> None:
    group, device = made(lab, "/v3/device-groups", name="all or none")["id"], made(lab, "/v3/devices")["id"]
    for which in ("add", "remove"):
        path = f"/v3/device-groups/{group}/devices/{which}"
        assert NOBODY in refused(lab, 404, "POST", path, json={"device_ids": [device, NOBODY]})["message"]
        for body in ({}, {"device_ids": []}, {"device_ids": [device] * 1001}, {"device_id": 5}):
            refused(lab, 400, "POST", path, json=body)
        refused(lab, 404, "POST", path.replace(group, NOBODY), json={"device_id": device})
    assert lab.get(f"/v3/device-groups/{group}")["devices_count"] == 0


def test_a_device_is_in_so_many_groups_at_most(lab: RestLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_groups, "MAX_OF_DEVICE", 2)
    groups = [made(lab, "/v3/device-groups", name=f"one of many {number}")["id"] for number in range(3)]
    device = made(lab, "/v3/devices", groups=groups[:2])["id"]
    add = f"/v3/device-groups/{groups[2]}/devices/add"
    assert "more than 2" in refused(lab, 400, "POST", add, json={"device_id": device})["message"]
    refused(lab, 400, "PUT", f"/v3/devices/{device}", json={"groups": groups})
    assert lab.get(f"/v3/devices/{device}")["groups"] == groups[:2]
    assert lab.call("PUT", f"/v3/devices/{device}", json={"groups": groups[1:]}).json()["groups"] == groups[1:]


def test_groups_are_listed_by_what_they_are(lab: RestLab) -> None:
    ids = [made(lab, "/v3/device-groups", name=f"shelf {number}")["id"] for number in range(4)]
    device = made(lab, "/v3/devices", groups=ids[:2])["id"]
    listed = lambda query: [each["id"] for each in lab.get(f"/v3/device-groups?{query}")["data"]]
    assert listed(f"id__in={','.join(ids)}&devices_count__gte=1") == ids[:2]
    assert listed(f"id__in={','.join(ids)}&devices_count__eq=0&order=DESC") == [ids[3], ids[2]]
    assert listed("filter=name%3Dshelf%25203") == [ids[3]]
    refused(lab, 400, "GET", "/v3/device-groups?colour__eq=red")
    page = lab.get(f"/v3/device-groups?id__in={','.join(ids)}&limit=2&include=total_count")
    assert (page["has_more"], page["total_count"]) == (True, 4)
    assert listed(f"id__in={','.join(ids)}&limit=2&after={ids[1]}") == ids[2:]
    assert lab.get(f"/v3/devices/{device}")["groups"] == ids[:2]


def test_no_account_meets_another_in_a_group(lab: RestLab, neighbour: str) -> None:
    mine, theirs = made(lab, "/v3/devices")["id"], made(lab, "/v3/devices", key=neighbour)["id"]
    group = made(lab, "/v3/device-groups", name="mine")["id"]
    other = made(lab, "/v3/device-groups", key=neighbour, name="theirs")["id"]
    path = f"/v3/device-groups/{group}"
    for method, at, body in (
        ("GET", path, None),
        ("PUT", path, {"name": "taken"}),
        ("DELETE", path, None),
        ("GET", f"{path}/devices", None),
        ("POST", f"{path}/devices/add", {"device_id": theirs}),
        ("POST", f"{path}/devices/remove", {"device_id": theirs}),
    ):
        refused(lab, 404, method, at, json=body, key=neighbour)
    refused(lab, 404, "POST", f"{path}/devices/add", json={"device_id": theirs})
    refused(lab, 400, "PUT", f"/v3/devices/{mine}", json={"groups": [other]})
    assert lab.get(f"/v3/devices?groups__in={group}", key=neighbour)["data"] == []
    assert group not in str(lab.get("/v3/device-groups", key=neighbour))


# -- queries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "id=00000000000000000000000000000000",
        "state=registered&custom_attributes__k=a%26b",  # the older SDK encodes values
        "device_class__eq=ab&vendor_id__in=c,d&created_at__gte=20161130T162512Z",
        "",
    ],
)
def test_a_query_is_kept_as_it_was_written(lab: RestLab, query: str) -> None:
    kept = made(lab, "/v3/device-queries/", name="q", query=query)
    assert (kept["object"], kept["query"]) == ("device-query", query)
    assert all(is_time(kept[name]) for name in ("etag", "created_at", "updated_at"))
    path = f"/v3/device-queries/{kept['id']}/"
    assert lab.get(path) == kept
    changed = lab.call("PUT", path, json={"name": "other", "query": "state__neq=registered"}).json()
    assert (changed["name"], changed["query"]) == ("other", "state__neq=registered") and changed == lab.get(path)
    assert lab.call("DELETE", path).status_code == 204
    refused(lab, 404, "GET", path)


@pytest.mark.parametrize(
    "body",
    [
        {"name": "q"},
        {"query": "state=registered"},
        {"name": "x" * 201, "query": ""},
        {"name": "q", "query": "x" * 1001},
        {"name": "q", "query": "colour=red"},
        {"name": "q", "query": "no condition"},
        {"name": "q", "query": "name=%00"},
    ],
)
def test_a_query_that_no_device_could_meet_is_refused(lab: RestLab, body: dict[str, str]) -> None:
    kept = made(lab, "/v3/device-queries", name="q", query="")
    path = f"/v3/device-queries/{kept['id']}"
    assert refused(lab, 400, "POST", "/v3/device-queries", json=body)["type"] == "validation_error"
    if len(body) == 2:  # a change may name one of them
        assert refused(lab, 400, "PUT", path, json=body)["type"] == "validation_error"
        assert lab.get(path) == kept
    else:
        assert lab.call("PUT", path, json=body).status_code == 200


def test_queries_are_listed_by_what_they_are_and_for_their_account(lab: RestLab, neighbour: str) -> None:
    ids = [made(lab, "/v3/device-queries", name=f"listed {n}", query=f"name=x{n}")["id"] for n in range(3)]
    listed = lambda query: [each["id"] for each in lab.get(f"/v3/device-queries?{query}")["data"]]
    assert listed("name__in=listed 0,listed 2") == [ids[0], ids[2]]
    assert listed("query__eq=name%3Dx1") == [ids[1]]
    assert listed("filter=name__neq%3Dlisted%25200%26query__in%3Dname%253Dx0%252Cname%253Dx1") == [ids[1]]
    assert lab.get("/v3/device-queries", key=neighbour)["data"] == []
    for method in ("GET", "DELETE", "PUT"):
        refused(lab, 404, method, f"/v3/device-queries/{ids[0]}", key=neighbour, json={"name": "n", "query": ""})
