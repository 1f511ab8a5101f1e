"""A virtual board with the trial bootloader in campaigns: signed images, confirmed by registration, else put back."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.boards import catalog
from pdmlab.cloud import Cloud
from pdmlab.errors import ConfigError, FlashFailed
from pdmlab.firmware.image import DESCRIPTOR_OFFSET, ImageInfo, build_image
from pdmlab.service import Service, serve
from pdmlab.sim import VirtualBoard
from pdmlab.sim.image_keys import BENCH_KEY
from pdmlab.update.bootloaders.trial import key as trial_key
from pdmlab.update.manifest import SignedManifest

CONNECTED = r"Connected to Pelion Device Management\. Device ID: ([0-9a-f]{32})"
ENDED = ("deployed", "failed_connector_channel_update")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PDMLAB_STATE", str(tmp_path_factory.mktemp("state")))
        patch.chdir(tmp_path_factory.mktemp("project"))
        with serve(name="trial") as service:
            yield service


class Desk:
    """A registered board with the trial bootloader, and campaigns for it."""

    def __init__(self, service: Service, cloud: Cloud, board: VirtualBoard) -> None:
        self.service, self.cloud, self.board = service, cloud, board
        board.flash_application("example", version="1.0.0")
        self.device_id = board.console.expect(CONNECTED, timeout=30)[1]

    def start(self, image: bytes, version: str, *, sign_image: bool = True, image_key: Any = None) -> Any:
        uploaded = self.cloud.firmware_image("firmware", image)
        developer = self.service.developer
        signed = developer.sign(image, version=version, uri=uploaded.url, sign_image=sign_image)
        if image_key is not None:
            manifest = SignedManifest.parse(signed).manifest.with_image_signature(image_key)
            signed = manifest.sign(developer.private_key)
        return self.cloud.campaign(self.cloud.manifest("manifest", signed), devices=self.device_id)

    def end(self, campaign: Any) -> Any:
        """Wait for the campaign's only device; return its row."""
        deadline = time.monotonic() + 60
        while True:  # a campaign itself stays open for seconds after its last device
            for row in campaign.devices().itertuples():
                if row.state in ENDED:
                    return row
            assert time.monotonic() < deadline, campaign.devices()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def desk(service: Service) -> Iterator[Desk]:
    with (
        Cloud(service.url, service.api_key) as cloud,
        VirtualBoard("K64F", id="trial", memory=True, seed=3, bootloader="trial") as board,
    ):
        yield Desk(service, cloud, board)


def test_the_bootloader_knows_the_projects_key(desk: Desk) -> None:
    key = desk.service.developer.private_key.public_key()
    assert desk.board.bootloader_image().options == {"key": trial_key.as_option(key)}


@pytest.mark.parametrize(
    ("options", "result", "words"),
    [
        ({"sign_image": False}, 22, "this device takes signed images only, and it has no signature"),
        (
            {"image_key": ec.derive_private_key(0xBAD, ec.SECP256R1())},
            26,
            "the image's own signature is not of the key",
        ),
    ],
)
def test_an_image_that_could_not_start_is_refused_by_the_client_already(
    desk: Desk, options: dict[str, Any], result: int, words: str
) -> None:
    boots = desk.board.boots
    row = desk.end(desk.start(desk.board.build("example", version="2.0.0"), "2.0.0", **options))
    assert row.state == "failed_connector_channel_update"
    assert row.outcome.lower().startswith(f"result {result} ("), row.outcome
    desk.board.console.expect(words, timeout=10)
    assert desk.board.boots == boots


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (build_image(ImageInfo("idle", "0.9.0")), "its header says 2.0.0, what was signed 0.9.0"),
        (bytes(40_000), "what was signed does not say of which version it is"),
    ],
)
def test_an_image_that_was_signed_as_another_version_is_refused_by_the_client_already(
    desk: Desk, image: bytes, words: str
) -> None:
    boots = desk.board.boots
    row = desk.end(desk.start(image, "2.0.0"))
    assert row.outcome.lower().startswith("result 26 ("), row.outcome
    desk.board.console.expect(f"the image is of another version: {words}", timeout=10)
    assert desk.board.boots == boots


@pytest.mark.parametrize("what", ["never registers", "names nothing"])
def test_an_image_that_does_not_confirm_itself_is_put_back_and_the_campaign_says_so(desk: Desk, what: str) -> None:
    board = desk.board
    info = ImageInfo("idle", "2.0.0")
    bad = build_image(info)
    if what == "names nothing":
        bad = bad[:DESCRIPTOR_OFFSET] + bytes(64) + bad[DESCRIPTOR_OFFSET + 64 : 40_000]
    campaign = desk.start(bad, "2.0.0")
    board.console.expect("Starting 2.0.0 on trial", timeout=60)
    board.reset()  # as a watchdog does
    assert board.console.expect(CONNECTED, timeout=60)[1] == desk.device_id
    assert "Going back to 1.0.0" in board.machine.boot_log
    row = desk.end(campaign)
    assert row.state == "failed_connector_channel_update"
    assert row.outcome.lower().startswith("result 40 ("), row.outcome
    assert str(board.installed()) == "example 1.0.0 (build 0)"


def test_a_good_image_is_confirmed_by_its_registration_and_stays(desk: Desk) -> None:
    board = desk.board
    row = desk.end(desk.start(board.build("example", version="2.0.0"), "2.0.0"))
    assert row.state == "deployed", row
    assert board.console.expect(CONNECTED, timeout=30)[1] == desk.device_id
    board.reset()
    assert board.console.expect(CONNECTED, timeout=30)[1] == desk.device_id
    assert board.machine.boot_log.endswith("Starting 2.0.0, confirmed\r\n")
    assert str(board.installed()) == "example 2.0.0 (build 0)"


def test_a_board_without_a_project_has_a_key_of_its_own_for_its_owner_alone(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pdmlab.sim.image_keys.project", lambda: None)
    with VirtualBoard("K64F", id="bench", bootloader="trial") as board:
        board.console.expect("Starting 1.0.0, confirmed", timeout=30)
        assert board.folder is not None
        file, option = board.folder / BENCH_KEY, board.bootloader_image().options["key"]
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with pytest.raises(FlashFailed, match="key that is not here"):
            board.flash_bootloader(
                "trial", key=trial_key.as_option(ec.generate_private_key(ec.SECP256R1()).public_key())
            )
        with pytest.raises(ConfigError):
            board.flash_bootloader("trial", key="04")
    with VirtualBoard("K64F", id="bench") as again:
        assert again.bootloader == "trial" and again.bootloader_image().options["key"] == option
        again.console.expect("Starting 1.0.0, confirmed", timeout=30)
        again.flash_bootloader("fota")
        again.console.expect("pdmlab idle", timeout=30)


@pytest.mark.parametrize("target", catalog.boards())
def test_every_board_can_have_it(target: str) -> None:
    with VirtualBoard(target, memory=True, bootloader="trial") as board:
        board.console.expect("Starting 1.0.0, confirmed", timeout=30)
        active, candidate, previous = board.clock.call(board.machine.bootloader.slots)
        assert (active.state, previous.detail) == ("whole", "signed") or previous.state == "unreadable"
        assert board.machine.boot_log.count("Keeping 1.0.0 in the previous slot") == 1
        assert candidate.offset + candidate.size == previous.offset
