"""The vendor's own SDK 2.2.0 and manifest-tool 2.6.2, unmodified, against a running service."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.aio import LoopThread
from pdmlab.cloud import Cloud
from pdmlab.service import serve
from pdmlab.service.service import Service
from pdmlab.update.developer import CONFIG_FILE
from pdmlab.update.manifest import SignedManifest
from tests.service.restlab import LINKS, Device
from tests.tools import environment

SCRIPT = """
import json, sys
from mbed_cloud import AccountManagementAPI, ConnectAPI, DeviceDirectoryAPI, UpdateAPI

host, key, device, image = sys.argv[1:]
config = {"api_key": key, "host": host}
said = {}
connect = ConnectAPI(config)
said["connected"] = [each.id for each in connect.list_connected_devices()]
said["resources"] = sorted(each.path for each in connect.list_resources(device))
said["value"] = connect.get_resource_value(device, "/5000/0/1", timeout=20)
connect.set_resource_value(device, "/5000/0/2", "86405", timeout=20)
connect.execute_resource(device, "/5000/0/3", timeout=20)
values = connect.add_resource_subscription(device, "/3/0/9")
print("subscribed", flush=True)
said["notified"] = str(values.get(timeout=20))
connect.delete_resource_subscription(device, "/3/0/9")
connect.stop_notifications()
directory = DeviceDirectoryAPI(config)
said["renamed"] = directory.update_device(device, name="by the SDK").name
found = directory.list_devices(filters={"state": {"$eq": "registered"}, "name": {"$neq": "x"}}, include="total_count")
said["found"] = [each.id for each in found]
said["count"] = len(directory.list_devices())
said["events"] = [each.event_type for each in directory.list_device_events(filters={"device_id": {"$eq": device}})]
accounts = AccountManagementAPI(config)
said["account"] = accounts.get_account().id
made = accounts.add_api_key(name="from the SDK")
said["keys"] = made.id in [each.id for each in accounts.list_api_keys()]
accounts.delete_api_key(made.id)
update = UpdateAPI(config)
uploaded = update.add_firmware_image("sdk image", image)
said["image"] = uploaded.url
said["images"] = [each.id for each in update.list_firmware_images()]
update.delete_firmware_image(uploaded.id)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serve(name="stock-tools") as running:
        yield running


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    with LoopThread("devices") as loop:
        yield loop


class Updatable(Device):
    """Takes a manifest, says what it does, fetches the image, and comes back with the new version."""

    links = LINKS + ',</10252/0/1>,</10252/0/2>;aobs="1",</10252/0/3>;aobs="2",</14/0/2>;v="%s"'

    def come(self, version: str) -> None:
        self.values["/14/0/2"] = version.encode()
        self.register(self.links % version)

    async def _answer(self, message: Message, peer: object) -> Message | None:
        if message.opt.uri_path != ("10252", "0", "1") or message.code != codes.POST:
            return await super()._answer(message, peer)
        self.manifest = message.payload
        self.endpoint._loop.create_task(self._update())
        return Message(code=codes.CHANGED)

    async def _update(self) -> None:
        manifest = SignedManifest.parse(self.manifest).manifest
        for number, state in enumerate((3, 4, 6, 7, 8)):
            note = Message(code=codes.CONTENT, payload=b"%d" % state, observe=number + 2, content_format=0)
            self.endpoint.notify(self.server, note, b"\x00\x01")
            if state == 4:
                get = Message(code=codes.GET)
                get.opt.uri_path, get.opt.proxy_uri = ("fw",), manifest.uri
                self.image = (await self.endpoint.request(get, self.server)).payload
        self.values["/14/0/2"] = manifest.version.encode()
        again = Message(code=codes.POST, payload=(self.links % manifest.version).encode(), content_format=40)
        again.opt.uri_path = ("rd",)
        again.opt.uri_query = (f"ep={self.name}", "lt=3600", "lwm2m=1.0", "b=U")
        await self.endpoint.request(again, self.server)


@pytest.fixture
def desk(service: Service, loop: LoopThread, request: pytest.FixtureRequest) -> Iterator[Updatable]:
    device = Updatable(lambda work: loop.run(work, timeout=30), service.core.lwm2m.address, request.node.name[:60])
    device.come("1.0.0")
    yield device
    device.close()


def test_the_vendors_sdk_reads_writes_observes_lists_and_uploads(
    service: Service, desk: Updatable, tmp_path: Path
) -> None:
    python = environment("mbed-cloud-sdk-2.2.0", "mbed-cloud-sdk==2.2.0")
    image = tmp_path / "image.bin"
    image.write_bytes(b"image" * 100)
    with Cloud(service.url, service.api_key) as cloud:
        key = cloud.create_api_key("for the SDK")
    command = [python, "-W", "ignore", "-c", SCRIPT, service.url, key, desk.id, str(image)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sdk:
        assert sdk.stdout is not None
        if sdk.stdout.readline() == "subscribed\n":
            desk.tell("/3/0/9", b"96")
        out, errors = sdk.communicate(timeout=100)
    assert sdk.returncode == 0, errors[-3000:]
    said = json.loads(out.splitlines()[-1])
    assert "96" in said["notified"]
    assert said["value"] == "test0"
    assert desk.values["/5000/0/2"] == b"86405" and "POST /5000/0/3" in desk.asked
    assert desk.id in said["connected"] and desk.id in said["found"] and said["count"] >= 1
    assert {"/3/0/9", "/5000/0/1"} <= set(said["resources"])
    assert said["renamed"] == "by the SDK" and "update.device.device-registered" in said["events"]
    assert said["account"] == service.account_id and said["keys"]
    assert said["image"].startswith(service.url) and said["images"]


@pytest.mark.slow
def test_the_vendors_manifest_tool_updates_a_device(service: Service, desk: Updatable, tmp_path: Path) -> None:
    python = environment("manifest-tool-2.6.2", "manifest-tool==2.6.2", python="3.11")

    def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-W", "ignore", "-m", "manifesttool.dev_tool.dev_tool", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)

    made = tool("init", "-a", service.api_key, "-u", service.url)
    assert made.returncode == 0, made.stderr
    (tmp_path / "fw.bin").write_bytes(b"firmware" * 500)
    # The tool's campaigns are for its own vendor and class only.
    ids = dict(line.split(": ") for line in (tmp_path / CONFIG_FILE).read_text().splitlines() if "-id" in line)
    vendor, model = (ids[name].strip("' ") for name in ("vendor-id", "class-id"))
    service.call(service.core.directory.change, desk.id, vendor_id=vendor, device_class=model)
    done = tool("update", "-p", "fw.bin", "-v", "1.0.1", "-i", desk.id, "-w", "-t", "60")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert desk.image == b"firmware" * 500
    # It cleaned up behind itself.
    with Cloud(service.url, service.api_key) as cloud:
        assert cloud.campaigns().empty and cloud.manifests().empty and cloud.firmware_images().empty
