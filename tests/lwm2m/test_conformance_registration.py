"""OMA's interoperability tests of bootstrap and registration (LightweightM2M-1.1-int-0 to 109), server side by hand."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client.plain.objects import TableObject
from pdmlab.errors import BootstrapFailed
from pdmlab.lwm2m.content import LINK_FORMAT, SENML_CBOR, SENML_JSON, TEXT, TLV
from tests.lwm2m.scripted import BOOTSTRAP, INJECTOR, OTHER, SERVER, Lab, Server, table

URI = "636F61703A2F2F3139322E302E322E31"  # coap://192.0.2.1
# Object instances: server URI, no bootstrap server, NoSec, short id 101; and short id, lifetime 86400, storing, "U".
SECURITY = bytes.fromhex(f"08 00 1C C8 00 10 {URI} C1 01 00 C1 02 03 C1 0A 65")
ACCOUNT = bytes.fromhex("08 00 0F C1 00 65 C4 01 00015180 C1 06 01 C1 07 55")
FINISH = (codes.POST, "/bs")


async def asked(lab: Lab, **options: object) -> Server:
    """Start a device that knows a bootstrap server only, and return that one once it has been asked."""
    bootstrap = await lab.server(BOOTSTRAP)
    lab.device(uri="coap://192.0.2.9", bootstrap=True, **options)  # type: ignore[arg-type]
    request = await bootstrap.next()
    assert (request.code, request.path) == (codes.POST, "/bs")
    assert "ep=urn:dev:1" in request.queries
    assert request.payload == b""
    return bootstrap


async def put(server: Server, path: str, payload: bytes, format: int = TLV) -> None:
    answer = await server.ask(codes.PUT, path, payload, format=format)
    assert answer.code == codes.CHANGED, (path, answer.code, answer.payload)


async def finish(server: Server) -> Message:
    return await server.ask(*FINISH)


# -- bootstrap -----------------------------------------------------------------------------------------------


async def test_0_client_initiated_bootstrap(lab: Lab) -> None:
    server = await lab.server()
    bootstrap = await asked(lab)
    await put(bootstrap, "/0", SECURITY)
    await put(bootstrap, "/1", ACCOUNT)
    answer = await bootstrap.ask(codes.GET, "/", accept=LINK_FORMAT)
    assert (answer.code, int(answer.opt.content_format)) == (codes.CONTENT, LINK_FORMAT)
    links = answer.payload.decode().split(",")
    assert links[0] == "</>;lwm2m=1.1"
    assert '</0/0>;ssid=101;uri="coap://192.0.2.1"' in links
    assert '</0/1>;uri="coap://192.0.2.9"' in links
    assert {"</1/0>;ssid=101", "</3/0>"} <= set(links)
    assert (await finish(bootstrap)).code == codes.CHANGED
    request = await server.next()
    assert (request.code, request.path) == (codes.POST, "/rd")
    assert "lt=86400" in request.queries


async def test_0_a_1_0_device_says_so_in_its_own_way(lab: Lab) -> None:
    bootstrap = await asked(lab, version="1.0")
    assert bootstrap.requests[0].queries == ["ep=urn:dev:1"]
    links = await bootstrap.ask(codes.GET, "/", accept=LINK_FORMAT)
    assert links.payload.startswith(b'lwm2m="1.0",</0/1>')


async def test_4_bootstrap_delete_spares_its_own_account(lab: Lab) -> None:
    bootstrap = await asked(lab)
    await put(bootstrap, "/0", SECURITY)
    await put(bootstrap, "/1", ACCOUNT)
    assert (await bootstrap.ask(codes.DELETE, "/0")).code == codes.DELETED
    assert (await bootstrap.ask(codes.DELETE, "/1")).code == codes.DELETED
    left = (await bootstrap.ask(codes.GET, "/", accept=LINK_FORMAT)).payload.decode().split(",")
    assert [each for each in left if each.startswith(("</0", "</1>", "</1/"))] == [
        "</0>;ver=1.1",
        '</0/1>;uri="coap://192.0.2.9"',
        "</1>;ver=1.1",
    ]
    assert (await bootstrap.ask(codes.DELETE, "/0/1")).code == codes.BAD_REQUEST
    assert (await bootstrap.ask(codes.DELETE, "/3/0")).code == codes.BAD_REQUEST
    assert (await bootstrap.ask(codes.DELETE, "/")).code == codes.DELETED
    left = (await bootstrap.ask(codes.GET, "/", accept=LINK_FORMAT)).payload.decode()
    assert "</0/1>" in left and "</3/0>" in left
    assert (await bootstrap.ask(codes.DELETE, "/99")).code == codes.NOT_FOUND
    assert (await bootstrap.ask(codes.DELETE, "/1/0/1")).code == codes.BAD_REQUEST
    await put(bootstrap, "/0/0", SECURITY[3:])
    await put(bootstrap, "/1/0", ACCOUNT[3:])
    assert (await finish(bootstrap)).code == codes.CHANGED


async def test_4_a_bootstrap_server_may_move_its_own_account(lab: Lab) -> None:
    """As Leshan's does: itself to /0/0, and the server to where the device had the bootstrap server."""
    server = await lab.server()
    bootstrap = await asked(lab)
    itself = URI.replace("2E31", "2E39")
    await put(bootstrap, "/0/0", bytes.fromhex(f"C8 00 10 {itself} C1 01 01 C1 02 03"))
    await put(bootstrap, "/0/1", SECURITY[3:])
    await put(bootstrap, "/1/0", ACCOUNT[3:])
    assert (await bootstrap.ask(codes.DELETE, "/0/0")).code == codes.BAD_REQUEST
    assert (await finish(bootstrap)).code == codes.CHANGED
    await server.next(codes.POST, "/rd")
    assert (await server.ask(codes.POST, "/1/0/9")).code == codes.CHANGED
    await bootstrap.next(codes.POST, "/bs")


