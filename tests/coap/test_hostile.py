"""Peers that mean no good, or behave as the stock client does where it is odd: what they cost, and what they get."""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.transport import Address
from tests.coap.test_blockwise import PUT_A, block, block1
from tests.coap.wire import OTHER, PEER, Wire, x

MANY = 20_000
MB = 1 << 20


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Fail if more memory than the limit (B) is held at the end than at the beginning, or twice it meanwhile."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before <= limit, f"{(after - before) / MB:.1f} MB held"
    assert peak - before <= 2 * limit, f"{(peak - before) / MB:.1f} MB meanwhile"


def strangers() -> Iterator[Address]:
    """Addresses that never come twice."""
    for number in itertools.count():
        yield f"198.51.{number >> 16 & 0xFF}.{number >> 8 & 0xFF}", 1024 + (number & 0xFF)


def tell(wire: Wire, peer: Address, *parts: str) -> None:
    """Deliver a datagram; what is sent back goes nowhere."""
    wire.on_datagram(bytes.fromhex("".join(parts)), peer)
    wire.sent.clear()


def answers_at_once(message: Message, peer: Address) -> Message:
    return Message(code=codes.CONTENT, payload=b"hi")


async def still_answers(wire: Wire) -> None:
    assert await wire.tell("41 01 fff0 aa b1 61", peer=OTHER) == [x("61 45 fff0 aa ff 6869")]


# -- memory ------------------------------------------------------------------------------------------


async def test_strangers_that_ask_once_cost_at_most_what_is_kept_of_peers(wire: Wire) -> None:
    await wire.open(answers_at_once, max_peers=2000)
    with at_most(4 * MB):
        for peer in itertools.islice(strangers(), MANY):
            tell(wire, peer, "41 01 0001 aa b1 61")
    await still_answers(wire)


