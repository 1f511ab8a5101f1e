"""Campaigns for a board with mbed-bootloader and the older update hub, over real sockets: refusals, then success."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.cloud import Cloud
from pdmlab.service import Service, serve
from pdmlab.sim import VirtualBoard
from pdmlab.update.developer import Developer
from pdmlab.update.manifest_v1 import FormatV1, ManifestV1
from pdmlab.update.payloads.patch import make_patch

CONNECTED = r"Connected to Pelion Device Management\. Device ID: ([0-9a-f]{32})"
OTHER = ec.derive_private_key(0xBAD, ec.SECP256R1())
NEWER = 1_800_000_000
INSIDE = {
    "target.header_offset": "0x8000",
    "target.app_offset": "0x8400",
    "target.components_add": ["FLASHIAP"],
    "update-client.application-details": "0x8000",
    "update-client.storage-address": "0x80000",
    "update-client.storage-size": "(448*1024)",
    "update-client.storage-locations": "2",
}
ENDED = ("deployed", "failed_connector_channel_update")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PDMLAB_STATE", str(tmp_path_factory.mktemp("state")))
        patch.chdir(tmp_path_factory.mktemp("project"))
        with serve(name="hub") as service:
            yield service


@pytest.fixture(scope="module")
def cloud(service: Service) -> Iterator[Cloud]:
    with Cloud(service.url, service.api_key) as cloud:
        yield cloud


class Desk:
    """A registered board, images for it, and campaigns."""

    def __init__(self, service: Service, cloud: Cloud, board: VirtualBoard) -> None:
        self.service, self.cloud, self.board = service, cloud, board
        board.flash_application("example")
        self.device_id = board.console.expect(CONNECTED, timeout=30)[1]
        self.image = board.build("example", version="1.0.1")

    def described(self, payload: bytes, uri: str, **other: Any) -> ManifestV1:
        ids = self.service.developer.resources
        manifest = ManifestV1.for_image(
            payload, timestamp=NEWER, uri=uri, vendor_id=ids.vendor_id, class_id=ids.class_id
        )
        return dataclasses.replace(manifest, **other)

    def campaign(self, make: Callable[[Desk, str], bytes], payload: bytes | None = None) -> Any:
        """Upload a payload, send the manifest that `make` makes of its URI; return the outcome's only row."""
        uploaded = self.cloud.firmware_image("firmware", self.image if payload is None else payload)
        manifest = self.cloud.manifest("manifest", make(self, uploaded.url))
        campaign = self.cloud.campaign(manifest, devices=self.device_id)
        deadline = time.monotonic() + 60
        while True:  # a campaign itself stays open for seconds after its last device
            for row in campaign.devices().itertuples():
                if row.state in ENDED:
                    return row
            assert time.monotonic() < deadline, campaign.devices()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def desk(service: Service, cloud: Cloud) -> Iterator[Desk]:
    with VirtualBoard("K64F", id="hub", memory=True, seed=3, bootloader="mbed") as board:
        yield Desk(service, cloud, board)


def signed(**other: Any) -> Callable[[Desk, str], bytes]:
    """Sign with the project's key; a path among the fields replaces the image's URI."""

    def make(desk: Desk, uri: str) -> bytes:
        developer = desk.service.developer
        manifest = desk.described(desk.image, **({"uri": uri} | other))
        return manifest.sign(developer.private_key, developer.resources.default_certificate)

    return make


def by_another_key(desk: Desk, uri: str) -> bytes:
    return desk.described(desk.image, uri).sign(OTHER, desk.service.developer.resources.default_certificate)


def by_a_stranger(desk: Desk, uri: str) -> bytes:
    stranger = Developer(Path("stranger"))
    if not stranger.folder.exists():
        stranger.init("elsewhere.example", "lab")
    return stranger.sign_v1(desk.image, uri=uri)


def of_version_3(desk: Desk, uri: str) -> bytes:
    return desk.service.developer.sign(desk.image, version="9.9.9", uri=uri)


