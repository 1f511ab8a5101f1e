"""A board with a plain LwM2M client and a campaign, on one virtual clock: object 5, down to the bootloader."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.client import Lwm2mClient
from pdmlab.clock import SECOND, DeviceClock
from pdmlab.errors import ConfigError
from pdmlab.firmware import registry
from pdmlab.firmware.device import Device
from pdmlab.firmware.lwm2m import lwm2m
from pdmlab.network.fabric import Fabric
from pdmlab.service.core import Core
from pdmlab.sim.board import VirtualBoard
from pdmlab.update.credentials import Credentials
from pdmlab.update.der import sign_digest
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.manifest import Manifest
from pdmlab.update.object5 import Result, State
from pdmlab.update.packages import pack_image
from pdmlab.update.version import Version

EPOCH = 1_767_225_600.0
KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
APPLICATION = "plain-device"
CREDENTIALS = Credentials("plain-1", "coap://service:5683")


class Desk:
    """A service, a board of another vendor, and the board's latest client."""

    def __init__(self, clock: DeviceClock, bootloader: Any = "fota") -> None:
        self.clock = clock
        self.fabric = Fabric(clock, 5)
        self.core = Core("sqlite://", now=lambda: EPOCH + clock.now() / SECOND, seed=5)
        self.board = VirtualBoard(
            "K64F", id="plain-story", memory=True, clock=clock, fabric=self.fabric, seed=5, power=False,
            bootloader=bootloader,
        )  # fmt: skip
        self.clients: list[Lwm2mClient] = []
        registry.register(APPLICATION, self.run)

    def run(self, device: Device) -> Lwm2mClient:
        client = lwm2m(device)
        self.clients.append(client)
        return client

    @property
    def client(self) -> Lwm2mClient:
        return self.clients[-1]

    def image(self, version: str) -> bytes:
        return self.board.build(APPLICATION, version=version, credentials=CREDENTIALS)

    async def until(self, condition: Callable[[], object], seconds: float = 4 * 3600) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.25)

    async def begin(self) -> str:
        """Start all of it; return the device's id."""
        cloud = self.fabric.host("service")
        await self.core.start(bootstrap=cloud.opener(5683), lwm2m=cloud.opener(5685))
        self.board.flash(self.image("1.0.0"))
        await self.until(lambda: list(self.core.registrations))
        return next(each.device_id for each in self.core.registrations)

    async def campaign(self, image: bytes, version: str, on_way: Callable[[], Awaitable[None]] | None = None) -> Any:
        """Run a campaign to its end; return the device's row."""
        core, account = self.core, self.core.account_id
        row = core.firmware.add_image(account, "image", image)
        uri = f"http://127.0.0.1/v3/firmware-images/{row['id']}/firmware.bin"
        order = Manifest.for_image(image, version=version, uri=uri, vendor_id=bytes(16), class_id=bytes(16)).sign(KEY)
        manifest = core.firmware.add_manifest(account, version, order)
        id = core.campaigns.create(account, device_filter="state=registered", root_manifest_id=manifest["id"])["id"]
        core.campaigns.start(account, id)
        if on_way is not None:
            await on_way()
        await self.until(lambda: core.campaigns.find(account, id)["phase"] == "stopped")
        return core.campaigns.metadata(account, id)[0]


def play(story: Callable[[Desk], Awaitable[None]], make: type[Desk] = Desk, **options: Any) -> None:
    with DeviceClock() as clock:
        desk = make(clock, **options)

        async def told() -> None:
            try:
                await story(desk)
            finally:
                await desk.core.stop()

        try:
            clock.call_async(told())
        finally:
            desk.board.close()