async def test_5_server_initiated_bootstrap(lab: Lab) -> None:
    server = await lab.server()
    bootstrap = await asked(lab)
    await put(bootstrap, "/0", SECURITY)
    await put(bootstrap, "/1", ACCOUNT)
    await finish(bootstrap)
    await server.next(codes.POST, "/rd")
    assert (await server.ask(codes.POST, "/1/0/9")).code == codes.CHANGED
    request = await bootstrap.next(codes.POST, "/bs")
    assert "ep=urn:dev:1" in request.queries
    assert (await finish(bootstrap)).code == codes.CHANGED
    await server.next(codes.POST, "/rd")


async def test_5_without_a_bootstrap_server_there_is_nothing_to_trigger(lab: Lab) -> None:
    server, _ = await lab.registered()
    assert (await server.ask(codes.POST, "/1/0/9")).code == codes.METHOD_NOT_ALLOWED


async def test_7_a_device_that_no_server_takes_asks_the_bootstrap_server_again(lab: Lab) -> None:
    server = await lab.server()
    server.answers[codes.POST, "/rd"] = codes.FORBIDDEN
    bootstrap = await asked(lab)
    await put(bootstrap, "/0", SECURITY)
    await put(bootstrap, "/1", ACCOUNT)
    await finish(bootstrap)
    await bootstrap.next(codes.POST, "/bs")
    assert len(server.requests) == 6  # one try, and /1/x/17 retries
    times = [request.when for request in server.requests]
    pauses = [round(later - before) for before, later in itertools.pairwise(times)]
    assert pauses == [60, 120, 240, 480, 960]


async def test_8_a_bootstrap_server_reads_servers_and_access_control(lab: Lab) -> None:
    bootstrap = await lab.server(BOOTSTRAP)
    lab.device(TableObject(2, fixed=False), uri="coap://192.0.2.9", bootstrap=True)
    await bootstrap.next(*FINISH)
    await put(bootstrap, "/0", SECURITY)
    await put(bootstrap, "/1", ACCOUNT)
    # Object 3, instance 0, ACL of server 101: 31, owner: nobody but the bootstrap server.
    await put(bootstrap, "/2", bytes.fromhex("08 00 11 C1 00 03 C1 01 00 83 02 41 65 1F C4 03 0000FFFF"))
    answer = await bootstrap.ask(codes.GET, "/1", accept=TLV)
    assert answer.code == codes.CONTENT
    assert bytes.fromhex("C1 00 65 C4 01 00015180 C1 06 01 C1 07 55") in answer.payload
    answer = await bootstrap.ask(codes.GET, "/2", accept=SENML_JSON)
    assert answer.payload == (
        b'[{"bn":"/2/","n":"0/0","v":3},{"n":"0/1","v":0},{"n":"0/2/101","v":31},{"n":"0/3","v":65535}]'
    )
    assert (await bootstrap.ask(codes.GET, "/0")).code == codes.METHOD_NOT_ALLOWED
    assert (await bootstrap.ask(codes.GET, "/3/0")).code == codes.METHOD_NOT_ALLOWED
    assert (await finish(bootstrap)).code == codes.CHANGED


