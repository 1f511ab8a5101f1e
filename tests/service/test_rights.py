"""Who may do what: no operation without a key, and each only with a key of a group that may."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from pdmlab.service import rights
from pdmlab.service.accounts import hash_of
from pdmlab.service.rights import Rights
from tests.service.databases import KINDS, PostgreSQL, sqlite_in
from tests.service.restlab import RestLab
from tests.service.test_store import migrated

OPEN = re.compile(r"GET /v3/firmware-(images|manifests)/\{\w+\}/\{file\}")
"""What devices fetch, who have no key; the pages that describe the API are no operations of it."""
GROUPS = {
    "Readers": Rights.READ_ONLY,
    "Developers": Rights.DEVELOPER,
    "Administrators": Rights.SERVICE,
}


@pytest.fixture(scope="module")
def lab(shared_database: str) -> Iterator[RestLab]:
    lab = RestLab(shared_database, hold_s=0.01)
    yield lab
    lab.close()


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that no service has seen."""
    if request.param == "sqlite":
        return sqlite_in(tmp_path)
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.new(empty=True)


@pytest.fixture(scope="module")
def operations(lab: RestLab) -> list[tuple[str, str]]:
    """Methods, and paths as the description has them."""
    paths = lab.run(lab.client.get("/openapi.json")).json()["paths"]
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert len(found) > 150
    return found


def filled(path: str) -> str:
    """Return a path that names what nobody has."""
    return re.sub(r"\{(\w+)\}", lambda name: "3/0/0" if name[1] == "path" else "0" * 32, path)


def refused(answer: httpx.Response, path: str, status: int, kind: str, token: str) -> bool:
    """Whether an answer is a refusal in the shape of its interface."""
    if path.startswith("/v2") or answer.status_code != status:
        return (answer.status_code, answer.text) == (status, token) and answer.headers["x-pdmlab-hint"] != ""
    body = answer.json()
    return body["code"] == status and body["type"] == kind and body["message"] != ""


# -- keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("carried", ["no key", "wrong", "revoked", "inactive", "reset"])
def test_no_operation_without_a_good_key(lab: RestLab, operations: list[tuple[str, str]], carried: str) -> None:
    authorization = {} if carried == "no key" else {"Authorization": f"Bearer {bad(lab, carried)}"}
    open_ = set()
    for method, path in operations:
        answer = lab.run(lab.client.request(method, filled(path), headers=authorization))
        token = "API_KEY_MISSING" if carried == "no key" else "INVALID_API_KEY"
        if not refused(answer, path, 401, "invalid_apikey", token):
            open_.add(f"{method} {path}")
    assert open_ and all(OPEN.fullmatch(each) for each in open_)


def bad(lab: RestLab, how: str) -> str:
    """Return a key of an administrator that is not good."""
    if how == "wrong":
        return lab.key[:-1] + ("a" if lab.key[-1] != "a" else "b")
    key = lab.new_key(how, group="Administrators")
    path = f"/v3/api-keys/{lab.key_id(key)}"
    if how == "revoked":
        assert lab.call("DELETE", path).status_code == 204
    elif how == "inactive":
        assert lab.call("PUT", path, json={"name": how, "status": "INACTIVE"}).status_code == 200
    else:
        assert lab.call("POST", f"{path}/reset-secret").json()["key"] != key
    return key


def test_pages_that_describe_the_api_are_open(lab: RestLab) -> None:
    for path in ("/docs", "/openapi.json"):
        assert lab.run(lab.client.get(path)).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v3/nothing/here", "/v2", "/v2/", "/v3", "/lab", "/v3//devices/", "/lab/../v3/devices"]
)
def test_what_is_not_there_is_not_told_either(lab: RestLab, path: str) -> None:
    assert lab.run(lab.client.get(path)).status_code == 401


