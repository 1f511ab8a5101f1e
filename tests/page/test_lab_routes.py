"""What the page asks beside the vendor's calls: devices as a table, values, a log that is followed, addresses."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.service.restlab import RestLab


@pytest.fixture
def lab(tmp_path):
    lab = RestLab(tmp_path / "lab.sqlite")
    yield lab
    lab.close()


@pytest.fixture
def stranger(lab):
    """A key of another account."""

    async def make() -> str:
        accounts = lab.core.accounts
        with lab.core.store.begin() as db:
            at, id = lab.core.store.timestamp(), lab.core.store.ids.new()
            from pdmlab.service.schema import accounts as table

            db.execute(table.insert().values(id=id, display_name="other", created_at=at, updated_at=at))
        key: str = accounts.create_key(id, "stranger")[1]
        return key

    return lab.run(make())


def test_devices_are_found_by_part_of_a_name_sorted_and_counted(lab):
    for name in ("desk-b", "desk-a", "bench_1"):
        lab.device(name)
    lab.devices[0].deregister()
    found = lab.get("/lab/devices?search=DESK&sort=endpoint_name")
    assert [row["endpoint_name"] for row in found["data"]] == ["desk-a", "desk-b"]
    assert found["states"] == {"registered": 1, "deregistered": 1} and found["total"] == 2
    there, gone = found["data"]
    assert (there["lifetime"], there["queue_mode"], there["security"]) == (3600, False, "none")
    assert 3590 <= there["expires_in"] <= 3600 and there["address"].startswith("127.0.0.1:")
    assert gone["lifetime"] is None and gone["queue_mode"] is None and gone["security"] is None
    assert [row["endpoint_name"] for row in lab.get("/lab/devices?search=h_1")["data"]] == ["bench_1"]  # no wildcard
    assert lab.get("/lab/devices?search=%25")["data"] == []
    assert len(lab.get("/lab/devices?limit=1&offset=2")["data"]) == 1
    assert lab.get("/lab/devices?state=deregistered")["total"] == 1


def test_a_device_says_why_it_cannot_be_asked(lab):
    device = lab.device("desk1")
    assert lab.get(f"/lab/devices/{device.id}")["obstacle"] is None
    device.deregister()
    assert "not registered" in lab.get(f"/lab/devices/{device.id}")["obstacle"]


def test_values_come_with_their_type_and_observation(lab):
    device = lab.device("desk1")
    lab.open_channel(lab.key)
    assert lab.call("PUT", f"/v2/subscriptions/{device.id}/3/0/9").status_code in (200, 202)
    lab.until(lambda: lab.core.resources.value(device.id, "/3/0/9"))
    rows = {row["path"]: row for row in lab.get(f"/lab/devices/{device.id}/values")}
    assert rows["/3/0/0"]["payload"] is None and rows["/3/0/0"]["observation"] is None
    assert (rows["/3/0/9"]["payload"], rows["/3/0/9"]["ct"]) == ("OTc=", "text/plain")
    assert rows["/3/0/9"]["observation"] == "active" and rows["/3/0/9"]["observable"]


def test_a_log_is_followed_from_its_past_into_what_passes(lab):
    device = lab.device("desk1")

    async def follow() -> list[dict]:
        rows, answer = [], None
        path = f"/lab/log/{device.id}/live"
        scope_events: asyncio.Queue = asyncio.Queue()
        gone = asyncio.Event()

        async def send(message):
            if message["type"] == "http.response.body":
                await scope_events.put(message.get("body", b""))

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        headers = [(b"authorization", f"Bearer {lab.key}".encode())]
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path,
                 "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": b"", "headers": headers,
                 "client": ("127.0.0.1", 1), "server": ("lab", 80)}  # fmt: skip
        task = asyncio.create_task(lab.app(scope, receive, send))
        seen = b""
        while b'"code":"2.01' not in seen:
            seen += await scope_events.get()
        assert lab.core.live.full is False
        answer = await lab.acall(
            "POST", f"/v2/device-requests/{device.id}?async-id=a", json={"method": "GET", "uri": "/3/0/0"}
        )
        assert answer.status_code == 202
        while b'"path":"/3/0/0"' not in seen or b"pdmlab" not in seen.partition(b'"path":"/3/0/0"')[2]:
            seen += await scope_events.get()
        lab.core.live.close()  # as the service does when it stops: the stream ends by itself
        await asyncio.wait_for(task, 60)
        gone.set()
        for line in seen.decode().splitlines():
            if line.startswith("data: "):
                rows.append(json.loads(line[6:]))
        return rows

    rows = lab.run(follow())
    numbers = [row["number"] for row in rows]
    assert numbers == sorted(set(numbers))
    assert {row["device"] for row in rows} == {device.id}
    assert [row["code"] for row in rows][:2] == ["POST", "2.01 Created"]


def test_a_capture_is_pcapng(lab):
    device = lab.device("desk1")
    answer = lab.call("GET", f"/lab/log/{device.id}/capture")
    assert answer.status_code == 200 and answer.content[:4] == b"\x0a\x0d\x0d\x0a"
    assert answer.headers["content-disposition"] == f'attachment; filename="{device.id}.pcapng"'


def test_the_service_says_where_it_is(lab):
    found = lab.get("/lab/service")
    assert found["plain_lwm2m"].startswith("coap://127.0.0.1:") and found["lwm2m"] is None
    assert found["ca_certificate"].startswith("-----BEGIN CERTIFICATE-----")


def test_another_account_sees_nothing_of_it(lab, stranger):
    device = lab.device("desk1")
    nobody = "0" * 32
    assert lab.get("/lab/devices", key=stranger) == {"data": [], "total": 0, "states": {}}
    for path in ("/lab/devices/{}", "/lab/devices/{}/values", "/lab/log/{}/live", "/lab/log/{}/capture"):
        theirs, none = (lab.call("GET", path.format(id), key=stranger) for id in (device.id, nobody))
        assert theirs.status_code == none.status_code == 404, path
        assert theirs.json()["message"].replace(device.id, nobody) == none.json()["message"]
        assert lab.call("GET", path.format(device.id), key="ak_no").status_code == 401
