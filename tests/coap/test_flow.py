"""How much is under way at once, and what is sent again when its peer is heard."""

from __future__ import annotations

import asyncio

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError, TimedOut
from tests.coap.wire import OTHER, PEER, Wire, x


def value(number: int) -> Message:
    return Message(code=codes.CONTENT, payload=b"%d" % number, observe=number)


def get() -> Message:
    return Message(code=codes.GET, uri_path=("a",))


# -- to one peer (NSTART) ----------------------------------------------------------------------------


async def test_no_more_than_nstart_messages_to_one_peer_wait_for_an_acknowledgement(wire: Wire) -> None:
    results: list[str] = []
    endpoint = await wire.open(nstart=2)
    for number in range(5):
        endpoint.notify(PEER, value(number), bytes((number,)), on_result=results.append)
    endpoint.notify(OTHER, value(9), b"o")
    sent = await wire.heard()
    assert [each.token for each in sent] == ["00", "01", "6f"]
    told = []
    for each in sent[:2]:
        (following,) = await wire.tell("60 00", each.mid)
        told.append(following.token)
    assert told == ["02", "03"]
    assert results == ["acknowledged"] * 2


async def test_with_an_nstart_of_one_requests_go_out_one_by_one_as_rfc_7252_has_it(wire: Wire) -> None:
    endpoint = await wire.open(nstart=1)
    asking = [asyncio.create_task(endpoint.request(get(), PEER)) for _ in range(3)]
    for _ in asking:
        request = await wire.one()
        await asyncio.sleep(1)
        wire.on_datagram(bytes.fromhex(x("64 45", request.mid, request.token, "ff 31")), PEER)
    assert [(await each).payload for each in asking] == [b"1"] * 3


async def test_an_acknowledged_request_whose_response_takes_long_holds_nothing_up(wire: Wire) -> None:
    endpoint = await wire.open(nstart=1)
    first = asyncio.create_task(endpoint.request(get(), PEER))
    request = await wire.one()
    second = asyncio.create_task(endpoint.request(get(), PEER))
    assert await wire.heard() == []
    (other,) = await wire.tell("60 00", request.mid)
    await wire.tell("64 45", other.mid, other.token)
    assert (await second).code == codes.CONTENT
    await wire.tell("44 45 0001", request.token)
    assert (await first).code == codes.CONTENT


async def test_what_waited_for_a_peer_that_never_answers_is_tried_too(wire: Wire) -> None:
    endpoint = await wire.open(nstart=1)
    asking = [asyncio.create_task(endpoint.request(get(), PEER)) for _ in range(2)]
    sent = await wire.wait(400)
    assert [sent.count(each) for each in dict.fromkeys(sent)] == [5, 5]
    for each in asking:
        with pytest.raises(TimedOut, match="no answer to 5 transmissions"):
            await each


async def test_a_request_that_waits_may_be_cancelled(wire: Wire) -> None:
    endpoint = await wire.open(nstart=1)
    asking = [asyncio.create_task(endpoint.request(get(), PEER)) for _ in range(3)]
    request = await wire.one()
    asking[1].cancel()
    await wire.heard()
    (following,) = await wire.tell("64 45", request.mid, request.token)
    await wire.tell("64 45", following.mid, following.token)
    assert (await asking[2]).code == codes.CONTENT
    assert not endpoint._transmissions and not endpoint._flow._under_way and not endpoint._flow._behind


async def test_a_socket_that_refuses_what_waited_ends_it(wire: Wire) -> None:
    endpoint = await wire.open(nstart=1)
    asking = [asyncio.create_task(endpoint.request(get(), PEER)) for _ in range(3)]
    request = await wire.one()
    wire.refuse = NetworkError("the interface is down")
    await wire.tell("64 45", request.mid, request.token)
    assert (await asking[0]).code == codes.CONTENT
    for each in asking[1:]:
        with pytest.raises(NetworkError, match="the interface is down"):
            await each
    assert not endpoint._flow._under_way and not endpoint._flow._behind


# -- in one go (burst) -------------------------------------------------------------------------------


def observers(count: int) -> list[Address]:
    return [("192.0.2.1", 1024 + number) for number in range(count)]


