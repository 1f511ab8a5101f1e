"""RFC 7959 on the wire, both ways, and what the stock client makes of it."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.errors import ConfigError, NetworkError
from tests.coap.lossy import Lossy
from tests.coap.wire import OTHER, PEER, Sent, Wire, x

BODY = bytes(range(80))


def tag(body: bytes) -> str:
    """Return the ETag option of a body, where no option with a lower number is before it."""
    return "44" + hashlib.blake2b(body, digest_size=4).hexdigest()


def block(number: int, more: bool, size: int) -> str:
    """Return a block option's value in hex, two bytes for a number of 16 or more."""
    value = number << 4 | more << 3 | size.bit_length() - 5
    return f"{value:02x}" if value < 256 else f"{value:04x}"


class Resource:
    """A handler with a body that can be changed, which keeps what it is given."""

    def __init__(self, body: bytes = BODY) -> None:
        self.body = body
        self.requests: list[Message] = []

    async def __call__(self, message: Message, peer: object) -> Message:
        self.requests.append(message)
        if message.code == codes.GET:
            return Message(code=codes.CONTENT, payload=self.body)
        return Message(code=codes.CHANGED, payload=self.body if message.code == codes.POST else b"")


# -- answering in blocks (Block2) --------------------------------------------------------------------


async def test_a_large_response_is_cut_with_size2_and_an_etag(wire: Wire) -> None:
    await wire.open(Resource(), block_size=32)
    assert await wire.tell("41 01 0001 aa b1 61") == [
        x("61 45 0001 aa", tag(BODY), "d1 06", block(0, True, 32), "51 50 ff", BODY[:32].hex())
    ]
    assert await wire.tell("41 01 0002 ab b1 61 c1", block(1, False, 32)) == [
        x("61 45 0002 ab", tag(BODY), "d1 06", block(1, True, 32), "51 50 ff", BODY[32:64].hex())
    ]
    assert await wire.tell("41 01 0003 aa b1 61 c1", block(2, False, 32)) == [
        x("61 45 0003 aa", tag(BODY), "d1 06", block(2, False, 32), "51 50 ff", BODY[64:].hex())
    ]


async def test_the_peer_may_ask_for_smaller_blocks_from_the_start_or_later(wire: Wire) -> None:
    await wire.open(Resource())
    (first,) = await wire.tell("40 01 0001 b1 61 c1", block(0, False, 64))
    assert first == x("60 45 0001", tag(BODY), "d1 06", block(0, True, 64), "51 50 ff", BODY[:64].hex())
    (last,) = await wire.tell("40 01 0002 b1 61 c1", block(4, False, 16))
    assert last == x("60 45 0002", tag(BODY), "d1 06", block(4, False, 16), "51 50 ff", BODY[64:].hex())


async def test_larger_blocks_than_ours_are_answered_with_ours(wire: Wire) -> None:
    await wire.open(Resource(), block_size=16)
    (reply,) = await wire.tell("40 01 0001 b1 61 c1", block(1, False, 32))
    assert reply == x("60 45 0001", tag(BODY), "d1 06", block(2, True, 16), "51 50 ff", BODY[32:48].hex())


async def test_a_response_that_fits_keeps_the_block_option_that_was_asked(wire: Wire) -> None:
    await wire.open(Resource(b"hi"))
    assert await wire.tell("40 01 0001 b1 61 c1 06") == [x("60 45 0001 d1 0a 06 51 02 ff 6869")]
    assert await wire.tell("40 01 0002 b1 61") == [x("60 45 0002 ff 6869")]


async def test_a_block_behind_the_end_is_4_00(wire: Wire) -> None:
    await wire.open(Resource())
    assert await wire.tell("40 01 0001 b1 61 c1", block(5, False, 16)) == [x("60 80 0001 ff", b"no such block".hex())]


