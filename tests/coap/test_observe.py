"""RFC 7641 on the wire: observing, telling, and notifications that nobody asked for."""

from __future__ import annotations

import asyncio

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.observation import Freshness, Observation
from pdmlab.errors import NetworkError, TimedOut
from tests.coap.wire import OTHER, PEER, Wire, x

TOKEN = "0bad"


class Observer:
    """An endpoint that observes /a at the test, and what it was told."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.told: list[bytes] = []

    async def begin(self, options: str = "61 05", payload: str = "ff 30", **parameters: float) -> Observation:
        """Observe; the test answers with the options and payload given."""
        self.endpoint = await self.wire.open(**parameters)
        observing = asyncio.create_task(
            self.endpoint.observe(Message(code=codes.GET, uri_path=("a",)), PEER, lambda m: self.told.append(m.payload))
        )
        request = await self.wire.one()
        assert request.body == x("60 51 61")  # Observe 0, Uri-Path a
        self.token = request.token
        self.wire.on_datagram(bytes.fromhex(x("64 45", request.mid, self.token, options, payload)), PEER)
        return await observing

    async def notify(self, mid: str, observe: str, payload: str = "ff 31", code: str = "45") -> list[str]:
        return [str(each) for each in await self.wire.tell("44", code, mid, self.token, observe, payload)]


@pytest.fixture
def observer(wire: Wire) -> Observer:
    return Observer(wire)


# -- observing ---------------------------------------------------------------------------------------


async def test_notifications_are_acknowledged_and_told(observer: Observer) -> None:
    observation = await observer.begin()
    assert observation.active
    assert observation.first.payload == b"0"
    assert await observer.notify("7001", "61 06") == [x("60 00 7001")]
    assert await observer.notify("7002", "61 07", "ff 32") == [x("60 00 7002")]
    assert observer.told == [b"1", b"2"]
    assert repr(observation) == "<Observation of /a at 192.0.2.1:5683, active>"


async def test_a_duplicate_notification_is_acknowledged_and_told_once(observer: Observer) -> None:
    await observer.begin()
    for _ in range(3):
        assert await observer.notify("7001", "61 06") == [x("60 00 7001")]
    assert observer.told == [b"1"]


async def test_a_stale_notification_is_acknowledged_and_not_told(observer: Observer) -> None:
    await observer.begin()
    await observer.notify("7002", "61 07", "ff 32")
    assert await observer.notify("7001", "61 06", "ff 31") == [x("60 00 7001")]
    assert observer.told == [b"2"]


async def test_after_128_seconds_any_number_is_fresh(observer: Observer, wire: Wire) -> None:
    await observer.begin()
    await observer.notify("7002", "61 07", "ff 32")
    await wire.wait(129)
    await observer.notify("7001", "61 06", "ff 31")
    assert observer.told == [b"2", b"1"]


def test_freshness_follows_the_rfcs_circle() -> None:
    freshness = Freshness()
    assert freshness.accept(0xFFFFFF, 0)
    assert freshness.accept(0, 1)  # wrapped around
    assert not freshness.accept(0, 2)
    assert not freshness.accept(0xFFFFFF, 3)
    assert freshness.accept((1 << 23) - 1, 4)
    assert not freshness.accept(1, 5)
    assert not freshness.accept(1, 132)
    assert freshness.accept(1, 132.1)


async def test_non_confirmable_notifications_are_told_without_an_answer(observer: Observer, wire: Wire) -> None:
    await observer.begin()
    assert await wire.tell("54 45 7001", observer.token, "61 06 ff 31") == []
    assert observer.told == [b"1"]


async def test_a_notification_before_the_answer_establishes_the_observation(wire: Wire) -> None:
    told: list[bytes] = []
    endpoint = await wire.open()
    observing = asyncio.create_task(
        endpoint.observe(Message(code=codes.GET, uri_path=("a",)), PEER, lambda m: told.append(m.payload))
    )
    request = await wire.one()
    assert await wire.tell("44 45 7001", request.token, "61 06 ff 31") == [x("60 00 7001")]  # the ACK was lost
    observation = await observing
    assert observation.active
    assert observation.first.payload == b"1"
    await wire.tell("44 45 7002", request.token, "61 07 ff 32")
    assert told == [b"2"]


@pytest.mark.parametrize(
    ("options", "code"),
    [pytest.param("", "45", id="no Observe in it"), pytest.param("61 05", "84", id="an error")],
)
async def test_a_peer_that_refuses_leaves_no_observation(wire: Wire, options: str, code: str) -> None:
    endpoint = await wire.open()
    observing = asyncio.create_task(endpoint.observe(Message(code=codes.GET), PEER, lambda m: None))
    request = await wire.one()
    await wire.tell("64", code, request.mid, request.token, options)
    observation = await observing
    assert not observation.active
    assert observation.first.code == int(code, 16)
    assert await observation.cancel() is None
    assert await wire.tell("44 45 7001", request.token, "61 06") == [x("70 00 7001")]


async def test_a_peer_that_does_not_answer_leaves_no_observation(wire: Wire) -> None:
    endpoint = await wire.open()
    observing = asyncio.create_task(endpoint.observe(Message(code=codes.GET), PEER, lambda m: None))
    await wire.wait(200)
    with pytest.raises(TimedOut):
        await observing
    assert not endpoint._observations


@pytest.mark.parametrize(
    ("code", "options"),
    [pytest.param("84", "", id="an error"), pytest.param("45", "", id="a notification without Observe")],
)
async def test_the_last_notification_is_told_and_ends_it(
    observer: Observer, wire: Wire, code: str, options: str
) -> None:
    observation = await observer.begin()
    assert await observer.notify("7001", options, code=code) == [x("60 00 7001")]
    assert observer.told == [b"1"]
    assert not observation.active
    assert await observer.notify("7002", "61 07") == [x("70 00 7002")]
    assert await observation.cancel() is None


async def test_cancelling_asks_with_observe_1_and_the_same_token(observer: Observer, wire: Wire) -> None:
    observation = await observer.begin()
    cancelling = asyncio.create_task(observation.cancel())
    request = await wire.one()
    assert (request.token, request.body) == (observer.token, x("61 01 51 61"))
    # The stock client's answer still carries the last Observe number.
    await wire.tell("64 45", request.mid, request.token, "61 05 ff 30")
    answer = await cancelling
    assert answer is not None
    assert answer.payload == b"0"
    assert observer.told == []
    assert await observer.notify("7001", "61 06") == [x("70 00 7001")]
    assert repr(observation).endswith("ended>")


async def test_a_separate_answer_to_cancelling_is_no_notification(observer: Observer, wire: Wire) -> None:
    observation = await observer.begin()
    cancelling = asyncio.create_task(observation.cancel())
    request = await wire.one()
    await wire.tell("60 00", request.mid)
    assert await wire.tell("44 45 7001", request.token, "61 05 ff 30") == [x("60 00 7001")]
    assert (await cancelling).payload == b"0"  # type: ignore[union-attr]
    assert observer.told == []


async def test_cancelling_at_a_silent_peer_still_ends_it(observer: Observer, wire: Wire) -> None:
    observation = await observer.begin()
    cancelling = asyncio.create_task(observation.cancel())
    await wire.wait(200)
    with pytest.raises(TimedOut):
        await cancelling
    assert await observer.notify("7001", "61 06") == [x("70 00 7001")]


async def test_a_large_notification_is_completed_with_another_token(observer: Observer, wire: Wire) -> None:
    await observer.begin()
    ack, ask = await wire.tell("44 45 7001", observer.token, "61 06 d1 04 09 ff", "31" * 32)  # Block2 0/1/32
    assert ack == x("60 00 7001")
    assert ask.token != observer.token
    assert ask.body == x("b1 61 c1 11")
    await wire.tell("64 45", ask.mid, ask.token, "d1 0a 11 ff 32")
    assert observer.told == [b"1" * 32 + b"2"]


async def test_a_newer_notification_outruns_a_large_one_that_is_not_complete(observer: Observer, wire: Wire) -> None:
    await observer.begin()
    _, ask = await wire.tell("44 45 7001", observer.token, "61 06 d1 04 09 ff", "31" * 32)
    await observer.notify("7002", "61 07", "ff 32")
    await wire.tell("64 45", ask.mid, ask.token, "d1 0a 11 ff 32")
    assert observer.told == [b"2"]
    assert await wire.wait(300) == []


async def test_an_error_while_a_large_notification_is_completed_is_not_told_as_one(
    observer: Observer, wire: Wire
) -> None:
    observation = await observer.begin()
    _, ask = await wire.tell("44 45 7001", observer.token, "61 06 d1 04 09 ff", "31" * 32)
    await wire.tell("64 84", ask.mid, ask.token)
    assert observer.told == []
    assert observation.active


async def test_what_a_failing_callback_raises_comes_after_the_acknowledgement(observer: Observer, wire: Wire) -> None:
    observation = await observer.begin()

    def fail(message: Message) -> None:
        raise RuntimeError("defect")

    observation.on_notification = fail
    with pytest.raises(RuntimeError):
        await observer.notify("7001", "61 06")
    assert await wire.heard() == [x("60 00 7001")]


async def test_observations_end_with_their_endpoint(observer: Observer) -> None:
    observation = await observer.begin()
    await observer.endpoint.close()
    assert not observation.active
    assert await observation.cancel() is None


# -- telling -----------------------------------------------------------------------------------------


def value(text: bytes, observe: int = 2) -> Message:
    return Message(code=codes.CONTENT, payload=text, observe=observe)


async def test_a_notification_is_confirmable_and_sent_until_acknowledged(wire: Wire) -> None:
    results: list[str] = []
    endpoint = await wire.open()
    endpoint.notify(PEER, value(b"1"), b"\x0b\xad", on_result=results.append)
    first, again = await wire.wait(4)
    assert first == again == x("42 45", first.mid, TOKEN, "61 02 ff 31")
    assert results == []
    await wire.tell("60 00", first.mid)
    assert results == ["acknowledged"]
    assert await wire.wait(300) == []


async def test_notifications_of_one_token_go_out_one_by_one_in_order(wire: Wire) -> None:
    results: list[tuple[int, str]] = []
    endpoint = await wire.open()
    for n in range(3):
        endpoint.notify(PEER, value(b"%d" % n, n), b"\x0b\xad", on_result=lambda r, n=n: results.append((n, r)))
    for n in range(3):
        sent = await wire.one()
        assert sent.body.endswith(f"ff3{n}")
        await wire.tell("70 00", "0000")  # a reset of something else
        wire.on_datagram(bytes.fromhex(x("60 00", sent.mid, "c0")), PEER)  # the stock client's five bytes
    assert await wire.heard() == []
    assert results == [(0, "acknowledged"), (1, "acknowledged"), (2, "acknowledged")]


async def test_notifications_of_other_tokens_and_peers_do_not_wait(wire: Wire) -> None:
    endpoint = await wire.open()
    endpoint.notify(PEER, value(b"1"), b"\1")
    endpoint.notify(PEER, value(b"1"), b"\2")
    endpoint.notify(OTHER, value(b"1"), b"\1")
    assert len(await wire.heard()) == 3


async def test_a_reset_ends_all_that_wait_for_the_same_token(wire: Wire) -> None:
    results: list[str] = []
    endpoint = await wire.open()
    for n in range(3):
        endpoint.notify(PEER, value(b"%d" % n), b"\x0b\xad", on_result=results.append)
    sent = await wire.one()
    await wire.tell("70 00", sent.mid)
    assert results == ["reset"] * 3
    assert await wire.wait(300) == []
    endpoint.notify(PEER, value(b"again"), b"\x0b\xad")
    assert len(await wire.heard()) == 1


async def test_a_time_out_ends_all_that_wait(wire: Wire) -> None:
    results: list[str] = []
    endpoint = await wire.open()
    for _ in range(2):
        endpoint.notify(PEER, value(b"1"), b"\x0b\xad", on_result=results.append)
    assert len(await wire.wait(200)) == 5
    assert results == ["timed out"] * 2


async def test_in_a_full_queue_the_oldest_makes_way_and_ends_as_the_next(wire: Wire) -> None:
    results: list[int] = []
    endpoint = await wire.open(max_queued=2)
    for n in range(6):
        endpoint.notify(PEER, value(b"%d" % n), b"\x0b\xad", on_result=lambda _, n=n: results.append(n))
    told = []
    for _ in range(3):
        sent = await wire.one()
        told.append(sent[-2:])
        wire.on_datagram(bytes.fromhex(x("60 00", sent.mid)), PEER)
    assert told == ["30", "34", "35"]
    assert results == [0, 1, 2, 3, 4, 5]
    assert await wire.heard() == []


async def test_a_socket_that_refuses_ends_a_notification_later_not_at_once(wire: Wire) -> None:
    results: list[str] = []
    endpoint = await wire.open()
    wire.refuse = NetworkError("the interface is down")
    endpoint.notify(PEER, value(b"1"), b"\x0b\xad", on_result=results.append)
    endpoint.notify(PEER, value(b"2"), b"\x0b\xad", on_result=results.append)
    assert results == []
    await wire.heard()
    assert results == ["timed out"] * 2


async def test_closing_between_a_refusal_and_its_result_is_harmless(wire: Wire) -> None:
    endpoint = await wire.open()
    wire.refuse = NetworkError("the interface is down")
    endpoint.notify(PEER, value(b"1"), b"\x0b\xad", on_result=print)
    endpoint.abort()
    await wire.heard()
    assert wire.problems == []


async def test_a_large_notification_is_cut_and_the_rest_is_asked_for(wire: Wire) -> None:
    body = bytes(range(40))

    async def handler(message: Message, peer: object) -> Message:
        return Message(code=codes.CONTENT, payload=body, observe=9)

    endpoint = await wire.open(handler, block_size=32)
    endpoint.notify(PEER, value(body), b"\x0b\xad")
    sent = await wire.one()
    etag = sent.body[2:10]
    assert sent.body == x("44", etag, "21 02 d1 04 09 51 28 ff", body[:32].hex())
    await wire.tell("60 00", sent.mid)
    # The rest has the same ETag, and no Observe (RFC 7959, 2.6).
    assert await wire.tell("41 01 0001 aa b1 61 c1 11") == [
        x("61 45 0001 aa 44", etag, "d1 06 11 51 28 ff", body[32:].hex())
    ]


async def test_a_notification_makes_blocks_of_the_old_state_outdated(wire: Wire) -> None:
    bodies = [bytes(40), bytes(range(40))]

    async def handler(message: Message, peer: object) -> Message:
        return Message(code=codes.CONTENT, payload=bodies[0])

    endpoint = await wire.open(handler, block_size=32)
    await wire.tell("40 01 0001 b1 61")
    del bodies[0]
    endpoint.notify(PEER, value(bodies[0]), b"\x0b\xad")
    await wire.heard()
    (rest,) = await wire.tell("40 01 0002 b1 61 c1 11")
    assert rest.endswith(bodies[0][32:].hex())


# -- unasked -----------------------------------------------------------------------------------------


async def test_unasked_notifications_go_to_who_wants_them(wire: Wire) -> None:
    """The stock client notifies with tokens of its own: a number of two bytes from its registration."""
    told: list[tuple[bytes, bytes]] = []

    def on_unasked(message: Message, peer: object) -> bool:
        told.append((message.token, message.payload))
        return message.token == b"\x01\xff"

    endpoint = await wire.open()
    endpoint.on_unasked = on_unasked
    assert await wire.tell("42 45 7001 01ff 61 02 81 00 ff 33") == [x("60 00 7001")]
    assert await wire.tell("42 45 7002 0200 61 02 81 00 ff 33") == [x("70 00 7002")]
    assert await wire.tell("52 45 7003 01ff 61 03 81 00 ff 34") == []
    assert await wire.tell("52 45 7004 0200 61 03 81 00 ff 34") == [x("70 00 7004")]
    assert await wire.tell("42 45 7001 01ff 61 02 81 00 ff 33") == [x("60 00 7001")]
    assert [payload for token, payload in told if token == b"\x01\xff"] == [b"3", b"4"]


@pytest.mark.parametrize("separate", [False, True])
async def test_a_notification_in_the_moment_of_the_answer_is_taken_too(wire: Wire, separate: bool) -> None:
    """The request is done with then, but whoever made it has not had its turn yet."""
    told: list[bytes] = []

    def on_unasked(message: Message, peer: object) -> bool:
        told.append(message.payload)
        return True

    endpoint = await wire.open()
    endpoint.on_unasked = on_unasked
    asking = asyncio.create_task(endpoint.request(Message(code=codes.GET, uri_path=("a",), observe=0), PEER))
    request = await wire.one()
    answer = x("44 45 6fff" if separate else x("64 45", request.mid), request.token, "61 05 ff 30")
    wire.on_datagram(bytes.fromhex(answer), PEER)
    wire.on_datagram(bytes.fromhex(x("44 45 7001", request.token, "61 06 ff 31")), PEER)
    assert (await asking).payload == b"0" and told == [b"1"]
    assert [str(each) for each in await wire.heard()] == [x("60 00 6fff")] * separate + [x("60 00 7001")]


async def test_when_taking_an_unasked_one_fails_it_is_reported_and_the_next_try_is_taken_anew(wire: Wire) -> None:
    """What the service acknowledges is on disk: a failing disk must not make it acknowledged."""
    tries = []

    def on_unasked(message: Message, peer: object) -> bool:
        tries.append(message.payload)
        if len(tries) == 1:
            raise RuntimeError("the disk is full")
        return True

    endpoint: Endpoint = await wire.open()
    endpoint.on_unasked = on_unasked
    assert await wire.tell("42 45 7001 01ff 61 02 ff 33") == []
    assert wire.problems == ["what takes unasked messages failed"]
    assert await wire.tell("42 45 7001 01ff 61 02 ff 33") == [x("60 00 7001")]
    assert await wire.tell("42 45 7001 01ff 61 02 ff 33") == [x("60 00 7001")]
    assert tries == [b"3", b"3"]