async def test_9_inconsistent_accounts_are_refused_with_4_06(lab: Lab) -> None:
    bootstrap = await asked(lab)
    await put(bootstrap, "/1/0/5", b"600", TEXT)
    answer = await finish(bootstrap)
    assert answer.code == codes.NOT_ACCEPTABLE
    assert b"no account" in answer.payload
    await bootstrap.next(codes.POST, "/bs")  # and asks again, with what it had before
    assert isinstance(lab.errors[0], BootstrapFailed)
    assert b"</1/0>" not in (await bootstrap.ask(codes.GET, "/", accept=LINK_FORMAT)).payload


@pytest.mark.parametrize(
    ("security", "account", "why"),
    [
        (SECURITY.replace(b"\xc1\x0a\x65", b"\xc1\x0a\x66"), ACCOUNT, b"do not match"),
        (SECURITY.replace(b"\xc1\x02\x03", b"\xc1\x02\x00"), ACCOUNT, b"coap:// with security mode 0"),
        (SECURITY.replace(b"coap:", b"http:"), ACCOUNT, b"is no server's URI"),
        (SECURITY, b"\x08\x00\x03\xc1\x00\x65", b"no LIFETIME and no BINDING"),
    ],
)
async def test_9_accounts_that_make_no_sense(lab: Lab, security: bytes, account: bytes, why: bytes) -> None:
    bootstrap = await asked(lab)
    await put(bootstrap, "/0", security)
    await put(bootstrap, "/1", account)
    answer = await finish(bootstrap)
    assert answer.code == codes.NOT_ACCEPTABLE
    assert why in answer.payload


async def test_a_silent_bootstrap_server_is_given_up_after_an_exchange_lifetime(lab: Lab) -> None:
    bootstrap = await asked(lab)
    first = bootstrap.requests[0].when
    again = await bootstrap.next(codes.POST, "/bs")
    assert round(again.when - first) == 247 + 60
    assert "fell silent for 247 s" in lab.errors[0].message


async def test_senml_is_taken_from_a_bootstrap_server_too(lab: Lab) -> None:
    server = await lab.server()
    bootstrap = await asked(lab)
    assert f"pct={SENML_CBOR}" in bootstrap.requests[0].queries
    uri = b'{"bn":"/0/0/","n":"0","vs":"coap://192.0.2.1"}'
    await put(bootstrap, "/0", b"[" + uri + b',{"n":"1","vb":false},{"n":"2","v":3},{"n":"10","v":7}]', SENML_JSON)
    await put(bootstrap, "/1/0", b'[{"bn":"/1/0/","n":"0","v":7},{"n":"1","v":60},{"n":"7","vs":"U"}]', SENML_JSON)
    assert (await finish(bootstrap)).code == codes.CHANGED
    assert "lt=60" in (await server.next()).queries


async def test_a_client_hold_off_time_is_kept(lab: Lab) -> None:
    server = await lab.server()
    bootstrap = await asked(lab)
    await put(bootstrap, "/0", SECURITY)
    await put(bootstrap, "/0/0/11", b"30", TEXT)
    await put(bootstrap, "/1", ACCOUNT)
    await finish(bootstrap)
    finished = asyncio.get_running_loop().time()
    assert 30 <= (await server.next()).when - finished <= 30.1


async def test_a_finish_that_is_repeated_is_answered_until_the_device_has_registered(lab: Lab) -> None:
    bootstrap = await asked(lab)  # the LwM2M server is not there yet
    await put(bootstrap, "/0", SECURITY)
    await put(bootstrap, "/1", ACCOUNT)
    assert (await finish(bootstrap)).code == codes.CHANGED
    await asyncio.sleep(5)
    assert (await finish(bootstrap)).code == codes.CHANGED