async def test_the_reserved_block_size_is_4_00_both_ways(wire: Wire) -> None:
    await wire.open(Resource())
    assert (await wire.tell("40 01 0001 b1 61 c1 07"))[0].startswith("60800001ff")
    assert (await wire.tell("40 03 0002 b1 61 d1 03 07 ff 00"))[0].startswith("60800002")


async def test_blocks_are_of_the_representation_that_the_first_one_was_of(wire: Wire) -> None:
    await wire.open(resource := Resource(), block_size=32)
    await wire.tell("40 01 0001 b1 61")
    resource.body = b"another"
    (second,) = await wire.tell("40 01 0002 b1 61 c1", block(1, False, 32))
    assert second.endswith(BODY[32:64].hex())
    assert len(resource.requests) == 1
    (afresh,) = await wire.tell("40 01 0003 b1 61")
    assert afresh == x("60 45 0003 ff", b"another".hex())


async def test_a_later_block_alone_is_cut_from_a_fresh_response_and_kept(wire: Wire) -> None:
    await wire.open(resource := Resource(), block_size=32)
    for mid, number in (("0001", 1), ("0002", 2)):
        (reply,) = await wire.tell("40 01", mid, "b1 61 c1", block(number, False, 32))
        assert reply.endswith(BODY[32 * number :][:32].hex())
    assert len(resource.requests) == 1


async def test_the_rest_of_a_posts_response_never_does_it_again(wire: Wire) -> None:
    await wire.open(resource := Resource(), block_size=32)
    await wire.tell("41 02 0001 aa b1 61 ff 21")
    (second,) = await wire.tell("41 02 0002 aa b1 61 c1", block(1, False, 32))
    assert second.endswith(BODY[32:64].hex())
    (refused,) = await wire.tell("41 02 0003 aa b1 61 c1", block(1, False, 32), peer=OTHER)
    assert refused.startswith(x("61 88 0003 aa ff"))  # 4.08, and why
    await wire.wait(300)  # it is kept for an exchange's lifetime
    (refused,) = await wire.tell("41 02 0004 aa b1 61 c1", block(1, False, 32))
    assert refused.startswith(x("61 88 0004 aa ff"))
    assert len(resource.requests) == 1


async def test_different_queries_are_different_transfers(wire: Wire) -> None:
    async def handler(message: Message, peer: object) -> Message:
        return Message(code=codes.CONTENT, payload=message.opt.uri_query[0].encode() * 40)

    await wire.open(handler, block_size=32)
    await wire.tell("40 01 0001 b1 61 41 78")
    await wire.tell("40 01 0002 b1 61 41 79")
    (reply,) = await wire.tell("40 01 0003 b1 61 41 78 81", block(1, False, 32))
    assert reply.endswith((b"x" * 8).hex())


async def test_an_error_is_told_whole_whatever_block_was_asked(wire: Wire) -> None:
    async def handler(message: Message, peer: object) -> Message:
        return Message(code=codes.NOT_FOUND, payload=b"gone")

    await wire.open(handler, block_size=16)
    assert await wire.tell("40 01 0001 b1 61 c1", block(3, False, 16)) == [x("60 84 0001 ff 676f6e65")]


async def test_a_handler_may_cut_its_blocks_itself(wire: Wire) -> None:
    async def handler(message: Message, peer: object) -> Message:
        number, _, szx = message.opt.block2
        size = 16 << szx
        return Message(code=codes.CONTENT, payload=bytes((number,)) * size, block2=(number, True, szx), size2=1 << 20)

    await wire.open(handler)
    assert await wire.tell("40 01 0001 b1 61 c2", block(20, False, 16)) == [
        x("60 45 0001 d2 0a", block(20, True, 16), "53 100000 ff", "14" * 16)
    ]


async def test_a_non_confirmable_transfer_works_too(wire: Wire) -> None:
    await wire.open(Resource(), block_size=64)
    (first,) = await wire.tell("50 01 0001 b1 61")
    (second,) = await wire.tell("50 01 0002 b1 61 c1", block(1, False, 64))
    assert first.endswith(BODY[:64].hex())
    assert second.endswith(BODY[64:].hex())
    assert second.startswith(x("50 45", second.mid))


