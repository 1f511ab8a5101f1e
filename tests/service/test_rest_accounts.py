"""Whose call it is: API keys that are shown once, kept as hashes, and can be revoked."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pdmlab.service.engine import read_url
from tests.service.restlab import RestLab


@pytest.fixture(scope="module")
def lab(shared_database: str) -> Iterator[RestLab]:
    lab = RestLab(shared_database, hold_s=0.05)
    yield lab
    lab.close()


def test_the_account_is_the_keys_own(lab: RestLab) -> None:
    account = lab.get("/v3/accounts/me?include=limits%2C+policies")
    assert re.fullmatch("[0-9a-f]{32}", account["id"]) and account["object"] == "account"
    assert {"status", "tier", "end_market", "etag", "limits", "policies"} <= account.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", account["created_at"])


def test_an_account_says_of_itself_what_it_was_told(lab: RestLab) -> None:
    changed = lab.call("PUT", "/v3/accounts/me", json={"display_name": "Desk", "city": "Cambridge", "id": "0"}).json()
    assert (changed["display_name"], changed["city"]) == ("Desk", "Cambridge")
    assert changed["id"] == lab.get("/v3/accounts/me")["id"] != "0"


def test_a_key_is_shown_once(lab: RestLab) -> None:
    made = lab.call("POST", "/v3/api-keys", json={"name": "student"})
    assert made.status_code == 201
    key = made.json()["key"]
    assert re.fullmatch(r"ak_[A-Za-z0-9_-]{40,}", key)
    for shown in (lab.get(f"/v3/api-keys/{made.json()['id']}"), lab.get("/v3/api-keys/me", key=key)):
        assert shown["id"] == made.json()["id"] and key not in str(shown)
    assert key not in str(lab.get("/v3/api-keys"))
    assert isinstance(made.json()["creation_time"], int)


def test_no_key_is_in_the_database(lab: RestLab) -> None:
    key = lab.new_key()
    engine = sa.create_engine(read_url(lab.database))
    with engine.connect() as db:
        tables = sa.inspect(db).get_table_names()
        dump = "\n".join(str(db.execute(sa.select(sa.text("*")).select_from(sa.text(each))).all()) for each in tables)
    engine.dispose()
    assert key not in dump and lab.key not in dump and key.removeprefix("ak_") not in dump


def test_a_revoked_key_opens_nothing_and_an_inactive_one_neither(lab: RestLab) -> None:
    key = lab.new_key("short-lived")
    path = f"/v3/api-keys/{lab.key_id(key)}"
    assert lab.call("PUT", path, json={"name": "short-lived", "status": "INACTIVE"}).json()["status"] == "INACTIVE"
    assert lab.call("GET", "/v3/accounts/me", key=key).status_code == 401
    assert lab.call("PUT", path, json={"name": "again", "status": "ACTIVE"}).status_code == 200
    assert lab.call("GET", "/v3/accounts/me", key=key).status_code == 200
    assert lab.call("DELETE", path).status_code == 204
    assert lab.call("GET", "/v3/accounts/me", key=key).status_code == 401
    assert lab.call("GET", path).status_code == 404


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Bearer ak_wrong", "Basic ak_wrong", "ak_wrong"])
@pytest.mark.parametrize(
    "path", ["/v3/devices", "/v2/endpoints", "/lab/log", "/v3/nothing/here", "/v2", "/v3/api-keys/me"]
)
def test_nothing_is_told_without_a_key(lab: RestLab, path: str, authorization: str) -> None:
    answer = lab.run(lab.client.get(path, headers={"Authorization": authorization} if authorization else {}))
    assert answer.status_code == 401
    if not path.startswith("/v2"):
        assert answer.json()["type"] == "invalid_apikey" and answer.json()["code"] == 401


def test_a_body_is_not_read_for_somebody_without_a_key(lab: RestLab) -> None:
    read = []

    async def body():
        read.append(True)
        yield b"x" * 1000

    answer = lab.run(lab.client.post("/v3/firmware-images/", content=body()))
    assert answer.status_code == 401 and not read


def test_keys_are_found_by_what_they_are(lab: RestLab) -> None:
    key = lab.new_key("findable")
    (found,) = lab.get("/v3/api-keys", params={"key__eq": key})["data"]
    assert found["name"] == "findable"
    assert lab.get("/v3/api-keys?key__eq=ak_nobodys")["data"] == []
    assert lab.get("/v3/api-keys?name__eq=findable&status__eq=ACTIVE")["total_count"] == 1


def test_an_administrators_key_is_kept_while_it_is_good(lab: RestLab) -> None:
    async def administrator(kept: str | None) -> str:
        return lab.core.accounts.administrator(kept)

    assert lab.run(administrator(lab.key)) == lab.key
    assert lab.run(administrator("ak_lost")) != lab.key


def test_an_account_has_so_many_developer_certificates_and_no_more(
    lab: RestLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdmlab.service.developers.MAX_CERTIFICATES", 2)
    path = "/v3/developer-certificates"
    answers = [lab.call("POST", path, json={"name": f"board {n}"}) for n in range(3)]
    assert [each.status_code for each in answers] == [201, 201, 403]
    assert answers[-1].json()["type"] == "account_limit_exceeded"


def test_developer_credentials_name_this_services_bootstrap_server(lab: RestLab) -> None:
    from pdmlab.update.credentials import Credentials

    made = lab.call("POST", "/v3/developer-certificates", json={"name": "thermostat", "description": "desk"})
    assert made.status_code == 201
    content = made.json()["security_file_content"]
    account = lab.get("/v3/accounts/me")["id"]
    # What the stock host test looks for in the file.
    assert re.search(rf'^const char MBED_CLOUD_DEV_ACCOUNT_ID\[\] = "{account}";$', content, re.M)
    credentials = Credentials.from_c(content)
    assert credentials.bootstrap_server_uri == lab.core.bootstrap_uri
    assert lab.get(f"/v3/developer-certificates/{made.json()['id']}") == made.json()
    again = lab.call("POST", "/v3/developer-certificates", json={"name": "thermostat"})
    assert (again.status_code, again.json()["type"]) == (409, "duplicate")
    assert lab.call("GET", "/v3/developer-certificates/nothing").status_code == 404
