"""The calls of the vendor's SDK and host test, from registration to the value, over HTTP and CoAP."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.restlab import RestLab, decoded


@pytest.fixture
def lab(database: str) -> Iterator[RestLab]:
    lab = RestLab(database)
    yield lab
    lab.close()


def ask(lab: RestLab, device: str, async_id: str, **request: str) -> Any:
    return lab.call("POST", f"/v2/device-requests/{device}", params={"async-id": async_id}, json=request)


def test_a_value_is_read_from_a_device_by_request_and_poll(lab: RestLab) -> None:
    device = lab.device()
    assert lab.get(f"/v3/devices/{device.id}/")["state"] == "registered"
    answer = ask(lab, device.id, "req-1", method="GET", uri="/5000/0/1")
    assert (answer.status_code, answer.content) == (202, b"")
    (response,) = lab.responses()
    assert {"id": "req-1", "status": 200, "ct": "text/plain"}.items() <= response.items()
    assert decoded(response) == b"test0"


def test_the_host_tests_get_set_put_and_post_work(lab: RestLab) -> None:
    device = lab.device()
    ask(lab, device.id, "a", method="GET", uri="/5000/0/2")
    assert decoded(lab.responses()[0]) == b"1"
    payload = base64.b64encode(b"6").decode()
    ask(lab, device.id, "b", method="PUT", uri="/5000/0/2", **{"payload-b64": payload, "content-type": "text/plain"})
    (written,) = lab.responses()
    # The vendor's own tests want 200 for 2.04, and a payload even where there is none.
    assert (written["status"], written["payload"]) == (200, "")
    assert device.values["/5000/0/2"] == b"6"
    ask(lab, device.id, "c", method="POST", uri="/5000/0/3")
    assert lab.responses()[0]["status"] == 200
    assert device.asked[-1] == "POST /5000/0/3"
    assert lab.call("DELETE", f"/v3/devices/{device.id}/").status_code == 204
    assert lab.call("GET", f"/v3/devices/{device.id}/").status_code == 404


def test_what_a_device_refuses_comes_as_its_code(lab: RestLab) -> None:
    device = lab.device()
    ask(lab, device.id, "x", method="PUT", uri="/3/0/0", **{"payload-b64": "eA=="})
    (refused,) = lab.responses()
    assert refused["status"] == 405 and refused["error"]


def test_requests_that_cannot_be_made_are_answered_in_the_vendors_tokens(lab: RestLab) -> None:
    device = lab.device()
    for expected, answer in {
        (404, "DEVICE_NOT_FOUND"): ask(lab, "0" * 32, "a", method="GET", uri="/3/0/0"),
        (400, "RESOURCE_NOT_FOUND"): ask(lab, device.id, "a", method="GET", uri="/9999/0/1"),
        (400, "MALFORMED_ASYNC_ID"): ask(lab, device.id, "no spaces", method="GET", uri="/3/0/0"),
        (400, "MALFORMED_JSON_CONTENT"): ask(lab, device.id, "a", method="GET"),
    }.items():
        assert (answer.status_code, answer.text) == expected
        assert answer.headers["content-type"].startswith("text/plain")


def test_a_full_queue_is_said_to_be_one(lab: RestLab) -> None:
    device = lab.device()
    device.deregister()
    answers = [ask(lab, device.id, f"n{n}", method="GET", uri="/3/0/0") for n in range(21)]
    assert {answer.status_code for answer in answers[:20]} == {202}
    assert (answers[20].status_code, answers[20].text) == (400, "TOO_MANY_REQUESTS")
    queue = lab.get(f"/lab/queue/{device.id}")
    assert len(queue) == 20 and "not registered" in queue[0]["why"]


def test_the_older_calls_read_write_and_list(lab: RestLab) -> None:
    device = lab.device()
    listed = lab.get(f"/v2/endpoints/{device.id}")
    assert {"uri": "/3/0/9", "rt": "", "obs": True, "type": ""} in listed
    assert {"name": device.id, "type": "", "status": "ACTIVE", "q": False} in lab.get("/v2/endpoints")
    answer = lab.call("GET", f"/v2/endpoints/{device.id}/3/0/0")
    assert answer.status_code == 202
    (response,) = lab.responses()
    assert response["id"] == answer.json()["async-response-id"] and decoded(response) == b"pdmlab"
    answer = lab.call("PUT", f"/v2/endpoints/{device.id}/5000/0/1", content=b"new")
    assert answer.status_code == 202 and lab.responses()[0]["status"] == 200
    assert device.values["/5000/0/1"] == b"new"
    assert lab.call("GET", f"/v2/endpoints/{device.id}/5000/0/1?cacheOnly=true").status_code == 205
    assert lab.call("GET", f"/v2/endpoints/{'0' * 32}/3/0/0").status_code == 404


def test_a_request_that_wants_no_answer_goes_out_once(lab: RestLab) -> None:
    device = lab.device()
    url = f"/v2/endpoints/{device.id}/5000/0/1?noResp=true"
    answer = lab.call("PUT", url, content=b"quiet")
    assert (answer.status_code, answer.content) == (204, b"")
    lab.until(lambda: device.values["/5000/0/1"] == b"quiet")
    (sent,) = [row for row in lab.core.log if row.path == "/5000/0/1" and row.code == "PUT"]
    assert sent.type == "NON"
    assert lab.get("/lab/queue") == []
    assert lab.call("PUT", url, content=b"x" * 1025).status_code == 413
    assert lab.call("PUT", url.replace("5000", "5999"), content=b"x").status_code == 404
    sleepy = lab.device("sleepy", query="Q")
    refused = lab.call("PUT", f"/v2/endpoints/{sleepy.id}/5000/0/1?noResp=true", content=b"x")
    assert (refused.status_code, refused.text) == (409, "NO_RESPONSE_NOT_SUPPORTED")


def test_attributes_reach_the_device_as_its_query(lab: RestLab) -> None:
    device = lab.device()
    ask(lab, device.id, "a", method="PUT", uri="/3/0/9?pmin=1&pmax=10")
    lab.responses()
    assert device.asked[-1] == "PUT /3/0/9?pmin=1?pmax=10"


def test_a_subscription_brings_the_value_and_then_each_change(lab: RestLab) -> None:
    device = lab.device()
    # As one SDK writes it: with two slashes.
    answer = lab.call("PUT", f"/v2/subscriptions/{device.id}//3/0/9")
    assert answer.status_code in (200, 202)
    (first,) = lab.responses()
    assert first["id"] == answer.json()["async-response-id"] and decoded(first) == b"97"
    device.tell("/3/0/9", b"96")
    (note,) = lab.get("/v2/notification/pull")["notifications"]
    # Clients match the path as they subscribed to it: with a slash in front.
    assert (note["ep"], note["path"], decoded(note)) == (device.id, "/3/0/9", b"96")
    assert lab.call("GET", f"/v2/subscriptions/{device.id}").text == "/3/0/9"
    assert lab.call("GET", f"/v2/subscriptions/{device.id}/3/0/9").status_code == 200
    assert lab.call("DELETE", f"/v2/subscriptions/{device.id}/3/0/9").status_code == 204
    assert lab.call("GET", f"/v2/subscriptions/{device.id}/3/0/9").status_code == 404
    assert lab.call("GET", f"/v2/subscriptions/{device.id}").status_code == 404


def test_a_presubscription_takes_hold_when_the_device_registers(lab: RestLab) -> None:
    wanted = [{"endpoint-name": "desk*", "resource-path": ["/3/0/*"]}]
    assert lab.call("PUT", "/v2/subscriptions/", json=wanted).status_code == 204
    assert lab.get("/v2/subscriptions") == wanted
    device = lab.device("desk7")
    lab.until(lambda: "GET /3/0/9" in device.asked)
    assert lab.call("GET", f"/v2/subscriptions/{device.id}").text == "/3/0/9"
    assert lab.call("PUT", "/v2/subscriptions", json=[]).status_code == 204
    assert lab.get("/v2/subscriptions") == []


def test_news_of_devices_reach_open_channels_in_the_sdks_form(lab: RestLab) -> None:
    other = lab.new_key()
    for key in (lab.key, other):
        lab.open_channel(key)
    device = lab.device("desk9")
    for key in (None, other):
        (news,) = lab.get("/v2/notification/pull", key=key)["registrations"]
        assert news["ep"] == device.id and news["original-ep"] == "desk9" and news["q"] is False
        assert {"path": "/3/0/9", "obs": True}.items() <= news["resources"][1].items()
    device.deregister()
    assert lab.get("/v2/notification/pull")["de-registrations"] == [device.id]


def test_what_was_answered_before_a_restart_is_fetched_after_it(lab: RestLab) -> None:
    device = lab.device()
    ask(lab, device.id, "before", method="GET", uri="/3/0/0")
    lab.until(lambda: not lab.core.requests.queue(device.id))
    lab.restart()
    assert [response["id"] for response in lab.responses()] == ["before"]
    assert lab.get("/v3/devices")["data"][0]["id"] == device.id


def test_the_log_shows_the_conversation_and_no_secret(lab: RestLab) -> None:
    device = lab.device()
    ask(lab, device.id, "a", method="GET", uri="/3/0/0")
    lab.responses()
    log = lab.get("/lab/log?limit=4")
    assert len(log) == 4
    assert any(row["path"] == "/3/0/0" and row["direction"] == "out" for row in log)
    mine = lab.get(f"/lab/log/{device.id}")
    assert {row["device"] for row in mine} == {device.id} and mine[0]["path"] == "/rd"
    assert lab.get(f"/lab/log/{device.id}?after={mine[-2]['number']}") == mine[-1:]
    assert lab.call("GET", f"/lab/log/{'0' * 32}").status_code == 404
