"""/v2: what requests to devices and subscriptions are answered with, as the vendor's description has it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.service.refusal import Refused
from pdmlab.service.rest.app import make_app
from pdmlab.service.values import format_number
from tests.service.corelab import CoreLab, Stage, value
from tests.service.restlab import RestLab, decoded
from tests.service.secure import registered
from tests.service.test_queue import sleeper

PULL = "/v2/notification/pull"
NOBODY = "0" * 32


@pytest.fixture
def lab(database: str) -> Iterator[RestLab]:
    lab = RestLab(database)
    yield lab
    lab.close()


def said(lab: RestLab, method: str, path: str, **options: Any) -> tuple[int, str]:
    answer = lab.call(method, path, **options)
    return answer.status_code, answer.text


# -- /v2/endpoints -----------------------------------------------------------------------------------------------


def test_a_cached_value_comes_at_once_with_the_time_that_it_is_good_for(lab: RestLab) -> None:
    device = lab.device(links='</3/0/0>;v="ARM",</3/0/9>;obs;aobs="9";v="97",</5000/0/1>')
    url = f"/v2/endpoints/{device.id}"
    observed = lab.call("GET", f"{url}/3/0/9")
    assert (observed.status_code, observed.text, observed.headers["cache-control"]) == (200, "97", "max-age=60")
    assert observed.headers["content-type"].startswith("text/plain")
    # What came with the registration alone is good if nothing else is wanted.
    assert said(lab, "GET", f"{url}/3/0/0?cacheOnly=true") == (200, "ARM")
    assert lab.call("GET", f"{url}/3/0/0").status_code == 202

    async def kept() -> None:
        lab.core.resources.keep(device.id, "/5000/0/1", b"kept", 0, 30)

    lab.run(kept())
    found = lab.call("GET", f"{url}//5000/0/1")
    left = int(found.headers["cache-control"].removeprefix("max-age="))
    assert (found.status_code, found.text) == (200, "kept") and 25 <= left <= 30


def test_a_value_that_is_not_cached_is_205_or_asked_for(lab: RestLab) -> None:
    device = lab.device()
    url = f"/v2/endpoints/{device.id}/5000/0/1"
    assert said(lab, "GET", f"{url}?cacheOnly=true") == (205, "")
    assert device.asked == []
    asked = lab.call("GET", url)
    assert asked.status_code == 202 and set(asked.json()) == {"async-response-id"}
    (answer,) = lab.responses()
    assert answer["id"] == asked.json()["async-response-id"] and decoded(answer) == b"test0"


def test_who_is_not_there_is_unknown_and_who_is_not_registered_gone(lab: RestLab) -> None:
    device = lab.device()
    device.deregister()
    for method in ("GET", "PUT", "POST", "DELETE"):
        assert said(lab, method, f"/v2/endpoints/{NOBODY}/3/0/0") == (404, "DEVICE_NOT_FOUND")
        assert said(lab, method, f"/v2/endpoints/{device.id}/3/0/0") == (410, "DEVICE_NOT_REGISTERED")
    assert said(lab, "GET", f"/v2/endpoints/{device.id}") == (404, "DEVICE_NOT_FOUND")
    assert said(lab, "GET", f"/v2/endpoints/{NOBODY}") == (404, "DEVICE_NOT_FOUND")
    assert lab.get("/v2/endpoints") == []


@pytest.mark.parametrize(
    ("method", "path", "options", "expected"),
    [
        ("GET", "/9/9/9", {}, (404, "RESOURCE_NOT_FOUND")),
        ("GET", "/no/path", {}, (400, "MALFORMED_JSON_CONTENT")),
        ("PUT", "/5000/0/1", {"headers": {"Content-Type": "image/png"}}, (415, "UNSUPPORTED_CONTENT_TYPE")),
        ("PUT", "/5000/0/1", {"headers": {"Content-Type": "9" * 40}}, (415, "UNSUPPORTED_CONTENT_TYPE")),
        ("PUT", "/5000/0/1", {"content": b"x" * ((1 << 20) + 1)}, (413, "PAYLOAD_TOO_LARGE")),
        ("GET", "/5000/0/1?noResp=perhaps", {}, (400, "MALFORMED_JSON_CONTENT")),
        ("PUT", "/5000/0/1?" + "x" * 300, {}, (400, "MALFORMED_JSON_CONTENT")),
        ("PUT", "/5000/0/1?pmin=%07", {}, (400, "MALFORMED_JSON_CONTENT")),
    ],
)
def test_what_is_wrong_with_a_call_is_said_by_its_status(
    lab: RestLab, method: str, path: str, options: dict[str, Any], expected: tuple[int, str]
) -> None:
    device = lab.device()
    assert said(lab, method, f"/v2/endpoints/{device.id}{path}", **options) == expected
    assert device.asked == []


def test_a_full_queue_is_429_for_the_older_calls(lab: RestLab) -> None:
    device = lab.device()
    device.silent = True
    answers = [lab.call("POST", f"/v2/endpoints/{device.id}/5000/0/1").status_code for _ in range(21)]
    assert answers == [202] * 20 + [429]


def test_what_waits_ends_with_the_registration_unless_it_was_to_wait(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await sleeper(lab)
        core = lab.core
        for id, ends in (("old-1", True), ("new", False), ("old-2", True)):
            await core.requests.submit(lab.key_id, device.id, id, "GET", "/5000/0/1", ends_with_registration=ends)
        assert (await device.deregister()).code.is_successful()
        answers = await lab.answers(2)
        assert [(each["id"], each["status"]) for each in answers] == [("old-1", 429), ("old-2", 429)]
        assert b"registration has ended" in base64.b64decode(answers[0]["payload"])
        assert [row["async_id"] for row in core.requests.queue()] == ["new"]
        await device.register()
        (answer,) = await lab.answers(1)
        assert (answer["id"], answer["status"]) == ("new", 200)

    play(story)


def test_a_device_whose_connection_has_ended_is_502_for_the_older_calls(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        url = f"/v2/endpoints/{device.id}/5000/0/1"
        assert (await rest(lab, "GET", url)).status_code == 202
        await device.disconnect("lwm2m")
        await asyncio.sleep(1)
        for method in ("GET", "PUT", "POST", "DELETE"):
            answer = await rest(lab, method, url)
            assert (answer.status_code, answer.text) == (502, "DEVICE_NOT_CONNECTED")
        assert "it comes back within" in answer.headers["x-pdmlab-hint"]
        # The newer call waits for it.
        body = {"method": "GET", "uri": "/5000/0/1"}
        assert (await rest(lab, "POST", f"/v2/device-requests/{device.id}?async-id=x", json=body)).status_code == 202
        assert "no connection" in lab.core.requests.queue()[0]["why"]

    play(story)


async def rest(lab: CoreLab, method: str, path: str, **options: Any) -> httpx.Response:
    """Make a call in virtual time."""
    transport = httpx.ASGITransport(make_app(lab.core))
    async with httpx.AsyncClient(transport=transport, base_url="http://lab") as client:
        return await client.request(method, path, headers={"Authorization": f"Bearer {lab.key}"}, **options)


# -- /v2/device-requests -----------------------------------------------------------------------------------------


def request(lab: RestLab, device_id: str, async_id: str = "a", query: str = "", **body: Any) -> tuple[int, str]:
    wanted = {"method": "GET", "uri": "/5000/0/1", **{name.replace("_", "-"): value for name, value in body.items()}}
    return said(lab, "POST", f"/v2/device-requests/{device_id}?async-id={async_id}{query}", json=wanted)


@pytest.mark.parametrize(
    ("async_id", "query", "body", "expected"),
    [
        ("a", "", {}, (202, "")),
        ("a" * 40, "&retry=3&expiry-seconds=60", {}, (202, "")),
        ("a", "", {"payload_b64": None}, (202, "")),
        ("a", "", {"method": "put", "uri": "/5000/0/1?lt=10&gt=60&pmax=120"}, (202, "")),
        ("a", "", {"method": "POST", "uri": "//5000/0/3"}, (202, "")),
        ("a", "", {"accept": "text/plain", "content_type": "text/plain; charset=utf-8"}, (202, "")),
        ("a", "", {"accept": "*/*"}, (202, "")),
        ("", "", {}, (400, "MALFORMED_ASYNC_ID")),
        ("a" * 41, "", {}, (400, "MALFORMED_ASYNC_ID")),
        ("a b", "", {}, (400, "MALFORMED_ASYNC_ID")),
        ("a", "&retry=-1", {}, (400, "MALFORMED_JSON_CONTENT")),
        ("a", "&expiry-seconds=soon", {}, (400, "MALFORMED_JSON_CONTENT")),
        ("a", "", {"method": "PATCH"}, (400, "MALFORMED_JSON_CONTENT")),
        ("a", "", {"uri": "/x"}, (400, "MALFORMED_JSON_CONTENT")),
        ("a", "", {"uri": "/5000/0/1?" + "x" * 600}, (400, "MALFORMED_JSON_CONTENT")),
        ("a", "", {"uri": "/5000/0/1?\u0000"}, (400, "MALFORMED_JSON_CONTENT")),
        ("a", "", {"payload_b64": "%"}, (400, "MALFORMED_JSON_CONTENT")),
        ("a", "", {"uri": "/5999/0/1"}, (400, "RESOURCE_NOT_FOUND")),
        ("a", "", {"content_type": "image/png"}, (400, "UNSUPPORTED_CONTENT_TYPE")),
        ("a", "", {"accept": "image/png"}, (400, "UNSUPPORTED_CONTENT_TYPE")),
    ],
)
def test_a_request_is_taken_or_refused_by_the_vendors_word(
    shared: RestLab, async_id: str, query: str, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    device = shared.device("words")
    assert request(shared, device.id, async_id, query, **body) == expected


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestLab]:
    lab = RestLab(f"sqlite:///{tmp_path_factory.mktemp('connect') / 'lab.sqlite'}")
    yield lab
    lab.close()


def test_a_body_that_is_none_and_a_device_that_is_not_there_are_said(lab: RestLab) -> None:
    device = lab.device()
    url = f"/v2/device-requests/{device.id}?async-id=a"
    for body in (b"", b"{", b"[]", b"null", b'{"method":"GET"}'):
        assert said(lab, "POST", url, content=body) == (400, "MALFORMED_JSON_CONTENT")
    assert request(lab, NOBODY) == (404, "DEVICE_NOT_FOUND")


def test_success_is_200_with_a_payload_and_text_whatever_the_method(lab: RestLab) -> None:
    device = lab.device()
    for id, method, payload in (("g", "GET", ""), ("p", "PUT", "bmV3"), ("e", "POST", ""), ("d", "DELETE", "")):
        assert request(lab, device.id, id, method=method, payload_b64=payload) == (202, "")
        (answer,) = lab.responses()
        # Tests of the vendor's look into `payload` of every success.
        assert (answer["id"], answer["status"], answer["ct"]) == (id, 200, "text/plain")
        assert decoded(answer) == (b"test0" if id == "g" else b"")
        assert "error" not in answer and isinstance(answer["max-age"], str)


def test_an_answer_in_the_format_that_was_asked_for_stays_in_it(play: Stage) -> None:
    tlv = b"\xc8\x00\x05test0"

    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        asked: list[int | None] = []

        async def formats(message: Message, peer: object) -> Message:
            asked.append(message.opt.accept)
            return Message(code=codes.CONTENT, payload=tlv, content_format=11542)

        device.endpoint.handler = formats
        for id, accept in (("a", None), ("b", "application/vnd.oma.lwm2m+tlv")):
            await lab.core.requests.submit(lab.key_id, device.id, id, "GET", "/3/0/0", accept=accept)
        answers = {each["id"]: (value(each), each["ct"]) for each in await lab.answers(2)}
        assert answers["a"] == (b"test0", "text/plain")
        assert answers["b"] == (tlv, "application/vnd.oma.lwm2m+tlv")
        assert asked == [None, 11542]

    play(story)


def test_media_types_are_known_by_the_vendors_names_and_by_their_numbers() -> None:
    names = {
        "text/plain": 0,
        "application/vnd.oma.lwm2m+text": 0,
        "application/vnd.oma.lwm2m+opaq": 42,
        "application/nanoservice-tlv": 99,
        "Application/Link-Format; x=y": 40,
        "60": 60,
    }
    assert {name: format_number(name) for name in names} == names
    for unknown in ("65536", "0" * 60, "x/y"):
        with pytest.raises(Refused):
            format_number(unknown)


# -- /v2/subscriptions -------------------------------------------------------------------------------------------


def test_presubscriptions_come_back_as_they_were_given(lab: RestLab) -> None:
    patterns = [
        {"endpoint-name": "node-001", "resource-path": ["/3303/0/5700"]},
        {"endpoint-type": "Light", "resource-path": ["/3311/*"]},
        {"endpoint-name": "node*"},
        {"resource-path": ["/3303/0/5700", "/3304/0/5700"]},
    ]
    assert lab.get("/v2/subscriptions") == []
    put = lab.call("PUT", "/v2/subscriptions", json=patterns, headers={"Accept": "text/plain"})
    assert (put.status_code, put.content) == (204, b"")
    assert lab.get("/v2/subscriptions") == patterns
    assert lab.get("/v2/subscriptions", key=lab.new_key()) == []
    assert said(lab, "PUT", "/v2/subscriptions", json=[]) == (204, "")
    assert lab.get("/v2/subscriptions") == []


@pytest.mark.parametrize(
    ("patterns", "status"),
    [
        ([{"endpoint-name": "n" * 64, "endpoint-type": "t" * 64, "resource-path": ["/" + "p" * 127] * 256}], 204),
        ([{}] * 1024, 204),
        ([{}] * 1025, 400),
        ([{"endpoint-name": "n" * 65}], 400),
        ([{"endpoint-type": "t" * 65}], 400),
        ([{"resource-path": ["/" + "p" * 128]}], 400),
        ([{"resource-path": ["/p"] * 257}], 400),
        ([{"endpoint-name": "a\u0000b"}], 400),
        ([{"resource-path": "/3"}], 400),
        ({}, 400),
        ("x", 400),
    ],
)
def test_presubscriptions_have_the_vendors_limits(shared: RestLab, patterns: Any, status: int) -> None:
    assert shared.call("PUT", "/v2/subscriptions", json=patterns).status_code == status
    shared.call("DELETE", "/v2/subscriptions")


def test_patterns_fit_by_name_id_type_and_path(lab: RestLab) -> None:
    links = "</3303/0/5700>;obs,</3303/1/5700>;obs,</3304/0/5700>;obs,</3305/0/5800>"
    types = {"lamp1": "Light", "lamp2": "Light", "sensor": ""}
    devices = {name: lab.device(name, links=links, query=f"et={type}") for name, type in types.items()}

    def found(*patterns: dict[str, Any]) -> dict[str, list[str]]:
        assert said(lab, "PUT", "/v2/subscriptions", json=list(patterns)) == (204, "")
        lists = {name: lab.call("GET", f"/v2/subscriptions/{device.id}") for name, device in devices.items()}
        return {name: list.text.split() for name, list in lists.items() if list.status_code == 200}

    every = ["/3303/0/5700", "/3303/1/5700", "/3304/0/5700"]
    assert found({}) == dict.fromkeys(types, every)
    assert found({"endpoint-name": "lamp*"}) == {"lamp1": every, "lamp2": every}
    assert found({"endpoint-name": devices["sensor"].id}) == {"sensor": every}
    assert found({"endpoint-name": devices["sensor"].id[:31] + "*", "resource-path": ["/3304/*"]}) == {
        name: ["/3304/0/5700"] for name, device in devices.items() if device.id[:31] == devices["sensor"].id[:31]
    }
    assert found({"endpoint-type": "Light", "resource-path": ["/3303/0/*"]}) == {
        "lamp1": ["/3303/0/5700"],
        "lamp2": ["/3303/0/5700"],
    }
    # A path that is named is wanted even if the device does not say that it can be observed.
    assert found({"endpoint-name": "sensor", "resource-path": ["/3305/0/5800"]}) == {"sensor": ["/3305/0/5800"]}
    assert found({"endpoint-name": "lam"}) == {} == found({"endpoint-type": "Lig"})
    assert found() == {}


def test_deleting_patterns_leaves_what_was_subscribed_to_by_hand(lab: RestLab) -> None:
    device = lab.device(links="</3303/0/5700>;obs,</3/0/9>;obs")
    lab.call("PUT", f"/v2/subscriptions/{device.id}/3/0/9")
    lab.call("PUT", "/v2/subscriptions", json=[{"resource-path": ["/3303/*"]}])
    listed = lab.call("GET", f"/v2/subscriptions/{device.id}", headers={"Accept": "text/uri-list"})
    assert listed.text == "/3/0/9\n/3303/0/5700" and listed.headers["content-type"].startswith("text/uri-list")
    assert said(lab, "DELETE", "/v2/subscriptions") == (204, "")
    assert lab.call("GET", f"/v2/subscriptions/{device.id}").text == "/3/0/9"


def test_subscriptions_are_a_keys_own(lab: RestLab) -> None:
    device, other = lab.device(), lab.new_key()
    lab.open_channel(other)
    lab.call("PUT", f"/v2/subscriptions/{device.id}/3/0/9")
    assert lab.responses()
    url = f"/v2/subscriptions/{device.id}"
    assert lab.call("GET", url, key=other).status_code == lab.call("GET", f"{url}/3/0/9", key=other).status_code == 404
    assert lab.call("DELETE", f"{url}/3/0/9", key=other).status_code == 404
    assert lab.call("DELETE", url, key=other).status_code == 204
    device.tell("/3/0/9", b"96")
    assert [each["path"] for each in lab.get(PULL)["notifications"]] == ["/3/0/9"]
    lab.until(lambda: lab.core.resources.value(device.id, "/3/0/9") == "96")

    async def waiting() -> int:
        return lab.core.channels.outbox.count(lab.core.accounts.authenticate(other).id)  # type: ignore[union-attr]

    assert lab.run(waiting()) == 0


@pytest.mark.parametrize(("path", "expected"), [("/9/9/9", (404, "RESOURCE_NOT_FOUND")), ("/x", 400), ("/", 404)])
def test_what_cannot_be_subscribed_to_is_refused(lab: RestLab, path: str, expected: Any) -> None:
    device = lab.device()
    found = said(lab, "PUT", f"/v2/subscriptions/{device.id}{path}")
    assert found == expected or found[0] == expected or (path == "/" and found[0] == 405)
    assert said(lab, "PUT", f"/v2/subscriptions/{NOBODY}/3/0/9") == (404, "DEVICE_NOT_FOUND")


# -- what channels carry -----------------------------------------------------------------------------------------


def test_registrations_and_updates_carry_their_resources_and_ends_the_bare_id(lab: RestLab) -> None:
    lab.open_channel(lab.key)
    device = lab.device("desk1", links="", query="et=Light")
    (event,) = lab.get(PULL)["registrations"]
    assert event == {"ep": device.id, "original-ep": "desk1", "ept": "Light", "q": False, "resources": []}
    device.update()
    (event,) = lab.get(PULL)["reg-updates"]
    assert event == {"ep": device.id, "original-ep": "desk1", "ept": "Light", "q": False, "resources": []}
    device.close()
    device.register("</3/0/9>;obs;rt=battery,</5000/0/1>")
    (event,) = lab.get(PULL)["registrations"]
    shape = {"rt": "", "ct": "", "if": ""}
    assert event["resources"] == [
        {**shape, "path": "/3/0/9", "obs": True, "rt": "battery"},
        {**shape, "path": "/5000/0/1", "obs": False},
    ]
    device.deregister()
    assert lab.get(PULL) == {"de-registrations": [device.id]}


def test_every_key_with_a_channel_hears_of_devices_whatever_its_kind(lab: RestLab) -> None:
    keys = {"pull": lab.new_key("a"), "websocket": lab.new_key("b"), "none": lab.new_key("c")}
    lab.open_channel(keys["pull"])
    lab.call("PUT", "/v2/notification/websocket", key=keys["websocket"])
    lab.device()

    async def waiting(key: str) -> int:
        return lab.core.channels.outbox.count(lab.core.accounts.authenticate(key).id)  # type: ignore[union-attr]

    assert {kind: lab.run(waiting(key)) for kind, key in keys.items()} == {"pull": 1, "websocket": 1, "none": 0}
