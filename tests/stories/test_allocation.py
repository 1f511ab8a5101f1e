"""The seed's "Device failed to register": an account that has as many devices as it may have, seen from every side."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from click.testing import CliRunner

from pdmlab import serve
from pdmlab.cli import main
from pdmlab.service import Service
from pdmlab.sim.board import VirtualBoard

CONNECTED = r"Connected to Pelion Device Management\. Device ID: ([0-9a-f]{32})"


@pytest.fixture
def service() -> Iterator[Service]:
    with serve(name="allocation") as service:
        yield service


@pytest.fixture
def board(service: Service) -> Iterator[VirtualBoard]:
    with VirtualBoard("K64F", id="one-too-many", memory=True, seed=7) as board:
        yield board


@pytest.fixture
def rest(service: Service) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {service.api_key}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=30) as client:
        yield client


def test_a_board_that_is_one_too_many_is_told_so_everywhere_and_comes_in_when_there_is_room(
    service: Service, board: VirtualBoard, rest: httpx.Client
) -> None:
    there = rest.post("/v3/devices", json={"name": "the only one"}).json()["id"]
    assert rest.put("/lab/allocation", json={"devices": 1}).json()["devices_used"] == 1
    board.flash_application("example")

    # The board's console, in the words of the service.
    board.console.expect(
        r"answered 5\.03 Service Unavailable allocation: the account has 1 of 1 devices.*hint: .*room", timeout=30
    )
    # The account's events.
    events = rest.get("/v3/device-events?event_type__eq=update.device.allocation-exceeded").json()["data"]
    assert [each["description"] for each in events] == ["allocation: the account has 1 of 1 devices"]
    # Whoever makes a device by hand.
    refused = rest.post("/v3/devices", json={"name": "another"})
    assert (refused.status_code, refused.json()["type"]) == (403, "account_limit_exceeded")
    assert "allocation: the account has 1 of 1 devices" in refused.json()["message"]
    # The log, and what to do.
    done = CliRunner().invoke(main, ["dm", "log", "--why", "--host", service.url, "-a", service.api_key])
    assert done.exit_code == 0, done.output
    assert "no room for another device" in done.output and "PUT /lab/allocation" in done.output
    # And the account itself.
    limits = rest.get("/v3/accounts/me?include=limits").json()["limits"]
    assert (limits["devices"], limits["devices_used"]) == ("1", "1")

    # Development devices can be deleted, and do not count any more.
    assert rest.delete(f"/v3/devices/{there}").status_code == 204
    board.reset()
    device = board.console.expect(CONNECTED, timeout=30)[1]
    assert rest.get(f"/v3/devices/{device}").json()["state"] == "registered"


def test_an_allocation_is_set_for_any_account_by_who_sees_to_the_service(service: Service, rest: httpx.Client) -> None:
    made = rest.post("/v3/accounts", json={"end_market": "lab", "admin_email": "t@example.com"}).json()
    key = {"Authorization": f"Bearer {made['admin_key']}"}
    assert rest.put("/lab/allocation", json={"devices": 0, "account_id": made["id"]}).json()["devices"] == 0
    assert rest.get("/lab/allocation", headers=key).json() == {
        "account_id": made["id"],
        "devices": 0,
        "devices_used": 0,
    }
    assert rest.post("/v3/devices", json={}, headers=key).json()["type"] == "account_limit_exceeded"
    assert rest.put("/lab/allocation", json={"devices": 5}, headers=key).status_code == 403
    for wrong in ({"devices": -1}, {"devices": 10**9}, {"devices": "many"}, {}):
        assert rest.put("/lab/allocation", json=wrong).status_code == 400
    assert rest.put("/lab/allocation", json={"devices": 5, "account_id": "0" * 32}).status_code == 404
    assert rest.post("/v3/devices", json={}).status_code == 201  # other accounts have their own number
