"""Firmware update over the LwM2M connection, from the manifest to the reboot that installs it."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiocoap.numbers import codes
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.client import SimpleMbedCloudClient, UpdateRequest, prefetching
from pdmlab.network.fileserver import serve_files
from pdmlab.update.credentials import UpdateResources
from pdmlab.update.developer import update_certificate
from pdmlab.update.manifest import Manifest
from pdmlab.update.version import Version
from tests.client.bench import Bench, Cloud, updatable

KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
VENDOR, CLASS = b"v" * 16, b"c" * 16
IMAGE = random.Random(3).randbytes(20_003)
BLOCKS = -(-len(IMAGE) // 512)
URI = "http://127.0.0.1/firmware/1"
STATE, RESULT = "/10252/0/2", "/10252/0/3"


@pytest.fixture(scope="module")
def resources() -> UpdateResources:
    import datetime

    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return UpdateResources(VENDOR, CLASS, update_certificate(KEY, "company.com", now))


def order(
    version: str = "1.0.1", *, key: Any = KEY, vendor: bytes = VENDOR, image: bytes = IMAGE, uri: str = URI
) -> bytes:
    return Manifest.for_image(image, version=version, uri=uri, vendor_id=vendor, class_id=CLASS).sign(key)


class Desk:
    """A registered device of version 1.0.0, and a server that has a firmware for it."""

    def __init__(self, resources: UpdateResources | None) -> None:
        self.bench = Bench()
        if resources is not None:
            updatable(self.bench, resources)
        self.asked: list[UpdateRequest] = []
        self.progress: list[tuple[int, int]] = []
        self.errors: list[tuple[int, str]] = []
        self.answer: object = None

    def prepare(self, client: SimpleMbedCloudClient) -> None:
        client.on_update_authorized(self.authorize)
        client.on_update_progress(lambda done, total: self.progress.append((done, total)))
        client.on_error(lambda code, text: self.errors.append((code, text)))

    def authorize(self, request: UpdateRequest) -> object:
        self.asked.append(request)
        self.bench.clock.sleep(1_000_000_000)  # a person thinks about it
        return self.answer

    def play(self, story: Callable[[Cloud, SimpleMbedCloudClient], Awaitable[None]]) -> None:
        async def connected() -> None:
            cloud = await Cloud(self.bench, firmware={URI: IMAGE}).open()
            client = await self.bench.connect(self.prepare)
            await cloud.registered.wait()
            await asyncio.sleep(1)
            await story(cloud, client)

        self.bench.play(connected)


@pytest.fixture
def desk(resources: UpdateResources) -> Desk:
    return Desk(resources)


def told(cloud: Cloud, path: str) -> list[int]:
    return [int(payload) for where, _, payload in cloud.notified if where == path]


def test_an_update_goes_through_the_stock_states_and_reboots(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert cloud.links["/14/0/2"].v == "1.0.0" and cloud.links["/10255/0/3"].v is not None
        response = await cloud.ask(codes.POST, "/10252/0/1", order())
        assert response.code == codes.CHANGED
        await desk.bench.restarted.wait()
        assert told(cloud, STATE) == [3, 4, 6, 7, 8] and told(cloud, RESULT) == []
        assert desk.asked == [UpdateRequest.Download, UpdateRequest.Install]
        assert desk.progress[-1] == (len(IMAGE), len(IMAGE))
        assert desk.progress == sorted(desk.progress)
        assert [what for what in cloud.heard if what.startswith("fw")] == [f"fw {n}" for n in range(BLOCKS)]
        candidate = desk.bench.candidate.read()
        assert candidate is not None and candidate.header.version == Version(1, 0, 1)
        asking = [row for row in cloud.log if row.path == "/fw" and row.direction == "in"]
        assert len({row.token for row in asking}) == BLOCKS, "a new token each block"
        assert re.sub(r" \([^)]*\)", "", asking[1].options) == (
            f"Content-Format 0, Max-Age 0, Block2 1/0/512, Proxy-Uri {URI}"
        )
        # As the bootloader leaves it:
        desk.bench.run_version("1.0.1", hashlib.sha256(IMAGE).digest())
        again = await desk.bench.connect()
        await cloud.hears("POST rd", 2)
        await asyncio.sleep(60)
        assert cloud.links["/14/0/2"].v == "1.0.1" and cloud.links[STATE].v == "1" and cloud.links[RESULT].v == "-1"
        assert again.device_id == client.device_id and cloud.heard.count("POST bs") == 1
        assert told(cloud, STATE) == [3, 4, 6, 7, 8]

    desk.play(story)


def test_the_manifest_is_acknowledged_and_answered_before_it_is_looked_at(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        before = len(cloud.log)
        await cloud.ask(codes.POST, "/10252/0/1", b"no manifest")
        await cloud.until(lambda: told(cloud, STATE) == [1])
        rows = [row for row in list(cloud.log)[before:] if row.type != "ACK" or row.direction == "in"]
        assert [(row.type, row.token != "") for row in rows[:3]] == [("CON", True), ("ACK", False), ("CON", True)]
        assert [rows[0].code, rows[2].code] == ["POST", "2.04 Changed"]
        assert told(cloud, RESULT) == [22]

    desk.play(story)


@pytest.mark.parametrize(
    ("manifest", "result", "error"),
    [
        (order()[:-1] + b"\0", 23, (1031, "MbedCloudClient::UpdateWarningSignatureInvalid")),
        (order(vendor=b"x" * 16), 30, (1027, "MbedCloudClient::UpdateWarningVendorMismatch")),
        (order("1.0.0"), 27, (1034, "MbedCloudClient::UpdateWarningRollbackProtection")),
        (order(image=IMAGE[:-1] + b"!"), 26, (1055, "MbedCloudClient::UpdateErrorInvalidHash")),
        (order(image=bytes(1 << 20)), 33, (1054, "MbedCloudClient::UpdateErrorWriteToStorage")),
    ],
)
def test_what_is_refused_reports_a_result_and_is_idle_again(
    desk: Desk, manifest: bytes, result: int, error: tuple[int, str]
) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        for times in (1, 2):
            await cloud.ask(codes.POST, "/10252/0/1", manifest)
            await cloud.until(lambda times=times: told(cloud, STATE).count(1) == times)
            assert told(cloud, RESULT).count(result) == times
        assert desk.errors == [error, error]
        assert f"/10252/0/3 is {result}" in client.error_description
        assert desk.bench.resets == 0
        assert (await cloud.get(RESULT)).payload == str(result).encode()

    desk.play(story)


@pytest.mark.parametrize(("step", "result"), [(UpdateRequest.Download, 38), (UpdateRequest.Install, 37)])
def test_an_application_may_refuse(desk: Desk, step: UpdateRequest, result: int) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        client.on_update_authorized(lambda request: request != step)
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await cloud.until(lambda: told(cloud, STATE)[-1:] == [1])
        assert told(cloud, RESULT) == [result]
        assert desk.errors == [(1035, "MbedCloudClient::UpdateWarningAuthorizationRejected")]

    desk.play(story)


def test_while_an_application_thinks_it_over_its_other_callbacks_are_called(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        heard: list[str] = []
        resource = await desk.bench.device(lambda: client.create_resource("5000/0/1", "text"))
        resource.methods(3)
        resource.attach_put_callback(lambda resource, value: heard.append(value))
        client.on_update_authorized(lambda request: desk.bench.clock.sleep(60_000_000_000))
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await cloud.until(lambda: told(cloud, STATE) == [3])
        await cloud.ask(codes.PUT, "/5000/0/1", b"hello")
        await asyncio.sleep(1)
        assert heard == ["hello"] and told(cloud, STATE) == [3]

    desk.play(story)


def test_a_busy_server_is_asked_again_and_a_missing_image_is_not(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        cloud.answers["GET", "fw"] = [codes.SERVICE_UNAVAILABLE, codes.SERVICE_UNAVAILABLE]
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await cloud.hears("fw 5")
        assert cloud.heard.count("fw 0") == 3
        cloud.answers["GET", "fw"] = [codes.NOT_FOUND]
        await cloud.until(lambda: told(cloud, STATE)[-1:] == [1])
        assert told(cloud, RESULT) == [24]
        assert "4.04 Not Found" in client.error_description

    desk.play(story)


def test_a_build_for_http_fetches_the_image_from_the_host_in_its_uri(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        serve_files(desk.bench.fabric.host("files"), {"/firmware/1": IMAGE}, 8080)
        desk.bench.image.download_protocol = "http"
        await cloud.ask(codes.POST, "/10252/0/1", order(uri="http://files:8080/firmware/1"))
        await desk.bench.restarted.wait()
        assert told(cloud, STATE) == [3, 4, 6, 7, 8]
        assert not [what for what in cloud.heard if what.startswith("fw")], "nothing came over its own connection"
        candidate = desk.bench.candidate.read()
        assert candidate is not None and candidate.header.version == Version(1, 0, 1)

    desk.play(story)


def test_what_goes_wrong_with_http_is_result_41(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        serve_files(desk.bench.fabric.host("files"), {}, 8080)
        desk.bench.image.download_protocol = "http"
        await cloud.ask(codes.POST, "/10252/0/1", order(uri="http://files:8080/1"))
        await cloud.hears("notification", 4)
        assert (told(cloud, STATE), told(cloud, RESULT)) == ([3, 4, 1], [41])
        assert desk.errors

    desk.play(story)


@pytest.mark.parametrize("prefetch", [0, 4])
def test_a_download_by_http_goes_on_after_a_reset(desk: Desk, prefetch: int) -> None:
    desk.bench.image.options[prefetching.OPTION] = prefetch
    desk.bench.image.download_protocol = "http"

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        serve_files(desk.bench.fabric.host("files"), {"/1": IMAGE}, 8080)
        await cloud.ask(codes.POST, "/10252/0/1", order(uri="http://files:8080/1"))
        while not desk.progress or desk.progress[-1][0] < 18_000:
            await asyncio.sleep(0.001)
        desk.bench.cut_power()
        await asyncio.sleep(1)
        done = desk.progress[-1][0]
        desk.progress.clear()
        await desk.bench.connect(desk.prepare)
        await desk.bench.restarted.wait()
        assert 512 < desk.progress[0][0] <= done + 512, "not from the beginning"
        candidate = desk.bench.candidate.read()
        assert candidate is not None and candidate.header.version == Version(1, 0, 1)

    desk.play(story)


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_an_outage_in_mid_download_is_waited_out(desk: Desk, prefetch: int) -> None:
    desk.bench.image.options[prefetching.OPTION] = prefetch

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await cloud.hears("fw 10")
        desk.bench.fabric.host("cloud").online = False
        await asyncio.sleep(300)
        desk.bench.fabric.host("cloud").online = True
        await desk.bench.restarted.wait()
        assert cloud.heard.count("POST rd") == 1 and cloud.heard.count("update") >= 1
        assert told(cloud, STATE) == [3, 4, 6, 7, 8]

    desk.play(story)


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_a_reset_in_mid_download_is_gone_on_after(desk: Desk, prefetch: int) -> None:
    desk.bench.image.options[prefetching.OPTION] = prefetch

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await cloud.hears("fw 36")
        desk.bench.cut_power()
        await asyncio.sleep(1)
        cloud.heard.clear()
        cloud.notified.clear()
        await desk.bench.connect(desk.prepare)
        await cloud.hears("POST rd")
        assert cloud.links[STATE].v == "2"
        await desk.bench.restarted.wait()
        assert told(cloud, STATE) == [3, 4, 6, 7, 8]
        first = next(what for what in cloud.heard if what.startswith("fw"))
        assert 0 < int(first.split()[1]) <= 36

    desk.play(story)


def test_without_an_update_certificate_no_manifest_is_trusted() -> None:
    desk = Desk(None)

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert "/10255/0/3" not in cloud.links
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await cloud.until(lambda: told(cloud, STATE) == [1])
        assert told(cloud, RESULT) == [23]
        assert desk.errors == [(1025, "MbedCloudClient::UpdateWarningCertificateNotFound")]

    desk.play(story)


def test_a_manifest_that_comes_while_one_is_busy_is_dropped(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await cloud.hears("fw 3")
        assert (await cloud.ask(codes.POST, "/10252/0/1", b"another")).code == codes.CHANGED
        await desk.bench.restarted.wait()
        assert told(cloud, STATE) == [3, 4, 6, 7, 8] and told(cloud, RESULT) == []

    desk.play(story)