@pytest.mark.parametrize("how", ["push", "pull"])
def test_a_campaign_updates_a_plain_board_through_its_bootloader(how: Any) -> None:
    async def story(desk: Desk) -> None:
        desk.core.campaigns.prefer = how
        device_id = await desk.begin()
        row = await desk.campaign(desk.image("1.0.1"), "1.0.1")
        assert (row["summary_status"], row["deployment_state"]) == ("success", "deployed")
        assert str(desk.board.installed()) == f"{APPLICATION} 1.0.1 (build 0)"
        assert (desk.client.firmware.state, desk.client.firmware.result) == (State.IDLE, Result.SUCCESS)
        assert desk.client["/3/0/3"] == "1.0.1" and len(desk.clients) == 2
        assert [each.device_id for each in desk.core.registrations] == [device_id]
        assert desk.board.machine.boot_result.installed
        said = [line.rpartition("Firmware update: ")[2] for line in desk.board.console.transcript["text"]]
        for line in (
            "state 1 (downloading), version 1.0.0",
            "state 2 (downloaded), version 1.0.1",
            "state 3 (updating), version 1.0.1",
            "state 0 (idle), result 1 (the update succeeded), version 1.0.1",
        ):
            assert line in said, said
        assert desk.client["/33629/0/15"] == "1.0.1"
        assert sum(each.bootstraps for each in [one._session for one in desk.clients]) == 1, "it is kept"
        again = await desk.campaign(desk.image("1.0.1"), "1.0.1")
        assert again["summary_status"] == "skipped"
        # What a reset finds is what it was.
        desk.board.reset()
        await desk.until(lambda: len(desk.clients) == 3 and desk.client.is_registered)
        assert (desk.client.firmware.state, desk.client.firmware.result) == (State.IDLE, Result.SUCCESS)

    play(story)


def test_a_pull_whose_link_is_lost_goes_on_where_it_was_once_it_is_back() -> None:
    async def story(desk: Desk) -> None:
        desk.core.campaigns.prefer = "pull"
        device_id = await desk.begin()

        async def unplug() -> None:
            await desk.until(lambda: desk.client.firmware._received > 50_000)
            desk.board.faults.unplug_network()
            await asyncio.sleep(150)
            desk.board.faults.plug_network()

        row = await desk.campaign(desk.image("1.0.1"), "1.0.1", unplug)
        assert (row["summary_status"], row["tries"]) == ("success", 1), row
        log = desk.clients[0].log.frame()
        parts = log[(log.direction == "in") & log.path.astype(str).str.startswith("/fw/")]
        assert len(parts) == len(desk.image("1.0.1")) // 1024, "each block once"
        assert [each.device_id for each in desk.core.registrations] == [device_id]

    play(story)


@pytest.mark.parametrize("bootloader", ["mbed", "trial"])
def test_the_other_bootloaders_install_such_packages_too(bootloader: Any) -> None:
    async def story(desk: Desk) -> None:
        await desk.begin()
        package = desk.image("1.0.1")
        if bootloader == "trial":
            row = await desk.campaign(package, "1.0.1")
            assert row["event_type"] == "UPD5_FAIL_6", "it starts signed images only"
            assert "has no signature" in desk.client.firmware.reason
            key = desk.board._programmer._keys.present
            package = pack_image(package, "1.0.1", sign=lambda digest: sign_digest(key, digest))
        row = await desk.campaign(package, "1.0.1")
        assert row["summary_status"] == "success", (row, desk.client.firmware.reason)
        assert str(desk.board.installed()) == f"{APPLICATION} 1.0.1 (build 0)"
        assert desk.client.firmware.result is Result.SUCCESS
        desk.board.reset()  # nothing is on trial any more
        await desk.until(lambda: len(desk.clients) == 3 and desk.client.is_registered)
        assert str(desk.board.installed()) == f"{APPLICATION} 1.0.1 (build 0)"

    play(story, bootloader=bootloader)


def test_an_old_release_in_a_package_that_claims_a_high_version_is_damaged_for_a_board_with_trials() -> None:
    async def story(desk: Desk) -> None:
        await desk.begin()
        key = desk.board._programmer._keys.present
        old, new = desk.image("1.0.1"), desk.image("2.0.0")

        def sign(digest: bytes) -> bytes:
            return sign_digest(key, digest)

        for image, version in ((old, "1.0.1"), (new, "2.0.0")):
            assert (await desk.campaign(pack_image(image, version, sign=sign), version))["summary_status"] == "success"
        with pytest.raises(ConfigError, match="signed as 1"):
            pack_image(old, "999.999.999", sign=sign)
        digest = hashlib.sha256(old).digest()
        header = FirmwareHeader(len(old), Version.parse("999.999.999"), digest, signature=sign(digest))
        row = await desk.campaign(header.pack() + old, "999.999.999")
        assert row["event_type"] == "UPD5_FAIL_5"
        assert "its header says 999.999.999, what was signed 1.0.1" in desk.client.firmware.reason
        assert str(desk.board.installed()) == f"{APPLICATION} 2.0.0 (build 0)"
        newer = pack_image(desk.image("3.0.0"), "3.0.0", sign=sign)
        assert (await desk.campaign(newer, "3.0.0"))["summary_status"] == "success", "the counter is not spoiled"

    play(story, bootloader="trial")


