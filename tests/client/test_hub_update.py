"""The older update hub on a board: what it registers, the update from manifest v1 to reboot, and what it refuses."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiocoap.numbers import codes
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.client import SimpleMbedCloudClient, UpdateRequest
from pdmlab.network.fileserver import serve_files
from pdmlab.update.credentials import UpdateResources
from pdmlab.update.developer import update_certificate
from pdmlab.update.header_v2 import FirmwareHeaderV2
from pdmlab.update.manifest import Manifest
from pdmlab.update.manifest_v1 import FormatV1, ManifestV1
from pdmlab.update.payloads.patch import make_patch
from tests.client import bench
from tests.client.bench import Cloud
from tests.client.hub_bench import IMAGE, OLD, RUNNING, HubBench

KEY, OTHER = (ec.derive_private_key(seed, ec.SECP256R1()) for seed in (0x5EED, 0xBAD))
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CERTIFICATE, STRANGERS = update_certificate(KEY, "company.com", NOW), update_certificate(OTHER, "else.where", NOW)
VENDOR, CLASS = b"v" * 16, b"c" * 16
BLOCKS = -(-len(IMAGE) // 512)
URI = "http://127.0.0.1/firmware/1"
STATE, RESULT, NAME, VERSION = "/10252/0/2", "/10252/0/3", "/10252/0/5", "/10252/0/6"
WHOLE = [2, 3, 4, 5, 6, 7, 8]


def order(key: Any = KEY, certificate: bytes = CERTIFICATE, **other: Any) -> bytes:
    manifest = ManifestV1.for_image(IMAGE, timestamp=RUNNING + 1, uri=URI, vendor_id=VENDOR, class_id=CLASS)
    return dataclasses.replace(manifest, **other).sign(key, certificate)


class Desk:
    """A registered device, and a server that has a firmware for it."""

    def __init__(self, *, updatable: bool = True) -> None:
        self.bench = HubBench()
        if updatable:
            self.bench.image.update_resources = UpdateResources(VENDOR, CLASS, CERTIFICATE).to_mapping()
        self.asked: list[UpdateRequest] = []
        self.progress: list[tuple[int, int]] = []
        self.errors: list[tuple[int, str]] = []
        self.refuse: UpdateRequest | None = None

    def prepare(self, client: SimpleMbedCloudClient) -> None:
        client.on_update_authorized(self.authorize)
        client.on_update_progress(lambda done, total: self.progress.append((done, total)))
        client.on_error(lambda code, text: self.errors.append((code, text)))

    def authorize(self, request: UpdateRequest) -> bool:
        self.asked.append(request)
        self.bench.clock.sleep(1_000_000_000)  # a person thinks about it
        return request is not self.refuse

    def play(
        self, story: Callable[[Cloud, SimpleMbedCloudClient], Awaitable[None]], firmware: bytes | None = IMAGE
    ) -> None:
        async def connected() -> None:
            offered = {} if firmware is None else {URI: firmware}
            cloud = await Cloud(self.bench, firmware=offered).open()
            client = await self.bench.connect(self.prepare)
            await cloud.registered.wait()
            await asyncio.sleep(1)
            await story(cloud, client)

        self.bench.play(connected)


def told(cloud: Cloud, path: str) -> list[int]:
    return [int(payload) for where, _, payload in cloud.notified if where == path]


async def send(cloud: Cloud, manifest: bytes) -> None:
    assert (await cloud.ask(codes.POST, "/10252/0/1", manifest)).code == codes.CHANGED


def test_the_registration_is_that_of_a_board_with_the_hub() -> None:
    desk = Desk()

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert not [path for path in cloud.links if path.startswith("/14")]
        assert cloud.links["/10255/0/0"].v == "3"
        assert cloud.links[NAME].v == hashlib.sha256(OLD).hexdigest() and cloud.links[VERSION].v == str(RUNNING)
        assert (cloud.links[STATE].v, cloud.links[RESULT].v) == ("1", "-1")
        offered = {path for path in cloud.links if path.startswith(("/10252/0/", "/10255/0/"))}
        assert offered == {f"/10252/0/{n}" for n in (1, 2, 3, 5, 6, 9)} | {f"/10255/0/{n}" for n in range(5)}
        assert all(cloud.links[path].aobs for path in (STATE, RESULT, NAME, VERSION, "/10255/0/1", "/10255/0/3"))
        area = desk.bench.layout.bootloader
        bootloader = hashlib.sha256(desk.bench.flash.read(area.offset, area.size)).digest()
        assert (await cloud.get("/10255/0/1")).payload == bootloader
        assert (await cloud.ask(codes.POST, "/10252/0/9")).code == codes.CHANGED
        assert told(cloud, STATE) == []

    desk.play(story)


def test_an_update_goes_through_the_hubs_states_and_reboots() -> None:
    desk = Desk()

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await send(cloud, order())
        await desk.bench.restarted.wait()
        assert told(cloud, STATE) == WHOLE and told(cloud, RESULT) == []
        assert desk.asked == [UpdateRequest.Download, UpdateRequest.Install]
        assert desk.progress[-1] == (len(IMAGE), len(IMAGE)) and desk.progress == sorted(desk.progress)
        assert [what for what in cloud.heard if what.startswith("fw")] == [f"fw {n}" for n in range(BLOCKS)]
        assert desk.bench.stored == FirmwareHeaderV2(len(IMAGE), RUNNING + 1, hashlib.sha256(IMAGE).digest())
        # As the bootloader leaves it:
        desk.bench.runs(IMAGE, RUNNING + 1)
        again = await desk.bench.connect()
        await cloud.hears("POST rd", 2)
        await asyncio.sleep(60)
        assert cloud.links[NAME].v == hashlib.sha256(IMAGE).hexdigest()
        assert cloud.links[VERSION].v == str(RUNNING + 1)
        assert (cloud.links[STATE].v, cloud.links[RESULT].v) == ("1", "-1"), "success is told by no result"
        assert again.device_id == client.device_id and cloud.heard.count("POST bs") == 1
        assert told(cloud, STATE) == WHOLE

    desk.play(story)


def v3() -> bytes:
    return Manifest.for_image(IMAGE, version="9.9.9", uri=URI, vendor_id=VENDOR, class_id=CLASS).sign(KEY)


@pytest.mark.parametrize(
    ("manifest", "states", "result", "error"),
    [
        (v3(), [1], 218, (1039, "MbedCloudClient::UpdateErrorUserActionRequired")),
        (order(OTHER), [1], 210, (1031, "MbedCloudClient::UpdateWarningSignatureInvalid")),
        (order(OTHER, STRANGERS), [1], 208, (1025, "MbedCloudClient::UpdateWarningCertificateNotFound")),
        (order(vendor_id=b"x" * 16), [1], 215, (1027, "MbedCloudClient::UpdateWarningVendorMismatch")),
        (order(class_id=b"x" * 16), [1], 216, (1028, "MbedCloudClient::UpdateWarningClassMismatch")),
        (order(timestamp=RUNNING), [2, 1], 221, (1034, "MbedCloudClient::UpdateWarningRollbackProtection")),
        (order(payload_size=1 << 20), [2, 3, 1], 225, (1054, "MbedCloudClient::UpdateErrorWriteToStorage")),
        (
            order(payload_digest=bytes(32), installed_digest=bytes(32)),
            [2, 3, 4, 5, 1],
            504,
            (1055, "MbedCloudClient::UpdateErrorInvalidHash"),
        ),
        (order(uri="http://127.0.0.1/none"), [2, 3, 4, 1], 302, (1056, "MbedCloudClient::UpdateErrorConnection")),
    ],
)
def test_what_is_refused_reports_a_result_and_is_idle_again_and_a_good_update_works(
    manifest: bytes, states: list[int], result: int, error: tuple[int, str]
) -> None:
    desk = Desk()

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        cloud.firmware["http://127.0.0.1/none"] = b""
        await send(cloud, manifest)
        await cloud.until(lambda: told(cloud, STATE)[-1:] == [1])
        assert (told(cloud, STATE), told(cloud, RESULT)) == (states, [result])
        assert desk.errors == [error] and f"/10252/0/3 is {result}" in client.error_description
        assert desk.bench.resets == 0 and desk.bench.stored is None
        assert (await cloud.get(RESULT)).payload == str(result).encode()
        await send(cloud, order())
        await desk.bench.restarted.wait()
        assert told(cloud, STATE) == states + WHOLE

    desk.play(story)


@pytest.mark.parametrize(
    ("step", "states", "result"),
    [(UpdateRequest.Download, [2, 3, 1], 315), (UpdateRequest.Install, [2, 3, 4, 5, 6, 1], 511)],
)
def test_an_application_may_refuse(step: UpdateRequest, states: list[int], result: int) -> None:
    desk = Desk()
    desk.refuse = step

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await send(cloud, order())
        await cloud.until(lambda: told(cloud, STATE)[-1:] == [1])
        assert (told(cloud, STATE), told(cloud, RESULT)) == (states, [result])
        assert desk.errors == [(1035, "MbedCloudClient::UpdateWarningAuthorizationRejected")]

    desk.play(story)


@pytest.mark.parametrize(
    ("put_off", "states", "result"),
    [(None, WHOLE, None), (UpdateRequest.Download, [2, 3, 1], 316), (UpdateRequest.Install, [2, 3, 4, 5, 6, 1], 512)],
)
def test_an_application_may_answer_later_or_put_it_off(
    put_off: UpdateRequest | None, states: list[int], result: int | None
) -> None:
    desk = Desk()

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        client.on_update_question(lambda question: desk.asked.append(question.request))
        await send(cloud, order())
        for asked, (request, state) in enumerate(((UpdateRequest.Download, 3), (UpdateRequest.Install, 6)), 1):
            while len(desk.asked) < asked:
                await asyncio.sleep(1)
            await asyncio.sleep(86_400)
            assert desk.asked[-1] == request and told(cloud, STATE)[-1] == state and desk.bench.resets == 0, "it waits"
            if request == put_off:
                client.update_defer(request)
                break
            client.update_authorize(request)
        if result is None:
            await desk.bench.restarted.wait()
        else:
            await cloud.until(lambda: told(cloud, STATE)[-1:] == [1])
            assert told(cloud, RESULT) == [result]
            assert desk.errors == [(1036, "MbedCloudClient::UpdateWarningAuthorizationUnavailable")]
        assert told(cloud, STATE) == states

    desk.play(story)


def test_a_delta_is_applied_to_the_image_in_flash() -> None:
    patch = make_patch(OLD, IMAGE)
    desk = Desk()
    manifest = order(
        format=FormatV1.DELTA,
        payload_size=len(patch),
        payload_digest=hashlib.sha256(patch).digest(),
        installed_size=len(IMAGE),
        precursor_digest=hashlib.sha256(OLD).digest(),
    )

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await send(cloud, manifest)
        await desk.bench.restarted.wait()
        assert told(cloud, STATE) == WHOLE
        assert len([what for what in cloud.heard if what.startswith("fw")]) == -(-len(patch) // 512) < BLOCKS
        assert desk.bench.stored is not None and desk.bench.stored.digest == hashlib.sha256(IMAGE).digest()

    desk.play(story, patch)


def test_an_image_comes_by_http_and_a_server_that_is_away_is_waited_for() -> None:
    desk = Desk()
    desk.bench.image.download_protocol = "http"

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        files = desk.bench.fabric.host("files")
        await send(cloud, order(uri="http://files:8080/1"))
        await cloud.until(lambda: told(cloud, STATE)[-1:] == [4])
        began = desk.bench.clock.loop.time()
        await asyncio.sleep(3000)
        serve_files(files, {"/1": IMAGE}, 8080)
        await desk.bench.restarted.wait()
        waited = desk.bench.clock.loop.time() - began
        assert told(cloud, STATE) == WHOLE and 3000 < waited < 3000 + 3600
        assert not [what for what in cloud.heard if what.startswith("fw")], "nothing came over its own connection"

    desk.play(story)


def test_a_file_that_is_not_there_by_http_is_given_up_after_a_week(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "LONGEST_STORY", 8 * 24 * 3600)
    desk = Desk()
    desk.bench.image.download_protocol = "http"

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        files: dict[str, bytes] = {}
        serve_files(desk.bench.fabric.host("files"), files, 8080)
        await send(cloud, order(uri="http://files:8080/1"))
        await cloud.until(lambda: told(cloud, STATE)[-1:] == [1], 8 * 24 * 3600)
        assert (told(cloud, STATE), told(cloud, RESULT)) == ([2, 3, 4, 1], [302])
        assert "404" in client.error_description and desk.bench.stored is None
        files["/1"] = IMAGE
        await send(cloud, order(uri="http://files:8080/1"))
        await desk.bench.restarted.wait()

    desk.play(story)


def test_a_reset_in_mid_download_leaves_the_board_idle_and_the_manifest_works_again() -> None:
    desk = Desk()

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await send(cloud, order())
        await cloud.hears("fw 20")
        desk.bench.cut_power()
        await asyncio.sleep(1)
        assert desk.bench.stored is None
        await desk.bench.connect(desk.prepare)
        await cloud.hears("POST rd", 2)
        await asyncio.sleep(60)
        assert cloud.links[STATE].v == "1" and told(cloud, STATE) == [2, 3, 4]
        await send(cloud, order())
        await desk.bench.restarted.wait()
        assert cloud.heard.count("fw 0") == 2, "from the beginning"

    desk.play(story)


def test_an_outage_in_mid_download_is_waited_out() -> None:
    desk = Desk()

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await send(cloud, order())
        await cloud.hears("fw 10")
        desk.bench.fabric.host("cloud").online = False
        await asyncio.sleep(300)
        desk.bench.fabric.host("cloud").online = True
        await desk.bench.restarted.wait()
        assert told(cloud, STATE)[-1:] == [8]

    desk.play(story)


def test_a_server_that_is_away_while_a_state_is_told_ends_the_update() -> None:
    desk = Desk()

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        def away(request: UpdateRequest) -> bool:
            desk.bench.fabric.host("cloud").online = False
            return True

        client.on_update_authorized(away)
        await send(cloud, order())
        await asyncio.sleep(600)
        desk.bench.fabric.host("cloud").online = True
        await cloud.until(lambda: told(cloud, RESULT) == [304])
        assert desk.bench.resets == 0 and (1056, "MbedCloudClient::UpdateErrorConnection") in desk.errors
        client.on_update_authorized(None)
        await send(cloud, order())
        await desk.bench.restarted.wait()

    desk.play(story)


def test_without_an_update_certificate_no_manifest_is_trusted() -> None:
    desk = Desk(updatable=False)

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert "/10255/0/3" not in cloud.links
        await send(cloud, order())
        await cloud.until(lambda: told(cloud, STATE) == [1])
        assert told(cloud, RESULT) == [208]
        assert desk.errors == [(1025, "MbedCloudClient::UpdateWarningCertificateNotFound")]

    desk.play(story)


def test_manifests_that_come_during_an_update_are_dropped() -> None:
    desk = Desk()

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await send(cloud, order())
        await cloud.hears("fw 5")
        await send(cloud, order(OTHER))
        await desk.bench.restarted.wait()
        assert told(cloud, STATE) == WHOLE and told(cloud, RESULT) == []

    desk.play(story)


def test_firmware_without_a_header_says_so() -> None:
    desk = Desk()
    desk.bench.flash.program(desk.bench.layout.header_offset, b"\xff" * 112)

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert (cloud.links[NAME].v, cloud.links[VERSION].v) == ("-1", "-1")
        await send(cloud, order())
        await desk.bench.restarted.wait()

    desk.play(story)
