"""ConnectAPI: devices' resources, subscriptions and notifications by the vendor's SDK."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from websockets.sync.client import connect as open_socket
from websockets.typing import Subprotocol

from tests.sdk.lab import SdkLab
from tests.service.restlab import LINKS, Device


@pytest.fixture
def desk(lab: SdkLab, request: pytest.FixtureRequest) -> Device:
    return lab.device(request.node.name[:60])


@pytest.fixture
def key(lab: SdkLab) -> str:
    return lab.new_key()


def test_resources_are_listed_read_written_executed_and_subscribed_to(lab: SdkLab, desk: Device, key: str) -> None:
    said = lab.run(
        """
from mbed_cloud import ConnectAPI

connect, device = ConnectAPI(config), given["device"]
said["connected"] = [each.id for each in connect.list_connected_devices()]
said["resources"] = sorted(each.path for each in connect.list_resources(device))
said["resource"] = connect.get_resource(device, "/3/0/9").to_dict()
said["value"] = connect.get_resource_value(device, "/5000/0/1", timeout=20)
connect.set_resource_value(device, "/5000/0/2", "86405", timeout=20)
connect.execute_resource(device, "/5000/0/3", timeout=20)
values = connect.add_resource_subscription(device, "/3/0/9")
step("subscribed")
said["notified"] = values.get(timeout=20)
said["subscribed"] = connect.get_resource_subscription(device, "/3/0/9")
said["not subscribed"] = connect.get_resource_subscription(device, "/3/0/0")
said["list"] = connect.list_device_subscriptions(device)
connect.delete_resource_subscription(device, "/3/0/9")
said["ended"] = connect.get_resource_subscription(device, "/3/0/9")
said["active"] = connect.has_active_notification_thread
connect.stop_notifications()
""",
        key=key,
        device=desk.id,
        steps={"subscribed": lambda: desk.tell("/3/0/9", b"96")},
    )
    assert desk.id in said["connected"] and said["resources"] == sorted(link[1:-1] for link in paths(LINKS))
    assert (said["resource"]["path"], said["resource"]["observable"]) == ("/3/0/9", True)
    assert said["value"] == "test0" and said["notified"] == "96" and said["active"]
    assert said["subscribed"] is True and said["not subscribed"] is False and said["ended"] is False
    assert said["list"] == ["/3/0/9"]
    assert desk.values["/5000/0/2"] == b"86405" and "POST /5000/0/3" in desk.asked


def paths(links: str) -> list[str]:
    return [each.partition(";")[0] for each in links.split(",")]


def test_the_asynchronous_calls_give_consumers_that_are_done_in_time(lab: SdkLab, desk: Device, key: str) -> None:
    said = lab.run(
        """
from mbed_cloud import ConnectAPI
from mbed_cloud.exceptions import CloudAsyncError

connect, device = ConnectAPI(config), given["device"]
got = connect.get_resource_value_async(device, "/5000/0/1")
said["waited"] = got.wait(20)
said["done"], said["error"], said["value"] = got.is_done, got.error, got.value.decode()
put = connect.set_resource_value_async(device, "/5000/0/2", 12)
said["put"] = put.wait(20)
said["executed"] = connect.execute_resource_async(device, "/5000/0/3").wait(20)
refused = connect.set_resource_value_async(device, "/3/0/0", "x")
try:
    refused.wait(20)
except CloudAsyncError as error:
    said["refused"] = [error.status, error.reason]
connect.stop_notifications()
""",
        key=key,
        device=desk.id,
    )
    assert (said["waited"], said["value"], said["done"], said["error"]) == ("test0", "test0", True, None)
    assert said["put"] is None and said["executed"] is None
    assert desk.values["/5000/0/2"] == b"12"
    assert said["refused"] == [405, "4.05 Method Not Allowed"]


def test_what_is_not_there_comes_as_the_sdks_own_errors(lab: SdkLab, desk: Device, key: str) -> None:
    said = lab.run(
        """
from mbed_cloud import ConnectAPI
from mbed_cloud.exceptions import CloudApiException

connect, device = ConnectAPI(config), given["device"]


