"""OMA's interoperability tests of the firmware object (5), by the numbers that OMA gives them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pdmlab.client.plain.firmware import RAM, SILENCE_S, FirmwareObject
from pdmlab.client.plain.firmware_store import MemoryFirmware
from pdmlab.client.plain.objects import Refusal
from pdmlab.client.plain.session import Session
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address
from pdmlab.errors import ConfigError
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import OPAQUE, SENML_JSON, TEXT, TLV
from pdmlab.update.object5 import Result, State
from pdmlab.update.packages import HeadedImage, pack_image
from tests.lwm2m.scripted import OTHER, Lab, Server

IMAGE = bytes(number * 37 % 251 for number in range(5000))
PACKAGE, SMALL = pack_image(IMAGE, "1.2.0"), pack_image(b"small", "1.2.0")
FILES = "coap://192.0.2.2"

INITIAL, DONE = (State.IDLE, Result.INITIAL), (State.IDLE, Result.SUCCESS)
DOWNLOADED = (State.DOWNLOADED, Result.INITIAL)


def ours(session: Session) -> FirmwareObject:
    found = session.tree[5]
    assert isinstance(found, FirmwareObject)
    return found


async def shown(server: Server) -> tuple[int, int]:
    """Return what /5/0/3 and /5/0/5 say."""
    return int(await server.read("/5/0/3", TEXT)), int(await server.read("/5/0/5", TEXT))


async def settled(server: Server, *, within: float = 1000) -> tuple[int, int]:
    """Return the same, once nothing is under way any more."""
    async with asyncio.timeout(within):
        while (now := await shown(server))[0] in (State.DOWNLOADING, State.UPDATING):
            await asyncio.sleep(0.1)
    return now


async def push(server: Server, package: bytes = PACKAGE, *, size: int = 512) -> Message:
    """Send a package in blocks; return the last answer."""
    message = Message(code=codes.PUT, uri_path=("5", "0", "0"), content_format=OPAQUE, payload=package)
    return await server.endpoint.request(message, server.peer, block_size=size)


async def block(server: Server, number: int, part: bytes, *, more: bool, **options: object) -> Message:
    return await server.ask(codes.PUT, "/5/0/0", part, format=OPAQUE, block1=(number, more, 4), **options)


async def pull(server: Server, uri: str) -> codes.Code:
    return await server.write("/5/0/1", uri.encode(), TEXT)


class Files:
    """A file server; `answer` is what a path gets, `asked` counts blocks."""

    def __init__(self, answer: Callable[[str], Message | None]) -> None:
        self.answer, self.asked = answer, 0
        self.endpoint: Endpoint

    async def open(self, lab: Lab, address: Address = OTHER) -> Files:
        self.endpoint = await Endpoint.open(lab.network.opener(address), self._handle, seed=5)
        return self

    async def _handle(self, message: Message, peer: Address) -> Message | None:
        self.asked += 1
        return self.answer("/".join(message.opt.uri_path))


def serving(package: bytes = PACKAGE) -> Callable[[str], Message]:
    def answer(path: str) -> Message:
        if path != "fw/1":
            return Message(code=codes.NOT_FOUND, payload=b"no such file")
        return Message(code=codes.CONTENT, payload=package)

    return answer


async def test_751_the_readable_resources(lab: Lab) -> None:
    server, _ = await lab.registered()
    read = json.loads(await server.read("/5/0", SENML_JSON))
    assert {each["n"] for each in read} == {"1", "3", "5", "6", "7", *(f"8/{n}" for n in range(5)), "9"}
    assert await shown(server) == INITIAL
    assert await server.read("/5/0/9", TEXT) == b"2"
    assert (await server.ask(codes.GET, "/5/0/0")).code == codes.METHOD_NOT_ALLOWED
    assert (await server.ask(codes.GET, "/5/0/2")).code == codes.METHOD_NOT_ALLOWED


async def test_755_the_package_is_set_and_withdrawn(lab: Lab) -> None:
    server, session = await lab.registered()
    for reset in (b"\0", b""):
        assert (await server.ask(codes.PUT, "/5/0/0", reset, format=OPAQUE)).code == codes.CHANGED
        assert await shown(server) == INITIAL
        assert (await push(server)).code == codes.CHANGED
        assert await shown(server) == DOWNLOADED
        assert await server.read("/5/0/7", TEXT) == b"1.2.0"
    assert (await server.ask(codes.PUT, "/5/0/0", b"\0", format=OPAQUE)).code == codes.CHANGED
    assert await shown(server) == INITIAL
    assert ours(session).store.package().size == 0
    assert await server.read("/5/0/7", TEXT) == b"1.0.0"


async def test_756_the_package_uri_is_set_and_withdrawn(lab: Lab) -> None:
    server, _ = await lab.registered()
    await Files(serving()).open(lab)
    assert await pull(server, "") == codes.CHANGED
    assert await shown(server) == INITIAL
    assert await pull(server, f"{FILES}/fw/1") == codes.CHANGED
    assert await server.read("/5/0/1", TEXT) == f"{FILES}/fw/1".encode()
    assert await settled(server) == DOWNLOADED
    assert await pull(server, "") == codes.CHANGED
    assert await shown(server) == INITIAL and await server.read("/5/0/1", TEXT) == b""


async def test_760_the_state_is_observed(lab: Lab) -> None:
    server, _ = await lab.registered()
    states, results = await server.observe("/5/0/3", TEXT), await server.observe("/5/0/5", TEXT)
    assert (await push(server)).code == codes.CHANGED
    assert [(await states.next())[1] for _ in range(2)] == [b"1", b"2"]
    assert (await push(server, b"nothing")).code == codes.METHOD_NOT_ALLOWED
    assert await results.silent(10)
    assert (await server.ask(codes.POST, "/5/0/2")).code == codes.CHANGED
    assert (await states.next())[1] == b"3"


async def test_770_an_update_by_push(lab: Lab) -> None:
    server, _ = await lab.registered()
    assert await server.read("/3/0/3", TEXT) == b"1.0.0"
    answers = []
    for at in range(0, len(PACKAGE), 256):
        more = at + 256 < len(PACKAGE)
        answers.append((await block(server, at // 256, PACKAGE[at : at + 256], more=more)).code)
        assert (await shown(server))[0] == (State.DOWNLOADING if more else State.DOWNLOADED)
    assert set(answers[:-1]) == {codes.CONTINUE} and answers[-1] == codes.CHANGED
    assert (await server.ask(codes.POST, "/5/0/2")).code == codes.CHANGED
    await server.next(codes.POST, "/rd")
    assert await shown(server) == DONE
    assert await server.read("/3/0/3", TEXT) == b"1.2.0" == await server.read("/5/0/7", TEXT)


async def test_771_an_update_by_pull(lab: Lab) -> None:
    server, session = await lab.registered()
    files = await Files(serving()).open(lab)
    states = await server.observe("/5/0/3", TEXT)
    assert await pull(server, f"{FILES}/fw/1") == codes.CHANGED
    assert [(await states.next())[1] for _ in range(2)] == [b"1", b"2"]
    assert files.asked == 1  # the endpoint keeps the others
    assert (await server.ask(codes.POST, "/5/0/2")).code == codes.CHANGED
    await server.next(codes.POST, "/rd")
    assert await shown(server) == DONE and ours(session).store.running.version == "1.2.0"


async def test_771_a_package_of_the_lwm2m_server_comes_by_its_connection(lab: Lab) -> None:
    server, _ = await lab.registered()
    other = await server.ask(codes.GET, "/1/0/1", accept=TEXT)  # its address is the server's as the device has it
    assert other.code == codes.CONTENT
    peer = server.peer

    async def handle(message: Message, source: Address) -> Message:
        assert source == peer
        return serving()("/".join(message.opt.uri_path))

    server.endpoint.handler = handle
    assert await pull(server, "coap://192.0.2.1/fw/1") == codes.CHANGED
    assert await settled(server) == DOWNLOADED


async def test_772_there_is_nothing_to_install(lab: Lab) -> None:
    server, _ = await lab.registered()
    assert (await server.ask(codes.POST, "/5/0/2")).code == codes.METHOD_NOT_ALLOWED
    assert await shown(server) == INITIAL
    await block(server, 0, PACKAGE[:256], more=True)
    assert (await server.ask(codes.POST, "/5/0/2")).code == codes.METHOD_NOT_ALLOWED
    assert await shown(server) == (State.DOWNLOADING, Result.INITIAL)


@pytest.mark.parametrize("said", [True, False], ids=["told", "not told"])
async def test_773_not_enough_storage(lab: Lab, said: bool) -> None:
    server, _ = await lab.registered(FirmwareObject(MemoryFirmware(room=1000)))
    first = await block(server, 0, PACKAGE[:256], more=True, **({"size1": len(PACKAGE)} if said else {}))
    if not said:
        assert first.code == codes.CONTINUE
        first = await push(server, size=256)
    assert first.code == codes.REQUEST_ENTITY_TOO_LARGE
    assert await shown(server) == (State.IDLE, Result.NO_STORAGE)
    assert (await push(server, pack_image(b"small", "2.0.0"))).code == codes.CHANGED
    assert await shown(server) == DOWNLOADED


async def test_774_out_of_ram(lab: Lab) -> None:
    # OMA's text prints 2 as its result, and means 3.
    server, _ = await lab.registered()
    large = tlv.encode([tlv.resource(0, bytes(RAM + 1))])
    assert await server.write("/5/0/0", large, TLV) == codes.CHANGED
    assert await settled(server) == (State.IDLE, Result.NO_MEMORY)
    assert await server.write("/5/0/0", tlv.encode([tlv.resource(0, PACKAGE)]), TLV) == codes.CHANGED
    assert await settled(server) == DOWNLOADED


async def test_775_the_connection_is_lost_during_a_pull(lab: Lab) -> None:
    server, _ = await lab.registered()
    files = await Files(serving()).open(lab)
    carried = 0

    def drops(message: Message) -> None:
        nonlocal carried
        carried += 1
        if carried == 3:
            files.endpoint.abort()

    files.endpoint._tap = lambda way, peer, data, when: drops(data) if way == "in" else None
    assert await pull(server, f"{FILES}/fw/1") == codes.CHANGED
    assert await settled(server) == (State.IDLE, Result.CONNECTION_LOST)


async def test_775_the_next_block_of_a_push_does_not_come(lab: Lab) -> None:
    server, session = await lab.registered()
    await block(server, 0, PACKAGE[:256], more=True)
    await asyncio.sleep(SILENCE_S - 1)
    assert await shown(server) == (State.DOWNLOADING, Result.INITIAL)
    await asyncio.sleep(2)
    assert await shown(server) == (State.IDLE, Result.CONNECTION_LOST)
    assert ours(session).reason == "nothing came for 247 s, after 256 B"


async def test_776_a_damaged_package(lab: Lab) -> None:
    server, _ = await lab.registered()
    damaged = bytearray(PACKAGE)
    damaged[3000] ^= 1
    for package in (bytes(damaged), PACKAGE[:-1], PACKAGE + b"\0", PACKAGE[:100]):
        assert (await push(server, package)).code == codes.CHANGED
        assert await shown(server) == (State.IDLE, Result.INTEGRITY)


async def test_777_a_package_of_another_kind(lab: Lab) -> None:
    server, session = await lab.registered()
    assert (await push(server, b"\x7fELF" + bytes(1000))).code == codes.CHANGED
    assert await shown(server) == (State.IDLE, Result.PACKAGE_TYPE)
    assert "begins with 7f 45 4c 46" in ours(session).reason


@pytest.mark.parametrize(
    ("uri", "result"),
    [
        (f"{FILES}/elsewhere", Result.BAD_URI),
        ("/fw/1", Result.BAD_URI),
        ("coap://", Result.BAD_URI),
        ("coap://192.0.2.2:99999/fw/1", Result.BAD_URI),
        ("coap://192.0.2.2/fw 1", Result.BAD_URI),
        ("coaps://192.0.2.2/fw/1", Result.BAD_URI),  # a device without credentials
        ("https://192.0.2.2/fw/1", Result.PROTOCOL),
        ("ftp://192.0.2.2/fw/1", Result.PROTOCOL),
    ],
)
async def test_778_a_uri_that_leads_nowhere(lab: Lab, uri: str, result: Result) -> None:
    server, _ = await lab.registered()
    await Files(serving()).open(lab)
    assert await pull(server, uri) == codes.CHANGED
    assert await settled(server) == (State.IDLE, result)


async def test_778_a_uri_is_too_long(lab: Lab) -> None:
    server, _ = await lab.registered()
    assert await pull(server, f"{FILES}/{'a' * 250}") == codes.BAD_REQUEST
    assert await shown(server) == INITIAL


async def test_779_an_installation_fails_and_may_be_tried_again(lab: Lab) -> None:
    server, session = await lab.registered()
    ours(session).fail_next(8)
    await push(server)
    assert (await server.ask(codes.POST, "/5/0/2")).code == codes.CHANGED
    assert await settled(server) == (State.DOWNLOADED, Result.FAILED)
    assert await server.read("/3/0/3", TEXT) == b"1.0.0"
    assert ours(session).reason == "it was told to fail so"
    assert (await server.ask(codes.POST, "/5/0/2")).code == codes.CHANGED
    await server.next(codes.POST, "/rd")
    assert await shown(server) == DONE and ours(session).reason == ""


# -- beside OMA's -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", range(2, 10))
@pytest.mark.parametrize("how", ["push", "pull"])
async def test_every_failure_can_be_had_for_training(lab: Lab, how: str, result: int) -> None:
    server, session = await lab.registered()
    await Files(serving()).open(lab)
    firmware = ours(session)
    firmware.fail_next(result)
    if how == "push":
        answer = await push(server)
        early = result in (Result.NO_STORAGE, Result.NO_MEMORY, Result.CONNECTION_LOST, Result.BAD_URI, Result.PROTOCOL)
        assert answer.code == (codes.INTERNAL_SERVER_ERROR if early else codes.CHANGED)
    else:
        await pull(server, f"{FILES}/fw/1")
    now = await settled(server)
    if result == Result.FAILED:
        assert now == DOWNLOADED
        await server.ask(codes.POST, "/5/0/2")
        assert await settled(server) == (State.DOWNLOADED, result)
        return
    assert now == (State.IDLE, result)
    assert firmware.reason == "it was told to fail so"
    assert await pull(server, "") == codes.CHANGED
    assert await shown(server) == INITIAL and firmware.reason == ""
    assert (await push(server)).code == codes.CHANGED  # once
    assert await shown(server) == DOWNLOADED


def test_only_failures_can_be_had_for_training() -> None:
    for result in (0, 1, 10, -1):
        with pytest.raises(ConfigError, match="does not fail"):
            FirmwareObject(MemoryFirmware()).fail_next(result)


async def test_while_a_package_is_there_no_other_is_taken(lab: Lab) -> None:
    server, _ = await lab.registered()
    await push(server)
    assert (await push(server)).code == codes.METHOD_NOT_ALLOWED
    assert await pull(server, f"{FILES}/fw/1") == codes.METHOD_NOT_ALLOWED
    assert await shown(server) == DOWNLOADED


async def test_a_download_may_be_withdrawn_in_its_middle(lab: Lab) -> None:
    server, _ = await lab.registered()
    await block(server, 0, PACKAGE[:256], more=True)
    assert await pull(server, "") == codes.CHANGED
    assert await shown(server) == INITIAL
    assert (await block(server, 1, PACKAGE[256:512], more=True)).code == codes.REQUEST_ENTITY_INCOMPLETE
    files = await Files(lambda path: None).open(lab)
    assert await pull(server, f"{FILES}/fw/1") == codes.CHANGED
    await asyncio.sleep(1)
    assert files.asked == 1 and await shown(server) == (State.DOWNLOADING, Result.INITIAL)
    assert await pull(server, "") == codes.CHANGED
    assert await shown(server) == INITIAL
    assert (await push(server)).code == codes.CHANGED and await shown(server) == DOWNLOADED


async def test_blocks_may_come_again_and_begin_again_and_not_leave_a_gap(lab: Lab) -> None:
    server, session = await lab.registered()
    parts = [PACKAGE[at : at + 256] for at in range(0, len(PACKAGE), 256)]
    await block(server, 0, parts[0], more=True)
    assert (await block(server, 2, parts[2], more=True)).code == codes.REQUEST_ENTITY_INCOMPLETE
    await block(server, 1, parts[1], more=True)
    assert (await block(server, 1, parts[1], more=True)).code == codes.CONTINUE  # its answer was lost
    await block(server, 0, parts[0], more=True)  # from the first again
    for number, part in enumerate(parts[1:], 1):
        await block(server, number, part, more=number + 1 < len(parts))
    assert await shown(server) == DOWNLOADED
    assert ours(session).store.package().read(0, 1 << 20) == PACKAGE


async def test_two_servers_do_not_mix_their_packages(lab: Lab) -> None:
    server, session = await lab.registered()
    firmware = ours(session)
    await block(server, 0, PACKAGE[:256], more=True)
    with pytest.raises(Exception, match="first"):
        await firmware.take(b"another", 0, more=True, total=None, sender="another server")
    with pytest.raises(Exception, match="have come"):
        await firmware.take(b"another", 256, more=True, total=None, sender="another server")
    assert (await push(server, size=256)).code == codes.CHANGED and await shown(server) == DOWNLOADED


@pytest.mark.parametrize(("delivery", "number"), [("pull", b"0"), ("push", b"1")])
async def test_a_device_may_take_packages_one_way_only(lab: Lab, delivery: str, number: bytes) -> None:
    server, _ = await lab.registered(FirmwareObject(delivery=delivery))  # type: ignore[arg-type]
    assert await server.read("/5/0/9", TEXT) == number
    pushed, pulled = (await push(server)).code, await pull(server, f"{FILES}/fw/1")
    expected = (
        (codes.METHOD_NOT_ALLOWED, codes.CHANGED) if delivery == "pull" else (codes.CHANGED, codes.METHOD_NOT_ALLOWED)
    )
    assert (pushed, pulled) == expected


async def test_a_busy_file_server_is_asked_again(lab: Lab) -> None:
    server, _ = await lab.registered()
    answers = [Message(code=codes.SERVICE_UNAVAILABLE)] * 3
    await Files(lambda path: answers.pop() if answers else serving()(path)).open(lab)
    await pull(server, f"{FILES}/fw/1")
    assert await settled(server) == DOWNLOADED and not answers


async def test_a_file_that_changes_meanwhile_is_damaged(lab: Lab) -> None:
    server, _ = await lab.registered()
    files = await Files(serving()).open(lab)
    number = 0

    async def changing(message: Message, peer: Address) -> Message:
        nonlocal number
        number += 1
        start = message.opt.block2.block_number * 1024
        response = Message(code=codes.CONTENT, payload=PACKAGE[start : start + 1024], etag=bytes([number // 3]))
        response.opt.block2 = (message.opt.block2.block_number, start + 1024 < len(PACKAGE), 6)
        return response

    files.endpoint.handler = changing
    await pull(server, f"{FILES}/fw/1")
    assert await settled(server) == (State.IDLE, Result.INTEGRITY)


async def test_object_33629_shows_the_same_read_only(lab: Lab) -> None:
    firmware = FirmwareObject()
    server, session = await lab.registered(firmware, firmware.components())
    assert b"</33629/0>" in server.requests[0].payload
    state = await server.observe("/33629/0/3", TEXT)
    await push(server)
    assert (await state.next())[1] == b"1"
    read = {each["n"]: each.get("v", each.get("vs")) for each in json.loads(await server.read("/33629/0", SENML_JSON))}
    assert (read["3"], read["7"], read["14"], read["15"]) == (2, "1.2.0", "application", "1.0.0")
    for path, payload in (("/33629/0/0", b"x"), ("/33629/0/1", b"coap://a/b"), ("/33629/0/3", b"1")):
        refused = await server.write(path, payload, OPAQUE if path.endswith("0/0") else TEXT)
        assert refused in (codes.METHOD_NOT_ALLOWED, codes.NOT_FOUND)
    assert (await server.ask(codes.POST, "/33629/0/2")).code == codes.NOT_FOUND
    await server.ask(codes.POST, "/5/0/2")
    await server.next(codes.POST, "/rd")
    assert await server.read("/33629/0/15", TEXT) == b"1.2.0"
    assert "33629" in repr(session.tree[33629])


async def test_further_kinds_of_packages_may_be_given(lab: Lab) -> None:
    class Boxed(HeadedImage):
        """A package in a box of four bytes."""

        def is_mine(self, package: object) -> bool:
            return package.read(0, 4) == b"BOX!"  # type: ignore[attr-defined]

        def open(self, package: object) -> object:  # type: ignore[override]
            class Inner:
                size = package.size - 4  # type: ignore[attr-defined]

                def read(self, position: int, size: int) -> bytes:
                    return bytes(package.read(position + 4, size))  # type: ignore[attr-defined]

            return super().open(Inner())

    server, session = await lab.registered(FirmwareObject(MemoryFirmware(kinds=[Boxed()])))
    await push(server, b"BOX!" + PACKAGE)
    assert await shown(server) == DOWNLOADED
    assert ours(session).store.running.version == "1.0.0" and await server.read("/5/0/7", TEXT) == b"1.2.0"
    assert "state 2 (downloaded)" in repr(ours(session)) and "1.2.0" in ours(session)._repr_html_()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 300), st.booleans(), st.sampled_from([None, 0, 300, 1 << 31])),
        max_size=8,
    )
)
def test_any_blocks_leave_an_object_that_can_be_used(blocks: list[tuple[int, int, bool, int | None]]) -> None:
    async def told() -> None:
        firmware = FirmwareObject(MemoryFirmware(room=1000))
        for number, size, more, total in blocks:
            with contextlib.suppress(Refusal):
                await firmware.take(b"x" * size, number * 64, more=more, total=total, sender="a")
            assert firmware.state in (State.IDLE, State.DOWNLOADING)
            held = firmware.store.package().size
            assert held <= 1000
        firmware.write(0, 1, "")
        assert await firmware.take(SMALL, 0, more=False, total=None, sender="a") == codes.CHANGED
        assert firmware.state is State.DOWNLOADED
        firmware.stop()

    asyncio.run(told())
