"""Pre-shared keys over REST: limits, pages, and that what went in never comes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.service.restlab import RestLab

PATH = "/v2/device-shared-keys"
NAME, SECRET = "my-endpoint-0001", "4a" * 16


@pytest.fixture
def lab(database: str) -> Iterator[RestLab]:
    lab = RestLab(database)
    yield lab
    lab.close()


@pytest.fixture
def neighbour(lab: RestLab) -> str:
    """The key of another account."""

    async def another() -> str:
        said = {"display_name": "neighbour"}, {"email": "somebody@neighbour.example"}
        return lab.core.accounts.create_account(*said)[2]

    return lab.run(another())


def post(lab: RestLab, name: str = NAME, secret: str = SECRET, **options: Any) -> httpx.Response:
    return lab.call("POST", PATH, json={"endpoint_name": name, "secret_hex": secret}, **options)


def refused(answer: httpx.Response, status: int, token: str) -> None:
    assert (answer.status_code, answer.text) == (status, token)
    assert answer.headers["content-type"].startswith("text/plain") and answer.headers["x-pdmlab-hint"]


def test_a_key_goes_in_and_never_comes_out(lab: RestLab) -> None:
    answer = post(lab)
    assert (answer.status_code, answer.text) == (201, "")
    assert lab.run(_secret(lab)) == bytes.fromhex(SECRET)
    shown = lab.get(f"{PATH}/{NAME}")
    assert shown == {"endpoint_name": NAME, "created_at": shown["created_at"]}
    assert lab.get(PATH)["data"] == [shown]
    refused(post(lab, secret="00" * 16), 409, "KEY_ALREADY_EXISTS_FOR_ENDPOINT")
    assert lab.run(_secret(lab)) == bytes.fromhex(SECRET)
    for _ in range(2):  # that there is none is no error
        assert lab.call("DELETE", f"{PATH}/{NAME}").status_code == 204
    refused(lab.call("GET", f"{PATH}/{NAME}"), 404, "KEY_NOT_FOUND")
    assert lab.run(_secret(lab)) is None
    for secret in ("0x" + "4A" * 16, "0X" + "4a" * 32, "4a" * 32):
        assert post(lab, secret=secret).status_code == 201
        assert lab.run(_secret(lab)) == bytes([0x4A]) * (len(secret.lower().removeprefix("0x")) // 2)
        lab.call("DELETE", f"{PATH}/{NAME}")


async def _secret(lab: RestLab) -> bytes | None:
    return lab.core.shared_keys.of(NAME.encode())


def test_limits_are_the_vendors(lab: RestLab) -> None:
    for name in (
        "",
        "x" * 15,
        "x" * 65,
        "täglich-0000-0001",
        "tab\there-0000001",
        " leading-space-1",
        "NUL\0-endpoint-0001",
    ):
        refused(post(lab, name), 400, "INVALID_ENDPOINT_NAME")
    for secret in ("", "4a" * 15, "4a" * 33, "4a" * 16 + "4", "no hex at all!!!" * 2, "0x", "0x" + "4a" * 15):
        refused(post(lab, secret=secret), 400, "INVALID_SECRET_HEX")
    refused(post(lab, "short", "short"), 400, "INVALID_ENDPOINT_NAME,INVALID_SECRET_HEX")
    for body in (b"", b"{", b"[]", b'{"endpoint_name": 1, "secret_hex": null}', b'"text"'):
        headers = {"Content-Type": "application/json"}
        refused(lab.call("POST", PATH, content=body, headers=headers), 400, "MALFORMED_JSON_CONTENT")
    for name in ("t%C3%A4glich-0000-0001", "x" * 200, "a%0Ab"):
        for method in ("GET", "DELETE"):
            refused(lab.call(method, f"{PATH}/{name}"), 400, "INVALID_ENDPOINT_NAME")
    assert post(lab, "x" * 16).status_code == post(lab, "~ ! y" * 12 + "zzzz").status_code == 201
    assert lab.get(f"{PATH}/{'~ ! y' * 12}zzzz")["endpoint_name"].startswith("~ ! y")


def test_a_list_comes_in_pages_behind_markers(lab: RestLab) -> None:
    names = [f"my-endpoint-{number:04}" for number in range(7)]
    for name in names:
        assert post(lab, name).status_code == 201
    found: list[str] = []
    page = lab.get(PATH, params={"limit": "3"})
    pages = 1
    while True:
        assert (page["object"], page["limit"], page["order"]) == ("list", 3, "ASC")
        found += [each["endpoint_name"] for each in page["data"]]
        assert page["has_more"] is ("continuation_marker" in page)
        if not page["has_more"]:
            break
        marker = page["continuation_marker"]
        page = lab.get(PATH, params={"limit": "3", "after": marker})
        assert page["after"] == marker
        pages += 1
    assert (found, pages) == (names, 3)
    assert lab.get(PATH)["limit"] == 50
    for limit in ("1", "0", "-5", "1001", "many", "9" * 40):
        refused(lab.call("GET", PATH, params={"limit": limit}), 400, "INVALID_LIMIT")
    for after in (names[0], "%00", "####", "x" * 2000, "AAAA", marker[:-4]):
        answer = lab.call("GET", PATH, params={"after": after})
        assert answer.status_code in (200, 400)
        if after != marker[:-4]:  # which is a marker of another name
            refused(answer, 400, "TOKEN_NOT_FOUND")


def test_another_account_sees_no_keys(lab: RestLab, neighbour: str) -> None:
    post(lab)
    assert lab.get(PATH, key=neighbour)["data"] == []
    refused(lab.call("GET", f"{PATH}/{NAME}", key=neighbour), 404, "KEY_NOT_FOUND")
    assert lab.call("DELETE", f"{PATH}/{NAME}", key=neighbour).status_code == 204
    assert lab.get(f"{PATH}/{NAME}")["endpoint_name"] == NAME
    # On the wire there is nothing but the name: it is one account's.
    refused(post(lab, key=neighbour), 409, "KEY_ALREADY_EXISTS_FOR_ENDPOINT")


def test_keys_that_were_given_otherwise_are_in_the_list_too(lab: RestLab) -> None:
    async def give() -> None:
        lab.core.shared_keys.add(lab.core.account_id, "desk1")

    lab.run(give())
    assert lab.get(f"{PATH}/desk1")["endpoint_name"] == "desk1"
    assert lab.call("DELETE", f"{PATH}/desk1").status_code == 204
    assert lab.get(PATH)["data"] == []
