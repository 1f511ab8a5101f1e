"""Queue mode, and the queue that one can look at: what waits, why, until when, and what lets it go."""

from __future__ import annotations

import asyncio

import pytest
from aiocoap.numbers import codes

from pdmlab.service.queue import COLUMNS, Queue
from pdmlab.service.refusal import Refused
from pdmlab.service.requests import MAX_QUEUED
from tests.service.corelab import CoreLab, FakeDevice, Stage, value
from tests.service.fota import publish, updatable
from tests.service.secure import SecureDevice, registered

WINDOW_S = 93.0
"""MAX_TRANSMIT_WAIT of RFC 7252: for so long after its last message a device in queue mode listens."""


async def sleeper(lab: CoreLab, *binding: str) -> FakeDevice:
    """Return a registered device in queue mode that has fallen asleep: what is sent to it now is lost."""
    device = await lab.device()
    await device.bootstrap()
    answer = await device.register("ep=desk1", f"iep={device.id}", "lt=3600", *(binding or ("lwm2m=1.0", "b=UQ")))
    assert answer.code == codes.CREATED
    await asyncio.sleep(WINDOW_S + 1)
    return device


@pytest.mark.parametrize("binding", [("lwm2m=1.0", "b=UQ"), ("lwm2m=1.1", "b=U", "Q"), ("lwm2m=1.0", "b=UQS")])
def test_queue_mode_is_told_in_the_ways_of_both_versions(play: Stage, binding: tuple[str, ...]) -> None:
    async def story(lab: CoreLab) -> None:
        device = await sleeper(lab, *binding)
        asked = len(device.asked)
        await lab.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(600)
        assert len(device.asked) == asked
        assert (await device.update()).code == codes.CHANGED
        assert (await lab.answers())[0]["status"] == 200

    play(story)


