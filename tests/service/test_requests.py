"""Requests to devices: in order, one at a time, kept while they cannot be delivered, answered once."""

from __future__ import annotations

import asyncio

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.transport import Address
from pdmlab.service.refusal import Refused
from pdmlab.service.requests import MAX_QUEUED
from tests.service.corelab import CoreLab, FakeDevice, Stage, value
from tests.service.secure import registered

OPAQUE = ("application/octet-stream", b"\1\2")


def test_values_are_read_written_and_executed(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        ids = [
            await lab.ask(device, "GET", "/5000/0/1"),
            await lab.ask(device, "PUT", "/5000/0/1", b"new", content_type="text/plain"),
            await lab.ask(device, "POST", "/5000/0/1"),
            await lab.ask(device, "DELETE", "/5000/0/1"),
            await lab.ask(device, "PUT", "/5000/0/1?pmin=5&pmax=60"),
        ]
        answers = await lab.answers(5)
        assert [answer["id"] for answer in answers] == ids
        assert answers[0] == {"id": ids[0], "status": 200, "ct": "text/plain", "payload": "dGVzdDA=", "max-age": "0"}
        # 2.04 is 200, and has a payload even where there is none: the vendor's own tests insist.
        assert [(answer["status"], answer["payload"]) for answer in answers[1:3]] == [(200, "")] * 2
        assert device.values["/5000/0/1"] == b"new"
        assert device.asked[-1] == "PUT /5000/0/1?pmin=5&pmax=60"

    play(story)


def test_no_request_has_an_accept_and_executions_have_no_format(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        await lab.ask(device, "GET", "/5000/0/1")
        await lab.ask(device, "POST", "/5000/0/1")
        await lab.core.observations.subscribe(lab.key_id, device.id, "/3/0/0")
        await lab.answers(3)
        to_device = [m for m in lab.log if m.endpoint == "lwm2m" and m.direction == "out" and m.code[:3].isalpha()]
        assert len(to_device) >= 3
        assert not any("Accept" in m.options or "Content-Format" in m.options for m in to_device)

    play(story)


def test_refusals_come_as_the_devices_own_code(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        for code, status in ((codes.METHOD_NOT_ALLOWED, 405), (codes.BAD_REQUEST, 400), (codes.NOT_IMPLEMENTED, 501)):
            device.refuse = code
            await lab.ask(device, "GET", "/5000/0/1")
            (answer,) = await lab.answers()
            assert (answer["status"], answer["error"], value(answer)) == (status, str(code), b"no")

    play(story)


def test_tlv_of_a_single_resource_becomes_text_and_other_tlv_stays(play: Stage) -> None:
    from pdmlab.service.values import as_json

    async def story(lab: CoreLab) -> None:
        text = as_json("/3/0/9", bytes.fromhex("c10964"), 11542, 60)
        assert (text["ct"], value(text)) == ("text/plain", b"100")
        several = as_json("/3/0/11", bytes.fromhex("830b410000"), 11542, 60)
        assert several["ct"] == "application/vnd.oma.lwm2m+tlv"
        unknown = as_json("/5000/0/1", bytes.fromhex("c101ff"), 11542, 60)
        assert value(unknown) == bytes.fromhex("c101ff")

    play(story)


@pytest.mark.parametrize(
    ("changed", "status", "token"),
    [
        ({"device_id": "0" * 32}, 404, "DEVICE_NOT_FOUND"),
        ({"api_key_id": "0" * 32}, 404, "DEVICE_NOT_FOUND"),
        ({"async_id": "a b"}, 400, "MALFORMED_ASYNC_ID"),
        ({"async_id": "x" * 41}, 400, "MALFORMED_ASYNC_ID"),
        ({"method": "PATCH"}, 400, "MALFORMED_JSON_CONTENT"),
        ({"uri": "three"}, 400, "MALFORMED_JSON_CONTENT"),
        ({"uri": "/3/0/0?" + "x" * 600}, 400, "MALFORMED_JSON_CONTENT"),
        ({"uri": "/9/9/9"}, 400, "RESOURCE_NOT_FOUND"),
        ({"content_type": "image/png"}, 400, "UNSUPPORTED_CONTENT_TYPE"),
        ({"payload": bytes(1 << 21)}, 413, "PAYLOAD_TOO_LARGE"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_the_vendors_token(
    play: Stage, changed: dict[str, object], status: int, token: str
) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        wanted = {
            "api_key_id": lab.key_id,
            "device_id": device.id,
            "async_id": "a",
            "method": "GET",
            "uri": "/3/0/0",
            **changed,
        }
        with pytest.raises(Refused) as refused:
            await lab.core.requests.submit(**wanted)
        assert (refused.value.status, refused.value.message) == (status, token)
        assert lab.core.requests.queue() == []

    play(story)


def test_a_bootstrapped_device_is_asked_in_order_when_it_registers(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.bootstrap()
        await asyncio.sleep(1)
        ids = [await lab.ask(device, "GET", path) for path in ("/3/0/0", "/5000/0/1", "/3/0/0")]
        queue = lab.core.requests.queue(device.id)
        assert [row["async_id"] for row in queue] == ids
        assert queue[0]["why"] == "the device is not registered: it is bootstrapped"
        assert queue[0]["request"] == "GET /3/0/0" and queue[0]["until"] > queue[0]["since"]
        await device.register()
        assert [answer["id"] for answer in await lab.answers(3)] == ids
        assert lab.core.requests.queue(device.id) == []
        assert [line for line in device.asked if line.startswith("GET")] == [
            "GET /3/0/0",
            "GET /5000/0/1",
            "GET /3/0/0",
        ]

    play(story)


def test_a_device_has_one_request_at_a_time_and_the_queue_says_why_the_others_wait(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        device.silent = True
        for _ in range(3):
            await lab.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(10)
        assert device.asked.count("GET /3/0/0") == 1
        why = [row["why"] for row in lab.core.requests.queue(device.id)]
        assert why[0] == "the device is being asked: GET /3/0/0, for 10 s"
        assert why[1:] == ["1 request of this device come first", "2 requests of this device come first"]
        device.silent = False
        answers = await lab.answers(3)
        assert [answer["status"] for answer in answers] == [504, 200, 200]

    play(story)


def test_more_than_twenty_waiting_requests_are_refused(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.bootstrap()
        for _ in range(MAX_QUEUED):
            await lab.ask(device, "GET", "/3/0/0")
        with pytest.raises(Refused, match="TOO_MANY_REQUESTS"):
            await lab.ask(device, "GET", "/3/0/0")

    play(story)


def test_requests_expire_and_say_so(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.bootstrap()
        begun = lab.now()
        late = await lab.ask(device, "GET", "/3/0/0", expiry_s=300)
        soon = await lab.ask(device, "GET", "/3/0/0", expiry_s=30)
        for async_id, after in ((soon, 30), (late, 300)):
            assert await lab.answers() == [{"id": async_id, "status": 504, "error": "TIMEOUT"}]
            assert lab.now() - begun == pytest.approx(after, abs=0.1)

    play(story)


def test_a_device_that_does_not_answer_is_a_timeout(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        device.power_off()
        await lab.ask(device, "GET", "/3/0/0")
        (answer,) = await lab.answers()
        assert (answer["status"], answer["error"]) == (504, "TIMEOUT")

    play(story)


def test_a_request_with_retries_waits_for_the_next_sign_of_life(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        device.power_off()
        await lab.ask(device, "GET", "/3/0/0", retry=1)
        await asyncio.sleep(200)
        (row,) = lab.core.requests.queue(device.id)
        assert row["state"] == "waiting" and row["why"].endswith("sent again when the device is heard")
        await device.power_on()
        await device.update()
        assert (await lab.answers())[0]["status"] == 200

    play(story)


def test_a_device_that_moves_meanwhile_is_asked_again_where_it_is(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        device.power_off()
        await lab.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(5)
        device.host = lab.fabric.host("elsewhere")
        await device.power_on()
        await device.register()
        registered = lab.now()
        assert (await lab.answers())[0]["status"] == 200
        assert lab.now() - registered < 1  # not when the request to the old address has timed out, after 93 s

    play(story)


def test_a_sleeping_device_is_asked_only_when_it_wakes(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        FakeDevice.binding = "UQ"
        try:
            device = await lab.registered()
        finally:
            FakeDevice.binding = "U"
        assert lab.core.registrations.find(device.id).queue_mode
        await lab.ask(device, "GET", "/3/0/0")
        assert (await lab.answers())[0]["status"] == 200  # it has just spoken
        await asyncio.sleep(58)
        await lab.ask(device, "GET", "/3/0/0")
        assert (await lab.answers())[0]["status"] == 200  # the stock client listens for 67.5 s
        await asyncio.sleep(61)  # what is asked now could arrive when it sleeps
        asked = len(device.asked)
        await lab.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(60)
        assert len(device.asked) == asked
        (row,) = lab.core.requests.queue(device.id)
        assert row["why"].startswith("the device is in queue mode, and has slept for 1")
        await device.update()
        assert (await lab.answers())[0]["status"] == 200

    play(story)


def test_the_queue_survives_a_restart_of_the_service(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.bootstrap()
        ids = [await lab.ask(device, "GET", "/3/0/0") for _ in range(2)]
        await lab.restart(away=10, kill=True)
        await device.register()
        assert [answer["id"] for answer in await lab.answers(2)] == ids

    play(story)


def test_an_execution_that_was_under_way_at_a_kill_is_not_done_twice(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        device.silent = True
        execution = await lab.ask(device, "POST", "/5000/0/1")
        reading = await lab.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(1)
        await lab.restart(kill=True)
        device.silent = False
        answers = await lab.answers(2)
        assert [(answer["id"], answer["status"]) for answer in answers] == [(execution, 504), (reading, 200)]
        assert device.asked.count("POST /5000/0/1") == 1

    play(story)


def test_a_large_value_crosses_in_blocks_both_ways(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        large = bytes(range(256)) * 16
        await lab.ask(device, "PUT", "/5000/0/1", large, content_type="application/octet-stream")
        await lab.ask(device, "GET", "/5000/0/1")
        answers = await lab.answers(2)
        assert device.values["/5000/0/1"] == large and value(answers[1]) == large

    play(story)


def test_deleting_a_device_ends_what_it_was_to_be_asked(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        device.silent = True
        await lab.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(1)
        assert lab.core.directory.remove(lab.core.account_id, device.id)
        assert lab.core.requests.queue() == []
        assert (await device.update()).code == codes.NOT_FOUND
        await asyncio.sleep(300)

    play(story)


def test_objects_that_are_not_at_the_top_are_asked_where_they_are(play: Stage) -> None:
    # LwM2M 1.1 core, 6.4.1: the link with rt="oma.lwm2m" says below which path everything is.
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.bootstrap()
        links = b'</iot/x>;rt="oma.lwm2m";ct="60 110 112",</iot/x/3/0/0>,</iot/x/5000/0/1>'
        device.values = {"/iot/x/3/0/0": b"below", "/iot/x/5000/0/1": b"5", "/iot/x/5000/0/2": b"6"}
        await device.register("ep=desk1", f"iep={device.id}", "lt=600", "lwm2m=1.1", "b=U", payload=links)
        assert [row["path"] for row in lab.core.resources.list(device.id)] == ["/3/0/0", "/5000/0/1"]
        for _ in range(2):
            await lab.ask(device, "GET", "/3/0/0")
            assert value((await lab.answers())[0]) == b"below"
            await lab.restart()
        await device.update(payload=b"</iot/x/5000/0/2>")
        await lab.ask(device, "GET", "/5000/0/2")
        assert value((await lab.answers())[0]) == b"6"
        assert device.asked[-1] == "GET /iot/x/5000/0/2"
        answer = await device.register("ep=desk1", payload=b"</" + b"x" * 70 + b'>;rt="oma.lwm2m"')
        assert answer.code == codes.BAD_REQUEST and b"root" in answer.payload

    play(story)


@pytest.mark.parametrize(
    ("path", "format", "payload", "shown"),
    [
        ("/3/0/9", 110, b'[{"n":"/3/0/9","v":97}]', ("text/plain", b"97")),
        ("/3/0/9", 112, bytes.fromhex("81a200662f332f302f39021861"), ("text/plain", b"97")),
        ("/3/0/9", 60, bytes.fromhex("1861"), ("text/plain", b"97")),
        ("/3/0/9", 11543, b'{"bn":"/3/0/9","e":[{"v":97}]}', ("text/plain", b"97")),
        ("/3/0/0", 110, b'[{"bn":"/3/0/","n":"0","vs":"maker"}]', ("text/plain", b"maker")),
        ("/5000/0/1", 110, b'[{"n":"/5000/0/1","vb":true}]', ("text/plain", b"1")),
        ("/5000/0/1", 112, bytes.fromhex("81a200692f353030302f302f310842 0102".replace(" ", "")), OPAQUE),
        ("/3/0/9", 110, b'[{"n":"/3/0/10","v":97}]', ("application/senml+json", b'[{"n":"/3/0/10","v":97}]')),
        ("/3/0/9", 110, b"[{", ("application/senml+json", b"[{")),
        ("/3/0", 110, b'[{"n":"/3/0/9","v":97}]', ("application/senml+json", b'[{"n":"/3/0/9","v":97}]')),
    ],
)
def test_a_single_value_is_text_whatever_a_device_answers_it_in(
    path: str, format: int, payload: bytes, shown: tuple[str, bytes]
) -> None:
    from pdmlab.service.values import as_json

    event = as_json(path, payload, format, 60)
    assert (event["ct"], value(event)) == shown


def test_a_large_value_is_read_in_blocks_though_its_size_is_told_wrong(play: Stage) -> None:
    # docs/wire.md 4.5: the answer to what was asked without a block is one of 512 B; Size2 says 1024 for some.
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        large = bytes(range(256)) * 8 + b"\0"
        asked: list[object] = []

        async def in_blocks(message: Message, peer: object) -> Message:
            asked.append(message.opt.block2)
            number = message.opt.block2.block_number if message.opt.block2 is not None else 0
            part = large[number * 512 :][:512]
            response = Message(code=codes.CONTENT, payload=part, content_format=42, max_age=0)
            response.opt.block2, response.opt.size2 = (number, number < 4, 5), 1024
            return response

        device.endpoint.handler = in_blocks
        await lab.ask(device, "GET", "/5000/0/1")
        (answer,) = await lab.answers()
        assert answer["status"] == 200 and value(answer) == large
        assert asked[0] is None and [block.size_exponent for block in asked[1:]] == [5] * 4

    play(story)


@pytest.mark.parametrize("retry", [0, 1])
def test_a_reset_is_no_timeout(play: Stage, retry: int) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        times = 0

        async def reset(message: Message, peer: Address) -> None:
            nonlocal times
            times += 1
            device.endpoint._socket.send(b"\x70\0" + message.mid.to_bytes(2, "big"), peer)
            device.endpoint.ignore(message)

        device.endpoint.handler = reset
        await lab.ask(device, "GET", "/5000/0/1", retry=retry)
        if retry:
            assert await lab.answers(hold_s=10.0) == []
            await device.update()
        (answer,) = await lab.answers()
        assert (answer["status"], answer["error"], times) == (502, "BAD_GATEWAY", 1 + retry)
        assert "the peer reset it" in value(answer).decode()

    play(story)


def test_blocks_that_do_not_fit_together_are_no_timeout(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()

        async def always_the_first(message: Message, peer: object) -> Message:
            response = Message(code=codes.CONTENT, payload=bytes(512), content_format=42)
            response.opt.block2 = (0, True, 5)
            return response

        device.endpoint.handler = always_the_first
        await lab.ask(device, "GET", "/5000/0/1")
        (answer,) = await lab.answers()
        assert (answer["status"], answer["error"]) == (502, "BAD_GATEWAY")
        assert "does not continue the 512 B before it" in value(answer).decode()

    play(story)


@pytest.mark.parametrize(
    ("method", "code", "status"),
    [
        ("GET", codes.CONTENT, 200),
        ("GET", codes.CONTINUE, 502),
        ("GET", codes.CHANGED, 502),
        ("GET", codes.VALID, 502),
        ("PUT", codes.CHANGED, 200),
        ("PUT", codes.CREATED, 200),
        ("PUT", codes.CONTINUE, 502),
        ("POST", codes.CHANGED, 200),
        ("POST", codes.CONTINUE, 502),
        ("DELETE", codes.DELETED, 200),
        ("DELETE", codes.VALID, 502),
        ("GET", codes.UNAUTHORIZED, 401),
        ("GET", codes.GATEWAY_TIMEOUT, 504),
    ],
)
def test_a_success_that_is_none_of_the_method_is_an_error(
    play: Stage, method: str, code: codes.Code, status: int
) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.registered()
        device.refuse, device.refuse_with = code, b"said"
        await lab.ask(device, method, "/5000/0/1", b"x" if method == "PUT" else b"")
        (answer,) = await lab.answers()
        assert answer["status"] == status
        if status == 502:
            said = f"the device answered {code}, which is no answer to a {method}"
            assert (answer["error"], value(answer).decode()) == ("BAD_GATEWAY", said)
        else:
            assert value(answer) == b"said"

    play(story)


def test_what_wants_no_answer_says_so_to_those_who_understand_it(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        plain, stock = await lab.device("plain"), await lab.device("stock")
        stock.values["/10252/0/2"] = b"1"
        for device in (plain, stock):
            await device.bootstrap()
            await device.register()
            lab.core.unanswered.tell(device.id, "PUT", "/5000/0/1", b"told")
        await asyncio.sleep(1)
        assert plain.values["/5000/0/1"] == stock.values["/5000/0/1"] == b"told"
        sent = [m.options for m in lab.log if m.path == "/5000/0/1" and m.code == "PUT" and m.direction == "out"]
        assert ["No-Response" in options for options in sent] == [True, False]
        secure = await registered(lab)
        with pytest.raises(Refused, match="NO_RESPONSE_NOT_SUPPORTED"):
            lab.core.unanswered.tell(secure.id, "PUT", "/5000/0/1", b"told")

    play(story)
