"""Observations: made once for all keys, made again when a device forgets them, never silently dead."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.coap.transport import Address
from pdmlab.service.refusal import Refused
from tests.service.corelab import CoreLab, FakeDevice, Stage, play, value
from tests.service.secure import registered

PATH = "/5000/0/1"


async def subscribed(lab: CoreLab, device: FakeDevice, path: str = PATH, key_id: str | None = None) -> None:
    async_id = await lab.core.observations.subscribe(key_id or lab.key_id, device.id, path)
    found = []
    while not found:
        events = await lab.events(60, key_id)
        assert events, "no async-response to the subscription"
        found = [each for each in events.get("async-responses", ()) if each["id"] == async_id]
    assert found[0]["status"] == 200


async def presubscribed(lab: CoreLab, *paths: str, key_id: str | None = None) -> None:
    await lab.core.observations.set_presubscriptions(key_id or lab.key_id, [{"resource-path": list(paths or (PATH,))}])


def test_a_subscription_brings_the_present_value_and_then_each_new_one(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        async_id = await lab.core.observations.subscribe(lab.key_id, device.id, PATH)
        (first,) = await lab.answers()
        assert (first["id"], first["status"], value(first)) == (async_id, 200, b"test0")
        for new in ("a", "b", "b"):
            assert await device.notify(PATH, new) == "acknowledged"
        assert await lab.told(3) == [(PATH, b"a"), (PATH, b"b"), (PATH, b"b")]
        assert lab.core.resources.value(device.id, PATH) == "b"
        assert lab.core.observations.list(lab.key_id, device.id) == [PATH]
        (row,) = lab.core.observations.table(device.id)
        assert (row["path"], row["state"], row["keys"]) == (PATH, "active", 1) and len(row["token"]) == 8

    play(story)


def test_a_notification_right_behind_the_answer_is_taken(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        endpoint, taken = lab.core.lwm2m, []
        request = endpoint.request

        async def overtaken(message: Message, peer: Address, **options: Any) -> Message:
            """Let a notification arrive when the answer is here, and nobody has looked at it yet."""
            answer = await request(message, peer, **options)
            if message.opt.observe == 0:
                told = Message(code=codes.CONTENT, payload=b"at once", observe=1, content_format=0)
                told.token = answer.token
                taken.append(lab.core.observations.notified(told, peer))
            return answer

        endpoint.request = overtaken  # type: ignore[method-assign,assignment]
        await subscribed(lab, device)
        assert taken == [True]
        # The answer is older: it must not replace what was told after it.
        assert lab.core.resources.value(device.id, PATH) == "at once"
        assert await device.notify(PATH, "later") == "acknowledged"

    play(story)


def test_two_keys_share_one_observation_and_each_hears_only_what_it_wants(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, other = await lab.registered(), lab.new_key()
        await subscribed(lab, device)
        await subscribed(lab, device, key_id=other)
        await subscribed(lab, device, "/3/0/0", key_id=other)
        assert device.asked.count(f"GET {PATH}") == 1
        await device.notify(PATH, "x")
        await device.notify("/3/0/0", "y")
        assert await lab.told(1) == [(PATH, b"x")]
        assert await lab.told(2, key_id=other) == [(PATH, b"x"), ("/3/0/0", b"y")]
        assert await lab.told(1, hold_s=5) == []

    play(story)


def test_a_path_with_its_own_observation_needs_no_request(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered(aobs=(PATH,))
        await subscribed(lab, device)
        assert not any(line.startswith("GET") for line in device.asked)
        assert await device.notify(PATH, "x") == "acknowledged"
        assert await lab.told(1) == [(PATH, b"x")]
        (row,) = lab.core.observations.table(device.id)
        assert row["why"] == "observed by the device itself"

    play(story)


def test_auto_observed_values_are_kept_though_nobody_subscribed(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered(aobs=(PATH,))
        assert await device.notify(PATH, "kept") == "acknowledged"
        assert lab.core.resources.value(device.id, PATH) == "kept"
        assert await lab.told(1, hold_s=5) == []

    play(story)


def test_a_token_that_nobody_gave_is_reset(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        device.observers[PATH] = b"\x12\x34\x56\x78"
        assert await device.notify(PATH, "x") == "reset"
        stranger = await lab.device("stranger")
        stranger.observers[PATH] = b"\x12\x34\x56\x78"
        assert await stranger.notify(PATH, "x") == "reset"

    play(story)


def test_observations_are_made_again_when_a_device_registers_anew(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        await presubscribed(lab)
        device = await lab.registered()
        assert await lab.told(1, hold_s=5) == [(PATH, b"test0")]
        await device.update()
        await device.notify(PATH, "before")
        assert await lab.told(1) == [(PATH, b"before")]
        device.power_off()
        await device.power_on()
        device.values[PATH] = b"while away"
        await device.register()
        assert lab.core.observations.table(device.id)[0]["why"].endswith("and forgot it")
        assert await lab.told(1) == [(PATH, b"while away")]
        assert await device.notify(PATH, "after") == "acknowledged"
        assert await lab.told(1) == [(PATH, b"after")]

    play(story)


def test_a_full_registration_ends_what_keys_subscribed_to_and_makes_anew_what_their_patterns_have(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, other = await lab.registered(), lab.new_key()
        await subscribed(lab, device, "/3/0/0")
        await subscribed(lab, device, key_id=other)
        await presubscribed(lab, key_id=other)
        await subscribed(lab, device, key_id=other)  # by hand as well
        await device.update()
        assert lab.core.observations.list(lab.key_id, device.id) == ["/3/0/0"]
        device.power_off()
        await device.power_on()
        await device.register()
        await asyncio.sleep(1)
        assert lab.core.observations.list(lab.key_id, device.id) == []
        assert lab.core.observations.list(other, device.id) == [PATH]
        assert [row["path"] for row in lab.core.observations.table(device.id)] == [PATH]
        assert await device.notify(PATH, "new") == "acknowledged"
        assert await device.notify("/3/0/0", "x") == "nobody observes it"
        assert (PATH, b"new") in await lab.told(2, 5, other)

    play(story)


def test_who_subscribes_twice_before_the_answer_waits_for_one_and_gets_it(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        ids = [await lab.core.observations.subscribe(lab.key_id, device.id, PATH) for _ in range(2)]
        (answer,) = await lab.answers()
        assert [answer["id"]] * 2 == ids and answer["status"] == 200
        again = await lab.core.observations.subscribe(lab.key_id, device.id, PATH)
        (answer,) = await lab.answers()
        assert answer["id"] == again != ids[0] and value(answer) == b"test0"

    play(story)


def test_what_is_not_made_yet_outlives_the_registration_that_it_waits_for(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        device.power_off()
        async_id = await lab.core.observations.subscribe(lab.key_id, device.id, PATH)
        await device.power_on()
        await device.register()
        (answer,) = await lab.answers()
        assert (answer["id"], answer["status"]) == (async_id, 200)
        assert lab.core.observations.list(lab.key_id, device.id) == [PATH]

    play(story)


def test_patterns_apply_again_as_a_device_updates_whether_it_lists_its_paths_or_not(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        await presubscribed(lab)
        device = await lab.registered()
        await asyncio.sleep(1)
        assert await lab.core.observations.unsubscribe(lab.key_id, device.id, PATH)
        assert lab.core.observations.list(lab.key_id, device.id) == []
        await device.update()
        await asyncio.sleep(1)
        assert lab.core.observations.list(lab.key_id, device.id) == [PATH]
        before = device.asked.count(f"GET {PATH}")
        await device.update()
        await asyncio.sleep(1)
        assert device.asked.count(f"GET {PATH}") == before  # it is observed already

    play(story)


def test_what_a_device_observes_by_itself_is_told_anew_when_it_registers_anew(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        await presubscribed(lab)
        device = await lab.registered(aobs=(PATH,))
        assert await lab.told(1, hold_s=5) == [(PATH, b"test0")]
        device.values[PATH], device.aobs[PATH] = b"while away", 77
        await device.register()
        assert await lab.told(1) == [(PATH, b"while away")]
        assert await device.notify(PATH, "after") == "acknowledged"
        assert await lab.told(1) == [(PATH, b"after")]
        assert not any(line.startswith("GET") for line in device.asked)

    play(story)


@pytest.mark.parametrize("kill", [False, True])
def test_observations_outlive_a_restart_of_the_service(play: Stage, kill: bool) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered(aobs=("/3/0/0",))
        await subscribed(lab, device)
        await lab.restart(away=10, kill=kill)
        assert await device.notify(PATH, "x") == "acknowledged"
        assert await device.notify("/3/0/0", "y") == "acknowledged"
        assert await lab.told(1) == [(PATH, b"x")]
        assert device.asked.count(f"GET {PATH}") == 1
        assert lab.core.resources.value(device.id, "/3/0/0") == "y"

    play(story)


def test_a_notification_while_the_service_is_away_comes_with_its_retransmission(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        await subscribed(lab, device)
        telling = asyncio.ensure_future(device.notify(PATH, "x"))
        await lab.restart(away=5, kill=True)
        assert await telling == "acknowledged"
        assert await lab.told(1) == [(PATH, b"x")]

    play(story)


def test_what_was_told_late_does_not_replace_what_is_newer(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        await subscribed(lab, device)
        await device.notify(PATH, "newer")
        device.numbers[PATH] = 0
        assert await device.notify(PATH, "older") == "acknowledged"
        assert lab.core.resources.value(device.id, PATH) == "newer"

    play(story)


def test_a_subscription_waits_for_a_device_that_is_away(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.bootstrap()
        await lab.core.observations.subscribe(lab.key_id, device.id, PATH)
        assert lab.core.observations.table(device.id)[0]["state"] == "waiting"
        await device.register()
        assert value((await lab.answers())[0]) == b"test0"

    play(story)


def test_a_device_that_refuses_is_told_to_the_key_and_the_subscription_ends(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        device.refuse = codes.METHOD_NOT_ALLOWED
        await lab.core.observations.subscribe(lab.key_id, device.id, PATH)
        (answer,) = await lab.answers()
        assert (answer["status"], answer["error"]) == (405, "4.05 Method Not Allowed")
        assert lab.core.observations.list(lab.key_id, device.id) == []
        device.refuse = None
        await subscribed(lab, device)

    play(story)


def test_a_device_that_answers_without_observing_is_412(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()

        async def only_reads(message: Message, peer: object) -> Message:
            return Message(code=codes.CONTENT, payload=b"x")

        device.endpoint.handler = only_reads
        await lab.core.observations.subscribe(lab.key_id, device.id, PATH)
        assert (await lab.answers())[0]["status"] == 412

    play(story)


def test_the_last_subscription_takes_the_observation_with_it(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, other = await lab.registered(), lab.new_key()
        await subscribed(lab, device)
        await subscribed(lab, device, key_id=other)
        assert await lab.core.observations.unsubscribe(lab.key_id, device.id, PATH)
        assert not await lab.core.observations.unsubscribe(lab.key_id, device.id, PATH)
        assert await device.notify(PATH, "x") == "acknowledged"
        assert await lab.core.observations.unsubscribe(other)
        assert lab.core.observations.table(device.id) == []
        assert await device.notify(PATH, "y") == "reset"
        await subscribed(lab, device)
        assert await device.notify(PATH, "z") == "acknowledged"

    play(story)


def test_a_device_that_ends_an_observation_is_believed(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        await subscribed(lab, device)
        gone = Message(code=codes.NOT_FOUND, payload=b"gone")
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        device.endpoint.notify(device.service, gone, device.observers[PATH], on_result=ended.set_result)
        assert await ended == "acknowledged"
        (row,) = lab.core.observations.table(device.id)
        assert (row["state"], row["why"]) == ("refused", "the device ended it: 4.04 Not Found gone")

    play(story)


def test_what_cannot_be_subscribed_to_is_refused(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        for device_id, path, token in (
            ("0" * 32, PATH, "DEVICE_NOT_FOUND"),
            (device.id, "/9/9/9", "RESOURCE_NOT_FOUND"),
            (device.id, "nine", "RESOURCE_NOT_FOUND"),
        ):
            with pytest.raises(Refused, match=token):
                await lab.core.observations.subscribe(lab.key_id, device_id, path)

    play(story)


def test_patterns_subscribe_to_devices_as_they_register(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        patterns = [{"endpoint-name": "desk*", "resource-path": ["/5000/*"]}]
        await lab.core.observations.set_presubscriptions(lab.key_id, patterns)
        assert lab.core.observations.presubscriptions(lab.key_id) == patterns
        device, other = await lab.registered("desk1"), await lab.registered("chair")
        await asyncio.sleep(1)
        assert await device.notify(PATH, "x") == "acknowledged"
        assert await other.notify(PATH, "x") == "nobody observes it"
        assert (PATH, b"x") in await lab.told(2, hold_s=10)
        await lab.core.observations.set_presubscriptions(lab.key_id, [])
        assert await device.notify(PATH, "y") == "reset"
        assert lab.core.observations.list(lab.key_id, device.id) == []

    play(story)


def test_a_large_notification_is_read_whole(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        await subscribed(lab, device)
        assert await device.notify(PATH, "x" * 3000) == "acknowledged"
        assert await lab.told(1) == [(PATH, b"x" * 3000)]

    play(story)


def test_expiry_ends_the_observations_too(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        await presubscribed(lab)
        device = await lab.registered()
        await subscribed(lab, device)
        await asyncio.sleep(3700)
        (row,) = lab.core.observations.table(device.id)
        assert (row["state"], row["token"]) == ("waiting", "")
        assert await device.notify(PATH, "x") == "reset"
        await device.register()
        await asyncio.sleep(1)
        assert await device.notify(PATH, "y") == "acknowledged"

    play(story)


# -- the stock client's ways --------------------------------------------------------------------------------


async def told_as(device: FakeDevice, token: bytes, payload: bytes, **options: Any) -> str:
    """Send a notification made by hand; return how it ended."""
    message = Message(code=codes.CONTENT, payload=payload, **options)
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    device.endpoint.notify(device.service, message, token, on_result=ended.set_result)
    async with asyncio.timeout(400):
        return await ended


def test_a_notification_in_tlv_is_told_and_kept_as_text(play: Stage) -> None:
    # After anybody's GET with Accept 11542 the stock client notifies in TLV; its integers have 8 bytes.
    async def story(lab: CoreLab) -> None:
        device = await lab.device(aobs=("/10252/0/2",))
        device.values["/10252/0/2"] = b"1"
        await device.bootstrap()
        await device.register()
        await subscribed(lab, device, "/10252/0/2")
        await lab.events(0.1)
        for observe, format, payload, shown in (
            (2, 11542, bytes.fromhex("c802080000000000000004"), b"4"),
            (3, 99, bytes.fromhex("c802080000000000000006"), b"6"),
            (4, 0, b"7", b"7"),
            (5, 112, bytes.fromhex("81a2006a2f31303235322f302f32 0208".replace(" ", "")), b"8"),
            (6, 11542, b"\xc8", b"\xc8"),  # what it is not, it stays
        ):
            token = device.aobs["/10252/0/2"].to_bytes(2, "big")
            assert await told_as(device, token, payload, observe=observe, content_format=format) == "acknowledged"
            assert await lab.told(1) == [("/10252/0/2", shown)], format
            assert lab.core.resources.get(device.id, "/10252/0/2")["value"] == shown

    play(story)


def test_what_a_device_observes_by_itself_and_has_not_listed_is_acknowledged_and_left_aside(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        assert await told_as(device, (1000).to_bytes(2, "big"), b"x", observe=2) == "acknowledged"
        assert await told_as(device, b"\x12\x34\x56\x78", b"x", observe=2) == "reset"
        assert await told_as(device, b"\x03\xe9", b"x") == "reset"  # no notification
        stranger = await lab.device("stranger")
        assert await told_as(stranger, (1000).to_bytes(2, "big"), b"x", observe=2) == "reset"
        assert lab.core.observations.table(device.id) == []

    play(story)


def test_an_update_after_a_lost_connection_leaves_observations_as_they_are(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        await presubscribed(lab)
        device = await registered(lab)
        await subscribed(lab, device)
        before = lab.core.observations.table(device.id)
        await device.reconnect()
        await asyncio.sleep(1)
        assert lab.core.observations.table(device.id) == before
        assert await device.notify(PATH, "later") == "acknowledged"
        assert device.asked.count(f"GET {PATH}") == 1
        await device.disconnect("lwm2m")
        await device.come()  # in full: the device has forgotten
        await asyncio.sleep(1)
        assert lab.core.observations.table(device.id)[0]["token"] != before[0]["token"]
        assert device.asked.count(f"GET {PATH}") == 2

    play(story)


def test_an_observation_whose_answer_was_lost_with_the_connection_is_made_once_more(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await registered(lab)
        device.silent = True
        await lab.core.observations.subscribe(lab.key_id, device.id, PATH)
        await asyncio.sleep(1)
        device.silent = False
        await device.disconnect("lwm2m")
        assert lab.core.requests.queue(device.id)[0]["kind"] == "observation"
        await asyncio.sleep(10)
        await device.connect("lwm2m")
        await device.update()
        assert value((await lab.answers())[0]) == b"test0"
        assert await device.notify(PATH, "later") == "acknowledged"

    play(story)


def test_a_value_that_is_always_told_in_part_is_read_once_at_a_time(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered(aobs=(PATH,))
        device.silent_at = PATH
        for number in range(2, 40):
            message = Message(code=codes.CONTENT, payload=b"x" * 512, observe=number)
            message.opt.block2 = (0, True, 5)
            device.endpoint.notify(device.service, message, device.aobs[PATH].to_bytes(2, "big"))
        await asyncio.sleep(30)
        assert len(lab.core.observations._reading) == 1
        assert device.asked.count(f"GET {PATH}") == 1
        device.silent_at = ""
        device.values[PATH] = b"whole"
        await asyncio.sleep(300)
        assert lab.core.resources.value(device.id, PATH) == "whole"
        assert device.asked.count(f"GET {PATH}") == 2

    play(story)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"\x01\xf4", b"\x00\x01", b"", b"\xff" * 8, b"\x01\x02\x03\x04"]),
            st.sampled_from([codes.CONTENT, codes.CHANGED, codes.VALID, codes.NOT_FOUND, codes.INTERNAL_SERVER_ERROR]),
            st.one_of(st.none(), st.integers(0, (1 << 24) - 1)),
            st.one_of(st.none(), st.sampled_from([0, 40, 42, 60, 99, 110, 112, 11542, 11543, 65535])),
            st.one_of(st.none(), st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 6))),
            st.binary(max_size=64),
        ),
        max_size=12,
    )
)
def test_whatever_a_device_tells_the_service_goes_on(notifications: list[tuple[Any, ...]]) -> None:
    async def story(lab: CoreLab) -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        device, other = await lab.registered(aobs=(PATH,)), await lab.registered("desk2", aobs=(PATH,))
        await lab.core.observations.subscribe(lab.key_id, device.id, "/3/0/0")
        await asyncio.sleep(1)
        for token, code, observe, format, block, payload in notifications:
            message = Message(code=code, payload=payload)
            message.opt.observe, message.opt.content_format, message.opt.block2 = observe, format, block
            device.endpoint.notify(device.service, message, device.observers["/3/0/0"] if token == b"" else token)
        await asyncio.sleep(2000)
        assert failures == []
        assert (await device.register()).code == codes.CREATED
        assert await other.notify(PATH, "fine") == "acknowledged"
        assert lab.core.resources.value(other.id, PATH) == "fine"

    play(story, None)