def test_a_package_with_a_header_is_checked_and_a_damaged_one_refused_before_anything_is_installed() -> None:
    async def story(desk: Desk) -> None:
        await desk.begin()
        package = bytearray(pack_image(desk.image("1.0.1"), "1.0.1"))
        package[100_000] ^= 1
        row = await desk.campaign(bytes(package), "1.0.1")
        assert row["event_type"] == "UPD5_FAIL_5" and "the package is damaged" in row["description"]
        assert desk.client["/3/0/3"] == "1.0.0" and len(desk.clients) == 1
        row = await desk.campaign(pack_image(desk.image("1.0.1"), "1.0.1"), "1.0.1")
        assert row["summary_status"] == "success" and desk.client["/3/0/3"] == "1.0.1"

    play(story)


def test_what_the_bootloader_refuses_is_told_and_withdrawn() -> None:
    async def story(desk: Desk) -> None:
        await desk.begin()
        row = await desk.campaign(desk.image("0.9.0"), "0.9.0")  # this bootloader installs nothing older
        assert row["event_type"] == "UPD5_FAIL_8" and "bootloader's log" in row["description"]
        firmware = desk.client.firmware
        assert (firmware.state, firmware.result) == (State.DOWNLOADED, Result.FAILED)
        assert str(desk.board.installed()) == f"{APPLICATION} 1.0.0 (build 0)" and len(desk.clients) == 2
        desk.board.reset()
        await desk.until(lambda: len(desk.clients) == 3 and desk.client.is_registered)
        assert desk.board.machine.boot_result.refused is None, "the candidate was withdrawn"
        assert (desk.client.firmware.state, desk.client.firmware.result) == (State.DOWNLOADED, Result.FAILED)
        row = await desk.campaign(desk.image("1.0.1"), "1.0.1")
        assert row["summary_status"] == "success"

    play(story)


@pytest.mark.parametrize("how", ["push", "pull"])
def test_a_reset_in_the_middle_of_a_download_costs_that_download(how: Any) -> None:
    async def story(desk: Desk) -> None:
        desk.core.campaigns.prefer = how
        await desk.begin()

        async def reset() -> None:
            await desk.until(lambda: desk.client.firmware.state is State.DOWNLOADING)
            await asyncio.sleep(0.2)
            desk.board.reset()
            await desk.until(lambda: len(desk.clients) == 2)

        row = await desk.campaign(desk.image("1.0.1"), "1.0.1", reset)
        assert (row["summary_status"], row["tries"]) == ("success", 2)
        assert desk.client["/3/0/3"] == "1.0.1" and len(desk.clients) == 3

    play(story)


def test_a_factory_reset_forgets_what_the_bootstrap_server_has_told() -> None:
    async def story(desk: Desk) -> None:
        await desk.begin()
        desk.board.reset()
        await desk.until(lambda: len(desk.clients) == 2 and desk.client.is_registered)
        assert desk.client._session.bootstraps == 0
        await desk.client._session.tree[3].execute(0, 5, "")
        await desk.until(lambda: len(desk.clients) == 3 and desk.client.is_registered)
        assert desk.client._session.bootstraps == 1

    play(story)


def test_a_card_that_is_pulled_is_no_storage() -> None:
    async def story(desk: Desk) -> None:
        await desk.begin()
        desk.board.faults.pull_card()
        row = await desk.campaign(desk.image("1.0.1"), "1.0.1")
        assert row["event_type"] == "UPD5_FAIL_2"
        assert desk.client["/3/0/3"] == "1.0.0" and desk.client.is_registered
        desk.board.faults.seat_card()
        assert (await desk.campaign(desk.image("1.0.1"), "1.0.1"))["summary_status"] == "success"

    play(story)