def refusal(work, *arguments, **options):
    try:
        return work(*arguments, **options)
    except CloudApiException as error:
        return [error.status, error.reason]


said["no resource"] = refusal(connect.get_resource_value, device, "/9999/0/1", timeout=5)
said["no device"] = refusal(connect.list_resources, "0" * 32)
said["no resource of it"] = refusal(connect.get_resource, device, "/9999/0/1")
said["no subscriptions"] = refusal(connect.list_device_subscriptions, device)
said["no webhook"] = refusal(connect.get_webhook)
said["none to delete"] = refusal(connect.delete_webhook)
connect.stop_notifications()
""",
        key=key,
        device=desk.id,
    )
    assert said["no resource"][0] == 400
    # A 404 is no error to the SDK: it returns None.
    assert said["no device"] is None and said["no subscriptions"] is None and said["no webhook"] is None
    assert said["none to delete"] is None


def test_the_answer_of_a_request_before_the_first_poll_is_not_lost(lab: SdkLab, desk: Device, key: str) -> None:
    said = lab.run(
        """
from mbed_cloud import ConnectAPI

quiet = ConnectAPI(dict(config, autostart_notification_thread=False))
got = quiet.get_resource_value_async(given["device"], "/5000/0/1")
step("asked")
said["early"] = got.is_done
quiet.start_notifications()
said["value"] = got.wait(20)
quiet.stop_notifications()
""",
        key=key,
        device=desk.id,
        steps={"asked": lambda: answered(lab, key)},
    )
    assert said == {"early": False, "value": "test0"}


def answered(lab: SdkLab, key: str) -> None:
    """Wait until an answer waits for a key."""
    core = lab.service.core

    async def wait() -> None:
        found = core.accounts.authenticate(key)
        assert found is not None
        while not core.channels.outbox.count(found.id):
            await asyncio.sleep(0.01)

    lab.service.call(wait)


def test_notifications_go_to_the_callback_function_of_their_own_path(lab: SdkLab, desk: Device, key: str) -> None:
    said = lab.run(
        """
import threading
from mbed_cloud import ConnectAPI

connect, device = ConnectAPI(config), given["device"]
connect.start_notifications()
called, seen = threading.Event(), []


def note(*arguments):
    seen.append(list(arguments))
    if len(seen) == 2:
        called.set()


for path in ("/3/0/9", "/5000/0/1"):
    connect.add_resource_subscription_async(device, path, note)
step("first")
step("second")
called.wait(20)
said["seen"] = sorted(seen)
said["list"] = connect.list_device_subscriptions(device)
connect.delete_device_subscriptions(device)
said["none"] = connect.list_device_subscriptions(device)
connect.stop_notifications()
""",
        key=key,
        device=desk.id,
        steps={"first": lambda: desk.tell("/3/0/9", b"95"), "second": lambda: desk.tell("/5000/0/1", b"other")},
    )
    assert said["seen"] == [[desk.id, "/3/0/9", "95"], [desk.id, "/5000/0/1", "other"]]
    assert said["list"] == ["/3/0/9", "/5000/0/1"] and said["none"] is None


def test_presubscriptions_are_set_listed_and_deleted(lab: SdkLab, desk: Device, key: str) -> None:
    said = lab.run(
        """
from mbed_cloud import ConnectAPI

connect, device = ConnectAPI(config), given["device"]
connect.update_presubscriptions([
    {"device_id": device, "resource_paths": ["/3/0/9"]},
    {"device_type": "Light", "resource_paths": ["/3311/*"]},
    {"device_id": "nobody*"},
])
said["set"] = [each.to_dict() for each in connect.list_presubscriptions()]
said["paths"] = connect.list_device_subscriptions(device)
connect.update_presubscriptions(connect.list_presubscriptions())
said["again"] = [each.to_dict() for each in connect.list_presubscriptions()]
connect.delete_presubscriptions()
said["deleted"] = connect.list_presubscriptions()
said["no paths"] = connect.list_device_subscriptions(device)
""",
        key=key,
        device=desk.id,
    )
    assert [each["device_id"] for each in said["set"]] == [desk.id, None, "nobody*"]
    assert [each["resource_paths"] for each in said["set"]] == [["/3/0/9"], ["/3311/*"], None]
    assert said["again"] == said["set"] and said["paths"] == ["/3/0/9"]
    assert said["deleted"] == [] and said["no paths"] is None


def test_all_subscriptions_are_deleted_device_by_device(lab: SdkLab, desk: Device, key: str) -> None:
    other = lab.device("delete-all-2")
    said = lab.run(
        """