async def test_950_951_two_servers_each_with_its_own_attributes(lab: Lab) -> None:
    one, other = await lab.server(), await lab.server(OTHER)
    bootstrap = await asked(lab)
    await put(bootstrap, "/0", SECURITY)
    second = SECURITY.replace(b"192.0.2.1", b"192.0.2.2").replace(b"\xc1\x0a\x65", b"\xc1\x0a\x66")
    await put(bootstrap, "/0/2", second[3:])
    await put(bootstrap, "/1", ACCOUNT)
    await put(bootstrap, "/1/1", ACCOUNT[3:].replace(b"\xc1\x00\x65", b"\xc1\x00\x66"))
    assert (await finish(bootstrap)).code == codes.CHANGED
    await one.next(codes.POST, "/rd")
    await other.next(codes.POST, "/rd")
    assert (await one.ask(codes.PUT, "/3/0/9", query="pmin=5")).code == codes.CHANGED
    assert await one.discover("/3/0/9") == b"</3/0/9>;pmin=5"
    assert await other.discover("/3/0/9") == b"</3/0/9>"
    watch = await other.observe("/3/0/9", TEXT)
    assert (await one.ask(codes.POST, "/1/0/8")).code == codes.CHANGED
    table(lab.sessions[0][0], 3).set(0, 9, 50)
    assert (await watch.next())[1] == b"50"


# -- registration ----------------------------------------------------------------------------------------------


async def test_101_register(lab: Lab) -> None:
    server = await lab.server()
    lab.device()
    request = await server.next()
    assert (request.code, request.path) == (codes.POST, "/rd")
    assert request.queries == ["ep=urn:dev:1", "lt=86400", "lwm2m=1.1", "b=U"]
    assert int(request.message.opt.content_format) == LINK_FORMAT
    links = request.payload.decode().split(",")
    assert links[0] == '</>;rt="oma.lwm2m";ct=110'
    assert {"</1/0>", "</3/0>", "</1>;ver=1.1"} <= set(links)
    assert not any(each.startswith(("</0", "</21")) for each in links)


async def test_101_register_as_1_0(lab: Lab) -> None:
    server = await lab.server()
    lab.device(version="1.0")
    request = await server.next()
    assert request.queries == ["ep=urn:dev:1", "lt=86400", "lwm2m=1.0", "b=U"]
    assert request.payload.startswith(b'</>;rt="oma.lwm2m";ct=11543,</1/0>,</3/0>')


async def test_102_update_of_a_lifetime(lab: Lab) -> None:
    server, _ = await lab.registered()
    assert await server.write("/1/0/1", b"20", TEXT) == codes.CHANGED
    update = await server.next()
    assert (update.code, update.path, update.queries, update.payload) == (codes.POST, "/rd/5a3f", ["lt=20"], b"")
    again = await server.next()  # at 75 % of it, for ever
    assert again.queries == []
    assert 14.9 < again.when - update.when < 15.1


async def test_103_deregister(lab: Lab) -> None:
    server, session = await lab.registered()
    assert await server.write("/1/0/5", b"600", TEXT) == codes.CHANGED
    assert (await server.ask(codes.POST, "/1/0/4")).code == codes.CHANGED
    farewell = await server.next()
    assert (farewell.code, farewell.path) == (codes.DELETE, "/rd/5a3f")
    await asyncio.sleep(1)
    assert session.links[0].state == "disabled"
    back = await server.next()
    assert (back.code, back.path) == (codes.POST, "/rd")
    assert 599 < back.when - farewell.when < 601


async def test_104_update_trigger(lab: Lab) -> None:
    server, _ = await lab.registered()
    assert (await server.ask(codes.POST, "/1/0/8")).code == codes.CHANGED
    update = await server.next()
    assert (update.code, update.path, update.queries, update.payload) == (codes.POST, "/rd/5a3f", [], b"")
    assert update.message.opt.content_format is None


async def test_105_a_discarded_update_is_followed_by_a_registration(lab: Lab) -> None:
    server, _ = await lab.registered()
    server.answers[codes.POST, "/rd/5a3f"] = codes.NOT_FOUND
    await server.ask(codes.POST, "/1/0/8")
    assert (await server.next()).path == "/rd/5a3f"
    again = await server.next()
    assert (again.code, again.path) == (codes.POST, "/rd")
    assert "ep=urn:dev:1" in again.queries


