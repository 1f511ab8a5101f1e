"""Accounts see nothing of each other: every operation, with another account's id, is as with an id that nobody has.

Two accounts have everything that the examples of the API make. Whoever adds an operation gives it an example, and so it
is tried here too.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from pdmlab.service import schema, serve
from pdmlab.service.rest import app
from pdmlab.service.rest.examples import Example, examples
from tests.service.examplelab import PATIENCE_S, ExampleLab, prepared

ENDS = ("stop", "archive", "/remove")
"""Calls after which other examples have nothing to be about; they are tried, not prepared."""
OPEN = re.compile(r"(GET|HEAD) /v3/firmware-(images|manifests)/[^/]+/\{file\}")
"""What devices fetch, who have no key."""
VOLATILE = {"last_login_at", "last_used"}
"""Columns that a call of their own account changes, whatever it is about."""
OWN_PACE = {"metric_counts"}
"""Tables that are written now and then, of what was counted before."""
_NAME = re.compile(r"\{(\w+)\}")
_ID = re.compile(r"\b[0-9a-f]{32}\b")

ALL = {name: each for name, each in examples().items() if each.key}


class Side:
    """An account: everything in it, and calls with its administrator's key."""

    def __init__(self, lab: ExampleLab) -> None:
        self.lab = lab
        self.client = httpx.Client(base_url=lab.service.url, timeout=30)

    def furnish(self) -> None:
        """Send the examples that make something."""
        for example in ALL.values():
            makes = example.keep if example.method == "GET" else example.method != "DELETE"
            if makes and not example.name.endswith(ENDS) and "/v3/accounts" not in example.path:
                self.lab.send(
                    example, self.lab.by_http(self.client)
                )  # 409 where it wants undone first what another one did

    def ask(self, example: Example, path: Mapping[str, str], body: Mapping[str, str]) -> httpx.Response:
        """Send an example with these things in its path, and those in its body."""
        lab = dataclasses.replace(self.lab, known=dict(body))
        located = dataclasses.replace(example, path=example.url(path.__getitem__).replace("{", "%7B"), query={})
        return lab.by_http(self.client)(located)

    def rows(self) -> dict[str, list[dict[str, object]]]:
        """Return all that the database has of the account, without what changes by itself."""
        store = self.lab.service.core.store
        tables = [
            each for each in schema.metadata.sorted_tables if "account_id" in each.c and each.name not in OWN_PACE
        ]

        def read() -> dict[str, list[dict[str, object]]]:
            mine = self.lab.known["account_id"]
            return {each.name: [_kept(row) for row in store.rows(_mine(each, mine))] for each in tables}

        return dict(self.lab.service.call(read))

    @property
    def known(self) -> dict[str, str]:
        """What names stand for in examples, and in those of accounts beside the service's own, of which this is one."""
        known = self.lab.known
        return {f"{name}_there": value for name, value in known.items()} | known | {"tenant_id": known["account_id"]}

    def settle(self) -> None:
        """Let what goes on by itself come to its end: the campaign."""
        campaign = f"/v3/update-campaigns/{self.lab.known['campaign_id']}"
        self.client.post(f"{campaign}/stop", headers=self.headers)
        end = time.monotonic() + PATIENCE_S
        while (phase := self.client.get(campaign, headers=self.headers).json()["phase"]) != "stopped":
            assert time.monotonic() < end, phase

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.lab.key}"}


def _mine(table: sa.Table, account_id: str) -> sa.Select[Any]:
    return sa.select(table).where(table.c.account_id == account_id).order_by(*table.primary_key.columns)


def _kept(row: dict[str, Any]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name not in VOLATILE}


def unknown(known: Mapping[str, str]) -> dict[str, str]:
    """Return the same names for things that nobody has."""
    return {name: value[::-1].translate(_OTHERS) if _ID.fullmatch(value) else value for name, value in known.items()}


_OTHERS = str.maketrans("0123456789abcdef", "fedcba9876543210")