# -- groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [*GROUPS, "no group"])
def test_a_key_may_what_its_group_may(lab: RestLab, operations: list[tuple[str, str]], group: str) -> None:
    mine = GROUPS.get(group, Rights.NONE)
    key = lab.new_key(group, group=group if group in GROUPS else "Readers")
    if group not in GROUPS:
        groups = lab.get("/v3/api-keys/me", key=key)["groups"]
        assert lab.call("DELETE", f"/v3/api-keys/{lab.key_id(key)}/groups", json=groups).status_code == 200
    for method, path in operations:
        if OPEN.fullmatch(f"{method} {path}"):
            continue
        answer = lab.call(method, filled(path), key=key)
        least = rights.least(method, filled(path))
        denied = refused(answer, path, 403, "access_denied", "ACCESS_DENIED") and said(answer).startswith(
            "this needs a key"
        )
        assert denied == (mine < least), (method, path, answer.text)
        assert not denied or said(answer) == f"this needs {rights.WANTS[least]}"


def said(answer: httpx.Response) -> str:
    return str(answer.headers.get("x-pdmlab-hint") or answer.json()["message"])


def test_readers_read(operations: list[tuple[str, str]]) -> None:
    """The table as it is meant, in other words than its own."""
    private = re.compile(
        r"/v3/(api-keys|users|user-invitations|accounts|developer-certificates)(/|$)|.*/policy-groups/.*/"
    )
    own = re.compile(r"/v2/(notification/(pull|websocket|channel|callback)|subscriptions)(/|$)")
    for method, path in operations:
        reads = method == "GET" and not private.match(path)
        hears = own.match(path) and (method, path) != ("PUT", "/v2/notification/callback")
        me = method == "GET" and re.fullmatch(r"/v3/(accounts|users|api-keys)/me(/groups)?", path)
        may = rights.least(method, filled(path)) <= Rights.READ_ONLY
        assert may == bool(reads or hears or me), (method, path)


def test_developers_do_everything_but_accounts_people_and_whom_the_service_believes(
    operations: list[tuple[str, str]],
) -> None:
    people = re.compile(r"/v3/(api-keys|users|user-invitations|policy-groups|accounts)(/|$)")
    trust = re.compile(r"/v3/(trusted-certificates|certificate-issuers|certificate-issuer-configurations)(/|$)")
    own = {"GET /v3/policy-groups", "GET /v3/policy-groups/{group_id}", "PUT /v3/api-keys/me"} | {
        f"GET /v3/{each}" for each in ("accounts/me", "api-keys/me", "api-keys/me/groups", "users/me")
    }
    for method, path in operations:
        administrators = (people.match(path) and f"{method} {path}" not in own) or (
            method != "GET" and (trust.match(path) or path == "/lab/allocation")
        )
        assert (rights.least(method, filled(path)) <= Rights.DEVELOPER) == (not administrators), (method, path)


def test_each_operation_is_decided_by_a_row_and_each_row_decides_one(operations: list[tuple[str, str]]) -> None:
    decides: dict[rights.Call, str] = {}
    for method, path in operations:
        fits = [row for row in rights.table() if row.method in ("*", method) and row.pattern.fullmatch(filled(path))]
        assert fits, (method, path)
        decides.setdefault(fits[0], f"{method} {path}")
    idle = [f"{row.method} {row.path}" for row in rights.table() if row not in decides]
    assert idle == [], "rows that no operation needs"


def test_patterns_fit_what_they_say() -> None:
    call = rights.Call("GET", "/v3/a/*/b/**", Rights.NONE).pattern
    assert [
        path for path in ("/v3/a/1/b", "/v3/a/1/b/2/3", "/v3/a/1/bc", "/v3/a/b", "/v3/a/1/2/b") if call.fullmatch(path)
    ] == [
        "/v3/a/1/b",
        "/v3/a/1/b/2/3",
    ]
    assert rights.least("HEAD", "/v3/devices") == Rights.READ_ONLY
    assert rights.least("GET", "/elsewhere") == Rights.ADMINISTRATOR
    assert rights.least("PUT", "/v3/devices/a\nb") == Rights.DEVELOPER


# -- nobody raises its own rights ----------------------------------------------------------------------------


def test_a_key_without_groups_is_a_developers_and_says_so(lab: RestLab) -> None:
    made = lab.call("POST", "/v3/api-keys", json={"name": "plain"}).json()
    (group,) = lab.get("/v3/policy-groups?name__eq=Developers")["data"]
    assert made["groups"] == [group["id"]]


