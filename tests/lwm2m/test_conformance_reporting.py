"""OMA's interoperability tests of information reporting (LightweightM2M-1.1-int-301 to 311), server side by hand."""

from __future__ import annotations

import asyncio

import cbor2
import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client.plain.objects import TableObject
from pdmlab.client.plain.session import Session
from pdmlab.errors import Lwm2mError, Unreachable
from pdmlab.lwm2m.content import SENML_CBOR, SENML_JSON, TEXT, TLV
from pdmlab.lwm2m.paths import Path
from tests.lwm2m.scripted import SERVER, Lab, Server, Watch, table

NEARLY = 0.1  # s that messages are under way


def battery(session: Session, level: int) -> None:
    table(session, 3).set(0, 9, level)


async def attributes(server: Server, path: str, query: str) -> None:
    assert (await server.ask(codes.PUT, path, query=query)).code == codes.CHANGED


async def when(watch: Watch) -> float:
    return (await watch.next())[0]


async def test_301_two_observations_in_their_windows(lab: Lab) -> None:
    server, session = await lab.registered()
    assert await server.read("/3/0/6", TLV) == bytes.fromhex("86 06 41 00 01 41 01 05")
    await attributes(server, "/3/0/7", "pmin=5&pmax=15")
    await attributes(server, "/3/0/8", "pmin=10&pmax=20")
    voltage, current = await server.observe("/3/0/7", TLV), await server.observe("/3/0/8", TLV)
    assert voltage.observation.first.payload == bytes.fromhex("88 07 08 42 00 0ED8 42 01 1388")
    for n, (earliest, latest) in enumerate([(15, 15), (30, 30)]):
        assert earliest <= await when(voltage) <= latest + NEARLY, n
    assert 20 <= await when(current) <= 20 + NEARLY
    table(session, 3).set(0, 7, {0: 3700, 1: 5000})  # 0 s after the last: held until pmin
    when_told, payload = await voltage.next()
    assert 35 <= when_told <= 35 + NEARLY
    assert payload == bytes.fromhex("88 07 08 42 00 0E74 42 01 1388")


async def test_302_an_observation_ends_by_a_reset(lab: Lab) -> None:
    server, session = await lab.registered()
    watch = await server.observe("/3/0/9", TEXT)
    assert len(session.links[0].observations) == 1
    # The server forgets its observation, as after a restart; so it resets the next notification.
    server.endpoint._observations.clear()
    battery(session, 50)
    await asyncio.sleep(1)
    assert len(session.links[0].observations) == 0
    battery(session, 40)
    assert await watch.silent(100)


async def test_303_an_observation_ends_by_observe_1(lab: Lab) -> None:
    server, session = await lab.registered()
    watch = await server.observe("/3/0/9", TEXT)
    battery(session, 50)
    assert (await watch.next())[1] == b"50"
    last = await watch.observation.cancel()
    assert (last.code, last.payload, last.opt.observe) == (codes.CONTENT, b"50", None)
    battery(session, 40)
    assert await watch.silent(100)


async def test_304_observe_composite(lab: Lab) -> None:
    server, session = await lab.registered()
    await attributes(server, "/1/0/1", "pmin=30&pmax=45")
    watch = await server.observe_composite(b'[{"n":"/1/0/1"},{"n":"/3/0/11/0"}]')
    assert watch.observation.first.payload == b'[{"n":"/1/0/1","v":86400},{"n":"/3/0/11/0","v":0}]'
    assert 45 <= await when(watch) <= 45 + NEARLY
    await asyncio.sleep(1)
    table(session, 3).set(0, 11, {0: 2})
    when_told, payload = await watch.next()
    assert 75 <= when_told <= 75 + NEARLY  # 30 s after the last one
    assert payload == b'[{"n":"/1/0/1","v":86400},{"n":"/3/0/11/0","v":2}]'


async def test_305_a_composite_observation_ends_by_observe_1(lab: Lab) -> None:
    server, session = await lab.registered()
    paths = b'[{"n":"/3/0/9"},{"n":"/3/0/0"}]'
    watch = await server.observe_composite(paths)
    last = await server.composite(paths, observe=1)  # the same list, by whatever token
    assert last.code == codes.CONTENT
    battery(session, 40)
    assert await watch.silent(100)


async def test_306_send(lab: Lab) -> None:
    server, session = await lab.registered()
    await session.send([Path.parse("/3/0/9"), Path.parse("/3/0/7/1")])
    request = await server.next()
    assert (request.code, request.path, int(request.message.opt.content_format)) == (codes.POST, "/dp", SENML_CBOR)
    assert cbor2.loads(request.payload) == [{0: "/3/0/9", 2: 100}, {0: "/3/0/7/1", 2: 5000}]


async def test_307_muted_send(lab: Lab) -> None:
    server, session = await lab.registered()
    assert await server.write("/1/0/23", b"1", TEXT) == codes.CHANGED
    with pytest.raises(Lwm2mError, match="muted"):
        await session.send([Path.parse("/3/0/9")])
    assert server.unseen() == []
    assert await server.write("/1/0/23", b"0", TEXT) == codes.CHANGED
    await session.send([Path.parse("/3/0/9")])
    assert (await server.next()).path == "/dp"