def masked(answer: httpx.Response, *known: Mapping[str, str]) -> tuple[int, str]:
    """Return status and body, without the ids of those that it was about, and without the request's own."""
    text = answer.text
    for each in known:
        for value in each.values():
            if _ID.fullmatch(value):
                text = text.replace(value, "…")
    return answer.status_code, re.sub(r'"request_id": ?"\w+"', "", text)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Side]]:
    """Two accounts, and the service's own, in one service; polls end at once."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(app, "make_app", functools.partial(app.make_app, hold_s=0.01))
        # A new one each time: where several run the tests, one of them may come here more than once.
        service = stack.enter_context(serve(name=tmp_path_factory.mktemp("isolation").name))
        keys = {"own": (service.account_id, service.api_key)}
        for name in ("ours", "theirs"):
            made = httpx.post(
                f"{service.url}/v3/accounts",
                json={"end_market": name, "admin_email": f"{name}@example.org"},
                headers={"Authorization": f"Bearer {service.api_key}"},
            ).json()
            keys[name] = made["id"], made["admin_key"]
        found = {}
        for name, (account_id, key) in keys.items():
            folder = tmp_path_factory.mktemp(name)
            lab = stack.enter_context(prepared(service, folder, account_id, key, mark=f"{name}-"))
            found[name] = Side(lab)
            stack.callback(found[name].client.close)
            found[name].furnish()
            found[name].settle()
        yield found


TENANTS = "/v3/accounts/{account_id}"
NAMED = [name for name, each in ALL.items() if "{" in each.path and not OPEN.match(name)]
LISTS = [
    name
    for name, each in ALL.items()
    if each.method == "GET" and "{" not in each.path and (name.endswith("/me") or "/v3/accounts" not in name)
]


def test_everything_that_a_path_names_is_there(sides: dict[str, Side]) -> None:
    for side in (sides["ours"], sides["theirs"]):
        named = {name: set(_NAME.findall(ALL[name].url("{{{}}}".format))) for name in NAMED}
        missing = {name: each - side.known.keys() for name, each in named.items() if each - side.known.keys()}
        assert not missing, f"add what makes these to examples.toml, or to tests/service/examplelab.py: {missing}"


@pytest.mark.parametrize(
    ("asking", "name"),
    [
        *(("ours", name) for name in NAMED),
        *(("own", name) for name in NAMED if TENANTS not in name),  # which sees to the others there
    ],
)
def test_what_another_account_has_is_as_what_nobody_has(sides: dict[str, Side], asking: str, name: str) -> None:
    example, asks, theirs = ALL[name], sides[asking], sides["theirs"].known
    before = sides["theirs"].rows()
    nobodys = asks.ask(example, unknown(theirs), theirs)
    found = asks.ask(example, theirs, theirs)
    assert masked(found, theirs) == masked(nobodys, unknown(theirs), theirs)
    assert found.status_code in (400, 403, 404, 423) or (example.method, found.status_code) == ("DELETE", 204)
    assert sides["theirs"].rows() == before


@pytest.mark.parametrize(
    "name",
    [name for name, each in ALL.items() if _NAME.search(json.dumps([each.json, each.form])) and TENANTS not in name],
)
def test_what_another_account_has_cannot_be_put_into_ones_own(sides: dict[str, Side], name: str) -> None:
    example, asks, theirs = ALL[name], sides["ours"], sides["theirs"].known
    before = sides["theirs"].rows()
    nobodys = asks.ask(example, asks.known, unknown(theirs))
    found = asks.ask(example, asks.known, theirs)
    if nobodys.status_code >= 400:
        assert masked(found, theirs, asks.known) == masked(nobodys, unknown(theirs), asks.known)
    assert sides["theirs"].rows() == before


@pytest.mark.parametrize("name", LISTS)
def test_a_list_shows_nothing_of_another_account(sides: dict[str, Side], name: str) -> None:
    path = ALL[name].path
    shown = {
        key: side.client.get(path, params={"limit": 1000}, headers=side.headers).text for key, side in sides.items()
    }
    ids = {key: set(_ID.findall(text)) for key, text in shown.items()}
    resources = sides["own"].lab.service.update_resources()
    # The account that made the others is their parent, and one developer has signed all of these manifests.
    common = {sides["own"].known["account_id"], resources.vendor_id.hex(), resources.class_id.hex()}
    for key, others in (("ours", ("theirs", "own")), ("own", ("theirs", "ours"))):
        for other in others:
            assert not (ids[key] & (ids[other] | set(sides[other].known.values()))) - common
            assert f"{other}-" not in shown[key]


@pytest.mark.parametrize("name", [name for name in LISTS if _NAME.search(str(ALL[name].query))])
def test_a_list_finds_nothing_of_another_account(sides: dict[str, Side], name: str) -> None:
    asked = ALL[name].url(sides["theirs"].known.__getitem__)
    assert sides["theirs"].client.get(asked, headers=sides["theirs"].headers).json()["data"]
    assert sides["ours"].client.get(asked, headers=sides["ours"].headers).json()["data"] == []


def test_news_of_another_accounts_devices_do_not_come(sides: dict[str, Side]) -> None:
    pull = "/v2/notification/pull"
    ours, theirs = sides["ours"], sides["theirs"]
    device = theirs.known["device_id"]
    for side in (ours, theirs):
        for kind in ("websocket", "callback", "pull"):
            side.client.delete(f"/v2/notification/{kind}", headers=side.headers)
        side.client.get(pull, headers=side.headers)
    for side in (ours, theirs):
        everything = [{"endpoint-name": "*", "resource-path": ["/*"]}]
        side.client.put("/v2/subscriptions", json=everything, headers=side.headers)
        side.client.put(f"/v2/subscriptions/{device}/3/0/9", headers=side.headers)
        asked = {"method": "GET", "uri": "/3/0/0"}
        side.client.post(f"/v2/device-requests/{device}?async-id=mine", json=asked, headers=side.headers)
    heard, end = "", time.monotonic() + PATIENCE_S
    while '"mine"' not in heard:  # theirs has come through, and so ours would have
        heard += theirs.client.get(pull, headers=theirs.headers).text
        assert time.monotonic() < end, heard
    answer = ours.client.get(pull, headers=ours.headers)
    assert device not in answer.text and "theirs-" not in answer.text, answer.text


def test_what_strangers_said_is_for_the_services_own_account(sides: dict[str, Side]) -> None:
    service = sides["own"].lab.service
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.settimeout(PATIENCE_S)
        stranger.sendto(b"\x40\x00\x12\x34", service.core.lwm2m.address[:2])  # an empty confirmable message: a ping
        assert stranger.recv(100) == b"\x70\x00\x12\x34"
    shown = {name: side.client.get("/lab/log", headers=side.headers).json() for name, side in sides.items()}
    assert any(row["device"] == "" for row in shown["own"])
    assert shown["ours"] and not any(row["device"] == "" for row in shown["ours"])