# -- taking blocks (Block1) --------------------------------------------------------------------------

PUT_A = "b1 61"


def block1(number: int, more: bool, size: int = 32, body: bytes = BODY) -> str:
    """Return Block1 after Uri-Path, and the payload."""
    value = block(number, more, size)
    part = body[number * size :][:size]
    return x(f"d{len(value) // 2} 03", value, "ff", part.hex())


async def test_an_upload_is_answered_2_31_until_its_last_block(wire: Wire) -> None:
    await wire.open(resource := Resource())
    assert await wire.tell("41 03 0001 aa", PUT_A, block1(0, True)) == [x("61 5f 0001 aa d1 0e", block(0, True, 32))]
    assert await wire.tell("41 03 0002 aa", PUT_A, block1(1, True)) == [x("61 5f 0002 aa d1 0e", block(1, True, 32))]
    assert await wire.tell("41 03 0003 aa", PUT_A, block1(2, False)) == [x("61 44 0003 aa d1 0e", block(2, False, 32))]
    (request,) = resource.requests
    assert request.payload == BODY


async def test_a_duplicate_block_is_not_taken_twice(wire: Wire) -> None:
    await wire.open(resource := Resource())
    first = await wire.tell("41 03 0001 aa", PUT_A, block1(0, True))
    assert await wire.tell("41 03 0001 aa", PUT_A, block1(0, True)) == first
    await wire.tell("41 03 0002 aa", PUT_A, block1(1, True))
    last = await wire.tell("41 03 0003 aa", PUT_A, block1(2, False))
    assert await wire.tell("41 03 0003 aa", PUT_A, block1(2, False)) == last
    assert [request.payload for request in resource.requests] == [BODY]


async def test_each_block_may_have_a_token_of_its_own(wire: Wire) -> None:  # libcoap's way
    await wire.open(resource := Resource())
    for n in range(3):
        await wire.tell(f"41 03 000{n} a{n}", PUT_A, block1(n, n < 2))
    assert [request.payload for request in resource.requests] == [BODY]


async def test_we_may_ask_for_smaller_blocks_and_get_them(wire: Wire) -> None:
    await wire.open(resource := Resource(), block_size=16)
    assert await wire.tell("40 03 0001", PUT_A, block1(0, True)) == [x("60 5f 0001 d1 0e", block(0, True, 16))]
    for n in (2, 3):
        assert await wire.tell(f"40 03 000{n}", PUT_A, block1(n, True, 16)) == [
            x(f"60 5f 000{n} d1 0e", block(n, True, 16))
        ]
    await wire.tell("40 03 0009", PUT_A, block1(4, False, 16))
    assert [request.payload for request in resource.requests] == [BODY]


@pytest.mark.parametrize("wrong", [2, 0xFFFFF])
async def test_a_block_that_does_not_follow_is_4_08_and_ends_the_transfer(wire: Wire, wrong: int) -> None:
    await wire.open(resource := Resource())
    await wire.tell("40 03 0001", PUT_A, block1(0, True))
    value = f"{wrong << 4 | 9:x}"
    value = value.zfill(len(value) + len(value) % 2)
    (reply,) = await wire.tell("40 03 0002", PUT_A, f"d{len(value) // 2} 03", value, "ff", "00" * 32)
    assert reply[:8] == x("60 88 0002")
    assert (await wire.tell("40 03 0003", PUT_A, block1(1, True)))[0][:8] == x("60 88 0003")
    assert resource.requests == []


async def test_a_transfer_begins_anew_with_block_0(wire: Wire) -> None:
    await wire.open(resource := Resource())
    await wire.tell("40 03 0001", PUT_A, block1(0, True))
    for n in range(3):
        await wire.tell(f"40 03 001{n}", PUT_A, block1(n, n < 2))
    assert [request.payload for request in resource.requests] == [BODY]


