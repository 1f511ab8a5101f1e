"""Reads, writes, executes and attributes, as the stock client answers them."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client import M2MMethod, MbedCloudClientResource, SimpleMbedCloudClient
from pdmlab.coap.endpoint import Endpoint
from pdmlab.errors import ConfigError, Lwm2mError, TimedOut
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import LINK_FORMAT, OPAQUE, TEXT, TLV, TLV_OLD
from pdmlab.lwm2m.linkformat import parse_links
from tests.client.bench import Bench, Cloud

JSON = 50
BOTH = M2MMethod.GET | M2MMethod.PUT


class Desk:
    """A registered device with a few resources of its own."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.calls: list[object] = []
        self.text: MbedCloudClientResource
        self.action: MbedCloudClientResource
        self.number: MbedCloudClientResource
        self.large: MbedCloudClientResource

    def prepare(self, client: SimpleMbedCloudClient) -> None:
        self.text = client.create_resource("3201/0/5853", "pattern")
        self.text.set_value("500:500")
        self.text.methods(BOTH)
        self.text.attach_put_callback(lambda resource, value: self.calls.append((resource, value)))
        self.action = client.create_resource("3201/0/5850", "blink")
        self.action.methods(M2MMethod.POST)
        self.action.attach_post_callback(lambda resource, payload: self.calls.append((resource, payload)))
        self.number = client.create_resource("3303/0/5700", "temperature")
        self.number.set_value(21.5)
        self.number.methods(BOTH)
        self.large = client.create_resource("5000/0/2", "large")
        self.large.set_value(bytes(range(256)) * 16)
        self.large.methods(BOTH)

    def play(self, story: Callable[[Cloud, SimpleMbedCloudClient], Awaitable[None]]) -> None:
        async def connected() -> None:
            cloud = await Cloud(self.bench).open()
            client = await self.bench.connect(self.prepare)
            await cloud.registered.wait()
            await asyncio.sleep(1)
            await story(cloud, client)

        self.bench.play(connected)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def read(response: Message) -> tuple[str, int | None, bytes]:
    format = response.opt.content_format
    return str(response.code)[:4], None if format is None else int(format), response.payload


