"""The vendor's own manifest-tool 2.6.2, unmodified, against a running service."""

from __future__ import annotations

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
        assert cloud.campaigns().count() == cloud.manifests().count() == cloud.firmware_images().count() == 0