async def test_308_an_instance_that_is_created_is_told(lab: Lab) -> None:
    server, _ = await lab.registered(TableObject(16, {0: {0: {0: "a"}}}, fixed=False))
    watch = await server.observe_composite(b'[{"n":"/16"}]')
    created = b'[{"bn":"/16/1/0/","n":"0","vs":"b"}]'
    assert (await server.ask(codes.POST, "/16", created, format=SENML_JSON)).code == codes.CREATED
    assert (await watch.next())[1].startswith(b'[{"n":"/16/0/0/0","vs":"a"}')
    last = watch.told[-1][1] if watch.told else b'[{"n":"/16/0/0/0","vs":"a"},{"n":"/16/1/0/0","vs":"b"}]'
    assert last == b'[{"n":"/16/0/0/0","vs":"a"},{"n":"/16/1/0/0","vs":"b"}]'


async def test_309_an_instance_that_is_deleted_is_told(lab: Lab) -> None:
    server, _ = await lab.registered(TableObject(16, {0: {0: {0: "a"}}, 1: {0: {0: "b"}}}, fixed=False))
    watch = await server.observe_composite(b'[{"n":"/16/0"},{"n":"/16/1"}]')
    assert (await server.ask(codes.DELETE, "/16/1")).code == codes.DELETED
    assert (await watch.next())[1] == b'[{"n":"/16/0/0/0","vs":"a"}]'


async def test_310_attributes_change_during_a_composite_observation(lab: Lab) -> None:
    server, _ = await lab.registered()
    watch = await server.observe_composite(b'[{"n":"/3/0/9"}]')
    assert await watch.silent(60)
    await attributes(server, "/3/0/9", "pmax=5")
    first = await when(watch)
    assert first <= 60 + NEARLY
    assert await when(watch) - first == pytest.approx(5, abs=NEARLY)


async def test_311_send_of_given_values(lab: Lab) -> None:
    server, session = await lab.registered()
    battery(session, 42)
    await session.send([Path.parse("/3/0/9")])
    assert cbor2.loads((await server.next()).payload) == [{0: "/3/0/9", 2: 42}]
    server.answers[codes.POST, "/dp"] = codes.FORBIDDEN
    with pytest.raises(Lwm2mError, match=r"4\.03 Forbidden to /dp"):
        await session.send([Path.parse("/3/0/9")])
    with pytest.raises(Lwm2mError, match="nothing can be read"):
        await session.send([Path.parse("/9/9")])
    session.close()
    await lab.sessions[0][1]
    with pytest.raises(Unreachable, match="not registered"):
        await session.send([Path.parse("/3/0/9")])


# -- the rules of attributes -----------------------------------------------------------------------------------


async def test_thresholds_and_steps(lab: Lab) -> None:
    sensor = TableObject(3303, {0: {5700: 20.0}})
    server, _ = await lab.registered(sensor)
    await attributes(server, "/3303/0/5700", "gt=30&lt=10&st=5")
    watch = await server.observe("/3303/0/5700", TEXT)
    for value in (22.0, 24.5, 25.0, 29.0, 30.5, 31.0, 12.0, 9.5, 10.5):
        sensor.set(0, 5700, value)
        await asyncio.sleep(1)
    # a step of 5 to 25; above 30; a step down to 12; 9.5 below 10; 10.5 above it again
    assert [payload for _, payload in watch.told] == [b"25.0", b"30.5", b"12.0", b"9.5", b"10.5"]


async def test_defaults_of_the_server_object_count_where_nothing_is_attached(lab: Lab) -> None:
    server, session = await lab.registered()
    assert await server.write("/1/0/2", b"10", TEXT) == codes.CHANGED
    assert await server.write("/1/0/3", b"60", TEXT) == codes.CHANGED
    watch = await server.observe("/3/0/9", TEXT)
    battery(session, 50)
    assert 10 <= await when(watch) <= 10 + NEARLY
    assert 70 <= await when(watch) <= 70 + NEARLY
    await attributes(server, "/3/0", "pmax=5")
    assert await watch.silent(200)  # a pmax shorter than pmin is ignored
    battery(session, 49)
    assert (await watch.next())[1] == b"49"


async def test_epmin_and_epmax_say_when_the_value_is_looked_at(lab: Lab) -> None:
    sensor = TableObject(3303, {0: {5700: 20.0}})
    server, _ = await lab.registered(sensor)
    await attributes(server, "/3303/0/5700", "epmin=10")
    watch = await server.observe("/3303/0/5700", TEXT)
    await asyncio.sleep(1)
    sensor.set(0, 5700, 21.0)
    sensor.set(0, 5700, 20.0)
    sensor.set(0, 5700, 22.0)
    assert await watch.next() == (pytest.approx(10, abs=NEARLY), b"22.0")


