"""Updates over the LwM2M connection whose application answers later, brings components, or finds the old firmware."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import pytest
from aiocoap.numbers import codes

from pdmlab.client import SimpleMbedCloudClient, UpdateQuestion, UpdateRequest
from pdmlab.errors import ConfigError
from pdmlab.update.components import Component, Installation
from pdmlab.update.credentials import UpdateResources
from pdmlab.update.manifest import Manifest
from tests.client.bench import Cloud
from tests.client.test_update import CLASS, IMAGE, KEY, RESULT, STATE, URI, VENDOR, Desk, order, resources, told

__all__ = ["resources"]  # the fixture


@pytest.fixture
def desk(resources: UpdateResources) -> Desk:
    return Desk(resources)


def asks(questions: list[UpdateQuestion]) -> Callable[[SimpleMbedCloudClient], None]:
    """Prepare a client that asks and does not wait for the answer in its callback."""
    return lambda client: client.on_update_question(questions.append)


def test_an_answer_may_come_days_later_from_any_thread(desk: Desk) -> None:
    questions: list[UpdateQuestion] = []

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        asks(questions)(client)
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await asyncio.sleep(3600)
        assert told(cloud, STATE) == [3] and repr(questions) == "[<Download of MAIN 1.0.1?>]"
        client.update_authorize(UpdateRequest.Install)  # that is not what was asked
        await asyncio.sleep(3600)
        assert told(cloud, STATE) == [3]
        await asyncio.to_thread(questions[0].authorize)
        await cloud.until(lambda: told(cloud, STATE) == [3, 4, 6])
        questions[0].reject()  # it was answered
        await asyncio.sleep(3600)
        client.update_authorize(UpdateRequest.Install)
        await desk.bench.restarted.wait()
        assert told(cloud, STATE) == [3, 4, 6, 7, 8] and told(cloud, RESULT) == []
        assert [question.request for question in questions] == [UpdateRequest.Download, UpdateRequest.Install]

    desk.play(story)


@pytest.mark.parametrize("step", [UpdateRequest.Download, UpdateRequest.Install])
def test_an_update_that_is_put_off_waits_for_the_application(desk: Desk, step: UpdateRequest) -> None:
    questions: list[UpdateQuestion] = []

    def answer(question: UpdateQuestion) -> None:
        questions.append(question)
        if question.request == step and len(questions) <= step:
            question.defer()
        else:
            question.authorize()

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        client.on_update_question(answer)
        await cloud.ask(codes.POST, "/10252/0/1", order())
        waits = [3, 2] if step == UpdateRequest.Download else [3, 4, 6]
        await cloud.until(lambda: told(cloud, STATE) == waits)
        client.register_update()
        await asyncio.sleep(86_400)
        assert told(cloud, STATE) == waits
        client.update_resume()
        await desk.bench.restarted.wait()
        assert told(cloud, STATE) == [*waits, 3, 4, 6, 7, 8]

    desk.play(story)


def test_an_update_that_is_put_off_may_be_rejected_with_a_reason(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        client.on_update_question(UpdateQuestion.defer)
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await cloud.until(lambda: told(cloud, STATE) == [3, 2])
        client.update_reject(UpdateRequest.Download, 127)
        await cloud.until(lambda: told(cloud, STATE) == [3, 2, 1])
        assert told(cloud, RESULT) == [38] and "reason 127" in client.error_description
        client.on_update_question(None)
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await desk.bench.restarted.wait()

    desk.play(story)


def test_a_question_that_nobody_answered_is_asked_again_after_a_reset(desk: Desk) -> None:
    questions: list[UpdateQuestion] = []

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        asks(questions)(client)
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await cloud.until(lambda: told(cloud, STATE) == [3])
        await asyncio.sleep(60)
        desk.bench.cut_power()
        await asyncio.sleep(1)
        cloud.notified.clear()
        await desk.bench.connect(asks(questions))
        await cloud.until(lambda: told(cloud, STATE) == [3])
        assert cloud.links[STATE].v == "2"
        await asyncio.sleep(60)
        questions[0].authorize()  # that one's board has lost its power
        await asyncio.sleep(60)
        assert told(cloud, STATE) == [3]
        questions[1].authorize()
        await cloud.until(lambda: told(cloud, STATE) == [3, 4, 6])

    desk.play(story)


def test_a_server_that_has_forgotten_the_device_in_mid_download_sees_the_update_begin_again(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await cloud.hears("fw 36")
        desk.bench.fabric.host("cloud").online = False
        await asyncio.sleep(300)
        cloud.answers["POST", "update"] = [codes.NOT_FOUND]
        desk.bench.fabric.host("cloud").online = True
        await desk.bench.restarted.wait()
        assert cloud.heard.count("POST rd") == 2
        assert told(cloud, STATE) == [3, 4, 2, 3, 4, 6, 7, 8]
        assert desk.asked == [UpdateRequest.Download, UpdateRequest.Install], "it was allowed already"
        blocks = [int(what.split()[1]) for what in cloud.heard if what.startswith("fw")]
        assert blocks.count(0) == 1, "what the slot holds is not fetched again"

    desk.play(story)


def test_a_firmware_that_the_bootloader_did_not_install_is_reported_after_the_reboot(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        device_id = client.device_id
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await desk.bench.restarted.wait()
        desk.errors.clear()
        again = await desk.bench.connect(desk.prepare)  # and 1.0.0 still runs
        await cloud.hears("POST rd", 2)
        assert (cloud.links["/14/0/2"].v, cloud.links[STATE].v, cloud.links[RESULT].v) == ("1.0.0", "1", "40")
        await asyncio.sleep(60)
        assert len(desk.errors) == 1 and "1.0.1 was not installed: 1.0.0 runs" in again.error_description
        assert again.device_id == device_id, "it is who it was"
        desk.bench.restarted.clear()
        await cloud.ask(codes.POST, "/10252/0/1", order())
        await desk.bench.restarted.wait()
        desk.bench.run_version("1.0.1", hashlib.sha256(IMAGE).digest())
        await desk.bench.connect(desk.prepare)
        await cloud.hears("POST rd", 3)
        assert (cloud.links["/14/0/2"].v, cloud.links[RESULT].v) == ("1.0.1", "-1")

    desk.play(story)


# -- components --------------------------------------------------------------------------------------


def for_radio(version: str = "2.0.0") -> bytes:
    return Manifest.for_image(
        IMAGE, version=version, uri=URI, vendor_id=VENDOR, class_id=CLASS, component="RADIO"
    ).sign(KEY)


def test_a_component_of_the_application_is_updated_without_a_reboot(resources: UpdateResources) -> None:
    desk, flashed = Desk(resources), bytearray()

    def install(update: Installation) -> object:
        for piece in update.pieces():
            desk.bench.clock.sleep(1_000_000)  # it takes its time
            flashed.extend(piece)
        return bytes(flashed) == IMAGE

    radio = Component("RADIO", "1.0.0", install)

    def prepare(client: SimpleMbedCloudClient) -> None:
        desk.prepare(client)
        client.add_component(radio)

    async def story() -> None:
        cloud = await Cloud(desk.bench, firmware={URI: IMAGE}).open()
        client = await desk.bench.connect(prepare)
        await cloud.registered.wait()
        assert [cloud.links[path].v for path in ("/14/0/0", "/14/1/0", "/14/0/2", "/14/1/2")] == [
            "MAIN", "RADIO", "1.0.0", "1.0.0",
        ]  # fmt: skip
        with pytest.raises(ConfigError):
            client.add_component(Component("LATE", "1.0.0", install))
        await cloud.ask(codes.POST, "/10252/0/1", for_radio())
        await cloud.until(lambda: told(cloud, STATE)[-1:] == [1])
        assert (told(cloud, STATE), told(cloud, RESULT)) == ([3, 4, 6, 7, 1], [18])
        assert bytes(flashed) == IMAGE and desk.errors == [] and desk.bench.resets == 0
        await cloud.until(lambda: "update" in cloud.heard)
        assert (await cloud.get("/14/1/2")).payload == b"2.0.0"
        desk.bench.cut_power()
        await asyncio.sleep(1)
        await desk.bench.connect(prepare)
        await cloud.hears("POST rd", 2)
        assert (cloud.links["/14/1/2"].v, cloud.links["/14/0/2"].v) == ("2.0.0", "1.0.0"), "it is in secure storage"

    desk.bench.play(story)


def test_names_of_components_are_taken_once(resources: UpdateResources) -> None:
    desk = Desk(resources)

    def prepare(client: SimpleMbedCloudClient) -> None:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(ConfigError, match="older update hub"):
            patch.setattr(desk.bench.bootloader, "kind", "mbed", raising=False)
            client.add_component(Component("RADIO", "1.0.0", bool))
        for number in range(7):
            client.add_component(Component(f"PART{number}", "1.0.0", bool))
        for name in ("PART0", "MAIN", "PART8"):
            with pytest.raises(ConfigError):
                client.add_component(Component(name, "1.0.0", bool))

    async def story() -> None:
        cloud = await Cloud(desk.bench).open()
        await desk.bench.connect(prepare)
        await cloud.registered.wait()
        assert cloud.links["/14/7/0"].v == "PART6"

    desk.bench.play(story)