async def test_a_block_of_the_wrong_size_is_4_00(wire: Wire) -> None:
    await wire.open(resource := Resource())
    (reply,) = await wire.tell("40 03 0001", PUT_A, "d1 03", block(0, True, 32), "ff", "00" * 31)
    assert reply == x("60 80 0001 d1 0e", block(0, False, 32), "ff", b"payload is not one block".hex())
    assert resource.requests == []


@pytest.mark.parametrize("announce", [True, False])
async def test_what_is_too_large_is_4_13_with_the_limit(wire: Wire, announce: bool) -> None:
    await wire.open(resource := Resource(), max_body=64)
    size1 = "d1 14 50" if announce else ""  # 60: 80 B
    replies = []
    for n in range(1 if announce else 3):
        value = block(n, n < 2, 32)
        replies += await wire.tell(f"40 03 000{n}", PUT_A, "d1 03", value, size1, "ff", BODY[n * 32 :][:32].hex())
    assert [reply[2:4] for reply in replies] == (["8d"] if announce else ["5f", "5f", "8d"])
    assert x("d1 14 40 ff") in replies[-1]  # Size1: 64 B, and words
    assert resource.requests == []


async def test_an_upload_is_forgotten_after_an_exchange_lifetime(wire: Wire) -> None:
    await wire.open(Resource())
    await wire.tell("40 03 0001", PUT_A, block1(0, True))
    await wire.wait(248)
    assert (await wire.tell("40 03 0002", PUT_A, block1(1, True)))[0][:8] == x("60 88 0002")


async def test_two_peers_uploads_do_not_mix(wire: Wire) -> None:
    await wire.open(resource := Resource())
    other = bytes(reversed(BODY))
    for n in range(3):
        await wire.tell(f"40 03 000{n}", PUT_A, block1(n, n < 2))
        await wire.tell(f"40 03 000{n}", PUT_A, block1(n, n < 2, body=other), peer=OTHER)
    assert [request.payload for request in resource.requests] == [BODY, other]


async def test_uploads_of_one_peer_and_of_all_are_bounded(wire: Wire) -> None:
    endpoint = await wire.open(Resource(), max_held=20_000)
    store = endpoint._responder._uploads._uploads
    for n in range(30):
        await wire.tell(f"40 03 00{n:02x} b1", f"{n + 65:02x}", block1(0, True))
    assert len(store) == 4
    for n in range(300):
        await wire.tell("40 03 0001", PUT_A, "4c", "78" * 12, "c1", block(0, True, 32), "ff", "00" * 32, peer=("a", n))
    assert len(store) < 40
    assert 0 < store._held <= 20_000
    assert store._held == sum(each.size for each in store._transfers.values())
    assert sum(map(len, store._of_peer.values())) == len(store)


async def test_kept_responses_are_bounded(wire: Wire) -> None:
    endpoint = await wire.open(Resource(bytes(4000)), max_held=20_000)
    for n in range(50):
        await wire.tell("40 01 0001", PUT_A, peer=("a", n))
    store = endpoint._responder._responses._kept
    assert 0 < store._held <= 20_000
    assert store._held == sum(each.size for each in store._transfers.values())


# -- asking, and reassembling ------------------------------------------------------------------------


async def ask(endpoint: Endpoint, message: Message, **options: object) -> asyncio.Task[Message]:
    task = asyncio.create_task(endpoint.request(message, PEER, **options))
    await asyncio.sleep(0)
    return task


async def answer(wire: Wire, code: str, options: str, payload: bytes = b"") -> Sent:
    """Answer the one request that is under way; return it."""
    request = await wire.one()
    reply = x("64", code, request.mid, request.token, options, "ff" if payload else "", payload.hex())
    wire.on_datagram(bytes.fromhex(reply), PEER)
    return request