async def test_one_peer_that_never_uses_a_message_id_twice_costs_no_more_than_its_duplicates(wire: Wire) -> None:
    await wire.open(answers_at_once)
    with at_most(MB // 4):
        for mid in range(MANY):
            tell(wire, PEER, f"44 01 {mid:04x} {mid:08x} b1 61")
    await still_answers(wire)


async def test_peers_that_begin_uploads_and_stall_are_bounded_together(wire: Wire) -> None:
    endpoint = await wire.open(answers_at_once, max_held=2 * MB, max_peers=1000)
    with at_most(5 * MB):
        for peer in itertools.islice(strangers(), MANY):
            tell(wire, peer, "40 03 0001", PUT_A, "d1 03", block(0, True, 1024), "ff", "00" * 1024)
    assert endpoint._responder._uploads._uploads._held <= 2 * MB
    await still_answers(wire)


async def test_one_peers_upload_without_end_is_cut_off(wire: Wire) -> None:
    await wire.open(answers_at_once, max_body=MB // 4)
    with at_most(MB):
        for number in range(2000):
            value = block(number % 1000, True, 1024)
            tell(wire, PEER, f"40 03 {number:04x}", PUT_A, f"d{len(value) // 2} 03", value, "ff", "00" * 1024)
    await still_answers(wire)


async def test_a_peer_that_never_acknowledges_separate_responses_soon_gets_no_more(wire: Wire) -> None:
    async def handler(message: Message, peer: Address) -> Message:
        endpoint.acknowledge(message)
        return Message(code=codes.CONTENT, payload=bytes(1000))

    endpoint = await wire.open(handler)
    with at_most(3 * MB):
        for mid in range(MANY):
            tell(wire, PEER, f"44 01 {mid:04x} {mid:08x} b1 61")
            if mid % 50 == 0:
                await asyncio.sleep(0)
                wire.sent.clear()
        await wire.heard()
    assert len(endpoint._transmissions) <= endpoint.parameters.nstart + endpoint.parameters.max_queued
    assert len(await wire.tell("41 01 fff0 aa b1 61", peer=OTHER)) == 2  # an ACK, and the response


async def test_strangers_that_never_acknowledge_separate_responses_are_answered_5_03(wire: Wire) -> None:
    async def handler(message: Message, peer: Address) -> Message:
        endpoint.acknowledge(message)
        return Message(code=codes.CONTENT, payload=bytes(1000))

    endpoint = await wire.open(handler, max_serving=300, max_peers=1000)
    with at_most(4 * MB):
        for number, peer in enumerate(itertools.islice(strangers(), MANY)):
            tell(wire, peer, "41 01 0001 aa b1 61")
            if number % 50 == 0:
                await asyncio.sleep(0)
                wire.sent.clear()
    assert (await wire.tell("41 01 fff0 aa b1 61", peer=OTHER))[-1].startswith(x("61 a3 fff0"))
    await wire.wait(100)  # they are given up
    assert len(await wire.tell("41 01 fff1 aa b1 61", peer=OTHER)) == 2


async def test_notifications_to_a_peer_that_never_acknowledges_are_bounded_by_token(wire: Wire) -> None:
    endpoint = await wire.open()
    with at_most(MB):
        for number in range(MANY):
            endpoint.notify(PEER, Message(code=codes.CONTENT, payload=b"%d" % number, observe=number), b"n")
        wire.sent.clear()
    assert len(endpoint._transmissions) == 1


async def test_a_flood_of_notifications_that_nobody_asked_for_costs_no_memory(wire: Wire) -> None:
    endpoint = await wire.open()
    endpoint.on_unasked = lambda message, peer: len(message.token) == 2
    with at_most(MB // 4):
        for number in range(MANY):
            tell(wire, PEER, f"42 45 {number:04x} {number:04x} 61 02 81 00 ff 33")
            tell(wire, PEER, f"58 45 {number:04x} {number:016x} 61 02 81 00 ff 33")


async def test_garbage_is_counted_and_forgotten(wire: Wire) -> None:
    endpoint = await wire.open(answers_at_once)
    with at_most(MB // 4):
        for number, peer in enumerate(itertools.islice(strangers(), MANY)):
            tell(wire, peer, f"49 01 {number & 0xFFFF:04x}", "00" * 20)
    assert endpoint.malformed == MANY
    await still_answers(wire)


# -- absurd sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param("d1 03 08 d4 14 ffffffff", "8d", id="Size1 of 4 GB"),
        pytest.param("d3 03 fffff8", "88", id="the last block number there is, first"),
        pytest.param("d1 03 0f", "80", id="SZX 7"),
    ],
)
async def test_absurd_sizes_are_refused_at_once(wire: Wire, options: str, code: str) -> None:
    endpoint = await wire.open(answers_at_once)
    (reply,) = await wire.tell("40 03 0001 b1 61", options, "ff", "00" * 16)
    assert reply[2:4] == code
    assert len(endpoint._responder._uploads) == 0


async def test_a_block_number_far_behind_the_end_costs_nothing(wire: Wire) -> None:
    await wire.open(answers_at_once)
    with at_most(MB // 4):
        (reply,) = await wire.tell("40 01 0001 b1 61 c3 fffff6")
    assert reply[2:4] == "80"


# -- oddities of the stock client --------------------------------------------------------------------


async def test_max_age_0_in_every_message_changes_nothing(wire: Wire) -> None:
    """The stock client puts it into requests, blocks and acknowledgements alike (docs/wire.md 1.9)."""
    taken: list[bytes] = []

    def handler(message: Message, peer: Address) -> Message:
        taken.append(message.payload)
        return Message(code=codes.CHANGED)

    endpoint = await wire.open(handler)
    assert await wire.tell("41 02 0001 aa b1 61 30 ff 31") == [x("61 44 0001 aa")]
    for number in range(2):
        await wire.tell(f"41 02 001{number} aa b1 61 30 d1 00", block(number, number == 0, 32), "ff", "32" * 32)
    assert taken == [b"1", b"2" * 64]
    asking = asyncio.create_task(endpoint.request(Message(code=codes.GET), PEER))
    request = await wire.one()
    await wire.tell("64 45", request.mid, request.token, "e0 0001 ff 6869")  # Max-Age cannot be told: 270
    assert (await asking).payload == b"hi"


@pytest.mark.parametrize("tail", ["c0", "c1 00", "ff", "ff 31", "b5"], ids=str)
@pytest.mark.parametrize("kind", ["60", "70"], ids=["ACK", "RST"])
async def test_bytes_after_an_empty_message_are_not_looked_at(wire: Wire, kind: str, tail: str) -> None:
    results: list[str] = []
    endpoint = await wire.open()
    endpoint.notify(PEER, Message(code=codes.CONTENT, observe=1), b"n", on_result=results.append)
    sent = await wire.one()
    assert await wire.tell(kind, "00", sent.mid, tail) == []
    assert results == ["acknowledged" if kind == "60" else "reset"]
    assert endpoint.malformed == 0


@pytest.mark.parametrize("new_token", [False, True], ids=["stock", "libcoap"])
async def test_blocks_of_one_token_and_of_many_make_the_same_body(wire: Wire, new_token: bool) -> None:
    bodies: list[bytes] = []

    def handler(message: Message, peer: Address) -> Message:
        bodies.append(message.payload)
        return Message(code=codes.CHANGED, payload=bytes(range(80)))

    await wire.open(handler, block_size=32)
    for number in range(3):
        token = f"a{number}" if new_token else "aa"
        last = await wire.tell(f"41 03 000{number}", token, PUT_A, block1(number, number < 2))
    assert bodies == [bytes(range(80))]
    got = bytes.fromhex(last[0][-64:])
    for number in (1, 2):
        token = f"b{number}" if new_token else "aa"
        (part,) = await wire.tell(f"41 03 001{number}", token, PUT_A, "c1", block(number, False, 32))
        got += bytes.fromhex(part.partition("ff")[2])
    assert got == bytes(range(80))
    assert len(bodies) == 1
