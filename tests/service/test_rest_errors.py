"""Bad requests of every kind: the right status in the right shape, and never a traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pdmlab.service.rest.front import MAX_BODY
from tests.service.restlab import RestLab

DEVICE = "0" * 32


@pytest.fixture(scope="module")
def lab(shared_database: str) -> Iterator[RestLab]:
    lab = RestLab(shared_database, hold_s=0.01)
    yield lab
    lab.close()


def assert_is_an_error(answer: httpx.Response, path: str) -> None:
    assert "Traceback" not in answer.text and "sqlalchemy" not in answer.text.lower()
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    if path.startswith("/v2"):
        assert answer.headers["content-type"].startswith("text/plain")
        return
    body = answer.json()
    assert body["object"] == "error" and body["code"] == answer.status_code
    assert body["type"] and body["message"] and body["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v3/nothing", 404),
        ("GET", "/v3/devices/none/of/these", 404),
        ("GET", f"/v3/devices/{DEVICE}", 404),
        ("PATCH", "/v3/devices", 405),
        ("DELETE", "/v3/accounts/me", 405),
        ("GET", "/v2/nothing", 404),
        ("GET", f"/v2/endpoints/{DEVICE}", 404),
        ("GET", "/v2/endpoints/x/not/a/path", 404),
        ("PUT", f"/v2/subscriptions/{DEVICE}/3/0/0", 404),
        ("PUT", f"/v2/subscriptions/{DEVICE}/a/b", 400),
        ("DELETE", f"/v2/subscriptions/{DEVICE}/3/0/0", 404),
        ("GET", "/v2/notification/websocket", 404),
        ("GET", "/lab/nothing", 404),
        ("GET", "/lab/log?limit=0", 400),
        ("POST", f"/v3/update-campaigns/{DEVICE}/start", 404),
        ("POST", "/v3/firmware-images/upload-jobs/x/chunks", 404),
        ("GET", f"/v3/firmware-images/{DEVICE}/firmware.bin", 404),
    ],
)
def test_what_is_not_there_is_said_in_the_shape_of_its_interface(
    lab: RestLab, method: str, path: str, status: int
) -> None:
    answer = lab.call(method, path)
    assert answer.status_code == status
    assert_is_an_error(answer, path)


CALLS = [
    ("POST", "/v3/api-keys"),
    ("PUT", "/v3/accounts/me"),
    ("PUT", "/v3/api-keys/me"),
    ("POST", "/v3/developer-certificates"),
    ("POST", "/v3/update-campaigns"),
    ("POST", "/v3/firmware-images/upload-jobs"),
    ("POST", f"/v2/device-requests/{DEVICE}?async-id=a"),
    ("PUT", "/v2/subscriptions"),
    ("POST", "/v3/firmware-images"),
    ("POST", "/v3/firmware-manifests"),
]
BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b'{"name": "\\ud800"}',
    b'{"name": "\\u0000"}',
    b'{"name": 1e999, "uri": NaN, "method": Infinity, "device_filter": 1}',
    b'[{"endpoint-name": 5}]',
    b'[{"resource-path": [["/3"]]}]',
    b"[" * 50_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b"--x\r\nContent-Disposition: form-data; name=datafile\r\n\r\nno file\r\n--x--\r\n",
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_malformed_body_is_refused(lab: RestLab, caplog: pytest.LogCaptureFixture, method: str, path: str) -> None:
    for body in BODIES:
        for kind in ("application/json", "multipart/form-data; boundary=x", "text/plain", None):
            answer = lab.call(method, path, content=body, headers={"Content-Type": kind} if kind else {})
            assert answer.status_code < 500, (body[:40], kind)
            if answer.status_code >= 400:
                assert_is_an_error(answer, path)
                if path.startswith("/v2"):
                    assert re.fullmatch("[A-Z_]+", answer.text), answer.text
    assert not caplog.records  # its sender knows


def test_a_v2_token_comes_with_a_hint_in_a_header(lab: RestLab) -> None:
    answer = lab.call("GET", "/v2/endpoints/caf%C3%A9%0Ax")
    assert (answer.status_code, answer.text) == (404, "DEVICE_NOT_FOUND")
    assert answer.headers["x-pdmlab-hint"] == "this account has no device caf?x"


def test_what_an_account_does_not_know_is_not_kept(lab: RestLab) -> None:
    answer = lab.call("PUT", "/v3/accounts/me", json={"city": "Oulu", "shoe_size": 43, "id": "0" * 32})
    assert answer.status_code == 200 and answer.json() == lab.get("/v3/accounts/me")
    assert answer.json()["city"] == "Oulu" and "shoe_size" not in answer.json()
    assert answer.json()["id"] == lab.core.account_id


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    call=st.sampled_from(CALLS[:8]),
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["name", "method", "uri", "payload-b64", "content-type", "groups", "status", "when", "state"]
                )
                | st.sampled_from(
                    ["device_filter", "root_manifest_id", "description", "display_name", "endpoint-name"]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=8,
    ),
)
def test_any_json_is_taken_or_refused(lab: RestLab, call: tuple[str, str], body: object) -> None:
    method, path = call
    answer = lab.call(method, path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert_is_an_error(answer, path)


@settings(max_examples=100, deadline=None)
@given(
    path=st.sampled_from(
        ["/v3/devices", "/v3/device-events", "/v3/firmware-images", "/v3/update-campaigns", "/v3/api-keys"]
    ),
    name=st.sampled_from(["filter", "limit", "after", "order", "state__eq", "name__in", "created_at__gte", "id__like"])
    | st.text(max_size=10),
    value=st.text(max_size=30),
)
def test_any_query_is_answered_or_refused(lab: RestLab, path: str, name: str, value: str) -> None:
    answer = lab.call("GET", path, params={name: value})
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert_is_an_error(answer, path)


@settings(max_examples=60, deadline=None)
@given(
    prefix=st.sampled_from(
        ["/v3/devices/", "/v2/endpoints/", "/v2/subscriptions/", "/v2/subscriptions/x/", "/lab/queue/"]
    ),
    rest=st.text(max_size=30),
)
def test_any_path_is_answered_or_refused(lab: RestLab, prefix: str, rest: str) -> None:
    from urllib.parse import quote

    for method in ("GET", "PUT", "DELETE"):
        assert lab.call(method, prefix + quote(rest)).status_code < 500


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("path", ["/v3/api-keys", f"/v2/device-requests/{DEVICE}?async-id=a"])
def test_a_huge_body_is_cut_off(lab: RestLab, path: str, announced: bool) -> None:
    async def body():
        for _ in range(MAX_BODY // 1000 + 2):
            yield b" " * 1000

    content = b" " * (MAX_BODY + 1) if announced else body()
    answer = lab.call("POST", path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert_is_an_error(answer, path)


def test_slashes_at_the_end_and_in_the_middle_change_nothing(lab: RestLab) -> None:
    for path in ("/v3/devices", "/v3/devices/", "/v3//devices//", "/v3///devices"):
        assert lab.call("GET", path).status_code == 200, path
    made = lab.call("POST", "/v3/firmware-images/upload-jobs/", json={"name": "a"})
    assert made.status_code == 201  # and not a redirect, which no client follows with its body


def test_bodiless_calls_take_any_content_type(lab: RestLab) -> None:
    for kind in ("application/json", "text/plain", ""):
        assert lab.call("GET", "/v3/devices", headers={"Content-Type": kind}).status_code == 200


def test_a_mistake_of_the_service_is_admitted_without_its_traceback(
    lab: RestLab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(lab.core.accounts, "account", broken)
    answer = lab.call("GET", "/v3/accounts/me")
    assert answer.status_code == 500 and answer.json()["type"] == "internal_server_error"
    assert "secret detail" not in answer.text
    assert answer.json()["request_id"] in caplog.text


def test_the_description_of_the_api_needs_nothing_from_elsewhere(lab: RestLab) -> None:
    page = lab.run(lab.client.get("/docs/"))
    elsewhere = re.findall(r"https?://(?!lab:8080)|<link|\bsrc=|@import|url\(", page.text)
    assert page.status_code == 200 and elsewhere == []
    assert "/v3/update-campaigns/{campaign_id}/start" in page.text
    described = lab.run(lab.client.get("/openapi.json")).json()
    assert "/v2/device-requests/{device_id}" in described["paths"]