@pytest.mark.parametrize("group", ["Readers", "Developers"])
def test_a_key_gives_itself_no_rights(lab: RestLab, group: str) -> None:
    key = lab.new_key("climber", group=group)
    id = lab.key_id(key)
    groups = {each["name"]: each["id"] for each in lab.get("/v3/policy-groups")["data"]}
    wanted = [groups["Administrators"]]
    for method, path, body in (
        ("PUT", "/v3/api-keys/me", {"name": "climber", "groups": wanted}),
        ("PUT", f"/v3/api-keys/{id}", {"name": "climber", "groups": wanted}),
        ("POST", "/v3/api-keys/me/groups", wanted),
        ("POST", f"/v3/api-keys/{id}/groups", wanted),
        ("POST", f"/v3/policy-groups/{wanted[0]}", {"apikeys": [id]}),
        ("POST", "/v3/api-keys", {"name": "better", "groups": wanted}),
        ("POST", f"/v3/accounts/{lab.core.account_id}/api-keys", {"name": "better", "groups": wanted}),
        ("POST", f"/v3/api-keys/{lab.key_id(lab.key)}/reset-secret", None),
    ):
        answer = lab.call(method, path, key=key, json=body)
        assert (answer.status_code, answer.json()["type"]) == (403, "access_denied"), (method, path)
    assert lab.get("/v3/api-keys/me", key=key)["groups"] == [groups[group]]


def test_a_developer_names_its_key_and_changes_nothing_else_of_it(lab: RestLab) -> None:
    key = lab.new_key("mine")
    now = lab.get("/v3/api-keys/me", key=key)
    same = {name: now[name] for name in ("groups", "status", "owner")}
    assert lab.call("PUT", "/v3/api-keys/me", key=key, json={"name": "ours", **same}).json()["name"] == "ours"
    for other in ({"status": "INACTIVE"}, {"owner": "0" * 32}, {"groups": []}):
        answer = lab.call("PUT", "/v3/api-keys/me", key=key, json={"name": "theirs", **other})
        assert answer.status_code == 403 and next(iter(other)) in answer.json()["message"]
    assert lab.get("/v3/api-keys/me", key=key)["name"] == "ours"


def test_rights_are_those_that_a_key_has_now(lab: RestLab) -> None:
    key = lab.new_key("rising", group="Readers")
    id = lab.key_id(key)
    groups = {each["name"]: each["id"] for each in lab.get("/v3/policy-groups")["data"]}
    assert lab.call("GET", "/v3/users", key=key).status_code == 403
    assert lab.call("POST", f"/v3/policy-groups/{groups['Administrators']}", json={"apikeys": [id]}).status_code == 200
    assert lab.call("GET", "/v3/users", key=key).status_code == 200
    taken = lab.call("DELETE", f"/v3/policy-groups/{groups['Administrators']}/api-keys", json={"apikeys": [id]})
    assert taken.status_code == 200 and lab.call("GET", "/v3/users", key=key).status_code == 403


def test_the_last_administrators_key_stays(lab: RestLab) -> None:
    made = lab.call("POST", "/v3/accounts", json={"end_market": "IT"}).json()
    key, account = made["admin_key"], made["id"]
    id = lab.key_id(key)
    (group,) = lab.get("/v3/policy-groups?name__eq=Administrators", key=key)["data"]
    ways = (
        ("DELETE", f"/v3/api-keys/{id}", None),
        ("PUT", f"/v3/api-keys/{id}", {"name": "a", "status": "INACTIVE"}),
        ("PUT", "/v3/api-keys/me", {"name": "a", "status": "INACTIVE"}),
        ("PUT", "/v3/api-keys/me", {"name": "a", "groups": []}),
        ("DELETE", "/v3/api-keys/me/groups", [group["id"]]),
        ("DELETE", f"/v3/api-keys/{id}/groups", [group["id"]]),
        ("DELETE", f"/v3/policy-groups/{group['id']}/api-keys", {"apikeys": [id]}),
    )
    for method, path, body in ways:
        answer = lab.call(method, path, key=key, json=body)
        assert answer.status_code == 403 and "last key of the group Administrators" in answer.json()["message"], path
    answer = lab.call("DELETE", f"/v3/accounts/{account}/api-keys/{id}")
    assert answer.status_code == 403  # nor does somebody else take it
    assert lab.get("/v3/api-keys/me", key=key)["name"] == "administrator"
    second = lab.call("POST", "/v3/api-keys", key=key, json={"name": "b", "groups": [group["id"]]}).json()
    assert lab.call("DELETE", f"/v3/api-keys/{id}", key=key).status_code == 204
    assert lab.call("GET", "/v3/accounts/me", key=key).status_code == 401
    assert lab.get("/v3/api-keys/me", key=second["key"])["id"] == second["id"]