async def test_after_a_burst_the_loop_gets_a_chance_to_hear_what_comes_back(wire: Wire) -> None:
    endpoint = await wire.open(burst=10)
    for number, peer in enumerate(observers(35)):
        endpoint.notify(peer, value(number), b"n")
    assert len(wire.sent) == 10
    counts = []
    while len(wire.sent) < 35:
        await asyncio.sleep(0)
        counts.append(len(wire.sent))
    assert counts[-4:] == [10, 20, 30, 35] or counts == [20, 30, 35]
    assert [each.to for each in wire.sent] == observers(35)


async def test_what_is_heard_ends_the_burst(wire: Wire) -> None:
    endpoint = await wire.open(burst=2)
    for peer in observers(2):
        endpoint.notify(peer, value(1), b"n")
    wire.on_datagram(bytes.fromhex(x("60 00", wire.sent[0].mid)), observers(1)[0])
    endpoint.notify(OTHER, value(1), b"n")
    assert len(wire.sent) == 3


async def test_none_of_a_thousand_notifications_in_one_burst_is_lost(wire: Wire) -> None:
    results: list[str] = []
    endpoint = await wire.open()
    for peer in observers(1000):
        endpoint.notify(peer, value(1), b"n", on_result=results.append)
    while len(results) < 1000:
        for each in await wire.heard():
            wire.on_datagram(bytes.fromhex(x("60 00", each.mid)), each.to)
    assert results == ["acknowledged"] * 1000
    assert not endpoint._transmissions


async def test_closing_drops_what_waits(wire: Wire) -> None:
    endpoint = await wire.open(burst=2, nstart=1)
    for peer in [*observers(5), *observers(5)]:
        endpoint.notify(peer, value(1), b"n")
        endpoint.notify(peer, value(1), b"m")
    endpoint.abort()
    await wire.heard()
    assert await wire.wait(300) == []


# -- heard again -------------------------------------------------------------------------------------


async def asked_in_vain(wire: Wire, endpoint: Endpoint, seconds: float) -> asyncio.Task[Message]:
    """Ask while there is no link."""
    asking = asyncio.create_task(endpoint.request(get(), PEER))
    await wire.wait(seconds)
    return asking


async def test_what_a_peer_missed_is_sent_again_when_it_is_heard(wire: Wire) -> None:
    """A read behind it would wait for half a minute after the link is back."""
    endpoint = await wire.open(lambda message, peer: Message(code=codes.CHANGED))
    asking = await asked_in_vain(wire, endpoint, 40)
    reply, again = await wire.tell("41 02 0001 aa b2 7264")  # an update
    assert reply == x("61 44 0001 aa")
    assert again.body == x("b1 61")
    await wire.tell("64 45", again.mid, again.token, "ff 6869")
    assert (await asking).payload == b"hi"


async def test_a_peer_that_speaks_without_a_pause_is_not_asked_more_than_twice_as_often(wire: Wire) -> None:
    endpoint = await wire.open(lambda message, peer: Message(code=codes.CHANGED))
    asking = asyncio.create_task(endpoint.request(get(), PEER))
    sent = list(await wire.heard())
    for number in range(1000):
        wire.on_datagram(bytes.fromhex(x(f"51 02 {number:04x} aa b1 61")), PEER)
        await asyncio.sleep(0.1)
        sent += await wire.heard()
    assert len([each for each in sent if each.startswith("44")]) == 10
    with pytest.raises(TimedOut, match="no answer to 10 transmissions"):
        await asking


async def test_what_was_sent_just_now_is_not_sent_again(wire: Wire) -> None:
    endpoint = await wire.open(lambda message, peer: Message(code=codes.CHANGED))
    asking = await asked_in_vain(wire, endpoint, 1.9)
    assert await wire.tell("41 02 0001 aa b1 61") == [x("61 44 0001 aa")]
    assert await wire.tell("41 02 0002 aa b1 61", peer=OTHER) == [x("61 44 0002 aa")]
    asking.cancel()


async def test_an_acknowledgement_does_not_repeat_what_it_acknowledges(wire: Wire) -> None:
    endpoint = await wire.open(ack_random_factor=2, seed=3)  # the first retransmission is due after 3.1 s
    asking = await asked_in_vain(wire, endpoint, 0)
    (mid,) = [mid for _, mid in endpoint._transmissions]
    assert await wire.wait(3) == []
    assert await wire.tell(f"60 00 {mid:04x}") == []
    asking.cancel()
