"""What is a CoAP message and what is not, byte by byte; what hostile bytes cannot do."""

from __future__ import annotations

import asyncio

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import Type
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.clock import DeviceClock
from pdmlab.coap.codec import MAX_OPTIONS, Malformed, blank, decode, empty, encode, uri
from pdmlab.coap.router import Router
from tests.coap.wire import PEER, Wire, x


async def echo_path(message: Message, peer: object) -> Message:
    return Message(code=codes.CONTENT, payload="/".join(message.opt.uri_path).encode())


# -- the codec ---------------------------------------------------------------------------------------

SHORT = st.text(max_size=12)
OPTIONS = {
    "uri_host": st.text("abc.", min_size=1, max_size=20),
    "uri_port": st.integers(0, 0xFFFF),
    "uri_path": st.lists(SHORT, max_size=4).map(tuple),
    "uri_query": st.lists(st.text(max_size=60), max_size=5).map(tuple),
    "location_path": st.lists(SHORT, max_size=3).map(tuple),
    "content_format": st.integers(0, 0xFFFF),
    "accept": st.integers(0, 0xFFFF),
    "max_age": st.integers(0, 0xFFFFFFFF),
    "observe": st.integers(0, 0xFFFFFF),
    "etag": st.binary(min_size=1, max_size=8),
    "block1": st.tuples(st.integers(0, 0xFFFFF), st.booleans(), st.integers(0, 7)),
    "block2": st.tuples(st.integers(0, 0xFFFFF), st.booleans(), st.integers(0, 7)),
    "size1": st.integers(0, 0xFFFFFFFF),
    "size2": st.integers(0, 0xFFFFFFFF),
    "proxy_uri": st.text(min_size=1, max_size=300),
    "echo": st.binary(min_size=1, max_size=40),
    "request_tag": st.lists(st.binary(max_size=8), max_size=2).map(tuple),
}


@st.composite
def messages(draw: st.DrawFn) -> Message:
    chosen = draw(st.fixed_dictionaries({}, optional=OPTIONS))
    code = draw(st.sampled_from([code for code in codes.Code if code != 0]))
    message = Message(code=code, payload=draw(st.binary(max_size=80)), **chosen)
    message.mtype = draw(st.sampled_from(list(Type)))
    message.mid = draw(st.integers(0, 0xFFFF))
    message.token = draw(st.binary(max_size=8))
    return message


def encoded(message: Message) -> bytes:
    return encode(message, message.mtype, message.mid, message.token)


@given(messages())
def test_what_is_encoded_is_decoded(message: Message) -> None:
    again, unknown = decode(encoded(message), PEER)
    assert unknown is None
    assert (again.mtype, again.code, again.mid, again.token) == (
        message.mtype,
        message.code,
        message.mid,
        message.token,
    )
    assert again.payload == message.payload
    assert again.opt.encode() == message.opt.encode()
    assert again.remote == PEER


