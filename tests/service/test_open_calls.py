"""A key that is not good any more ends what it has open: polls, websockets and logs that are followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import pdmlab
from pdmlab.service.service import Service
from tests.service.databases import PostgreSQL
from tests.service.restlab import RestLab

PULL = "/v2/notification/pull"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with pdmlab.serve(name="open-calls") as service:
        yield service


class Administrator:
    """Makes keys over REST, and takes what they have away."""

    def __init__(self, service: Service) -> None:
        headers = {"Authorization": f"Bearer {service.api_key}"}
        self.rest = httpx.Client(base_url=service.url, headers=headers, timeout=30)
        self.groups = {each["name"]: each["id"] for each in self.rest.get("/v3/policy-groups").json()["data"]}

    def key(self) -> tuple[str, str]:
        made = self.rest.post("/v3/api-keys", json={"name": "open", "groups": [self.groups["Readers"]]}).json()
        return made["key"], made["id"]

    def revoke(self, id: str) -> httpx.Response:
        return self.rest.delete(f"/v3/api-keys/{id}")

    def stop(self, id: str) -> httpx.Response:
        return self.rest.put(f"/v3/api-keys/{id}", json={"name": "open", "status": "INACTIVE"})

    def reset(self, id: str) -> httpx.Response:
        return self.rest.post(f"/v3/api-keys/{id}/reset-secret")

    def ungroup(self, id: str) -> httpx.Response:
        return self.rest.request("DELETE", f"/v3/api-keys/{id}/groups", json=[self.groups["Readers"]])

    def promote(self, id: str) -> httpx.Response:
        return self.rest.post(f"/v3/api-keys/{id}/groups", json=[self.groups["Administrators"]])


@pytest.fixture(scope="module")
def administrator(service: Service) -> Iterator[Administrator]:
    administrator = Administrator(service)
    yield administrator
    administrator.rest.close()


WAYS = [Administrator.revoke, Administrator.stop, Administrator.reset, Administrator.ungroup]
Way = Callable[[Administrator, str], httpx.Response]


@pytest.mark.parametrize("way", WAYS)
def test_a_websocket_is_closed(service: Service, administrator: Administrator, way: Way) -> None:
    key, id = administrator.key()
    bearer = {"Authorization": f"Bearer {key}"}
    assert httpx.put(f"{service.url}/v2/notification/websocket", headers=bearer).status_code == 201
    uri = service.url.replace("http", "ws") + "/v2/notification/websocket-connect"
    with connect(uri, additional_headers=bearer) as socket:
        assert way(administrator, id).is_success
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    with connect(uri, additional_headers=bearer) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=20)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


@pytest.mark.parametrize("subprotocols", [["wss", "pelion_ak_wrong"], ["wss"], None])
def test_a_websocket_without_a_good_key_is_closed_with_1008(service: Service, subprotocols: list[str] | None) -> None:
    uri = service.url.replace("http", "ws") + "/v2/notification/websocket-connect"
    with connect(uri, subprotocols=subprotocols) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=20)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


@pytest.mark.parametrize("way", WAYS)
def test_a_log_that_is_followed_ends(service: Service, administrator: Administrator, way: Way) -> None:
    made = administrator.rest.post("/v3/devices", json={"mechanism": "connector", "endpoint_name": way.__name__})
    key, id = administrator.key()
    path = f"{service.url}/lab/log/{made.json()['id']}/live"
    with httpx.stream("GET", path, headers={"Authorization": f"Bearer {key}"}, timeout=20) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": the log begins"
        assert way(administrator, id).is_success
        assert "".join(lines) == ""  # and that is the end of it


def test_who_may_more_now_goes_on(service: Service, administrator: Administrator) -> None:
    key, id = administrator.key()
    bearer = {"Authorization": f"Bearer {key}"}
    httpx.put(f"{service.url}/v2/notification/websocket", headers=bearer)
    uri = service.url.replace("http", "ws") + "/v2/notification/websocket-connect"
    with connect(uri, additional_headers=bearer) as socket:
        assert administrator.promote(id).is_success
        assert httpx.get(f"{service.url}/v3/users", headers=bearer).is_success
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0)


def test_what_is_undone_ends_nothing(service: Service, administrator: Administrator) -> None:
    made = administrator.rest.post("/v3/accounts", json={"end_market": "IT"}).json()
    bearer = {"Authorization": f"Bearer {made['admin_key']}"}
    httpx.put(f"{service.url}/v2/notification/websocket", headers=bearer)
    uri = service.url.replace("http", "ws") + "/v2/notification/websocket-connect"
    with connect(uri, additional_headers=bearer) as socket:
        change = {"name": "a", "status": "INACTIVE"}
        assert httpx.put(f"{service.url}/v3/api-keys/me", headers=bearer, json=change).status_code == 403
        assert httpx.get(f"{service.url}/v3/accounts/me", headers=bearer).is_success
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0)


def test_a_poll_ends_that_another_process_holds(postgresql: PostgreSQL) -> None:
    database = postgresql.new()
    here, there = RestLab(database, hold_s=30), RestLab(database, hold_s=30, node="second")
    try:
        key = here.new_key()
        id = here.key_id(key)

        polling = asyncio.run_coroutine_threadsafe(there.acall("GET", PULL, key=key), there.loop.loop)
        there.until(lambda: there.core.channels.kind(id) is not None)
        assert here.call("DELETE", f"/v3/api-keys/{id}").status_code == 204
        ended = polling.result(timeout=20)
        assert ended.status_code in (401, 410), ended.text  # which of them, says who comes first: key or channel
        assert there.call("GET", "/v3/accounts/me", key=key).status_code == 401
    finally:
        here.close()
        there.close()
        postgresql.drop(database)
