"""Campaigns for boards whose clients write candidates in each of their forms, and to each of their media."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pdmlab.client import SimpleMbedCloudClient
from pdmlab.firmware import registry
from pdmlab.firmware.device import Device
from pdmlab.measurements.virtual_lab import VirtualLab, play, update_key, update_resources
from pdmlab.network.link import Link
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.candidate_form import OPTION
from pdmlab.update.components import Component, Installation
from pdmlab.update.credentials import Credentials
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.manifest import Manifest, PayloadFormat
from pdmlab.update.payloads.patch import Delta

K = 1024
LINK = Link(latency=5_000_000)
FORMS: dict[str, tuple[dict[str, Any], int, int]] = {
    "at once": ({}, 0, 160),
    "checksummed": ({"resume-support": "FOTA_RESUME_SUPPORT_RESUME"}, 2, 160),
    "one-time key": ({"encryption-support": 1}, 3, 192),
    "device key": ({"encryption-support": 1, "key-encryption": "FOTA_USE_DEVICE_KEY"}, 3, 160),
}


async def campaign(lab: VirtualLab, payload: bytes, **fields: Any) -> Any:
    """Offer a payload, and let a campaign bring it; return the device's row."""
    core, ids = lab.core, update_resources()
    described = Manifest.for_image(
        payload, version="1.0.1", uri=lab.offer(payload), vendor_id=ids.vendor_id, class_id=ids.class_id
    )
    signed = replace(described, **fields).sign(update_key())
    manifest = core.firmware.add_manifest(core.account_id, "to 1.0.1", signed)["id"]
    made = core.campaigns.create(core.account_id, device_filter=f"id__eq={lab.device_id}", root_manifest_id=manifest)
    core.campaigns.start(core.account_id, made["id"])
    await lab.until(lambda: core.campaigns.find(core.account_id, made["id"])["phase"] == "stopped", "it ends", 86_400)
    (row,) = core.campaigns.progress(made["id"])
    return row


async def registered(lab: VirtualLab, image: bytes) -> str:
    """Flash an image, and wait until it has registered."""
    lab.board.flash(image)
    await lab.until(lambda: bool(list(lab.core.registrations)), "the board registers", 3600)
    return lab.device_id


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", ["K64F", "DISCO_L475VG_IOT01A"])
def test_a_candidate_in_any_form_is_installed_by_the_bootloader(target: str, form: str) -> None:
    options, flags, length = FORMS[form]
    written: list[FirmwareHeader] = []

    async def story(lab: VirtualLab) -> None:
        old, new = (lab.build(each, size=40 * K, options={OPTION: options}) for each in ("1.0.0", "1.0.1"))
        device_id = await registered(lab, old)
        finish = CandidateSlot.finish

        def noted(slot: CandidateSlot) -> None:
            finish(slot)
            candidate = slot.read()
            assert candidate is not None
            written.append(candidate.header)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CandidateSlot, "finish", noted)
            row = await campaign(lab, new)
        assert row["phase"] == "success", (row["description"], lab.read_console())
        assert str(lab.board.installed()) == "example 1.0.1 (build 0)" and lab.device_id == device_id

    play(story, target, seed=3, link=LINK)
    (header,) = written
    assert (header.flags, header.length) == (flags, length) and header.precursor != bytes(32)


@pytest.mark.parametrize("form", ["at once", "one-time key"])
def test_a_delta_makes_a_candidate_in_any_form(form: str) -> None:
    async def story(lab: VirtualLab) -> None:
        options = {OPTION: FORMS[form][0]}
        old, new = (lab.build(each, size=40 * K, options=options) for each in ("1.0.0", "1.0.1"))
        await registered(lab, old)
        delta = Delta.between(old, new)
        row = await campaign(lab, delta.patch, format=PayloadFormat.DELTA, metadata=delta.metadata)
        assert row["phase"] == "success" and row["total_B"] == len(delta.patch) < 20 * K, row
        assert str(lab.board.installed()) == "example 1.0.1 (build 0)"

    play(story, "K64F", seed=3, link=LINK)


def test_an_update_that_the_board_cannot_hold_is_refused_with_words_and_the_next_one_goes_through() -> None:
    async def story(lab: VirtualLab) -> None:
        device_id = await registered(lab, lab.build("1.0.0", size=40 * K))
        row = await campaign(lab, bytes(4 << 20))
        assert row["phase"] != "success" and "result 33" in row["description"].lower(), row
        assert "the candidate storage room for" in lab.read_console()
        row = await campaign(lab, lab.build("1.0.1", size=40 * K))
        assert row["phase"] == "success" and lab.device_id == device_id

    play(story, "K64F", seed=3, link=LINK)


def test_a_component_of_the_application_is_updated_by_a_campaign() -> None:
    flashed: dict[str, bytes] = {}

    def application(device: Device) -> SimpleMbedCloudClient:
        def install(update: Installation) -> None:
            flashed[str(update.version)] = b"".join(update.pieces())

        device.network.connect()
        client = SimpleMbedCloudClient(device.network, device.block_device, device.make_file_system())
        assert client.init() == 0
        client.add_component(Component("RADIO", "1.0.0", install))
        assert client.register_and_connect()
        return client

    registry.register("with-radio", application)
    radio = bytes(range(256)) * 40

    async def story(lab: VirtualLab) -> None:
        credentials = Credentials("measured", lab.core.bootstrap_uri, lab.core.account_id)
        await registered(
            lab, lab.board.build("with-radio", credentials=credentials, update_resources=update_resources())
        )
        boots = lab.board.boots
        row = await campaign(lab, radio, component="RADIO", version="2.0.0")
        assert row["phase"] == "success" and lab.board.boots == boots, (row, lab.read_console())
        assert flashed == {"2.0.0": radio}
        row = await campaign(lab, radio, component="SCREEN")
        assert row["phase"] != "success" and "result 39" in row["description"].lower()

    play(story, "K64F", seed=3, link=LINK)