def get(**options: object) -> Message:
    return Message(code=codes.GET, uri_path=("a",), **options)


def put(payload: bytes = BODY, **options: object) -> Message:
    return Message(code=codes.PUT, uri_path=("a",), payload=payload, **options)


async def test_a_response_in_blocks_comes_back_whole_with_one_token_for_all(wire: Wire) -> None:
    progress: list[tuple[int, int | None]] = []
    task = await ask(await wire.open(), get(), on_block=lambda done, total: progress.append((done, total)))
    first = await answer(wire, "45", x("d1 0a", block(0, True, 32), "51 50"), BODY[:32])
    second = await answer(wire, "45", x("d1 0a", block(1, True, 32)), BODY[32:64])
    third = await answer(wire, "45", x("d1 0a", block(2, False, 32)), BODY[64:])
    response = await task
    assert (response.payload, response.code, response.remote) == (BODY, codes.CONTENT, PEER)
    assert first.body == x("b1 61")
    assert second.body == x("b1 61 c1", block(1, False, 32))
    assert third.body == x("b1 61 c1", block(2, False, 32))
    assert first.token == second.token == third.token
    assert len({first.mid, second.mid, third.mid}) == 3
    assert progress == [(32, 80), (64, 80), (80, 80)]


async def test_a_block_size_can_be_asked_for(wire: Wire) -> None:
    task = await ask(await wire.open(), get(), block_size=32)
    first = await answer(wire, "45", x("d1 0a", block(0, True, 16)), BODY[:16])  # the peer wants smaller ones still
    second = await answer(wire, "45", x("d1 0a", block(1, False, 16)), BODY[16:20])
    assert first.body == x("b1 61 c1", block(0, False, 32))
    assert second.body == x("b1 61 c1", block(1, False, 16))
    assert (await task).payload == BODY[:20]


@pytest.mark.parametrize("number", [0, 3])
async def test_a_message_that_has_block2_itself_gets_that_block_alone(wire: Wire, number: int) -> None:
    task = await ask(await wire.open(), get(block2=(number, False, 1)))
    request = await answer(wire, "45", x("d1 0a", block(number, True, 32)), bytes(32))
    assert request.body == x("b1 61 c1", block(number, False, 32))
    response = await task
    assert (response.opt.block2, response.payload) == ((number, True, 1), bytes(32))


async def test_a_changed_etag_starts_the_transfer_over(wire: Wire) -> None:
    task = await ask(await wire.open(), get())
    await answer(wire, "45", x("41 01 d1 06", block(0, True, 32)), b"1" * 32)
    await answer(wire, "45", x("41 02 d1 06", block(1, True, 32)), b"2" * 32)
    again = await answer(wire, "45", x("41 02 d1 06", block(0, True, 32)), b"2" * 32)
    await answer(wire, "45", x("41 02 d1 06", block(1, False, 32)), b"2")
    assert again.body == x("b1 61 c1", block(0, False, 32))
    response = await task
    assert (response.payload, response.opt.etag) == (b"2" * 33, b"\2")


async def test_a_resource_that_never_stops_changing_is_an_error(wire: Wire) -> None:
    task = await ask(await wire.open(), get())
    for n in range(4):
        await answer(wire, "45", x(f"41 {n:02x} d1 06", block(0, True, 32)), bytes(32))
        await answer(wire, "45", x(f"41 {n + 1:02x} d1 06", block(1, True, 32)), bytes(32))
    await answer(wire, "45", x("41 09 d1 06", block(0, True, 32)), bytes(32))
    with pytest.raises(NetworkError, match=r"the resource changed while it was read, 4 times"):
        await task


async def test_a_posts_changed_response_is_an_error_and_it_is_not_done_again(wire: Wire) -> None:
    task = await ask(await wire.open(), Message(code=codes.POST, uri_path=("a",)))
    await answer(wire, "44", x("41 01 d1 06", block(0, True, 32)), bytes(32))
    await answer(wire, "44", x("41 02 d1 06", block(1, True, 32)), bytes(32))
    with pytest.raises(NetworkError, match="changed while it was read"):
        await task
    assert await wire.wait(300) == []


