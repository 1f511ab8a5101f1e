"""Users, groups, invitations, and accounts beside the service's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from pdmlab.service import accounts, groups, users
from tests.service.restlab import RestLab

NOBODY = "0" * 32


@pytest.fixture(scope="module")
def lab(shared_database: str) -> Iterator[RestLab]:
    lab = RestLab(shared_database, hold_s=0.05)
    yield lab
    lab.close()


def made(lab: RestLab, path: str, **body: Any) -> dict[str, Any]:
    answer = lab.call("POST", path, json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def refused(lab: RestLab, method: str, path: str, body: object = None, **options: Any) -> tuple[int, str]:
    answer = lab.call(method, path, json=body, **options)
    return answer.status_code, answer.json()["type"]


@pytest.fixture(scope="module")
def tenant(lab: RestLab) -> dict[str, Any]:
    return made(lab, "/v3/accounts", end_market="IT", admin_email="t@example.org", admin_name="tenant")


# -- groups --------------------------------------------------------------------------------------------------


def test_every_account_has_three_groups_in_order(lab: RestLab, tenant: dict[str, Any]) -> None:
    for key in (lab.key, tenant["admin_key"]):
        found = lab.get("/v3/policy-groups", key=key)
        assert [each["name"] for each in found["data"][:3]] == ["Administrators", "Developers", "Readers"]
        assert [each["user_count"] for each in found["data"][:3]] == [1, 0, 0]
        for each in found["data"]:
            assert each["object"] == "group" and re.fullmatch("[0-9a-f]{32}", each["id"]) and each["etag"] == "1"


def test_the_three_groups_stay(lab: RestLab) -> None:
    for group in lab.get("/v3/policy-groups?limit=3")["data"]:
        path = f"/v3/policy-groups/{group['id']}"
        assert refused(lab, "DELETE", path) == (403, "access_denied")
        assert refused(lab, "PUT", path, {"name": "others"}) == (403, "access_denied")


def test_a_group_is_a_list_of_keys_and_users(lab: RestLab) -> None:
    user = made(lab, "/v3/users", email="grouped@example.org")
    keys = [made(lab, "/v3/api-keys", name=f"grouped {n}") for n in range(3)]
    group = made(lab, "/v3/policy-groups", name="desk", members={"users": [user["id"]], "apikeys": [keys[0]["id"]]})
    path = f"/v3/policy-groups/{group['id']}"
    assert (group["user_count"], group["apikey_count"]) == (1, 1)
    assert lab.call("POST", path, json={"apikeys": [each["id"] for each in keys[1:]]}).status_code == 200
    shown = lab.get(path)
    assert (shown["user_count"], shown["apikey_count"], shown["name"]) == (1, 3, "desk")
    members = lab.get(f"{path}/api-keys?limit=2")
    assert [each["id"] for each in members["data"]] == [keys[0]["id"], keys[1]["id"]] and members["has_more"]
    assert group["id"] in members["data"][0]["groups"] and members["data"][0]["name"] == "grouped 0"
    assert [each["email"] for each in lab.get(f"{path}/users")["data"]] == ["grouped@example.org"]
    assert lab.get(f"{path}/users?status__eq=ACTIVE")["data"] == []
    assert [each["name"] for each in lab.get(f"/v3/users/{user['id']}/groups")["data"]] == ["desk"]
    # The vendor's description has two forms of it: a list, and an object.
    assert lab.call("DELETE", f"{path}/api-keys", json=[keys[0]["id"]]).status_code == 200
    assert lab.call("DELETE", f"{path}/api-keys", json={"apikeys": [keys[1]["id"]]}).status_code == 200
    updated = lab.call("DELETE", f"{path}/users", json=[user["id"]]).json()
    assert (updated["object"], updated["type"], updated["code"], updated["id"]) == (
        "group",
        "success",
        200,
        group["id"],
    )
    assert (lab.get(path)["user_count"], lab.get(path)["apikey_count"]) == (0, 1)
    assert lab.call("PUT", path, json={"name": "desk 2"}).json()["object"] == "group"
    assert lab.get("/v3/policy-groups?name__eq=desk 2")["total_count"] == 1
    assert lab.call("DELETE", path).status_code == 204
    assert lab.get(f"/v3/api-keys/{keys[2]['id']}")["groups"] == keys[2]["groups"]
    for each in keys:
        lab.call("DELETE", f"/v3/api-keys/{each['id']}")
    assert lab.call("DELETE", f"/v3/users/{user['id']}").status_code == 204


def test_a_group_gives_no_rights_that_is_none_of_the_three(lab: RestLab) -> None:
    group = made(lab, "/v3/policy-groups", name="Administrators ")
    key = made(lab, "/v3/api-keys", name="hopeful", groups=[group["id"]])
    assert key["groups"] == [group["id"]]
    assert lab.call("GET", "/v3/devices", key=key["key"]).status_code == 403
    assert lab.get("/v3/api-keys/me", key=key["key"])["id"] == key["id"]


def test_what_groups_do_not_take_is_refused(lab: RestLab) -> None:
    group = made(lab, "/v3/policy-groups", name="fussy")
    key = made(lab, "/v3/api-keys", name="fussy", groups=[group["id"]])
    path = f"/v3/policy-groups/{group['id']}"
    assert refused(lab, "POST", "/v3/policy-groups", {"name": "fussy"}) == (409, "duplicate")
    assert refused(lab, "POST", "/v3/policy-groups", {"name": "Readers"}) == (409, "duplicate")
    assert refused(lab, "POST", "/v3/policy-groups", {"name": "n" * 101}) == (400, "validation_error")
    other = made(lab, "/v3/policy-groups", name="other")
    assert refused(lab, "PUT", f"/v3/policy-groups/{other['id']}", {"name": "fussy"}) == (409, "duplicate")
    assert lab.call("PUT", path, json={"name": "fussy"}).status_code == 200  # its own
    assert refused(lab, "POST", path, {"apikeys": [key["id"]]}) == (409, "duplicate")
    assert refused(lab, "POST", path, {"apikeys": [NOBODY]}) == (400, "validation_error")
    assert refused(lab, "POST", path, {"users": [NOBODY]}) == (400, "validation_error")
    assert refused(lab, "POST", f"/v3/api-keys/{key['id']}/groups", [NOBODY]) == (400, "validation_error")
    assert refused(lab, "POST", f"/v3/api-keys/{key['id']}/groups", [group["id"]]) == (409, "duplicate")
    assert refused(lab, "POST", "/v3/api-keys", {"name": "a", "groups": [NOBODY]}) == (400, "validation_error")
    assert refused(lab, "POST", "/v3/api-keys", {"name": "a", "owner": NOBODY}) == (400, "validation_error")
    # Nothing of a call that is refused has been done.
    user = made(lab, "/v3/users", email="fussy@example.org")
    assert refused(lab, "POST", path, {"apikeys": [NOBODY], "users": [user["id"]]})[0] == 400
    assert lab.get(path)["user_count"] == 0
    for method, twin in (
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", ""),
        ("GET", "/users"),
        ("GET", "/api-keys"),
    ):
        body = {"name": "x"} if method == "PUT" else {} if method == "POST" else None
        assert refused(lab, method, f"/v3/policy-groups/{NOBODY}{twin}", body) == (404, "not_found")


def test_an_account_has_so_many_of_each_and_no_more(
    lab: RestLab, tenant: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MAX_GROUPS", 4)
    monkeypatch.setattr(users, "MAX_USERS", 2)
    monkeypatch.setattr(accounts, "MAX_KEYS", 2)
    monkeypatch.setattr(accounts, "MAX_ACCOUNTS", 2)
    for path, body in (("policy-groups", {"name": "a"}), ("users", {"email": "a@b"}), ("api-keys", {"name": "a"})):
        there = f"/v3/accounts/{tenant['id']}/{path}"
        id = made(lab, there, **body)["id"]
        assert refused(lab, "POST", there, {"name": "b", "email": "b@b"}) == (403, "account_limit_exceeded")
        lab.call("DELETE", f"{there}/{id}")
    assert refused(lab, "POST", "/v3/accounts", {"end_market": "IT"}) == (403, "account_limit_exceeded")


# -- users ---------------------------------------------------------------------------------------------------


def test_a_key_belongs_to_who_makes_it(lab: RestLab) -> None:
    me = lab.get("/v3/users/me")
    assert (me["username"], me["email"], me["status"]) == ("administrator", "administrator@pdmlab.example", "ACTIVE")
    assert me["object"] == "user" and isinstance(me["creation_time"], int) and me["account_id"] == lab.core.account_id
    key = made(lab, "/v3/api-keys", name="mine")
    assert key["owner"] == me["id"]
    user = made(lab, "/v3/users", email="owner@example.org", username="owner.four", password="never kept", groups=[])
    assert user["status"] == "ACTIVE" and "password" not in user and "never kept" not in str(user)
    assert lab.call("PUT", f"/v3/api-keys/{key['id']}", json={"name": "theirs", "owner": user["id"]}).status_code == 200
    assert lab.get("/v3/users/me", key=key["key"])["id"] == user["id"]
    assert refused(lab, "DELETE", f"/v3/users/{user['id']}") == (400, "bad_request")  # a key belongs to it
    assert lab.call("DELETE", f"/v3/api-keys/{key['id']}").status_code == 204
    assert lab.call("DELETE", f"/v3/users/{user['id']}").status_code == 204
    assert lab.call("GET", f"/v3/users/{user['id']}").status_code == 404


def test_a_key_that_belongs_to_nobody_says_so(lab: RestLab, tenant: dict[str, Any]) -> None:
    key = made(lab, f"/v3/accounts/{tenant['id']}/api-keys", name="nobody's")
    assert key["owner"] is None
    answer = lab.call("GET", "/v3/users/me", key=key["key"])
    assert answer.status_code == 404 and "belongs to no user" in answer.json()["message"]


def test_what_is_known_of_a_user_is_changed(lab: RestLab) -> None:
    user = made(lab, "/v3/users", email="change@example.org", phone_number="1", is_marketing_accepted=True)
    path = f"/v3/users/{user['id']}"
    change = {"full_name": "C", "phone_number": None, "is_gtc_accepted": True, "is_marketing_accepted": None}
    shown = lab.call("PUT", path, json=change).json()
    assert (shown["full_name"], shown["phone_number"]) == ("C", None)
    assert (shown["is_gtc_accepted"], shown["is_marketing_accepted"]) == (True, True)  # a null says nothing of a flag
    assert refused(lab, "PUT", path, {"email": "no address"}) == (400, "validation_error")
    assert refused(lab, "PUT", path, {"username": "no"}) == (400, "validation_error")
    assert refused(lab, "PUT", path, {"status": "GONE"}) == (400, "validation_error")
    assert refused(lab, "PUT", path, {"email": "administrator@pdmlab.example"}) == (409, "duplicate")
    assert refused(lab, "POST", "/v3/users", {"email": "c@d", "username": "administrator"}) == (409, "duplicate")
    assert refused(lab, "POST", "/v3/users?action=forget", {"email": "c@d"}) == (400, "validation_error")
    assert lab.call("POST", f"{path}/validate-email").status_code == 204
    assert lab.get(path)["email_verified"] is True
    assert [each["id"] for each in lab.get("/v3/users?email__eq=change@example.org")["data"]] == [user["id"]]
    assert lab.get("/v3/users?login_profiles__eq=x")["data"] == []
    assert user["id"] not in str(lab.get("/v3/users?status__nin=RESET,INVITED"))
    ours = lab.call("PUT", "/v3/users/me", json={"full_name": "the lab"}).json()
    assert ours["full_name"] == "the lab"


def test_who_is_invited_is_a_user_until_the_invitation_is_taken_back(lab: RestLab) -> None:
    (readers,) = (each["id"] for each in lab.get("/v3/policy-groups?name__eq=Readers")["data"])
    invitation = made(lab, "/v3/user-invitations", email="i@example.org", groups=[readers], valid_for_days=1)
    assert invitation["object"] == "user-invitation" and invitation["groups"] == [readers]
    user = lab.get(f"/v3/users/{invitation['user_id']}")
    assert (user["status"], user["email"], user["groups"]) == ("INVITED", "i@example.org", [readers])
    assert lab.get(f"/v3/user-invitations/{invitation['id']}") == invitation
    again = made(lab, "/v3/user-invitations", email="i@example.org")
    assert again["user_id"] == user["id"] and lab.get("/v3/user-invitations")["total_count"] == 1
    assert lab.call("DELETE", f"/v3/user-invitations/{again['id']}").status_code == 204
    assert lab.call("GET", f"/v3/users/{user['id']}").status_code == 404
    # Who has come stays.
    known = made(lab, "/v3/user-invitations", email="j@example.org")
    assert lab.call("PUT", f"/v3/users/{known['user_id']}", json={"status": "ACTIVE"}).status_code == 200
    assert lab.call("DELETE", f"/v3/user-invitations/{known['id']}").status_code == 204
    assert lab.get(f"/v3/users/{known['user_id']}")["status"] == "ACTIVE"
    assert refused(lab, "POST", "/v3/user-invitations", {"email": "x", "valid_for_days": 101})[0] == 400


def test_an_invitation_ends(lab: RestLab, monkeypatch: pytest.MonkeyPatch) -> None:
    invitation = made(lab, "/v3/user-invitations", email="late@example.org", valid_for_days=1)
    now = lab.core.store.now
    monkeypatch.setattr(lab.core.store, "now", lambda: now() + users.DAY + 1)
    assert invitation["id"] not in str(lab.get("/v3/user-invitations"))
    assert refused(lab, "GET", f"/v3/user-invitations/{invitation['id']}") == (404, "not_found")


# -- accounts ------------------------------------------------------------------------------------------------


def test_an_account_is_made_with_who_sees_to_it(lab: RestLab, tenant: dict[str, Any]) -> None:
    assert tenant["parent_id"] == lab.core.account_id and tenant["end_market"] == "IT"
    assert (tenant["admin_email"], tenant["admin_name"]) == ("t@example.org", "tenant")
    key = tenant["admin_key"]
    assert lab.get("/v3/accounts/me", key=key)["id"] == tenant["id"]
    assert lab.get("/v3/users/me", key=key)["id"] == tenant["admin_id"]
    assert lab.get("/v3/devices", key=key)["data"] == []
    enrolled = made(lab, "/v3/accounts?action=enroll", end_market="x", admin_password="never kept")
    assert "never kept" not in str(enrolled)
    (user,) = lab.get(f"/v3/accounts/{enrolled['id']}/users")["data"]
    assert user["status"] == "ENROLLING"


def test_accounts_are_found(lab: RestLab, tenant: dict[str, Any]) -> None:
    lab.call("PUT", f"/v3/accounts/{tenant['id']}", json={"country": "Ireland", "contract_number": "17"})
    everything = lab.get("/v3/accounts")
    assert everything["limit"] == 1000 and everything["data"][0]["id"] == lab.core.account_id
    for query, found in (
        ("country__like=LAND", True),
        ("country__like=wales", False),
        ("end_market__eq=IT", True),
        ("end_market__eq=it", False),
        ("status__eq=ACTIVE", True),
        ("status__in=SUSPENDED,ACTIVE", True),
        ("status__nin=ACTIVE", False),
        ("tier__eq=1", True),
        ("tier__eq=2", False),
        (f"parent__eq={lab.core.account_id}", True),
        (f"parent__eq={tenant['id']}", False),
    ):
        ids = [each["id"] for each in lab.get(f"/v3/accounts?{query}")["data"]]
        assert (tenant["id"] in ids) == found, query
    mine = lab.get("/v3/accounts/me?include=sub_accounts,limits,policies")
    assert tenant["id"] in [each["id"] for each in mine["sub_accounts"]]
    assert lab.get("/v3/accounts/me?include=sub_accounts", key=tenant["admin_key"])["sub_accounts"] == []
    assert lab.get(f"/v3/accounts/{tenant['id']}")["contract_number"] == "17"
    assert lab.get(f"/v3/accounts/{tenant['id']}/notifications")["data"] == []


def test_policies_are_what_the_key_may_do(lab: RestLab) -> None:
    def allowed(key: str) -> set[str]:
        policies = lab.get("/v3/accounts/me?include=policies", key=key)["policies"]
        return {f"{each['action']} {each['resource']}" for each in policies if each["allow"]}

    reader, developer = allowed(lab.new_key("r", group="Readers")), allowed(lab.new_key("d"))
    assert reader < developer < allowed(lab.key)
    assert "GET /v3/**" in reader and " /v3/**" in developer - reader and " /v3/users/**" not in developer


def test_what_an_account_says_is_bounded_and_can_be_taken_back(lab: RestLab) -> None:
    said = {
        "custom_fields": {"room": "12"}, "aliases": ["my-lab.of.tests"], "mfa_status": "optional",
        "notification_emails": ["a@example.org"], "password_policy": {"minimum_length": 8}, "idle_timeout": 30,
    }  # fmt: skip
    shown = lab.call("PUT", "/v3/accounts/me", json=said).json()
    assert {name: shown[name] for name in said} == said
    gone = lab.call("PUT", "/v3/accounts/me", json=dict.fromkeys(said) | {"display_name": None}).json()
    assert (gone["custom_fields"], gone["aliases"], gone["display_name"]) == (None, [], None)
    assert "idle_timeout" not in gone and "password_policy" not in gone
    for wrong in (
        {"city": "c" * 101},
        {"aliases": ["short"]},
        {"aliases": ["enough.of.it"] * 11},
        {"custom_fields": {str(n): "" for n in range(11)}},
        {"idle_timeout": 121},
        {"email": "nobody"},
        {"company": "a\0b"},
        {"password_policy": {"minimum_length": 7}},
        {"expiration_warning_threshold": 0},
    ):
        assert refused(lab, "PUT", "/v3/accounts/me", wrong) == (400, "validation_error"), wrong
    lab.call("PUT", "/v3/accounts/me", json={"display_name": "pdmlab"})


def test_nothing_is_mailed_and_nothing_says_it_was(lab: RestLab) -> None:
    assert lab.get("/v3/accounts/me/notifications")["data"] == []


# -- keys ----------------------------------------------------------------------------------------------------


def test_a_key_gets_another_secret(lab: RestLab) -> None:
    key = made(lab, "/v3/api-keys", name="reset")
    again = lab.call("POST", f"/v3/api-keys/{key['id']}/reset-secret").json()
    assert again["id"] == key["id"] and again["key"][:36] == key["key"][:36] and again["key"] != key["key"]
    assert lab.call("GET", "/v3/accounts/me", key=key["key"]).status_code == 401
    assert lab.get("/v3/api-keys/me", key=again["key"])["key"] == again["key"][:36]


def test_a_key_is_found_by_what_lists_show_of_it(lab: RestLab) -> None:
    key = made(lab, "/v3/api-keys", name="shown")
    shown = lab.get(f"/v3/api-keys/{key['id']}")["key"]
    assert shown == key["key"][:-32]
    assert [each["id"] for each in lab.get("/v3/api-keys", params={"key__eq": shown})["data"]] == [key["id"]]
    assert lab.get("/v3/api-keys", params={"key__eq": key["key"][:-1]})["data"] == []
    second = made(lab, "/v3/api-keys", name="shown too")
    both = lab.get("/v3/api-keys", params={"key__in": f"{shown},{second['key']}"})["data"]
    assert [each["id"] for each in both] == [key["id"], second["id"]]
    assert [each["id"] for each in lab.get("/v3/api-keys", params={"key__like": shown[4:]})["data"]] == [key["id"]]
    others = lab.get("/v3/api-keys", params={"key__neq": key["key"], "limit": 1000})["data"]
    assert others and key["id"] not in [each["id"] for each in others]


def test_when_a_key_was_used_is_noted_once_a_minute(lab: RestLab, monkeypatch: pytest.MonkeyPatch) -> None:
    key = lab.new_key("noted")
    assert lab.get("/v3/api-keys/me", key=key)["last_login_time"] is not None
    first = lab.get("/v3/api-keys/me", key=key)["last_login_time"]
    now = lab.core.store.now
    monkeypatch.setattr(lab.core.store, "now", lambda: now() + accounts.SEEN_EVERY + 1)
    assert lab.get("/v3/api-keys/me", key=key)["last_login_time"] > first