def test_the_services_own_key_is_another_when_it_is_no_administrators_any_more(lab: RestLab) -> None:
    kept = lab.new_key("administrator", group="Administrators")

    async def administrator() -> str:
        return lab.core.accounts.administrator(kept)

    assert lab.run(administrator()) == kept
    groups = lab.get("/v3/api-keys/me", key=kept)["groups"]
    assert lab.call("DELETE", f"/v3/api-keys/{lab.key_id(kept)}/groups", json=groups).status_code == 200
    renewed = lab.run(administrator())
    assert renewed != kept and lab.get("/v3/users", key=renewed)["data"]
    lab.call("DELETE", f"/v3/api-keys/{lab.key_id(renewed)}")


def test_keys_of_an_older_database_may_what_they_could(empty: str) -> None:
    engine = migrated(empty, "0002")
    account, key, at = "a" * 32, "ak_of-an-older-program", "2026-01-01T00:00:00.000000Z"
    row = {"account": account, "hash": hash_of(key), "at": at}
    with engine.begin() as db:
        for statement in (
            "INSERT INTO accounts (id, display_name, created_at, updated_at) VALUES (:account, 'old', :at, :at)",
            "INSERT INTO facts (name, value) VALUES ('default_account', :account)",
            "INSERT INTO api_keys (id, account_id, name, key_hash, key_prefix, groups, created_at, updated_at)"
            " VALUES (:account, :account, 'old', :hash, 'ak_of-an-o', '[\"what somebody said\"]', :at, :at)",
        ):
            db.execute(sa.text(statement), row)
    engine.dispose()
    lab = RestLab(empty)
    try:
        mine = lab.get("/v3/api-keys/me", key=key)
        groups = {each["id"]: each["name"] for each in lab.get("/v3/policy-groups", key=key)["data"]}
        assert [groups[each] for each in mine["groups"]] == ["Administrators"] and mine["key"] == "ak_of-an-o"
        assert lab.get("/v3/users/me", key=key)["id"] == mine["owner"]
        assert lab.get("/v3/accounts", key=key)["total_count"] == 1
        assert sorted(groups.values()) == sorted(rights.GROUPS.values())
    finally:
        lab.close()


def test_two_processes_do_not_take_the_last_two_keys(postgresql: PostgreSQL) -> None:
    database = postgresql.new()
    here, there = RestLab(database), RestLab(database, node="second")
    try:
        for _ in range(5):
            made = here.call("POST", "/v3/accounts", json={"end_market": "IT"}).json()
            first = made["admin_key"]
            groups = here.get("/v3/api-keys/me", key=first)["groups"]
            second = here.call("POST", "/v3/api-keys", key=first, json={"name": "second", "groups": groups}).json()
            taken = [
                asyncio.run_coroutine_threadsafe(lab.acall("DELETE", f"/v3/api-keys/{id}", key=key), lab.loop.loop)
                for lab, key, id in ((here, first, second["id"]), (there, second["key"], here.key_id(first)))
            ]
            answers = sorted(each.result(timeout=20).status_code for each in taken)
            assert answers in ([204, 401], [204, 403])  # who comes second has no key any more, or keeps it
            left = here.get(f"/v3/accounts/{made['id']}/api-keys")["data"]
            assert [each["groups"] for each in left] == [groups]
    finally:
        here.close()
        there.close()
        postgresql.drop(database)