@pytest.mark.parametrize(
    ("options", "payload"),
    {
        "a gap": (x("d1 0a", block(2, True, 32)), bytes(32)),
        "the same block again": (x("d1 0a", block(0, True, 32)), bytes(32)),
        "too short": (x("d1 0a", block(1, True, 32)), bytes(31)),
        "too long": (x("d1 0a", block(1, False, 32)), bytes(33)),
        "the reserved size": (x("d1 0a", "1f"), bytes(1024)),
    }.values(),
)
async def test_blocks_that_do_not_fit_are_an_error(wire: Wire, options: str, payload: bytes) -> None:
    task = await ask(await wire.open(), get())
    await answer(wire, "45", x("d1 0a", block(0, True, 32)), bytes(32))
    await answer(wire, "45", options, payload)
    with pytest.raises(NetworkError, match=r"does not continue the 32 B before it"):
        await task


async def test_a_first_block_that_is_not_the_first_is_an_error(wire: Wire) -> None:
    task = await ask(await wire.open(), get())
    await answer(wire, "45", x("d1 0a", block(1, False, 32)), bytes(8))
    with pytest.raises(NetworkError, match="does not continue the 0 B before it"):
        await task


async def test_an_error_in_mid_transfer_is_the_response(wire: Wire) -> None:
    task = await ask(await wire.open(), get())
    await answer(wire, "45", x("d1 0a", block(0, True, 32)), bytes(32))
    await answer(wire, "88", "")
    assert (await task).code == codes.REQUEST_ENTITY_INCOMPLETE


async def test_a_response_without_end_is_refused(wire: Wire) -> None:
    task = await ask(await wire.open(max_body=100), get())
    for n in range(4):
        await answer(wire, "45", x("d1 0a", block(n, True, 32)), bytes(32))
    with pytest.raises(NetworkError, match="more than 100 B"):
        await task


async def test_a_large_request_goes_out_in_blocks_with_one_token_and_size1_once(wire: Wire) -> None:
    progress: list[tuple[int, int | None]] = []
    task = await ask(
        await wire.open(), put(), block_size=32, on_block=lambda done, total: progress.append((done, total))
    )
    first = await answer(wire, "5f", x("d1 0e", block(0, True, 32)))
    second = await answer(wire, "5f", x("d1 0e", block(1, True, 32)))
    third = await answer(wire, "44", x("d1 0e", block(2, False, 32)))
    assert (await task).code == codes.CHANGED
    assert first.body == x("b1 61 d1 03", block(0, True, 32), "d1 14 50 ff", BODY[:32].hex())
    assert second.body == x("b1 61 d1 03", block(1, True, 32), "ff", BODY[32:64].hex())
    assert third.body == x("b1 61 d1 03", block(2, False, 32), "ff", BODY[64:].hex())
    assert first.token == second.token == third.token
    assert progress == [(32, 80), (64, 80), (80, 80)]


async def test_the_peers_smaller_block_size_is_taken_up(wire: Wire) -> None:
    task = await ask(await wire.open(), put(), block_size=64)
    await answer(wire, "5f", x("d1 0e", block(0, True, 16)))
    second = await answer(wire, "44", x("d1 0e", block(4, False, 16)))
    assert second.body == x("b1 61 d1 03", block(4, False, 16), "ff", BODY[64:].hex())
    await task