from mbed_cloud import ConnectAPI

connect = ConnectAPI(config)
for device in given["devices"]:
    connect.add_resource_subscription(device, "/3/0/9", queue_size=0)
said["before"] = [connect.list_device_subscriptions(device) for device in given["devices"]]
connect.delete_subscriptions()
said["after"] = [connect.list_device_subscriptions(device) for device in given["devices"]]
""",
        key=key,
        devices=[desk.id, other.id],
    )
    assert said == {"before": [["/3/0/9"]] * 2, "after": [None] * 2}


# -- channels of `subscribe` -------------------------------------------------------------------------------------


def test_resource_values_are_heard_of_all_that_fits(lab: SdkLab, desk: Device, key: str) -> None:
    said = lab.run(
        """
from mbed_cloud import ConnectAPI

connect, device = ConnectAPI(config), given["device"]
channel = connect.subscribe.channels.ResourceValues(device_id=device, resource_path=["/3/0/9", "/5000/0/1"])
observer = connect.subscribe(channel)
step("subscribed")
heard = {}
while len(heard) < 2 or heard.get("/3/0/9") != b"42":
    data = observer.next().block(20)
    heard[data["resource_path"]] = data["payload"]
said["heard"] = {path: value.decode() for path, value in heard.items()}
said["patterns"] = [each.to_dict() for each in connect.list_presubscriptions()]
said["paths"] = connect.list_device_subscriptions(device)
channel.stop()
said["stopped"] = [connect.list_presubscriptions(), connect.list_device_subscriptions(device)]
connect.stop_notifications()
""",
        key=key,
        device=desk.id,
        steps={"subscribed": lambda: desk.tell("/5000/0/1", b"new") or desk.tell("/3/0/9", b"42")},
    )
    assert said["heard"]["/3/0/9"] == "42" and said["heard"]["/5000/0/1"] in ("new", "test0")
    assert [each["device_id"] for each in said["patterns"]] == [desk.id]
    assert said["paths"] == ["/3/0/9", "/5000/0/1"] and said["stopped"] == [[], None]


def test_resource_values_with_wildcards_reach_devices_that_come_later(lab: SdkLab, key: str) -> None:
    late: list[Device] = []

    def come() -> str:
        late.append(lab.device("comes-later"))
        return late[0].id

    said = lab.run(
        """
from mbed_cloud import ConnectAPI
from mbed_cloud.subscribe.channels.channel import FirstValue

connect = ConnectAPI(config)
wanted = connect.subscribe.channels.ResourceValues(
    resource_path="/5000/0/1", first_value=FirstValue.on_registration
)
observer = connect.subscribe(wanted)
device = step("listening")
data = observer.next().block(20)
while data["device_id"] != device:
    data = observer.next().block(20)
said["heard"] = [data["resource_path"], data["payload"].decode()]
wanted.stop()
connect.stop_notifications()
""",
        key=key,
        steps={"listening": come},
    )
    assert said["heard"] == ["/5000/0/1", "test0"]


def test_device_state_changes_are_heard_with_their_resources(lab: SdkLab, key: str) -> None:
    device: list[Device] = []

    def come() -> str:
        device.append(lab.device("state-changes"))
        return device[0].id

    said = lab.run(
        """
from mbed_cloud import ConnectAPI

connect = ConnectAPI(config)
observer = connect.subscribe(connect.subscribe.channels.DeviceStateChanges())
step("listening")
device = step("register")


def heard():
    while True:
        data = observer.next().block(20)
        if data["device_id"] == device:
            return data