@given(messages())
def test_reader_and_writer_agree_with_aiocoaps_own(message: Message) -> None:
    data = encoded(message)
    assert data == message.encode()
    ours, theirs = decode(data, PEER)[0], Message.decode(data)
    assert ours.opt.encode() == theirs.opt.encode()
    assert (ours.token, ours.payload) == (theirs.token, theirs.payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        message, _ = decode(data, PEER)
    except Malformed as error:
        assert error.mid is None or 0 <= error.mid <= 0xFFFF
    else:
        assert data[0] >> 6 == 1
        assert message.code == data[1]


def test_a_blank_message_is_what_aiocoap_makes() -> None:
    """The short cut past Message() holds for the aiocoap that is installed."""
    ours, theirs = blank(codes.GET), Message(code=codes.GET)
    for name in vars(theirs).keys() - {"opt", "transport_tuning"}:
        assert getattr(ours, name) == getattr(theirs, name)
    assert blank(codes.GET).opt is not blank(codes.GET).opt
    assert type(ours.transport_tuning) is type(theirs.transport_tuning)
    assert ours.copy(payload=b"a").payload == b"a"


def test_empty_messages_are_four_bytes() -> None:
    assert empty(Type.ACK, 0x1234).hex() == "60001234"
    assert empty(Type.RST, 0xFFFF).hex() == "7000ffff"


def test_a_uri_is_written_as_people_write_it() -> None:
    message = Message(code=codes.GET, uri_path=("rd", "a"), uri_query=("ep=x", "lt=60"))
    assert uri(message, ("192.0.2.1", 5683)) == "coap://192.0.2.1:5683/rd/a?ep=x&lt=60"
    assert uri(Message(code=codes.GET), ("::1", 1)) == "coap://[::1]:1/"


# -- malformed ---------------------------------------------------------------------------------------

MALFORMED = {
    "token of 9 bytes": "49 01 1234 010203040506070809",
    "token that does not end": "44 01 1234 abcd",
    "payload marker without payload": "40 01 1234 b1 61 ff",
    "option delta 15": "40 01 1234 f1 61",
    "option length 15": "40 01 1234 bf 61",
    "option that does not end": "40 01 1234 b5 61",
    "one-byte extension missing": "40 01 1234 bd",
    "two-byte extension missing": "40 01 1234 be 01",
    "option number over 65535": "40 01 1234 e0 ffff",
    "path that is no UTF-8": "40 01 1234 b2 c328",
    "too many options": "40 01 1234" + "00" * (MAX_OPTIONS + 1),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_confirmable_message_is_reset(wire: Wire, data: str) -> None:
    endpoint = await wire.open(echo_path)
    assert await wire.tell(data) == [x("70 00 1234")]
    assert endpoint.malformed == 1
    assert await wire.tell("40 01 0001 b1 61") == [x("60 45 0001 ff 61")]


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_message_of_another_type_is_dropped(wire: Wire, data: str) -> None:
    endpoint = await wire.open(echo_path)
    for kind in "567":
        assert await wire.tell(kind + data[1:]) == []
    assert endpoint.malformed == 3


@pytest.mark.parametrize("data", ["", "40", "40 01 12", "00 01 1234", "80 01 1234", "c0 01 1234"])
async def test_what_is_no_coap_version_1_is_dropped(wire: Wire, data: str) -> None:
    endpoint = await wire.open(echo_path)
    assert await wire.tell(data) == []
    assert endpoint.malformed == 1


@pytest.mark.parametrize("code", ["21", "3f", "c1", "e1"])
async def test_a_reserved_code_is_reset_if_confirmable(wire: Wire, code: str) -> None:
    await wire.open(echo_path)
    assert await wire.tell("40", code, "1234") == [x("70 00 1234")]
    assert await wire.tell("50", code, "1235") == []


# -- options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "option"),
    {
        "an unassigned one": "d0 fc",  # 265
        "OSCORE": "91 00",
        "If-Match": "10",
        "If-None-Match": "50",
        "Proxy-Scheme": "d4 1a 636f6170",
        "a Uri-Host that is too short": "30",
        "Uri-Port of 3 bytes": "73 000001",
        "Block1 of 4 bytes": "d4 0e 00000000",
        "a second Accept": "d1 04 00 00",  # 17 twice
    }.items(),
)
async def test_a_critical_option_that_is_not_known_is_4_02(wire: Wire, name: str, option: str) -> None:
    await wire.open(echo_path)
    (reply,) = await wire.tell("41 01 1234 aa", option)
    assert reply.startswith(x("61 82 1234 aa ff")), name
    assert b"is not known" in bytes.fromhex(reply)
    assert await wire.tell("51 01 1235 aa", option) == []  # RFC 7252 5.4.1: a NON is ignored


@pytest.mark.parametrize(
    "option",
    {
        "an unassigned one": "d0 fd",  # 266
        "an ETag that is too long": "49 010203040506070809",
        "Observe of 4 bytes": "64 00000000",
        "a second Max-Age": "d1 01 05 00",
    }.values(),
)
async def test_an_elective_option_that_is_not_known_is_left_out(wire: Wire, option: str) -> None:
    await wire.open(echo_path)
    assert await wire.tell("41 01 1234 aa", option) == [x("61 45 1234 aa")]


async def test_a_response_with_an_unknown_critical_option_is_refused(wire: Wire) -> None:
    endpoint = await wire.open()
    task = asyncio.create_task(endpoint.request(Message(code=codes.GET), PEER))
    request = await wire.one()
    assert await wire.tell("44 45 7777", request.token, "91 00") == [x("70 00 7777")]
    assert await wire.tell("64 45", request.mid, request.token, "91 00") == []
    with pytest.raises(Exception, match="critical option 9, which nobody here knows"):
        await task


# -- routing -----------------------------------------------------------------------------------------


async def test_a_router_knows_paths_methods_and_that_it_is_no_proxy(wire: Wire) -> None:
    router = Router()

    async def answer(message: Message, peer: object) -> Message:
        return Message(code=codes.CHANGED)

    router.add(codes.POST, "rd", answer)
    router.add(codes.DELETE, "/rd/*/*", answer)

    @router.on(codes.GET, "fw/**")
    @router.on(codes.GET, "")
    async def content(message: Message, peer: object) -> Message:
        return await echo_path(message, peer)

    await wire.open(router)
    expected = {
        "02 {} b2 7264": "44",
        "01 {} b2 7264": "85",  # 4.05
        "04 {} b2 7264 01 61 01 62": "44",
        "04 {} b2 7264 01 61": "84",  # 4.04
        "01 {} b2 6677": "45",
        "01 {} b2 6677 01 61 01 62": "45",
        "01 {}": "45",
        "01 {} b1 61": "84",
        "01 {} d4 16 613a2f2f": "45",  # Proxy-Uri on a path with a route is the handler's
        "01 {} b1 61 d4 0b 613a2f2f": "a5",  # 5.05
    }
    replies = {}
    for n, request in enumerate(expected):
        (reply,) = await wire.tell("40", request.format(f"{n:04x}"))
        replies[request] = reply[2:4]
    assert replies == expected


# -- hostile input -----------------------------------------------------------------------------------


HEADERS = st.tuples(
    st.sampled_from([0x40, 0x50, 0x60, 0x70, 0x44, 0x61]), st.sampled_from([0, 1, 2, 3, 0x45, 0x5F, 0x84, 0x88, 0xE1])
).map(bytes)
NEAR_MESSAGES = st.builds(lambda head, rest: head + rest, HEADERS, st.binary(max_size=60))
DATAGRAMS = st.lists(st.one_of(st.binary(max_size=60), NEAR_MESSAGES, messages().map(encoded)), max_size=12)


@settings(deadline=None, max_examples=60)
@given(DATAGRAMS)
def test_no_bytes_raise_out_of_the_endpoint_and_it_still_answers(datagrams: list[bytes]) -> None:
    with DeviceClock() as clock:
        wire = Wire(clock)

        async def story() -> None:
            endpoint = await wire.open(echo_path)
            asking = asyncio.create_task(endpoint.request(Message(code=codes.GET), PEER, timeout=300))
            for data in datagrams:
                await wire.tell(data.hex())
            await wire.wait(400)
            assert await wire.tell("48 01 fffe 0102030405060708 b3 6c6976") == [
                x("68 45 fffe 0102030405060708 ff 6c6976")
            ]
            assert wire.problems == []
            await asyncio.gather(asking, return_exceptions=True)
            await endpoint.close()

        clock.call_async(story())


async def test_a_flood_of_peers_and_messages_is_remembered_within_bounds(wire: Wire) -> None:
    endpoint = await wire.open(echo_path, max_peers=50, duplicates=8, max_remembered=100)
    peers = endpoint._peers
    for n in range(300):
        for mid in range(12):
            wire.on_datagram(bytes.fromhex(f"5001{mid:04x}b161"), (f"198.51.100.{n % 256}", n))
        assert len(peers) <= 50
        assert peers._remembered == sum(len(peer.seen) for peer in peers._peers.values()) <= 100
    await wire.heard()


async def test_the_active_peer_is_remembered_longest(wire: Wire) -> None:
    endpoint = await wire.open(echo_path, max_peers=3)
    await wire.tell("41 02 0001 aa b1 61")
    for n in range(10):
        await wire.tell("40 01 0001", peer=("198.51.100.1", n))
        await wire.tell("41 02 0001 aa b1 61")  # a duplicate all along
    assert PEER in endpoint._peers._peers
    assert len(endpoint._peers) == 3


async def test_silent_peers_are_forgotten_after_an_exchange_lifetime(wire: Wire) -> None:
    endpoint = await wire.open(echo_path)
    for n in range(5):
        await wire.tell("40 01 0001", peer=("198.51.100.1", n))
    await wire.wait(300)
    await wire.tell("40 01 0001")
    assert len(endpoint._peers) == 1