def test_reads_are_text_unless_opaque_and_tlv_above_a_resource(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert read(await cloud.get("/3201/0/5853")) == ("2.05", TEXT, b"500:500")
        assert read(await cloud.get("/3303/0/5700")) == ("2.05", TEXT, b"21.5")
        assert read(await cloud.get("/3/0/0")) == ("2.05", TEXT, b"ACME")
        assert read(await cloud.get("/1/0/1")) == ("2.05", TEXT, b"7200")
        assert (await cloud.get("/3/0/0")).opt.max_age == 0
        code, format, payload = read(await cloud.get("/1/0"))
        assert (code, format) == ("2.05", TLV)
        values = {entry.id: entry.value for entry in tlv.decode(payload)}
        assert values == {0: (1).to_bytes(8, "big"), 1: (7200).to_bytes(8, "big"), 6: b"\1", 7: b"U"}
        code, format, payload = read(await cloud.get("/14"))
        assert (code, format) == ("2.05", TLV)
        (instance,) = tlv.decode(payload)
        assert (instance.kind, instance.id) == (tlv.Kind.OBJECT_INSTANCE, 0)
        assert [entry.value for entry in instance.entries] == [b"MAIN", b"0.0.0"]

    desk.play(story)


def test_a_multiple_resource_is_tlv_and_its_instances_are_text(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        code, format, payload = read(await cloud.get("/3/0/11"))
        assert (code, format) == ("2.05", TLV)
        assert tlv.decode(payload) == (tlv.multiple(11, [(0, bytes(8))]),)
        assert read(await cloud.get("/3/0/11/0")) == ("2.05", TEXT, b"0")
        assert read(await cloud.get("/3/0/11/1"))[0] == "4.04"
        assert read(await cloud.get("/3/0/11", accept=TEXT))[0] == "4.06"

    desk.play(story)


@pytest.mark.parametrize(
    ("path", "accept", "answer"),
    [
        ("/3201/0/5853", TEXT, ("2.05", TEXT, b"500:500")),
        ("/3201/0/5853", OPAQUE, ("2.05", OPAQUE, b"500:500")),
        ("/3201/0/5853", TLV, ("2.05", TLV, b"\xe7\x16\xdd500:500")),
        ("/3201/0/5853", TLV_OLD, ("2.05", TLV_OLD, b"\xe7\x16\xdd500:500")),
        ("/3201/0/5853", JSON, ("4.06", None, b"")),
        ("/3201/0", TEXT, ("4.06", None, b"")),
        ("/3201/0/5850", None, ("4.05", None, b"")),
        ("/3201/0/1", None, ("4.04", None, b"")),
        ("/3202", None, ("4.04", None, b"")),
        ("/0", None, ("4.04", None, b"")),
        ("/3/0/13", None, ("4.04", None, b"")),
        ("/5", None, ("4.04", None, b"")),
        ("/favicon.ico", None, ("4.04", None, b"")),
        ("/99999/0/1", None, ("4.04", None, b"")),
    ],
)
def test_what_a_read_is_answered(desk: Desk, path: str, accept: int | None, answer: object) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert read(await cloud.get(path, **({} if accept is None else {"accept": accept}))) == answer

    desk.play(story)


def test_discovery_lists_paths_below_an_object_and_is_not_answered_for_all(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        code, format, payload = read(await cloud.get("/3201", accept=LINK_FORMAT))
        assert (code, format) == ("2.05", LINK_FORMAT)
        links = {str(link.path): link for link in parse_links(payload)}
        assert links["/3201/0/5853"].rt == "pattern" and links["/3201/0/5853"].v is None
        assert "/3/0/0" not in links
        with pytest.raises(TimedOut):
            await cloud.get("/.well-known/core")

    desk.play(story)


def test_a_large_resource_comes_in_blocks_of_512(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        whole = await cloud.get("/5000/0/2")
        assert whole.payload == bytes(range(256)) * 16 and int(whole.opt.content_format) == OPAQUE
        first = await cloud.get("/5000/0/2", block2=(0, False, 6))
        assert tuple(first.opt.block2) == (0, True, 5) and len(first.payload) == 512
        third = await cloud.get("/5000/0/2", block2=(3, False, 6))
        assert third.opt.block2.block_number == 6 and len(third.payload) == 512 and third.opt.size2 == 4096

    desk.play(story)


@pytest.mark.parametrize(
    ("path", "format", "payload", "code", "value"),
    [
        ("/3201/0/5853", None, b"a", "2.04", "a"),
        ("/3201/0/5853", TEXT, "ä".encode(), "2.04", "ä"),
        ("/3201/0/5853", OPAQUE, b"b", "2.04", "b"),
        ("/3201/0/5853", TLV, b"\xe1\x16\xddc", "2.04", "c"),
        ("/3201/0/5853", TLV_OLD, b"\x08\x00\x04\xe1\x16\xddd", "2.04", "d"),
        ("/3201/0/5853", TEXT, b"\xff", "4.00", "500:500"),
        ("/3201/0/5853", TLV, b"\xe1\x00\x01c", "4.00", "500:500"),
        ("/3201/0/5853", JSON, b"{}", "4.15", "500:500"),
        ("/3201/0/5850", TEXT, b"", "4.05", "500:500"),
        ("/3201/0/1", TEXT, b"", "4.04", "500:500"),
        ("/3201/0", TLV, b"\xe1\x16\xddc", "4.05", "500:500"),
        ("/3202/0", TLV, b"\xe1\x16\xddc", "4.04", "500:500"),
        ("/3/0/0", TEXT, b"x", "4.05", "500:500"),
    ],
)
def test_what_a_write_is_answered(
    desk: Desk, path: str, format: int | None, payload: bytes, code: str, value: str
) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        options = {} if format is None else {"content_format": format}
        response = await cloud.ask(codes.PUT, path, payload, **options)
        assert str(response.code)[:4] == code
        assert desk.text.get_value() == value
        await asyncio.sleep(0.1)
        assert desk.calls == ([(desk.text, value)] if code == "2.04" else [])

    desk.play(story)


def test_a_number_that_the_registry_knows_is_held_to_its_type(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert read(await cloud.ask(codes.PUT, "/3303/0/5700", b"warm"))[0] == "4.00"
        assert read(await cloud.ask(codes.PUT, "/3303/0/5700", b"22"))[0] == "2.04"
        assert (desk.number.get_value_float(), desk.number.get_value_int()) == (22.0, 22)
        payload = (await cloud.get("/3303/0/5700", accept=TLV)).payload
        assert tlv.decode(payload)[0].value == b"\x40\x36" + bytes(6)
        desk.number.set_value("broken sensor")
        assert read(await cloud.get("/3303/0/5700", accept=TEXT)) == ("2.05", TEXT, b"broken sensor")
        assert (desk.number.get_value_float(), desk.number.get_value_int()) == (0.0, 0)

    desk.play(story)


def test_a_payload_that_should_have_come_in_blocks_is_refused_with_a_hint(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        big = Message(code=codes.PUT, uri_path=("3201", "0", "5853"), payload=b"x" * 600, block1=None)
        response = await cloud.rd._requester.exchange(big, cloud.peer, b"t")
        assert response.code == codes.REQUEST_ENTITY_TOO_LARGE
        assert tuple(response.opt.block1) == (0, True, 5)
        assert (await cloud.ask(codes.PUT, "/3201/0/5853", b"y" * 1300)).code == codes.CHANGED
        assert desk.text.get_value() == "y" * 1300

    desk.play(story)


def test_execute_is_answered_separately_after_the_callback(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        desk.action.attach_post_callback(slow)
        before = len(cloud.log)
        response = await cloud.ask(codes.POST, "/3201/0/5850", b"go")
        assert (str(response.code), finished) == ("2.04 Changed", [b"go"])
        kinds = [(row.direction, row.type, row.code) for row in list(cloud.log)[before:]]
        assert [kind[:2] for kind in kinds] == [("out", "CON"), ("in", "ACK"), ("in", "CON"), ("out", "ACK")]
        assert kinds[2][2] == "2.04 Changed"
        assert read(await cloud.ask(codes.POST, "/3201/0/5850", b"", content_format=OPAQUE))[0] == "4.15"
        assert read(await cloud.ask(codes.POST, "/3201/0/5853", b""))[0] == "4.05"
        assert read(await cloud.ask(codes.POST, "/3201/0", b"", content_format=TLV))[0] == "4.04"
        assert read(await cloud.ask(codes.DELETE, "/3201/0"))[0] == "4.05"

    finished: list[bytes] = []

    def slow(resource: MbedCloudClientResource, payload: bytes) -> None:
        desk.bench.clock.sleep(20_000_000_000)
        finished.append(payload)

    desk.play(story)


def test_a_callback_that_fails_is_answered_and_reported(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        reported: list[BaseException] = []
        desk.bench.clock.loop.set_exception_handler(lambda loop, context: reported.append(context["exception"]))

        def fail(*_: object) -> None:
            raise ValueError("a defect")

        desk.action.attach_post_callback(fail)
        desk.text.attach_put_callback(fail)
        assert read(await cloud.ask(codes.POST, "/3201/0/5850"))[0] == "5.00"
        assert read(await cloud.ask(codes.PUT, "/3201/0/5853", b"x"))[0] == "2.04"
        await asyncio.sleep(0.1)
        assert [type(error) for error in reported] == [ValueError, ValueError]
        assert read(await cloud.get("/3/0/0"))[0] == "2.05"

    desk.play(story)


def test_a_delayed_resource_swallows_a_wrong_format_as_the_stock_clients(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        before = len(cloud.log)
        task = asyncio.ensure_future(cloud.ask(codes.POST, "/10252/0/1", b"x", content_format=OPAQUE))
        await asyncio.sleep(120)
        rows = list(cloud.log)[before:]
        assert [row.type for row in rows] == ["CON", "ACK"] and rows[1].token == ""
        assert not task.done()
        task.cancel()

    desk.play(story)


def test_reboot_follows_its_answer(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert read(await cloud.ask(codes.POST, "/3/0/4"))[0] == "2.04"
        await desk.bench.restarted.wait()
        assert desk.bench.resets == 1
        await desk.bench.connect()
        await cloud.hears("POST rd", 2)
        assert cloud.heard.count("POST bs") == 1

    desk.play(story)


def test_a_factory_reset_ends_the_identity(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert read(await cloud.ask(codes.POST, "/3/0/5"))[0] == "2.04"
        await desk.bench.restarted.wait()
        desk.bench.uart.lines()
        await desk.bench.connect()
        await cloud.hears("POST bs", 2)
        assert "iep=" not in cloud.queries[-1]
        assert desk.bench.uart.lines()[-1] == "[SMCC] Developer credentials already exist"

    desk.play(story)


def test_values_are_set_from_other_threads_and_callbacks_of_the_loop(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        desk.text.observable(True)
        seen: list[bytes] = []
        request = Message(code=codes.GET, uri_path=("3201", "0", "5853"))
        await cloud.rd.observe(request, cloud.peer, lambda message: seen.append(message.payload))
        await asyncio.sleep(2)
        thread = threading.Thread(target=desk.text.set_value, args=("from a thread",))
        thread.start()
        thread.join()
        assert desk.text.get_value() == "from a thread"
        await asyncio.sleep(2)
        desk.bench.clock.loop.call_soon(desk.text.set_value, "from a callback")
        await asyncio.sleep(2)
        assert seen == [b"from a thread", b"from a callback"]

    desk.play(story)


def test_values_are_kept_as_text(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        for value, text in ((5, "5"), (-3, "-3"), (0.5, "0.5"), (True, "1"), ("x", "x"), (b"\xffy", "\ufffdy")):
            desk.text.set_value(value)
            assert desk.text.get_value() == text
        desk.text.set_value("12.7")
        assert (desk.text.get_value_int(), desk.text.get_value_float()) == (12, 12.7)
        desk.text.set_value("nan")
        assert desk.text.get_value_int() == 0

    desk.play(story)


def test_any_peer_may_read(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        stranger = await Endpoint.open(desk.bench.fabric.host("stranger").opener(), seed=3)
        response = await stranger.request(Message(code=codes.GET, uri_path=("3", "0", "0")), client.address)
        assert response.payload == b"ACME"
        await stranger.close()

    desk.play(story)


def test_paths_that_are_none_or_taken_are_refused(desk: Desk) -> None:
    def main() -> None:
        client = desk.bench.make_client()
        client.init()
        client.create_resource("5000/0/1", "one")
        with pytest.raises(ConfigError, match="there already"):
            client.create_resource("/5000/0/1", "again")
        with pytest.raises(ConfigError, match="no resource"):
            client.create_resource("5000/0", "an instance")
        with pytest.raises(Lwm2mError, match="no LwM2M path"):
            client.create_resource("led", "a name")
        client.create_resource("3/0/0", "the client's own")
        with pytest.raises(ConfigError, match="there already"):
            client.register_and_connect()

    desk.bench.play(lambda: desk.bench.device(main))


def test_no_request_makes_the_device_fail(desk: Desk) -> None:
    """Random methods, paths, formats, queries and payloads get an answer of a client's or a server's making."""

    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        chance = random.Random(5)
        paths = [str(resource.path) for resource in client._session._tree]  # type: ignore[union-attr]
        paths = [path for path in paths if path not in ("/1/0/4", "/3/0/4", "/3/0/5", "/10252/0/1")]
        paths += ["/3", "/3/0", "/0/0", "/3/0/11/0", "/3/0/11/9", "/x", "/65535/1", "/1/2/3/4/5", "/3303"]
        formats = [None, TEXT, LINK_FORMAT, OPAQUE, JSON, TLV, TLV_OLD, 65000]
        reported: list[object] = []
        desk.bench.clock.loop.set_exception_handler(lambda loop, context: reported.append(context))
        for _ in range(600):
            options = {"content_format": chance.choice(formats), "accept": chance.choice(formats)}
            if chance.random() < 0.2:
                options["uri_query"] = [chance.choice(["pmin=1", "pmax=0", "st=-1", "gt=nan", "lt", "x=y", "ep=desk"])]
            if chance.random() < 0.2:
                options["observe"] = chance.choice([0, 1, 7])
            response = await cloud.ask(
                chance.choice([codes.GET, codes.PUT, codes.POST, codes.DELETE, codes.FETCH, codes.PATCH]),
                chance.choice(paths),
                chance.choice([b"", b"5", chance.randbytes(chance.randrange(60))]),
                **{name: value for name, value in options.items() if value is not None},
            )
            assert response.code.class_ in (2, 4), response
        assert not reported
        assert client.is_client_registered()
        assert read(await cloud.get("/3/0/0", accept=TEXT)) == ("2.05", TEXT, b"ACME")

    desk.play(story)