said["registered"] = heard()
step("update")
said["updated"] = heard()
step("deregister")
said["deregistered"] = heard()
connect.stop_notifications()
""",
        key=key,
        steps={
            "listening": lambda: until_polled(lab, key),
            "register": come,
            "update": lambda: device[0].update(),
            "deregister": lambda: device[0].deregister(),
        },
    )
    assert (said["registered"]["channel"], said["registered"]["alias"]) == ("registrations", "state-changes")
    resources = {each["path"]: each["observable"] for each in said["registered"]["resources"]}
    assert resources["/3/0/9"] is True and resources["/3/0/0"] is False
    # Without `resources` in an update the SDK would lose the event.
    assert said["updated"]["channel"] == "reg_updates" and len(said["updated"]["resources"]) == len(resources)
    assert said["deregistered"] == {"device_id": device[0].id, "channel": "de_registrations"}


def until_polled(lab: SdkLab, key: str) -> None:
    """Wait until a key has its channel."""
    core = lab.service.core

    async def wait() -> None:
        found = core.accounts.authenticate(key)
        assert found is not None
        while core.channels.kind(found.id) is None:
            await asyncio.sleep(0.01)

    lab.service.call(wait)


def test_the_current_value_is_heard_once(lab: SdkLab, desk: Device, key: str) -> None:
    said = lab.run(
        """
from mbed_cloud import ConnectAPI

connect = ConnectAPI(config)
wanted = connect.subscribe.channels.CurrentResourceValue(given["device"], "/5000/0/1")
said["value"] = connect.subscribe(wanted).next().block(20).decode()
connect.stop_notifications()
""",
        key=key,
        device=desk.id,
    )
    assert said == {"value": "test0"}


# -- traps -------------------------------------------------------------------------------------------------------


def test_bytes_that_would_kill_the_sdks_thread_come_as_text(lab: SdkLab, key: str) -> None:
    class Tlv(Device):
        async def _answer(self, message: Any, peer: object) -> Any:
            answer = await super()._answer(message, peer)
            if answer is not None and message.opt.uri_path == ("3", "0", "9"):
                # 0xFF in TLV: the SDK's decoder would raise, and its thread be gone for good.
                answer.payload, answer.opt.content_format = b"\xc2\x09\x00\xff", 11542
            return answer

    desk = lab.device("tlv", kind=Tlv)
    said = lab.run(
        """
from mbed_cloud import ConnectAPI

connect, device = ConnectAPI(config), given["device"]
said["value"] = connect.get_resource_value(device, "/3/0/9", timeout=20)
said["alive"] = connect.get_resource_value(device, "/5000/0/1", timeout=20)
connect.stop_notifications()
""",
        key=key,
        device=desk.id,
    )
    assert said == {"value": "255", "alive": "test0"}


def test_a_poll_that_is_stopped_ends_at_once(lab: SdkLab, key: str) -> None:
    said = lab.run(
        """
import time
from mbed_cloud import ConnectAPI

connect = ConnectAPI(config)
connect.start_notifications()
step("polling")
begun = time.monotonic()
connect.stop_notifications()
said["took"] = time.monotonic() - begun
""",
        key=key,
        steps={"polling": lambda: until_polled(lab, key)},
    )
    assert said["took"] < 20  # a poll is held for 25 s


# -- webhooks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


class Hook:
    """A web server for callbacks: what it got is in `got`."""

    def __init__(self) -> None:
        self.got: queue.Queue[tuple[dict[str, str], str]] = queue.Queue()
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                got.put(({name.lower(): value for name, value in self.headers.items()}, body.decode()))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_a_webhook_is_set_over_a_poll_and_what_it_gets_is_understood(
    lab: SdkLab, desk: Device, key: str, hook: Hook
) -> None:
    def received() -> str:
        return hook.got.get(timeout=20)[1]

    said = lab.run(
        """
from mbed_cloud import ConnectAPI

