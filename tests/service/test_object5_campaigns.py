"""Campaigns for devices with OMA's firmware object: pushed or fetched, every result in words, killed at any moment."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client.plain.factory import make_session
from pdmlab.client.plain.firmware import FirmwareObject
from pdmlab.client.plain.firmware_store import MemoryFirmware
from pdmlab.client.plain.session import Session
from pdmlab.coap.transport import Address
from pdmlab.errors import ConfigError
from pdmlab.network.link import Link
from pdmlab.service.deployment_offer import check_delivery
from pdmlab.update.manifest import Manifest, PayloadFormat, PayloadMetadata
from pdmlab.update.object5 import Protocol, Result, State
from pdmlab.update.packages import Firmware, pack_image
from tests.client.test_plain_service import Host
from tests.service.corelab import CoreLab, FakeDevice, Stage, value
from tests.service.fota import KEY, Updatable, publish
from tests.service.test_crashes import CrashLab, ended, killed

PACKAGE = pack_image(bytes(number * 31 % 256 for number in range(20_000)), "1.1.0")


class Counted(MemoryFirmware):
    """Firmware in memory that counts what is installed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.installed: list[str] = []

    def install(self, firmware: Firmware) -> None:
        self.installed.append(str(firmware.version))
        super().install(firmware)


class Plain:
    """A plain device at the service."""

    def __init__(self, lab: CoreLab, firmware: FirmwareObject | None = None, *, lifetime: int = 300) -> None:
        self.lab, self.firmware = lab, firmware or FirmwareObject(Counted())
        lab.host("plain-1", Link(latency=2_000_000))
        self.session: Session = make_session(
            "plain-1", "coap://service:5685", bootstrap=False, credentials=None, lifetime=lifetime, version="1.1",
            queue_mode=False, objects=[self.firmware], network=Host(lab, "plain-1"), tap=lambda *message: None,
            restart=lambda: self.session.restart(), seed=1,
        )  # fmt: skip
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> Plain:
        self.task = asyncio.ensure_future(self.session.run())
        await asyncio.wait_for(self.session.online.wait(), 300)
        return self

    @property
    def id(self) -> str:
        return self.session.links[0].registration.location[-1]

    @property
    def store(self) -> Counted:
        assert isinstance(self.firmware.store, Counted)
        return self.firmware.store

    async def close(self) -> None:
        self.session.close()
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


async def plain(lab: CoreLab, firmware: FirmwareObject | None = None, **options: Any) -> Plain:
    device = Plain(lab, firmware, **options)
    lab.devices.append(device)  # type: ignore[arg-type]  # closed with the lab
    return await device.start()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def campaign(lab: CoreLab, on_way: Callable[[str], Awaitable[None]] | None = None, **options: Any) -> Any:
    """Run a campaign to its end; return the device's row."""
    id = publish(lab, **{"image": PACKAGE, **options})
    lab.core.campaigns.start(lab.core.account_id, id)
    if on_way is not None:
        await on_way(id)
    end = lab.now() + 2 * 3600
    while lab.core.campaigns.find(lab.core.account_id, id)["phase"] != "stopped":
        assert lab.now() < end, lab.core.campaigns.progress(id)
        await asyncio.sleep(1)
    return lab.core.campaigns.metadata(lab.core.account_id, id)[0]


@pytest.mark.parametrize("how", ["push", "pull"])
def test_a_campaign_updates_a_device_with_object_5(play: Stage, how: Any) -> None:
    async def story(lab: CoreLab) -> None:
        lab.core.campaigns.prefer = how
        device = await plain(lab)
        seen: list[dict[str, Any]] = []

        async def look(id: str) -> None:
            while not seen or seen[-1]["phase"] not in ("installing", "success", "fail"):
                seen.extend(lab.core.campaigns.progress(id))
                await asyncio.sleep(0.002)

        row = await campaign(lab, look)
        assert (row["summary_status"], row["event_type"]) == ("success", "UPD4_SUCCESS_100")
        assert device.store.installed == ["1.1.0"] and row["tries"] == 1 and row["done_B"] == len(PACKAGE)
        phases = list(dict.fromkeys(each["phase"] for each in seen))
        assert phases == ["waiting", "sending", "downloading", "installing"]
        loading = [each for each in seen if each["phase"] == "downloading" and each["left_s"] is not None]
        assert len({each["done_B"] for each in loading}) > 5 and loading[0]["left_s"] > loading[-1]["left_s"]
        assert loading[-1]["total_B"] == len(PACKAGE)
        asked = {f"{m.code} {m.path}" for m in lab.log if m.path.startswith(("/5/", "/fw"))}
        assert (("PUT /5/0/0" in asked), any("GET /fw/" in each for each in asked)) == (how == "push", how == "pull")
        assert not any(m.path == "/10252/0/1" for m in lab.log)
        assert (await campaign(lab))["summary_status"] == "skipped"
        await asyncio.sleep(1)
        assert lab.core.observations.table(device.id) == [], "nobody watches it any more"

    play(story)