async def test_105_somebody_else_deletes_nothing(lab: Lab) -> None:
    """The ETS spoofs a DELETE at the server; here another host tries it at the device."""
    server, _ = await lab.registered()
    injector = await lab.server(INJECTOR)
    injector.peer = server.peer
    for code, path in ((codes.DELETE, "/1/0"), (codes.GET, "/3/0"), (codes.POST, "/3/0/4")):
        assert (await injector.ask(code, path)).code == codes.UNAUTHORIZED
    assert server.unseen() == []


async def test_107_a_longer_lifetime(lab: Lab) -> None:
    server, _ = await lab.registered(lifetime=60)
    assert await server.write("/1/0/1", b"120", TEXT) == codes.CHANGED
    update = await server.next(within=1)
    assert update.queries == ["lt=120"]
    assert 89.9 < (await server.next()).when - update.when < 90.1


@pytest.mark.parametrize(("version", "said"), [("1.0", ["b=UQ"]), ("1.1", ["b=U", "Q"])])
async def test_108_queue_mode_is_said(lab: Lab, version: str, said: list[str]) -> None:
    server = await lab.server()
    lab.device(queue_mode=True, version=version)
    assert (await server.next()).queries[3:] == said


async def test_109_a_sleeping_device_hears_nothing_until_it_updates(lab: Lab) -> None:
    server, session = await lab.registered(queue_mode=True, lifetime=400)
    assert await server.read("/3/0/9", TEXT) == b"100"
    registered = asyncio.get_running_loop().time()
    await asyncio.sleep(92)
    assert await server.read("/3/0/9", TEXT) == b"100"  # which keeps it awake
    await asyncio.sleep(92)
    assert not session.links[0].asleep
    await asyncio.sleep(2)
    assert session.links[0].asleep
    await asyncio.sleep(280 - 186)
    reading = asyncio.ensure_future(server.read("/3/0/9", TEXT))
    await asyncio.sleep(20)
    assert not reading.done()
    update = await server.next()
    assert update.path == "/rd/5a3f"
    assert 306 < update.when - registered < 308  # 93 s before the end of 400
    assert not session.links[0].asleep
    assert await reading == b"100"  # its retransmission arrives


async def test_an_infinite_lifetime_needs_no_update(lab: Lab) -> None:
    server, _ = await lab.registered(lifetime=0)
    assert server.requests[0].queries[1] == "lt=0"
    await asyncio.sleep(1_000_000)
    assert server.unseen() == []


async def test_a_long_lifetime_is_updated_when_there_is_just_time_for_all_retransmissions(lab: Lab) -> None:
    server, _ = await lab.registered(lifetime=86400)
    assert 86400 - 93.1 < (await server.next()).when - server.requests[0].when < 86400 - 92.9


async def test_closing_deregisters(lab: Lab) -> None:
    server, session = await lab.registered()
    session.close()
    farewell = await server.next()
    assert (farewell.code, farewell.path) == (codes.DELETE, "/rd/5a3f")
    await lab.sessions[0][1]
    assert session.links[0].state == "ended"


async def test_1250_instances_that_come_and_go_are_in_the_next_update(lab: Lab) -> None:
    server, session = await lab.registered(TableObject(16, fixed=False))
    assert b"</16>" in server.requests[0].payload
    answer = await server.ask(codes.POST, "/16", b'[{"bn":"/16/1/","n":"0/0","vs":"host"}]', format=SENML_JSON)
    assert answer.code == codes.CREATED
    update = await server.next()
    assert b"</16/1>" in update.payload and b"</16>," not in update.payload
    assert int(update.message.opt.content_format) == LINK_FORMAT
    session.tree.add(TableObject(3303, {0: {5700: 1.5}}))
    assert b"</3303/0>" in (await server.next()).payload


async def test_a_server_that_does_not_answer_is_tried_again_later(lab: Lab) -> None:
    server = await lab.server()
    server.endpoint.abort()
    lab.device()
    await asyncio.sleep(93 + 60 - 1)
    assert len(lab.errors) == 1
    revived = await lab.server()
    request = await revived.next(within=20)
    assert (request.code, request.path) == (codes.POST, "/rd")


async def test_other_hosts_are_told_that_they_are_strangers(lab: Lab) -> None:
    server, _ = await lab.registered()
    stranger = await lab.server(("192.0.2.1", 9999))  # the server's host, another port
    stranger.peer = server.peer
    assert (await stranger.ask(codes.GET, "/3/0")).code == codes.UNAUTHORIZED
    assert server.address == SERVER
