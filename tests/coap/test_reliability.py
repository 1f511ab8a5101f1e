"""RFC 7252 section 4 on the wire: retransmission, duplicates, separate responses, resets."""

from __future__ import annotations

import asyncio
import gc
import itertools

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.clock import DeviceClock
from pdmlab.coap.endpoint import Endpoint
from pdmlab.errors import NetworkError, TimedOut, Unreachable
from tests.coap.wire import OTHER, PEER, Wire, live_timers, x


async def hello(message: Message, peer: object) -> Message:
    return Message(code=codes.CONTENT, payload=b"hi")


class Counter:
    """A handler that counts, and takes as long as it is told."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds
        self.served: list[Message] = []

    async def __call__(self, message: Message, peer: object) -> Message:
        self.served.append(message)
        number = len(self.served)
        if self.seconds:
            await asyncio.sleep(self.seconds)
        return Message(code=codes.CONTENT, payload=b"%d" % number)


# -- answering ---------------------------------------------------------------------------------------


async def test_a_response_comes_with_the_acknowledgement(wire: Wire) -> None:
    await wire.open(hello)
    assert await wire.tell("42 01 1234 abcd b1 61") == [x("62 45 1234 abcd ff 6869")]


async def test_a_duplicate_gets_the_stored_reply_and_no_handler(wire: Wire) -> None:
    await wire.open(counter := Counter())
    first = await wire.tell("41 02 1234 aa b1 61")
    assert first == [x("61 45 1234 aa ff 31")]
    assert await wire.tell("41 02 1234 aa b1 61") == first
    await wire.wait(246)
    assert await wire.tell("41 02 1234 aa b1 61") == first
    assert len(counter.served) == 1


async def test_a_message_id_is_free_again_after_an_exchange_lifetime(wire: Wire) -> None:
    await wire.open(counter := Counter())
    await wire.tell("41 02 1234 aa b1 61")
    await wire.wait(248)
    assert await wire.tell("41 02 1234 aa b1 61") == [x("61 45 1234 aa ff 32")]
    assert len(counter.served) == 2


async def test_the_same_message_id_with_other_bytes_is_another_message(wire: Wire) -> None:
    await wire.open(Counter())
    await wire.tell("41 02 1234 aa b1 61")
    assert await wire.tell("41 02 1234 bb b1 61") == [x("61 45 1234 bb ff 32")]


async def test_the_same_message_id_from_another_peer_is_another_message(wire: Wire) -> None:
    await wire.open(Counter())
    await wire.tell("41 02 1234 aa b1 61")
    (reply,) = await wire.tell("41 02 1234 aa b1 61", peer=OTHER)
    assert (reply, reply.to) == (x("61 45 1234 aa ff 32"), OTHER)


async def test_a_slow_handler_is_acknowledged_first_and_answers_in_a_message_of_its_own(wire: Wire) -> None:
    await wire.open(Counter(seconds=3))
    assert await wire.tell("41 01 1234 aa b1 61") == []
    (ack,) = await wire.wait(1)
    assert (ack, ack.when) == (x("60 00 1234"), 0.1)
    assert await wire.tell("41 01 1234 aa b1 61") == [x("60 00 1234")]  # a duplicate meanwhile
    (response,) = await wire.wait(2.5)
    assert (response, response.when) == (x("41 45", response.mid, "aa ff 31"), 3.0)
    await wire.tell("60 00", response.mid)
    assert await wire.wait(300) == []


async def test_a_separate_response_is_sent_again_until_it_is_acknowledged(wire: Wire) -> None:
    await wire.open(Counter(seconds=1))
    await wire.tell("41 01 1234 aa b1 61")
    first, *again = (await wire.wait(200))[1:]
    assert again == [first] * 4


async def test_a_duplicate_before_any_reply_is_silent(wire: Wire) -> None:
    await wire.open(counter := Counter(seconds=0.05))
    await wire.tell("41 01 1234 aa b1 61")
    assert await wire.tell("41 01 1234 aa b1 61") == []
    assert await wire.wait(1) == [x("61 45 1234 aa ff 31")]
    assert len(counter.served) == 1


async def test_a_handler_may_acknowledge_at_once(wire: Wire) -> None:
    async def handler(message: Message, peer: object) -> Message:
        endpoint.acknowledge(message)
        endpoint.acknowledge(message)
        await asyncio.sleep(0.01)
        return Message(code=codes.CHANGED)

    endpoint = await wire.open(handler)
    assert await wire.tell("41 02 1234 aa b1 61") == [x("60 00 1234")]
    (response,) = await wire.wait(1)
    assert response == x("41 44", response.mid, "aa")
    await wire.tell("60 00", response.mid)


async def test_two_requests_with_one_message_id_are_answered_each_for_itself(wire: Wire) -> None:
    """As from a peer that restarted: the first's end does not take the second's acknowledgement along."""
    seconds = {b"\xaa": 0.05, b"\xbb": 1.0}

    async def handler(message: Message, peer: object) -> Message:
        await asyncio.sleep(seconds[message.token])
        if message.token == b"\xbb":
            endpoint.acknowledge(message)
        return Message(code=codes.CHANGED)

    endpoint = await wire.open(handler, ack_delay=10)
    await wire.tell("41 02 1234 aa b1 61")
    await wire.tell("41 02 1234 bb b1 61")
    assert await wire.wait(0.5) == [x("61 44 1234 aa")]
    ack, response = await wire.wait(1)
    assert ack == x("60 00 1234")
    assert response == x("41 44", response.mid, "bb")
    await wire.tell("60 00", response.mid)


async def test_a_handler_may_say_nothing_at_all(wire: Wire) -> None:
    async def handler(message: Message, peer: object) -> None:
        return None

    await wire.open(handler)
    await wire.tell("41 01 1234 aa b1 61")
    assert await wire.wait(300) == []


async def test_a_non_confirmable_request_gets_a_non_confirmable_response(wire: Wire) -> None:
    await wire.open(Counter())
    (reply,) = await wire.tell("51 01 1234 aa b1 61")
    assert reply == x("51 45", reply.mid, "aa ff 31")


async def test_a_non_confirmable_duplicate_is_ignored(wire: Wire) -> None:
    await wire.open(counter := Counter())
    await wire.tell("51 01 1234 aa b1 61")
    assert await wire.tell("51 01 1234 aa b1 61") == []
    assert len(counter.served) == 1


async def test_a_failing_handler_answers_5_00_and_is_reported(wire: Wire) -> None:
    async def handler(message: Message, peer: object) -> Message:
        raise RuntimeError("defect")

    await wire.open(handler)
    assert await wire.tell("41 01 1234 aa b1 61") == [x("61 a0 1234 aa")]
    assert wire.problems == ["the handler of GET failed"]


async def test_a_response_that_cannot_be_encoded_answers_5_00_and_is_reported(wire: Wire) -> None:
    async def handler(message: Message, peer: object) -> Message:
        return Message(code=codes.CONTENT, uri_path=("a", 5))

    await wire.open(handler)
    assert await wire.tell("41 01 1234 aa b1 61") == [x("61 a0 1234 aa")]
    assert wire.problems == ["the handler of GET failed"]


async def test_an_endpoint_without_a_handler_resets_requests(wire: Wire) -> None:
    await wire.open()
    assert await wire.tell("41 01 1234 aa b1 61") == [x("70 00 1234")]
    assert await wire.tell("51 01 1235 aa b1 61") == []


async def test_a_ping_is_answered_with_a_reset(wire: Wire) -> None:
    await wire.open(hello)
    assert await wire.tell("40 00 1234") == [x("70 00 1234")]


async def test_more_requests_than_it_can_serve_are_answered_5_03(wire: Wire) -> None:
    await wire.open(counter := Counter(seconds=5), max_serving=2)
    for mid in ("0001", "0002"):
        assert await wire.tell("41 02", mid, "aa b1 61") == []
    assert await wire.tell("41 02 0003 aa b1 61") == [
        x("61 a3 0003 aa d1 01 05 ff", b"too many requests at once".hex())
    ]
    assert len(counter.served) == 2


# -- asking ------------------------------------------------------------------------------------------


def get(path: str = "a", **options: object) -> Message:
    return Message(code=codes.GET, uri_path=path.split("/"), **options)


async def ask(endpoint: Endpoint, message: Message | None = None, **options: object) -> asyncio.Task[Message]:
    task = asyncio.create_task(endpoint.request(message or get(), PEER, **options))
    await asyncio.sleep(0)
    return task


async def test_a_request_is_sent_five_times_with_doubling_pauses_and_then_times_out(wire: Wire) -> None:
    task = await ask(await wire.open())
    sent = await wire.wait(200)
    assert sent == [sent[0]] * 5
    assert sent[0] == x("44 01", sent[0].mid, sent[0].token, "b1 61")
    pauses = [later.when - earlier.when for earlier, later in itertools.pairwise(sent)]
    assert 2 <= pauses[0] <= 3
    assert pauses == pytest.approx([pauses[0] * 2**n for n in range(4)])
    with pytest.raises(
        TimedOut, match=r"GET coap://192.0.2.1:5683/a: no answer to 5 transmissions, after .* s"
    ) as caught:
        await task
    assert f"after {31 * pauses[0]:.1f} s" in str(caught.value)
    assert caught.value.hint


async def test_the_stock_clients_timing_is_a_setting(wire: Wire) -> None:
    await ask(await wire.open(ack_timeout=3.0, max_retransmit=3))
    sent = await wire.wait(300)
    assert len(sent) == 4
    assert 3 <= sent[1].when <= 4.5


async def test_the_same_seed_sends_the_same_bytes_at_the_same_times(wire: Wire) -> None:
    async def conversation(seed: int) -> list[tuple[str, float]]:
        endpoint = await wire.open(seed=seed)
        start = asyncio.get_running_loop().time()
        task = await ask(endpoint)
        sent = await wire.wait(100)
        await asyncio.gather(task, return_exceptions=True)
        await endpoint.close()
        return [(each, round(each.when - start, 4)) for each in sent]

    first = await conversation(7)
    assert await conversation(7) == first
    assert await conversation(8) != first


async def test_without_a_seed_nothing_can_be_guessed(wire: Wire) -> None:
    seen = set()
    for _ in range(5):
        endpoint = await wire.open(seed=None)
        task = await ask(endpoint)
        seen.add((await wire.one()).token)
        task.cancel()
        await endpoint.close()
    assert len(seen) == 5


async def test_an_acknowledgement_ends_the_transmission(wire: Wire) -> None:
    task = await ask(await wire.open())
    request = await wire.one()
    assert await wire.tell("64 45", request.mid, request.token, "ff 6869") == []
    response = await task
    assert (response.code, response.payload, response.remote) == (codes.CONTENT, b"hi", PEER)
    assert await wire.wait(300) == []


async def test_a_separate_response_is_acknowledged_each_time_it_comes(wire: Wire) -> None:
    task = await ask(await wire.open())
    request = await wire.one()
    assert await wire.tell("60 00", request.mid) == []
    assert await wire.wait(50) == []
    separate = x("44 45 7777", request.token, "ff 6869")
    assert await wire.tell(separate) == [x("60 00 7777")]
    assert (await task).payload == b"hi"
    assert await wire.tell(separate) == [x("60 00 7777")]


async def test_a_separate_response_may_overtake_the_acknowledgement(wire: Wire) -> None:
    task = await ask(await wire.open())
    request = await wire.one()
    assert await wire.tell("44 45 7777", request.token, "ff 6869") == [x("60 00 7777")]
    assert (await task).payload == b"hi"
    assert await wire.tell("60 00", request.mid) == []
    assert await wire.wait(300) == []


async def test_a_non_confirmable_response_is_not_acknowledged(wire: Wire) -> None:
    task = await ask(await wire.open())
    request = await wire.one()
    await wire.tell("60 00", request.mid)
    assert await wire.tell("54 45 7777", request.token, "ff 6869") == []
    assert (await task).payload == b"hi"


async def test_an_acknowledged_request_without_a_response_times_out(wire: Wire) -> None:
    task = await ask(await wire.open())
    request = await wire.one()
    await wire.tell("60 00", request.mid)
    await wire.wait(248)
    with pytest.raises(TimedOut, match=r"acknowledged, but no response in 247.0 s"):
        await task


async def test_the_stock_clients_acknowledgement_of_five_bytes_is_one(wire: Wire) -> None:
    task = await ask(await wire.open())
    request = await wire.one()
    await wire.tell("60 00", request.mid, "c0")
    assert await wire.wait(100) == []
    assert await wire.tell("44 44 7777", request.token) == [x("60 00 7777")]
    assert (await task).code == codes.CHANGED


async def test_a_reset_request_is_unreachable(wire: Wire) -> None:
    task = await ask(await wire.open())
    request = await wire.one()
    await wire.tell("70 00", request.mid)
    with pytest.raises(Unreachable, match=r"GET coap://192.0.2.1:5683/a: the peer reset it"):
        await task


@pytest.mark.parametrize(
    "spoofed",
    [
        pytest.param("64 45 {mid} 00000000 ff 21", id="another token"),
        pytest.param("64 45 0000 {token} ff 21", id="another message ID"),
        pytest.param("60 00 0000", id="an acknowledgement of nothing"),
        pytest.param("70 00 0000", id="a reset of nothing"),
        pytest.param("50 00 {mid}", id="an empty NON"),
        pytest.param("64 01 {mid} {token}", id="a request in an ACK"),
        pytest.param("74 45 {mid} {token} ff 21", id="a response in a RST"),
        pytest.param("64 e1 {mid} {token}", id="a signalling code in an ACK"),
    ],
)
async def test_messages_that_do_not_match_end_no_exchange(wire: Wire, spoofed: str) -> None:
    task = await ask(await wire.open())
    request = await wire.one()
    assert await wire.tell(spoofed.format(mid=request.mid, token=request.token)) == []
    assert await wire.tell("64 45", request.mid, request.token, "ff 21", peer=OTHER) == []
    assert await wire.wait(4) == [request]  # it goes on
    await wire.tell("64 45", request.mid, request.token, "ff 6869")
    assert (await task).payload == b"hi"


async def test_a_response_to_nobody_is_reset(wire: Wire) -> None:
    await wire.open(hello)
    reset = [x("70 00 7777")]
    assert await wire.tell("44 45 7777 01020304 ff 6869") == reset
    assert await wire.tell("44 45 7777 01020304 ff 6869") == reset


async def test_an_own_time_out_says_so(wire: Wire) -> None:
    task = await ask(await wire.open(), timeout=1.5)
    await wire.wait(2)
    with pytest.raises(TimedOut, match=r"GET coap://192.0.2.1:5683/a: no answer in 1.5 s"):
        await task
    assert await wire.wait(300) == []


async def test_a_cancelled_request_falls_silent(wire: Wire) -> None:
    task = await ask(await wire.open())
    request = await wire.one()
    task.cancel()
    assert await wire.wait(300) == []
    assert await wire.tell("64 45", request.mid, request.token, "ff 6869") == []


async def test_a_socket_that_refuses_is_told_at_once(wire: Wire) -> None:
    endpoint = await wire.open()
    wire.refuse = NetworkError("the interface is down")
    with pytest.raises(NetworkError, match="the interface is down"):
        await endpoint.request(get(), PEER)


async def test_a_socket_that_begins_to_refuse_ends_the_request(wire: Wire) -> None:
    task = await ask(await wire.open())
    await wire.one()
    wire.refuse = NetworkError("the interface is down")
    await wire.wait(4)
    with pytest.raises(Unreachable, match="it cannot be sent: the interface is down") as caught:
        await task
    assert caught.value.__cause__ is wire.refuse


# -- ending ------------------------------------------------------------------------------------------


async def test_closing_ends_what_is_under_way_and_leaves_no_timer(wire: Wire) -> None:
    endpoint = await wire.open(Counter(seconds=9))
    asking = await ask(endpoint)
    await wire.tell("41 01 1234 aa b1 61")
    endpoint.notify(PEER, Message(code=codes.CONTENT, observe=1), b"n", on_result=print)
    await wire.heard()
    await endpoint.close()
    await endpoint.close()
    assert wire.closed
    assert endpoint.closed
    assert endpoint.address == ("", 0)
    with pytest.raises(Unreachable, match="the endpoint was closed"):
        await asking
    with pytest.raises(Unreachable, match="the endpoint is closed"):
        await endpoint.request(get(), PEER)
    endpoint.notify(PEER, Message(code=codes.CONTENT, observe=1), b"n")
    assert await wire.tell("41 01 1235 aa b1 61") == []
    assert await wire.wait(300) == []


async def test_a_handler_may_close_its_endpoint_and_go_on(wire: Wire) -> None:
    went_on = []

    async def handler(message: Message, peer: object) -> Message:
        endpoint.acknowledge(message)
        await endpoint.close()
        await asyncio.sleep(1)
        went_on.append(True)
        return Message(code=codes.CHANGED)

    endpoint = await wire.open(handler)
    assert await wire.tell("41 02 1234 aa b1 61") == [x("60 00 1234")]
    assert await wire.wait(1.5) == []
    assert went_on
    assert not live_timers(asyncio.get_running_loop())  # its response is not tried either


async def test_an_idle_endpoint_keeps_no_timer(wire: Wire, clock: DeviceClock) -> None:
    endpoint = await wire.open(hello)
    for n in range(50):
        await wire.tell(f"41 01 {n:04x} aa b1 61")
    task = await ask(endpoint)
    request = await wire.one()
    await wire.tell("64 45", request.mid, request.token, "ff 6869")
    await task
    assert not live_timers(clock.loop)


async def test_a_finished_exchange_leaves_nothing_for_the_garbage_collector(wire: Wire) -> None:
    endpoint = await wire.open(hello)
    gc.collect()
    gc.disable()
    try:
        for n in range(20):
            await wire.tell(f"41 01 {n:04x} aa b1 61")
            task = await ask(endpoint)
            request = await wire.one()
            await wire.tell("64 45", request.mid, request.token, "ff 6869")
            await task
        assert gc.collect() < 20
    finally:
        gc.enable()