@pytest.mark.parametrize("result", range(2, 10))
@pytest.mark.parametrize("how", ["push", "pull"])
def test_each_result_that_a_device_reports_is_in_words(play: Stage, how: Any, result: int) -> None:
    async def story(lab: CoreLab) -> None:
        lab.core.campaigns.prefer = how
        device = await plain(lab)
        device.firmware.fail_next(result)
        row = await campaign(lab)
        assert (row["summary_status"], row["event_type"]) == ("fail", f"UPD5_FAIL_{result}")
        assert (row["result"], row["deployment_state"]) == (result, "failed_connector_channel_update")
        known = Result(result)
        assert known.meaning in row["description"] and known.advice in row["description"]
        account = lab.core.account_id
        (event,) = lab.core.campaigns.event_types(account, row["campaign_id"], "fail")
        assert event["id"] == f"upd5_fail_{result}" and event["description"].lower() == known.meaning.lower()
        assert device.store.installed == [] and device.store.running.version == "1.0.0"
        assert (await campaign(lab))["summary_status"] == "success"  # it can be updated again

    play(story)


@pytest.mark.parametrize(
    ("delivery", "protocols", "prefer", "how"),
    [
        ("both", [Protocol.COAP], "push", "push"),
        ("both", [Protocol.COAP], "pull", "pull"),
        ("push", [Protocol.COAP], "pull", "push"),
        ("pull", [Protocol.COAP], "push", "pull"),
        ("both", [Protocol.HTTPS], "pull", "push"),
        ("pull", [Protocol.HTTPS], "pull", "the device fetches firmware by https alone"),
    ],
)
def test_how_the_image_comes_is_what_the_device_takes(
    play: Stage, delivery: Any, protocols: list[Protocol], prefer: Any, how: str
) -> None:
    async def story(lab: CoreLab) -> None:
        lab.core.campaigns.prefer = prefer
        await plain(lab, FirmwareObject(Counted(), delivery=delivery, protocols=protocols))
        row = await campaign(lab)
        pushed = any(m.path == "/5/0/0" for m in lab.log)
        if how in ("push", "pull"):
            assert row["summary_status"] == "success" and pushed == (how == "push")
        else:
            assert row["event_type"] == "UPD4_FAIL_106" and how in row["description"].lower() and not pushed

    play(story)


