"""Whatever a server or a bootstrap server sends is answered, and leaves a device that can be read."""

from __future__ import annotations

import asyncio
import json

import cbor2
import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.client.plain.accounts import accounts_of
from pdmlab.client.plain.bootstrapping import BootstrapInterface
from pdmlab.client.plain.link import ServerLink
from pdmlab.client.plain.objects import TableObject
from pdmlab.client.plain.session import Session
from pdmlab.lwm2m.content import FORMAT_NAMES
from tests.lwm2m.scripted import SERVER, Lab

IDS = st.sampled_from(["0", "1", "2", "3", "4", "5", "7", "9", "11", "16", "23", "65534", "65535", "x", "", "01"])
PATHS = st.lists(IDS, max_size=5).map(tuple) | st.just(("bs",))
FORMATS = st.none() | st.sampled_from([*FORMAT_NAMES, 1541, 1542, 1543, 1544, 50, 65000])
NAMES = st.sampled_from(["/", "/3", "/3/0", "/1/0/1", "/3/0/14", "/16/0/0/1", "/0/0/0", "/9/9/9", "x", "n", "0", "1/2"])
SCALARS = st.none() | st.booleans() | st.integers(-(1 << 64), 1 << 64) | st.floats() | st.text(max_size=6)
PACKS = st.lists(
    st.dictionaries(st.sampled_from(["bn", "n", "v", "vs", "vb", "vd", "vlo", "t", "bv"]), NAMES | SCALARS, max_size=4),
    max_size=4,
)
LABELS = {"bn": -2, "n": 0, "v": 2, "vs": 3, "vb": 4, "vd": 8, "t": 6, "bv": -5, "vlo": "vlo"}
JSON_PACKS = PACKS.map(lambda pack: json.dumps(pack).encode())
CBOR_PACKS = PACKS.map(lambda pack: cbor2.dumps([{LABELS[key]: value for key, value in each.items()} for each in pack]))
TLVS = st.lists(
    st.sampled_from(
        [b"\xc1\x01\x3c", b"\xc1\x02\x05", b"\x08\x00\x03\xc1\x00\x05", b"\x83\x00\x41\x00\x61", b"\xc0\x07"]
    ),
    max_size=4,
).map(b"".join)
PAYLOADS = st.binary(max_size=30) | JSON_PACKS | CBOR_PACKS | TLVS | st.sampled_from([b"1", b"U", b"0='a'", b"1,2"])
QUERIES = st.lists(
    st.sampled_from(["pmin=1", "pmax=0", "gt=5", "lt=9", "st=1", "pmin", "epmax=3", "x", "ep=y"]), max_size=3
)
CODES = st.sampled_from([codes.GET, codes.PUT, codes.POST, codes.DELETE, codes.FETCH, codes.PATCH, codes.iPATCH])
REQUESTS = st.tuples(CODES, PATHS, PAYLOADS, FORMATS, FORMATS, QUERIES, st.none() | st.integers(0, 1))


def message(code, path, payload, format, accept, queries, observe) -> Message:
    made = Message(code=code, uri_path=path, payload=payload, uri_query=tuple(queries), _token=b"t")
    if format is not None:
        made.opt.content_format = format
    if accept is not None:
        made.opt.accept = accept
    if observe is not None:
        made.opt.observe = observe
    return made


async def device() -> tuple[Lab, Session]:
    lab = Lab()
    session = lab.device(TableObject(16, {0: {0: {0: "a"}}}, fixed=False), TableObject(2, fixed=False))
    await asyncio.sleep(0)
    return lab, session


@settings(max_examples=300)
@given(st.lists(REQUESTS, max_size=6))
def test_a_servers_requests(requests: list[tuple]) -> None:
    async def story() -> None:
        lab, session = await device()
        (account,) = accounts_of(session.security)
        link = ServerLink(session, account, 0)
        session.links = [link]
        try:
            for each in requests:
                answer = await link.management(message(*each), SERVER)
                assert answer is not None
                assert answer.code != codes.INTERNAL_SERVER_ERROR, (each, answer.payload)
                if answer.code >= 128:
                    answer.payload.decode()
            read = Message(code=codes.GET, uri_path=("3", "0", "0"), accept=0)
            assert (await link.management(read, SERVER)).payload == b"pdmlab"
        finally:
            link.observations.cancel_all()
            await lab.close()

    asyncio.run(story())


@settings(max_examples=300)
@given(st.lists(REQUESTS, max_size=6))
def test_a_bootstrap_servers_requests(requests: list[tuple]) -> None:
    async def story() -> None:
        lab, session = await device()
        interface = BootstrapInterface(session.tree, "1.1", SERVER)
        before = interface.snapshot()
        try:
            for each in requests:
                answer = await interface(message(*each), SERVER)
                assert answer.code != codes.INTERNAL_SERVER_ERROR, (each, answer.payload)
            interface.restore(before)
            assert interface.snapshot() == before
            assert interface.inconsistency() is None
        finally:
            await lab.close()

    asyncio.run(story())


@pytest.mark.parametrize("seed", range(8))
async def test_a_device_is_managed_over_a_network_that_loses_a_fifth(seed: int) -> None:
    lab = Lab(loss=0.2, seed=seed)
    try:
        server, session = await lab.registered(lifetime=300)
        watch = await server.observe("/3/0/9", 0)
        for level in range(99, 94, -1):
            found = session.tree[3]
            assert isinstance(found, TableObject)
            found.set(0, 9, level)
            await asyncio.sleep(50)
        await asyncio.sleep(100)
        assert watch.told[-1][1] == b"95"
        assert await server.read("/3/0/9", 0) == b"95"
        assert await server.write("/1/0/1", b"600", 0) == codes.CHANGED
        while "lt=600" not in (await server.next()).queries:
            pass
        session.close()
        await server.next(codes.DELETE)
    finally:
        await lab.close()
