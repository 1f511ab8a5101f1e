"""The device's own words on its updates: answered when they are read, and in no registration."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiocoap.numbers import codes

from pdmlab.client import SimpleMbedCloudClient
from pdmlab.errors import StorageError
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import OPAQUE, TEXT, TLV
from pdmlab.update import device_words
from tests.client.bench import Cloud
from tests.client.test_resources import Desk, read


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_slots_log_and_bootloader_are_read_in_one_exchange(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        code, format, payload = read(await cloud.get("/26241/0", accept=TLV))
        assert (code, format) == ("2.05", TLV)
        words = device_words.read(payload)
        assert words is not None
        assert words["bootloader"] == "fota" and words["refusal"] == ""
        active, candidate = words["slots"]
        assert (active["name"], active["medium"], active["offset"]) == ("active", "FLASHIAP", 0x10000)
        assert candidate["name"] == "candidate" and candidate["size"] > 0
        assert {area["name"] for area in words["areas"]} >= {"bootloader", "header", "application", "SOTP section 1"}
        assert words["media"] == {"FLASHIAP": 1 << 20}
        assert device_words.picture(words).count("data-area=") >= 3

    desk.play(story)


def test_a_storage_that_the_application_never_opened_is_open_for_the_look_only(desk: Desk) -> None:
    device = desk.bench.candidate.region.device
    device.deinit()

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        words = device_words.read((await cloud.get("/26241/0")).payload)
        assert words is not None and [slot["state"] for slot in words["slots"]][1] == "empty"
        with pytest.raises(StorageError):
            device.read(0, 512)

    desk.play(story)


def test_each_of_them_is_text_and_the_object_has_its_instance_around_it(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert read(await cloud.get("/26241/0/0")) == ("2.05", TEXT, b"fota")
        assert "slots" in json.loads((await cloud.get("/26241/0/1", accept=TEXT)).payload)
        assert read(await cloud.get("/26241/0/0", accept=TLV)) == ("2.05", TLV, b"\xc4\x00fota")
        (instance,) = tlv.decode((await cloud.get("/26241")).payload)
        assert (instance.kind, instance.id, len(instance.entries)) == (tlv.Kind.OBJECT_INSTANCE, 0, 4)

    desk.play(story)


def test_there_is_nothing_else_and_nothing_is_observed_or_announced(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        for path in ("/26241/1", "/26241/0/4", "/26241/0/1/0", "/26242/0"):
            assert read(await cloud.get(path))[0] == "4.04", path
        assert read(await cloud.get("/26241/0", accept=OPAQUE))[0] == "4.06"
        assert read(await cloud.get("/26241/0/1", observe=0))[0] == "4.05"
        assert cloud.links and not [path for path in cloud.links if path.startswith("/26241")]

    desk.play(story)


def test_what_the_client_last_refused_is_told_in_its_words(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await cloud.ask(codes.POST, "/10252/0/1", b"no manifest")
        await asyncio.sleep(5)
        words = device_words.read((await cloud.get("/26241/0")).payload)
        assert words is not None and "result 2" in words["refusal"]

    desk.play(story)