async def test_a_value_that_is_read_from_a_function_is_looked_at_every_epmax(lab: Lab) -> None:
    clock = asyncio.get_running_loop()
    sensor = TableObject(3303, {0: {5700: lambda: float(int(clock.time()) // 100)}})
    server, _ = await lab.registered(sensor)
    await attributes(server, "/3303/0/5700", "epmax=7")
    watch = await server.observe("/3303/0/5700", TEXT)
    told, payload = await watch.next()
    assert payload == b"1.0"
    assert 98 <= told <= 106


async def test_an_observation_of_an_object_tells_all_of_it(lab: Lab) -> None:
    sensor = TableObject(3303, {0: {5700: 20.0}, 1: {5700: 5.0}})
    server, _ = await lab.registered(sensor)
    watch = await server.observe("/3303", SENML_JSON)
    sensor.set(1, 5700, 6.0)
    assert (await watch.next())[1] == b'[{"bn":"/3303/","n":"0/5700","v":20.0},{"n":"1/5700","v":6.0}]'


async def test_what_is_deleted_is_told_as_the_last_word(lab: Lab) -> None:
    server, session = await lab.registered(TableObject(16, {0: {0: {0: "a"}}}, fixed=False))
    watch = await server.observe("/16/0", SENML_JSON)
    assert (await server.ask(codes.DELETE, "/16/0")).code == codes.DELETED
    assert (await watch.next())[1] == b"there is no /16/0"
    assert len(session.links[0].observations) == 0


async def test_a_large_notification_comes_in_blocks(lab: Lab) -> None:
    blob = TableObject(26999, {0: {0: b"a" * 3000}})
    server, _ = await lab.registered(blob)
    watch = await server.observe("/26999/0/0", TEXT)
    assert len(watch.observation.first.payload) == 4000
    blob.set(0, 0, b"b" * 3000)
    assert (await watch.next())[1] == b"YmJi" * 1000


async def test_a_large_composite_notification_comes_in_blocks(lab: Lab) -> None:
    blob = TableObject(26999, {0: {0: b"a" * 3000}})
    server, _ = await lab.registered(blob)
    watch = await server.observe_composite(b'[{"n":"/26999/0/0"},{"n":"/3/0/0"}]')
    assert watch.observation.first.payload.endswith(b"}]")
    blob.set(0, 0, b"b" * 3000)
    payload = (await watch.next())[1]
    assert payload == b'[{"n":"/26999/0/0","vd":"' + b"YmJi" * 1000 + b'"},{"n":"/3/0/0","vs":"pdmlab"}]'


async def test_a_large_composite_is_read_in_blocks(lab: Lab) -> None:
    server, _ = await lab.registered(TableObject(26999, {0: {0: b"a" * 3000}}))
    answer = await server.composite(b'[{"n":"/26999/0/0"},{"n":"/3/0/0"}]')
    assert answer.payload.endswith(b',{"n":"/3/0/0","vs":"pdmlab"}]')
    late = await server.ask(codes.FETCH, "/", format=SENML_JSON, block2=(7, False, 6))
    assert late.code in (codes.BAD_REQUEST, codes.REQUEST_ENTITY_INCOMPLETE)


async def test_a_large_composite_write_comes_in_blocks(lab: Lab) -> None:
    blob = TableObject(26999, {0: {0: b""}})
    server, _ = await lab.registered(blob)
    pack = b'[{"n":"/26999/0/0","vd":"' + b"YmJi" * 1000 + b'"},{"n":"/1/0/2","v":5}]'
    assert (await server.ask(codes.iPATCH, "/", pack, format=SENML_JSON)).code == codes.CHANGED
    assert blob.read(0, 0) == b"b" * 3000


async def test_notifications_that_did_not_arrive_are_kept_until_the_server_is_back(lab: Lab) -> None:
    server, session = await lab.registered(lifetime=10_000)
    watch = await server.observe("/3/0/9", TEXT)
    receives = lab.network.sockets.pop(SERVER)
    battery(session, 50)
    await asyncio.sleep(94)  # MAX_TRANSMIT_WAIT; the update that asks whether the server is there is under way
    lab.network.sockets[SERVER] = receives
    assert (await watch.next())[1] == b"50"


async def test_a_registration_ends_the_observations_of_the_one_before(lab: Lab) -> None:
    server, session = await lab.registered()
    watch = await server.observe("/3/0/9", TEXT)
    server.answers[codes.POST, "/rd/5a3f"] = codes.NOT_FOUND
    session.update()
    await server.next(codes.POST, "/rd")
    await asyncio.sleep(1)
    battery(session, 50)
    assert await watch.silent(100)


async def test_no_more_observations_than_there_is_room_for(lab: Lab) -> None:
    server, session = await lab.registered()
    for number in range(260):
        token = number.to_bytes(2, "big")
        message = Message(code=codes.GET, uri_path=("3", "0", "9"), observe=0, _token=token)
        response = await server.endpoint.request(message, server.peer)
        assert response.code == codes.CONTENT
    assert response.opt.observe is None
    assert len(session.links[0].observations) == 256