connect, device = ConnectAPI(dict(config, autostart_notification_thread=False)), given["device"]
connect.start_notifications()
step("polling")
connect.stop_notifications()
connect.update_webhook(given["url"], {"X-Token": "from the SDK"})
said["webhook"] = connect.get_webhook().to_dict()
step("tried")
got = connect.get_resource_value_async(device, "/5000/0/1")
connect.notify_webhook_received(step("received"))
said["value"] = got.wait(20)
values = connect.add_resource_subscription(device, "/3/0/9")
connect.notify_webhook_received(step("received"))
connect.notify_webhook_received(step("notified"))
said["notified"] = values.get(timeout=20)
connect.update_webhook(given["url"])
said["again"] = connect.get_webhook().to_dict()
connect.delete_webhook()
said["deleted"] = connect.get_webhook()
""",
        key=key,
        device=desk.id,
        url=hook.url,
        steps={
            "polling": lambda: until_polled(lab, key),
            "tried": lambda: trial(hook),
            "received": received,
            "notified": lambda: desk.tell("/3/0/9", b"94") or received(),
        },
    )
    assert said["webhook"] == {"url": hook.url, "headers": {"X-Token": "from the SDK"}}
    assert (said["value"], said["notified"]) == ("test0", "94")
    assert said["again"] == {"url": hook.url, "headers": {}} and said["deleted"] is None


def trial(hook: Hook) -> None:
    headers, body = hook.got.get(timeout=20)
    assert (headers["x-token"], body) == ("from the SDK", "")


def test_a_webhook_that_may_not_be_called_is_the_sdks_error(lab: SdkLab, key: str) -> None:
    said = lab.run(
        """
from mbed_cloud import ConnectAPI
from mbed_cloud.exceptions import CloudApiException

try:
    ConnectAPI(config).update_webhook("http://192.0.2.1/")
except CloudApiException as error:
    said["refused"] = [error.status, str(error)]
""",
        key=key,
    )
    assert said["refused"][0] == 400 and "CALLBACK_URL_NOT_ALLOWED" in said["refused"][1]


# -- a test bench's websocket --------------------------------------------------------------------------------------


def test_a_bench_with_a_websocket_finds_what_it_looks_into(lab: SdkLab, desk: Device, key: str) -> None:
    """A test bench of the vendor's: the key is in the subprotocol, events are looked into by fixed keys."""
    headers = {"Authorization": f"Bearer {key}"}
    kinds = {"registrations", "reg-updates", "de-registrations", "registrations-expired", "notifications"}
    made = lab.rest.put("/v2/notification/websocket", headers=headers, json={"serialization": {"type": "v2"}})
    assert made.status_code in (200, 201)
    url = f"{lab.service.url.replace('http', 'ws', 1)}/v2/notification/websocket-connect"
    protocols = [Subprotocol("wss"), Subprotocol(f"pelion_{key}")]
    with open_socket(url, subprotocols=protocols, proxy=None) as socket:
        events: dict[str, list[Any]] = {kind: [] for kind in (*kinds, "async-responses")}

        def heard(kind: str, matches: Any) -> dict[str, Any]:
            while True:
                for event in events[kind]:
                    if matches(event):
                        return dict(event)
                for name, found in json.loads(socket.recv(timeout=20)).items():
                    events[name] += found  # an unknown name would end the bench's thread

        asking = f"/v2/device-requests/{desk.id}?async-id"
        for id, body in (
            ("get", {"method": "GET", "uri": "/5000/0/1"}),
            ("put", {"method": "PUT", "uri": "/5000/0/2", "content-type": "text/plain", "payload-b64": "MTI="}),
            ("post", {"method": "POST", "uri": "/5000/0/3"}),
        ):
            assert lab.rest.post(f"{asking}={id}", headers=headers, json=body).status_code == 202
            answer = heard("async-responses", lambda event, id=id: event["id"] == id)
            assert answer["status"] == 200 and "payload" in answer
        missing = lab.rest.post(f"{asking}=x", headers=headers, json={"method": "GET", "uri": "/9999/0/1"})
        assert (missing.status_code, missing.text) == (400, "RESOURCE_NOT_FOUND")
        subscribed = lab.rest.put(f"/v2/subscriptions/{desk.id}/3/0/9", headers=headers)
        assert heard("async-responses", lambda event: event["id"] == subscribed.json()["async-response-id"])
        desk.tell("/3/0/9", b"93")
        note = heard("notifications", lambda event: event["path"] == "/3/0/9")
        assert (note["ep"], note["payload"]) == (desk.id, "OTM=")
        desk.deregister()
        while desk.id not in events["de-registrations"]:
            for name, found in json.loads(socket.recv(timeout=20)).items():
                events[name] += found