@pytest.mark.parametrize(
    ("make", "result", "words"),
    [
        (of_version_3, 218, "manifests v1"),
        (by_another_key, 210, "signature"),
        (by_a_stranger, 208, "certificate"),
        (signed(vendor_id=b"x" * 16), 215, "another vendor"),
        (signed(class_id=b"x" * 16), 216, "another model"),
        (signed(timestamp=1), 221, "not newer"),
        (signed(payload_size=1 << 30), 225, "no room"),
        (signed(payload_digest=bytes(32), installed_digest=bytes(32)), 504, "digest"),
        (signed(uri="http://127.0.0.1/firmware/none"), 302, "no way"),
        (signed(storage="9"), 503, "storage"),
    ],
)
def test_what_a_board_of_the_hub_refuses_ends_the_campaign_and_leaves_the_board_alone(
    desk: Desk, make: Callable[[Desk, str], bytes], result: int, words: str
) -> None:
    before = desk.board.installed(), desk.board.boots
    row = desk.campaign(make)
    assert row.state == "failed_connector_channel_update" and row.device_id == desk.device_id
    assert row.outcome.lower().startswith(f"result {result} (") and words in row.outcome, row.outcome
    assert (desk.board.installed(), desk.board.boots) == before
    device = desk.cloud.device(desk.device_id)
    assert device.state == "registered" and device.read("/10252/0/3") == str(result)


def test_a_good_update_works_after_refusals_and_is_seen_by_the_digest(service: Service, cloud: Cloud) -> None:
    with VirtualBoard("K64F", id="hub-2", memory=True, seed=4, bootloader="mbed") as board:
        desk = Desk(service, cloud, board)
        assert "result 210" in desk.campaign(by_another_key).outcome.lower()
        row = desk.campaign(signed())
        assert row.state == "deployed", row
        assert str(board.installed()) == "example 1.0.1 (build 0)"
        assert board.console.expect(CONNECTED, timeout=30)[1] == desk.device_id, "the same device"
        device = cloud.device(desk.device_id)
        assert device.read("/10252/0/5") == hashlib.sha256(desk.image).hexdigest()
        assert device.read("/10252/0/6") == str(NEWER) and device.read("/10252/0/3") == "-1"
        # The same one again is skipped, and by another timestamp too: the digest says what runs.
        again = desk.campaign(signed(timestamp=NEWER + 1))
        assert "already" in again.outcome

        old, image = desk.image, board.build("example", version="1.0.2")
        patch = make_patch(old, image)

        def delta(desk: Desk, uri: str) -> bytes:
            fields = {"format": FormatV1.DELTA, "timestamp": NEWER + 2, "installed_size": len(image)}
            digests = {
                "installed_digest": hashlib.sha256(image).digest(),
                "precursor_digest": hashlib.sha256(old).digest(),
            }
            developer = desk.service.developer
            manifest = dataclasses.replace(desk.described(patch, uri), **fields, **digests)
            return manifest.sign(developer.private_key, developer.resources.default_certificate)

        assert desk.campaign(delta, patch).state == "deployed"
        assert str(board.installed()) == "example 1.0.2 (build 0)"
        # Of the firmware before, it is a delta of another one now.
        board.console.expect(CONNECTED, timeout=30)
        deadline = time.monotonic() + 30
        while cloud.device(desk.device_id).read("/10252/0/6") != str(NEWER + 2) and time.monotonic() < deadline:
            time.sleep(0.05)


def test_an_image_comes_by_http_into_one_of_two_locations_in_internal_flash(
    service: Service, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mbed_app.json").write_text(json.dumps({"target_overrides": {"K64F": INSIDE}}))
    with VirtualBoard("K64F", id="hub-3", memory=True, seed=6, bootloader="mbed", download="http") as board:
        assert (board.layout.candidate_on, board.layout.storage_locations) == ("FLASHIAP", 2)
        desk = Desk(service, cloud, board)
        assert desk.campaign(signed(storage="1")).state == "deployed"
        assert str(board.installed()) == "example 1.0.1 (build 0)"


def test_a_manifest_v1_is_none_to_a_board_of_the_fota_client(service: Service, cloud: Cloud) -> None:
    with VirtualBoard("K64F", id="fota", memory=True, seed=5) as board:
        desk = Desk(service, cloud, board)
        before = board.installed(), board.boots
        row = desk.campaign(signed())
        assert row.state == "failed_connector_channel_update" and row.outcome.lower().startswith("result 22 ("), row
        assert (board.installed(), board.boots) == before

        def version_3(desk: Desk, uri: str) -> bytes:
            return desk.service.developer.sign(desk.image, version="1.0.1", uri=uri)

        assert desk.campaign(version_3).state == "deployed"
        assert str(board.installed()) == "example 1.0.1 (build 0)"