def test_what_waits_is_sent_one_by_one_after_the_update_and_within_the_window(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await sleeper(lab)
        ids = [await lab.ask(device, "GET", path) for path in ("/3/0/0", "/5000/0/1", "/3/0/0")]
        at_once: list[int] = []
        under_way = 0
        answer = device._answer

        async def slowly(message, peer):  # type: ignore[no-untyped-def]
            nonlocal under_way
            under_way += 1
            at_once.append(under_way)
            await asyncio.sleep(20)
            under_way -= 1
            return await answer(message, peer)

        device._answer = slowly  # type: ignore[method-assign]
        await device.close()
        await device.power_on()
        await device.update()
        assert [each["id"] for each in await lab.answers(3)] == ids
        assert at_once == [1, 1, 1]

    play(story)


def test_a_notification_wakes_the_queue_too(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device(aobs=("/5000/0/1",))
        await device.bootstrap()
        await device.register("ep=desk1", f"iep={device.id}", "lt=3600", "lwm2m=1.0", "b=UQ")
        await asyncio.sleep(WINDOW_S + 1)
        await lab.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(30)
        assert await device.notify("/5000/0/1", "awake") == "acknowledged"
        assert (await lab.answers())[0]["status"] == 200

    play(story)


def test_a_request_that_finds_the_device_asleep_already_waits_for_its_next_message(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.bootstrap()
        await device.register("ep=desk1", f"iep={device.id}", "lt=3600", "lwm2m=1.0", "b=UQ")
        await device.close()  # it sleeps sooner than the window ends: builds with connection ids do
        await lab.ask(device, "POST", "/5000/0/1")
        await asyncio.sleep(WINDOW_S + 60)
        (row,) = lab.core.requests.queue(device.id)
        assert row["state"] in ("waiting", "queued") and "no answer to 5 transmissions" in row["why"]
        await device.power_on()
        await device.update()
        assert (await lab.answers())[0]["status"] == 200
        assert device.asked.count("POST /5000/0/1") == 1

    play(story)


def test_everything_that_waits_is_in_the_queue_with_its_reason(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        update = await updatable(lab)
        device = update.device
        device.power_off()
        await asyncio.sleep(1)
        campaign = publish(lab)
        lab.core.campaigns.start(lab.core.account_id, campaign)
        lab.core.registrations.find(device.id).queue_mode = True
        await asyncio.sleep(WINDOW_S + 30)
        await lab.ask(device, "GET", "/3/0/0", expiry_s=500)
        await lab.ask(device, "PUT", "/5000/0/1", b"four")
        await lab.core.observations.subscribe(lab.key_id, device.id, "/3/0/0")
        await asyncio.sleep(1)
        queue = lab.core.requests.queue(device.id)
        assert [(row["kind"], row["request"], row["payload_B"]) for row in queue[:3]] == [
            ("request", "GET /3/0/0", 0),
            ("request", "PUT /5000/0/1", 4),
            ("observation", "GET /3/0/0 Observe", 0),
        ]
        kind = {row["kind"]: row for row in queue}
        assert kind["update"]["request"] == "POST /10252/0/1" and kind["update"]["payload_B"] > 100
        assert all("queue mode, and has slept" in row["why"] for row in queue)
        assert queue[0]["until"] > queue[0]["since"] and kind["observation"]["until"] is None
        assert list(queue.frame().columns) == list(COLUMNS) and len(queue.frame()) == 4
        shown = queue._repr_html_()
        assert shown.count("<tr>") == 5 and "PUT /5000/0/1" in shown
        assert repr(queue) == "<Queue, 4 waiting for 1 device>"
        assert lab.core.requests.queue(account_id=lab.new_account()) == []
        await device.power_on()
        await device.update()
        await asyncio.sleep(200)
        assert lab.core.requests.queue() == []

    play(story)


def test_what_is_shown_is_no_markup() -> None:
    row = dict.fromkeys(COLUMNS, "<script>alert(1)</script>")
    assert "<script>" not in Queue([row])._repr_html_()
    assert "Nothing waits" in Queue()._repr_html_()


def test_a_subscription_to_a_device_without_connection_says_what_it_waits_for(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        await device.disconnect("lwm2m")
        await lab.core.observations.subscribe(lab.key_id, device.id, "/5000/0/1")
        await asyncio.sleep(20)
        (row,) = lab.core.requests.queue(device.id)
        assert row["request"] == "GET /5000/0/1 Observe" and "it was to be back within about 14 s" in row["why"]
        await device.connect("lwm2m")
        await device.update()
        await lab.answers()
        assert lab.core.requests.queue(device.id) == []
        assert lab.core.observations.table(device.id)[0]["state"] == "active"

    play(story)


def test_the_twenty_first_request_is_refused_and_the_next_is_taken_when_one_is_done(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        await device.disconnect("lwm2m")
        for _ in range(MAX_QUEUED):
            await lab.ask(device, "GET", "/3/0/0")
        with pytest.raises(Refused, match="TOO_MANY_REQUESTS") as refused:
            await lab.ask(device, "GET", "/3/0/0")
        assert refused.value.status == 400
        await device.connect("lwm2m")
        await device.update()
        assert len(await lab.answers(MAX_QUEUED)) == MAX_QUEUED
        await lab.ask(device, "GET", "/3/0/0")
        assert (await lab.answers())[0]["status"] == 200

    play(story)


async def delaying(lab: CoreLab, seconds: float) -> SecureDevice:
    """Return a device that acknowledges executions at once, and answers them after a while, or never.

    It never does where the Content-Format is not one that it takes (docs/wire.md 4.3).
    """
    device = await registered(lab)
    answer = device._answer

    async def delayed(message, peer):  # type: ignore[no-untyped-def]
        if message.code != codes.POST:
            return await answer(message, peer)
        device.endpoint.acknowledge(message)
        if message.opt.content_format not in (None, 0):
            return None
        await asyncio.sleep(seconds)
        return await answer(message, peer)

    device._answer = delayed  # type: ignore[method-assign]
    await device.reconnect()
    return device


def test_an_answer_that_takes_minutes_is_waited_for_and_holds_up_nothing(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await delaying(lab, 600)
        begun = lab.now()
        execution = await lab.ask(device, "POST", "/5000/0/1", b"x", content_type="text/plain")
        reading = await lab.ask(device, "GET", "/3/0/0")
        (answer,) = await lab.answers()
        assert (answer["id"], answer["status"]) == (reading, 200) and lab.now() - begun < 1
        await lab.ask(device, "GET", "/5000/0/1")
        (row,) = [row for row in lab.core.requests.queue(device.id) if row["async_id"] == execution]
        assert (row["state"], row["why"]) == ("acknowledged", "the device has it, and has not answered yet")
        assert (await lab.answers())[0]["status"] == 200
        (late,) = await lab.answers(hold_s=700)
        assert (late["id"], late["status"]) == (execution, 200)
        assert lab.now() - begun == pytest.approx(600, abs=1)
        assert device.asked.count("POST /5000/0/1") == 1 and lab.core.requests.queue(device.id) == []

    play(story)


def test_an_answer_that_never_comes_ends_with_a_hint(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await delaying(lab, 1)
        await lab.ask(device, "POST", "/5000/0/1", b"x", content_type="application/octet-stream")
        (never,) = await lab.answers(hold_s=1000)
        assert (never["status"], never["error"]) == (504, "TIMEOUT")
        assert "acknowledged, but no response in 900.0 s" in value(never).decode()
        assert "leave it out" in value(never).decode()
        await lab.ask(device, "GET", "/3/0/0")
        assert (await lab.answers())[0]["status"] == 200  # the device is no worse for it

    play(story)


@pytest.mark.parametrize("kill", [False, True])
def test_an_execution_that_a_device_has_is_not_given_to_it_again_by_a_restarted_service(
    play: Stage, kill: bool
) -> None:
    async def story(lab: CoreLab) -> None:
        device = await delaying(lab, 600)
        await lab.ask(device, "POST", "/5000/0/1")
        await asyncio.sleep(1)
        await lab.restart(kill=kill)
        await device.connect("lwm2m")
        await device.update()
        assert (await lab.answers())[0]["status"] == 504
        assert lab.core.requests.queue(device.id) == []

    play(story)


def test_what_a_device_in_queue_mode_has_acknowledged_is_not_sent_to_it_again(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.bootstrap()
        await device.register("ep=desk1", f"iep={device.id}", "lt=3600", "lwm2m=1.0", "b=UQ")
        device.silent = True
        await lab.ask(device, "POST", "/5000/0/1")
        (never,) = await lab.answers()
        assert never["status"] == 504 and device.asked.count("POST /5000/0/1") == 1
        device.silent = False
        await device.update()
        await asyncio.sleep(10)
        assert device.asked.count("POST /5000/0/1") == 1

    play(story)
