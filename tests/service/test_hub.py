"""Campaigns for boards with the older update hub: its states 0 to 8, its results from 100 on, and its own proof."""

from __future__ import annotations

import hashlib

import pytest

from pdmlab.service.campaign_words import event_title, failure
from pdmlab.update import hub
from pdmlab.update.manifest_v1 import ManifestV1, is_v1
from pdmlab.update.results import FotaState
from tests.service.corelab import RESULT, STATE, VERSION, CoreLab, Stage
from tests.service.fota import IMAGE, Updatable, manifest_v1, publish, updatable
from tests.service.test_campaigns import finished

S = FotaState
NOT_READ = 218
OLD = hashlib.sha256(b"the firmware before").hexdigest()


class HubBoard(Updatable):
    """A board whose update client is the hub: no object 14; /10252/0/5 tells the digest of what runs."""

    tells_success = True
    tells_digest = True

    def __init__(self, lab: CoreLab, device: object) -> None:
        super().__init__(lab, device)  # type: ignore[arg-type]
        for path in ("/14/0/0", VERSION):
            self.device.values.pop(path, None)
        self.device.values |= {hub.PACKAGE_NAME: OLD.encode(), "/10252/0/6": b"1500000000", RESULT: b"-1"}
        self.device.aobs |= {hub.PACKAGE_NAME: 602}
        self.failure: int | None = None

    async def update(self, der: bytes) -> None:
        self.manifests += 1
        await self.tell(S.PROCESSING_MANIFEST)
        failure = self.failure if is_v1(der) else NOT_READ
        if failure is not None:
            await self.device.notify(RESULT, str(failure))
            return await self.tell(S.IDLE)
        manifest = ManifestV1.parse(der)
        await self.tell(S.AWAITING_DOWNLOAD_APPROVAL)
        await self.tell(S.DOWNLOADING)
        self.image = await self.fetch(manifest.uri, manifest.payload_size)
        for state in (S.DOWNLOADED, S.AWAITING_INSTALL_APPROVAL, S.UPDATING, S.REBOOTING):
            await self.tell(state)
        if self.installs and self.tells_digest:
            self.device.values[hub.PACKAGE_NAME] = manifest.installed_digest.hex().upper().encode()
        await self.restart(state=S.UNINITIALISED)
        await self.tell(S.IDLE)
        if self.installs and self.tells_success:
            await self.device.notify(RESULT, "100")


def published(lab: CoreLab) -> str:
    return publish(lab, "1700000000", sign=manifest_v1)


async def board(lab: CoreLab) -> HubBoard:
    device = await lab.device("old")
    update = HubBoard(lab, device)
    await device.bootstrap()
    await device.register()
    return update


@pytest.mark.parametrize(("digest", "result"), [(True, True), (True, False), (False, True)])
def test_a_board_of_the_hub_is_updated_when_its_digest_or_its_result_says_so(
    play: Stage, digest: bool, result: bool
) -> None:
    async def story(lab: CoreLab) -> None:
        update = await board(lab)
        update.tells_digest, update.tells_success = digest, result
        id = published(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        device = await finished(lab, id)
        assert (device["summary_status"], device["deployment_state"]) == ("success", "deployed"), device
        assert update.image == IMAGE and update.manifests == 1
        if not result:
            assert device["description"] == "The device runs 1700000000, signed 2023-11-14 22:13:20 UTC"

    play(story)


@pytest.mark.parametrize("version", ["1.0.1", "5", "0", "-1", "", "²", "999999999", "4294967296", "9" * 20])
def test_a_version_that_is_no_time_stays_as_it_is(version: str) -> None:
    assert hub.version_in_words(version) == version


def test_a_board_of_the_hub_that_comes_back_as_it_was_has_failed(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await board(lab)
        update.installs = False
        id = published(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        device = await finished(lab, id)
        assert device["event_type"] == "UPD4_FAIL_103"
        assert f"came back with its old firmware (SHA-256 {OLD[:8]}…)" in str(device["description"])

    play(story)


def test_a_board_of_the_hub_that_runs_the_firmware_already_is_skipped(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await board(lab)
        update.device.values[hub.PACKAGE_NAME] = hashlib.sha256(IMAGE).hexdigest().encode()
        id = published(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        assert (await finished(lab, id))["summary_status"] == "skipped" and update.manifests == 0

    play(story)


def test_a_board_of_the_hub_takes_no_manifest_v3(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        await board(lab)
        id = publish(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        device = await finished(lab, id)
        assert device["event_type"] == "UPD3_FAIL_218" and "manifests v1" in str(device["description"])

    play(story)


@pytest.mark.parametrize(("version", "told"), [("1700000000", b"0.25939.61696"), ("36029896530722819", b"1.2.3")])
def test_a_device_with_the_fota_client_that_takes_manifests_v1_tells_their_number_in_three(
    play: Stage, version: str, told: bytes
) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)

        async def takes(der: bytes) -> None:
            manifest = ManifestV1.parse(der)
            for state in (S.AWAITING_DOWNLOAD_APPROVAL, S.DOWNLOADING):
                await update.tell(state)
            update.image = await update.fetch(manifest.uri, manifest.payload_size)
            await update.tell(S.REBOOTING)
            await update.restart(version=told.decode())

        update.device.on_manifest = takes
        id = publish(lab, version, sign=manifest_v1)
        lab.core.campaigns.start(lab.core.account_id, id)
        device = await finished(lab, id)
        assert (device["summary_status"], update.image) == ("success", IMAGE)

    play(story)


@pytest.mark.parametrize(
    ("number", "words"),
    [(101, "network"), (210, "signature"), (218, "manifests v1"), (306, "lost"), (505, "activated")],
)
def test_results_of_the_hub_are_explained_and_never_taken_for_the_services_own(
    play: Stage, number: int, words: str
) -> None:
    async def story(lab: CoreLab) -> None:
        update = await board(lab)
        update.failure = number
        id = published(lab)
        lab.core.campaigns.start(lab.core.account_id, id)
        device = await finished(lab, id)
        assert (device["summary_status"], device["result"]) == ("fail", number)
        assert device["event_type"] == f"UPD3_FAIL_{number}" and words in str(device["description"])
        (event,) = lab.core.campaigns.event_types(lab.core.account_id, id, "fail")
        assert event["description"].lower() == hub.explain(number)[0]

    play(story)


def test_every_number_that_a_device_can_send_has_words():
    for number in [
        *range(21, 50),
        *range(101, 104),
        *range(200, 231),
        *range(300, 317),
        *range(400, 414),
        *range(500, 513),
    ]:
        event_type, words = failure(number)
        assert event_title(event_type) and f"{number}" in words and len(words) > 20
    assert (
        failure(228)[1]
        == "result 228 (an error in the manifest, with a number that no list has): look at the device's console"
    )
    assert "this device's own, in the storage" in failure(507)[1]
    assert failure(77)[1] == "the device reports result 77, which is none that we know"


def test_the_numbers_that_the_wire_description_names_mean_what_it_says():
    # pelion-wire.md, section 6: 100 ok; 210 bad signature, 215 vendor, 216 class, 221 rollback, 229 delta precursor.
    named = {210: "signature", 215: "vendor", 216: "class", 221: "newer", 229: "delta"}
    assert hub.SUCCEEDED == 100 and all(word in hub.explain(number)[0] for number, word in named.items())
    assert [int(state) for state in S] == list(range(9)) and STATE == "/10252/0/2"
