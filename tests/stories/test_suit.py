"""A board that takes SUIT envelopes as firmware packages: a campaign sends one, and the bootloader installs it."""

from __future__ import annotations

import datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.update import suit
from pdmlab.update.credentials import UpdateResources
from pdmlab.update.developer import update_certificate
from pdmlab.update.manifest import Manifest
from pdmlab.update.object5 import Result, State
from tests.stories.test_object5 import APPLICATION, CREDENTIALS, KEY, Desk, play

VENDOR, CLASS = b"v" * 16, b"c" * 16


class SuitDesk(Desk):
    """A desk whose firmware has an update certificate."""

    def image(self, version: str) -> bytes:
        certificate = update_certificate(KEY, "company.com", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
        update = UpdateResources(VENDOR, CLASS, certificate)
        return self.board.build(APPLICATION, version=version, credentials=CREDENTIALS, update_resources=update)

    def envelope(self, version: str, key: ec.EllipticCurvePrivateKey = KEY, vendor: bytes = VENDOR) -> bytes:
        image = self.image(version)
        made = suit.for_image(image, version=version, uri="#firmware", vendor_id=vendor, class_id=CLASS)
        return made.sign(key, {"#firmware": image})


@pytest.mark.parametrize("how", ["push", "pull"])
def test_a_signed_envelope_is_installed(how: str) -> None:
    async def story(desk: Desk) -> None:
        assert isinstance(desk, SuitDesk)
        desk.core.campaigns.prefer = how  # type: ignore[assignment]
        device_id = await desk.begin()
        row = await desk.campaign(desk.envelope("1.0.1"), "1.0.1")
        assert (row["summary_status"], row["deployment_state"]) == ("success", "deployed")
        assert str(desk.board.installed()) == f"{APPLICATION} 1.0.1 (build 0)"
        assert (desk.client.firmware.state, desk.client.firmware.result) == (State.IDLE, Result.SUCCESS)
        assert [each.device_id for each in desk.core.registrations] == [device_id]

    play(story, make=SuitDesk)


def test_what_nobody_may_install_is_refused_and_a_converted_manifest_installs_afterwards() -> None:
    async def story(desk: Desk) -> None:
        assert isinstance(desk, SuitDesk)
        await desk.begin()
        damaged = bytearray(desk.envelope("1.0.1"))
        damaged[-5] ^= 1
        refused = {
            "another key": (desk.envelope("1.0.1", key=ec.derive_private_key(9, ec.SECP256R1())), Result.INTEGRITY),
            "another byte of the image": (bytes(damaged), Result.INTEGRITY),
            "another vendor": (desk.envelope("1.0.1", vendor=bytes(16)), Result.FAILED),
            "an old version": (desk.envelope("0.9.0"), Result.FAILED),
            "cut off": (desk.envelope("1.0.1")[:-1], Result.PACKAGE_TYPE),
        }
        for what, (package, result) in refused.items():
            row = await desk.campaign(package, "1.0.1")
            assert row["summary_status"] == "fail", what
            assert desk.client.firmware.result is result, what
            assert str(desk.board.installed()) == f"{APPLICATION} 1.0.0 (build 0)" and desk.board.boots == 1
        image = desk.image("1.0.1")
        v3 = Manifest.for_image(image, version="1.0.1", uri="#firmware", vendor_id=VENDOR, class_id=CLASS)
        package = suit.convert(v3).manifest.sign(KEY, {"#firmware": image})
        row = await desk.campaign(package, "1.0.1")
        assert row["summary_status"] == "success" and str(desk.board.installed()) == f"{APPLICATION} 1.0.1 (build 0)"

    play(story, make=SuitDesk)