def test_a_device_that_fetches_by_http_gets_the_address_of_the_image_server(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        lab.core.firmware.url = "http://192.0.2.1:8080"
        device = await plain(lab, FirmwareObject(Counted(), delivery="pull", protocols=[Protocol.HTTP]))
        row = await campaign(lab)
        (written,) = [m for m in lab.log if m.path == "/5/0/1" and m.code == "PUT"]
        image = lab.core.firmware.payload(
            lab.core.campaigns.find(lab.core.account_id, row["campaign_id"])["payload_uri"]
        )
        assert image is not None and written.payload_B == len(
            f"http://192.0.2.1:8080/v3/firmware-images/{image.id}/firmware.bin"
        )
        assert row["event_type"] == "UPD5_FAIL_4", "nobody is there in this lab"
        assert device.firmware.reason

    play(story)


def signed(**changes: Any) -> Callable[[bytes, str, str], bytes]:
    def sign(image: bytes, uri: str, version: str) -> bytes:
        made = Manifest.for_image(image, version=version, uri=uri, vendor_id=b"v" * 16, class_id=b"c" * 16)
        return replace(made, **changes).sign(KEY)

    return sign


def test_the_service_checks_what_such_a_device_cannot(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, directory = await plain(lab), lab.core.directory
        directory.change(device.id, vendor_id=(b"w" * 16).hex())
        row = await campaign(lab, sign=signed())
        assert row["event_type"] == "UPD4_FAIL_106" and "the device's vendor is 7777" in row["description"]
        directory.change(device.id, vendor_id=(b"v" * 16).hex(), device_class=(b"d" * 16).hex())
        row = await campaign(lab, sign=signed())
        assert row["event_type"] == "UPD4_FAIL_106" and "the device's class is 6464" in row["description"]
        directory.change(device.id, device_class=(b"c" * 16).hex())
        row = await campaign(lab, sign=signed(component="MODEM"))
        assert row["event_type"] == "UPD4_FAIL_106" and "component MODEM" in row["description"]
        delta = {"format": PayloadFormat.DELTA, "metadata": PayloadMetadata(100, bytes(32), bytes(32))}
        row = await campaign(lab, sign=signed(**delta))
        assert row["event_type"] == "UPD4_FAIL_106" and "neither deltas" in row["description"]
        assert device.store.installed == []
        assert (await campaign(lab, sign=signed()))["summary_status"] == "success"

    play(story)


def test_an_image_that_is_elsewhere_is_fetched_from_there_or_not_at_all(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await plain(lab)

        def elsewhere(image: bytes, uri: str, version: str) -> bytes:
            return signed(uri="https://example.com/fw.bin")(image, uri, version)

        row = await campaign(lab, sign=elsewhere)
        assert row["event_type"] == "UPD4_FAIL_106" and "does not fetch https://example.com" in row["description"]
        assert device.firmware.state is State.IDLE

    play(story)


@pytest.mark.parametrize("how", ["push", "pull"])
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_service_that_restarts_in_the_middle_goes_on(play: Stage, how: Any, kill: bool) -> None:
    async def story(lab: CoreLab) -> None:
        lab.core.campaigns.prefer = how
        device = await plain(lab)

        async def restart(id: str) -> None:
            await until(lambda: device.firmware._received > 4000)
            await lab.restart(away=20, kill=kill)
            lab.core.campaigns.prefer = how

        row = await campaign(lab, restart)
        assert row["summary_status"] == "success", row
        assert device.store.installed == ["1.1.0"]

    play(story)


def test_a_device_that_vanishes_in_the_middle_is_sent_it_again(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        lab.core.campaigns.prefer = "push"
        device = await plain(lab)

        async def vanish(id: str) -> None:
            await until(lambda: device.firmware._received > 4000)
            await device.close()
            await asyncio.sleep(400)
            again = Plain(lab, FirmwareObject(device.store))
            lab.devices.append(again)  # type: ignore[arg-type]
            await again.start()

        row = await campaign(lab, vanish)
        assert (row["summary_status"], row["tries"]) == ("success", 2) and device.store.installed == ["1.1.0"]

    play(story)


def test_what_an_update_before_has_left_is_withdrawn_first(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await plain(lab)
        other = pack_image(b"another image", "9.0.0")
        await device.firmware.take(other, 0, more=False, total=None, sender="somebody else")
        assert device.firmware.state is State.DOWNLOADED
        assert (await campaign(lab))["summary_status"] == "success"
        assert device.store.installed == ["1.1.0"]

    play(story)


def test_a_campaign_that_is_stopped_leaves_the_device_to_itself(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await plain(lab)

        async def stop(id: str) -> None:
            await until(lambda: device.firmware.state is State.DOWNLOADING)
            lab.core.campaigns.stop(lab.core.account_id, id)

        row = await campaign(lab, stop)
        assert row["event_type"] == "UPD4_SKIPPED_101"
        await asyncio.sleep(60)
        assert device.firmware.state is State.DOWNLOADED and device.store.installed == []

    play(story)


def test_a_device_with_the_vendors_object_too_gets_the_manifest(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        update = Updatable(lab, device)
        device.values |= {"/5/0/3": b"0", "/5/0/5": b"0"}
        await device.bootstrap()
        await device.register()
        row = await campaign(lab)
        assert row["summary_status"] == "success" and update.manifests == 1
        assert not any(m.path.startswith("/5/") for m in lab.log)

    play(story)


class OldDevice(FakeDevice):
    """Somebody else's device, in plain text: object 5 pushed in one way only, and a word for everything it refuses."""

    refuses_update: codes.Code | None = None
    reports = True
    returns = b"1.1.0"

    def prepare(self) -> OldDevice:
        self.values = {"/3/0/3": b"1.0.0", "/5/0/1": b"", "/5/0/3": b"0", "/5/0/5": b"0", "/5/0/9": b"1"}
        self.got = bytearray()
        self.executed = 0
        return self

    async def _answer(self, message: Message, peer: Address) -> Message | None:
        path = "/" + "/".join(message.opt.uri_path)
        if message.code == codes.PUT and path == "/5/0/0":
            self.got = bytearray(message.payload)
            self.values["/5/0/3"] = b"2"
            return Message(code=codes.CHANGED)
        if message.code == codes.PUT and path == "/5/0/1":
            self.values |= {"/5/0/3": b"0", "/5/0/5": b"0"}
            return Message(code=codes.CHANGED)
        if message.code == codes.POST and path == "/5/0/2":
            self.executed += 1
            if self.refuses_update is not None:
                return Message(code=self.refuses_update, payload=b"not today")
            asyncio.get_running_loop().create_task(self._restart())
            return Message(code=codes.CHANGED)
        return await super()._answer(message, peer)

    async def _restart(self) -> None:
        await asyncio.sleep(0.5)
        self.power_off()
        await asyncio.sleep(5)
        await self.power_on()
        self.values |= {"/3/0/3": self.returns, "/5/0/3": b"0", "/5/0/5": b"1" if self.reports else b"0"}
        await self.register("ep=old", "lt=3600", "lwm2m=1.0", "b=U")


async def old(lab: CoreLab, **options: Any) -> OldDevice:
    device = OldDevice(lab, "old").prepare()
    for name, given in options.items():
        setattr(device, name, given)
    lab.devices.append(device)
    await device.power_on()
    await device.register("ep=old", "lt=3600", "lwm2m=1.0", "b=U")
    return device


@pytest.mark.parametrize("reports", [True, False])
def test_a_device_of_another_vendor_is_pushed_to_and_proves_it_by_version_or_result(play: Stage, reports: bool) -> None:
    async def story(lab: CoreLab) -> None:
        device = await old(lab, reports=reports, returns=b"build 4711" if reports else b"1.1.0")
        row = await campaign(lab)
        assert row["summary_status"] == "success" and bytes(device.got) == PACKAGE and device.executed == 1

    play(story)


def test_a_device_of_another_vendor_that_comes_back_as_it_was_has_failed(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        await old(lab, reports=False, returns=b"1.0.0")
        row = await campaign(lab)
        assert row["event_type"] == "UPD4_FAIL_103" and "came back with version 1.0.0" in row["description"]

    play(story)


def test_a_device_that_does_not_want_to_install_says_so(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await old(lab, refuses_update=codes.FORBIDDEN)
        row = await campaign(lab)
        assert row["event_type"] == "UPD4_FAIL_107" and "4.03 Forbidden not today" in row["description"]
        assert device.executed == 1

    play(story)


def test_object_5_is_used_by_hand_too(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await plain(lab)
        image = lab.core.firmware.add_image(lab.core.account_id, "image", PACKAGE)
        uri = f"{lab.core.address('lwm2m', 'coap')}/fw/{image['id']}".encode()
        for method, path, payload in (("PUT", "/5/0/1", uri), ("GET", "/5/0/1", b"")):
            await lab.ask(device, method, path, payload, content_type="text/plain")  # type: ignore[arg-type]
            (answer,) = await lab.answers()
            assert answer["status"] == 200
        assert value(answer) == uri or device.firmware.state is not State.DOWNLOADING
        while device.firmware.state is State.DOWNLOADING:
            await asyncio.sleep(0.1)
        await lab.ask(device, "POST", "/5/0/2")  # type: ignore[arg-type]
        (answer,) = await lab.answers()
        assert answer["status"] == 200 and base64.b64decode(answer["payload"]) == b""
        await asyncio.sleep(5)
        assert device.store.installed == ["1.1.0"]

    play(story)


# -- killed at any moment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["push", "pull"])
def test_a_service_killed_before_any_of_its_moments_updates_a_device_of_object_5_once(tmp_path: Path, how: Any) -> None:
    image = pack_image(b"small" * 300, "1.1.0")

    async def story(lab: CrashLab) -> tuple[list[str], dict[str, Any]]:
        device = await plain(lab)
        id = publish(lab, image=image)

        def prefer() -> None:
            lab.core.campaigns.prefer = how

        lab.up.set()
        prefer()
        start = lab.start

        async def restarted() -> None:
            await start()
            prefer()

        lab.start = restarted  # type: ignore[method-assign]
        await ended(lab, id)
        (row,) = lab.core.campaigns.metadata(lab.core.account_id, id)
        return device.store.installed, row

    moments, (installed, row) = killed(tmp_path / "whole", None, story)
    assert installed == ["1.1.0"] and row["summary_status"] == "success"
    for at in range(0, len(moments), 9):
        _, (installed, row) = killed(tmp_path / str(at), at, story)
        assert (row["summary_status"], installed) == ("success", ["1.1.0"]), (at, moments[at], row)


def test_a_preference_is_one_of_two() -> None:
    assert (check_delivery(""), check_delivery("pull"), check_delivery("push")) == ("pull", "pull", "push")
    with pytest.raises(ConfigError, match="not delivered by 'pigeon'"):
        check_delivery("pigeon")