async def test_a_4_13_with_a_smaller_block_starts_over_with_it(wire: Wire) -> None:  # as the stock client answers
    task = await ask(await wire.open(), put())
    whole = await answer(wire, "8d", x("d1 0e", block(0, True, 64)))
    first = await answer(wire, "8d", x("d1 0e", block(0, True, 32)))
    again = await answer(wire, "5f", x("d1 0e", block(0, True, 32)))
    assert whole.body == x("b1 61 ff", BODY.hex())
    assert first.body == x("b1 61 d1 03", block(0, True, 64), "d1 14 50 ff", BODY[:64].hex())
    assert again.body == x("b1 61 d1 03", block(0, True, 32), "d1 14 50 ff", BODY[:32].hex())
    await answer(wire, "5f", x("d1 0e", block(1, True, 32)))
    await answer(wire, "44", x("d1 0e", block(2, False, 32)))
    assert (await task).code == codes.CHANGED


async def test_a_refused_block_ends_the_upload(wire: Wire) -> None:
    task = await ask(await wire.open(), put(), block_size=32)
    await answer(wire, "88", x("d1 0e", block(0, True, 32)))
    assert (await task).code == codes.REQUEST_ENTITY_INCOMPLETE
    assert await wire.wait(300) == []


async def test_blocks_both_ways_in_one_exchange(wire: Wire) -> None:
    task = await ask(await wire.open(), Message(code=codes.POST, uri_path=("a",), payload=BODY), block_size=64)
    await answer(wire, "5f", x("d1 0e", block(0, True, 64)))
    await answer(wire, "44", x("d1 0a", block(0, True, 32), "41", block(1, False, 64)), bytes(32))
    rest = await answer(wire, "44", x("d1 0a", block(1, False, 32)), b"!")
    assert rest.body == x("b1 61 c1", block(1, False, 32))
    assert (await task).payload == bytes(32) + b"!"


async def test_a_late_copy_of_an_earlier_blocks_answer_is_not_taken_for_the_next(wire: Wire) -> None:
    task = await ask(await wire.open(), get())
    first = await wire.one()
    reply = x("64 45", first.mid, first.token, "d1 0a", block(0, True, 32), "ff", "00" * 32)
    (second,) = await wire.tell(reply)
    assert await wire.tell(reply) == []
    assert await wire.tell("64 45", second.mid, second.token, "d1 0a", block(1, False, 32), "ff 21") == []
    assert (await task).payload == bytes(32) + b"!"


async def test_separate_responses_to_blocks_with_one_token(wire: Wire) -> None:
    task = await ask(await wire.open(), get())
    first = await wire.one()
    await wire.tell("60 00", first.mid)
    separate = x("44 45 7001", first.token, "d1 0a", block(0, True, 32), "ff", "00" * 32)
    ack, second = await wire.tell(separate)
    assert ack == x("60 00 7001")
    assert await wire.tell(separate) == [ack]  # our ACK was lost
    await wire.tell("60 00", second.mid)
    await wire.tell("44 45 7002", second.token, "d1 0a", block(1, False, 32), "ff 21")
    assert (await task).payload == bytes(32) + b"!"


@pytest.mark.parametrize("size", [0, 15, 17, 2048])
def test_a_block_size_is_a_power_of_two_from_16_to_1024(size: int) -> None:
    with pytest.raises(ConfigError, match=rf"a CoAP block cannot have {size} B"):
        TransmissionParameters(block_size=size)


# -- two endpoints -----------------------------------------------------------------------------------


async def test_two_reads_at_once_of_a_changing_resource_never_mix(wire: Wire) -> None:
    network = Lossy(seed=1)
    resource = Resource(b"1" * 100)
    server = await Endpoint.open(network.opener(PEER), resource, parameters=TransmissionParameters(block_size=16))
    client = await Endpoint.open(network.opener(OTHER))
    wire.endpoints += [server, client]

    async def change() -> None:
        for n in range(2, 9):
            await asyncio.sleep(0.02)
            resource.body = b"%d" % n * 100

    reads = [client.request(get(), PEER) for _ in range(4)]
    *responses, _ = await asyncio.gather(*reads, change())
    for response in responses:
        assert len(response.payload) == 100
        assert len(set(response.payload)) == 1
