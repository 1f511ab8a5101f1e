"""OMA's interoperability tests of device management (LightweightM2M-1.1-int-201 to 281, 1630, 1635), server by hand."""

from __future__ import annotations

import json

import cbor2
import pytest
from aiocoap.numbers import codes

from pdmlab.client.plain.objects import TableObject
from pdmlab.lwm2m.content import CBOR, JSON, LINK_FORMAT, OPAQUE, SENML_CBOR, SENML_JSON, TEXT, TLV
from tests.lwm2m.scripted import Lab, Server, table

# What object 3 holds after fill(): configuration C.4 of the ETS, and its TLV.
DEVICE_TLV = bytes.fromhex(
    "C4 00 4D616B65"  # 0 Make
    "C3 01 4D3238"  # 1 M28
    "C3 02 303031"  # 2 001
    "C3 03 312E31"  # 3 1.1
    "86 06 41 00 01 41 01 05"  # 6 internal battery, USB
    "88 07 08 42 00 0ED8 42 01 1388"  # 7 3800 and 5000 mV
    "87 08 41 00 7D 42 01 0384"  # 8 125 and 900 mA
    "C1 09 64"  # 9 100 %
    "83 0B 41 00 00"  # 11 no error
    "C4 0D 5182428F"  # 13 2013-05-02
    "C6 0E 2B30323A3030"  # 14 +02:00
    "C1 10 55"  # 16 U
)
PARTIAL = bytes.fromhex("C1 02 65 C2 03 03F2 C2 05 07D0 C1 06 01 C1 07 55")  # of /1/0, as the ETS has it in 215


async def filled(lab: Lab, *objects: TableObject, **options: object) -> Server:
    """Return a server that a device of configuration C.4 is registered at."""
    server, session = await lab.registered(*objects, **options)
    device = table(session, 3)
    for resource in (10, 15, 17, 20, 21):
        device.write(0, resource, None)
    for resource, value in {0: "Make", 1: "M28", 2: "001", 3: "1.1", 14: "+02:00"}.items():
        device.set(0, resource, value)
    device.write(0, 13, 1367491215)
    return server


# -- read ------------------------------------------------------------------------------------------------------


async def test_201_read_in_text(lab: Lab) -> None:
    server = await filled(lab)
    assert [await server.read(f"/3/0/{id}", TEXT) for id in (0, 1, 2)] == [b"Make", b"M28", b"001"]


async def test_202_read_of_opaque(lab: Lab) -> None:
    server = await filled(lab, TableObject(16, {0: {0: {0: "a"}, 2: {0: b"\0\xff"}}}, fixed=False))
    assert await server.read("/16/0/2/0", OPAQUE) == b"\0\xff"
    assert await server.read("/16/0/2/0", TEXT) == b"AP8="
    assert await server.read("/16/0/2/0", SENML_JSON) == b'[{"bn":"/16/0/2/","n":"0","vd":"AP8"}]'


async def test_203_read_in_tlv(lab: Lab) -> None:
    server = await filled(lab)
    assert await server.read("/3/0", TLV) == DEVICE_TLV
    assert await server.read("/3", TLV) == b"\x08\x00" + bytes((len(DEVICE_TLV),)) + DEVICE_TLV
    assert await server.read("/3/0/6", TLV) == bytes.fromhex("86 06 41 00 01 41 01 05")


async def test_204_read_in_json(lab: Lab) -> None:
    server = await filled(lab)
    said = json.loads(await server.read("/3/0", JSON))
    assert said["bn"] == "/3/0/"
    assert said["e"][:6] == [
        {"n": "0", "sv": "Make"},
        {"n": "1", "sv": "M28"},
        {"n": "2", "sv": "001"},
        {"n": "3", "sv": "1.1"},
        {"n": "6/0", "v": 1},
        {"n": "6/1", "v": 5},
    ]
    assert {"n": "13", "v": 1367491215} in said["e"]


async def test_211_read_in_cbor(lab: Lab) -> None:
    server = await filled(lab)
    assert await server.read("/1/0/0", CBOR) == b"\x01"
    assert await server.read("/1/0/6", CBOR) == b"\xf5"
    assert await server.read("/1/0/7", CBOR) == b"\x61U"
    assert await server.read("/3/0/13", CBOR) == bytes.fromhex("1A 5182428F")


async def test_222_223_read_object_and_instance(lab: Lab) -> None:
    server = await filled(lab)
    instance = bytes.fromhex("C1 00 01 C4 01 00015180 C1 06 01 C1 07 55 C1 17 00")
    assert await server.read("/1/0", TLV) == instance
    assert await server.read("/1", TLV) == bytes.fromhex("08 00 12") + instance


async def test_224_225_read_resource_and_resource_instance(lab: Lab) -> None:
    server = await filled(lab)
    assert await server.read("/3/0/0", SENML_JSON) == b'[{"bn":"/3/0/","n":"0","vs":"Make"}]'
    assert await server.read("/3/0/11/0", SENML_JSON) == b'[{"bn":"/3/0/11/","n":"0","v":0}]'
    assert await server.read("/3/0/11/0", TEXT) == b"0"
    assert (await server.ask(codes.GET, "/3/0/11/9")).code == codes.NOT_FOUND


async def test_231_read_at_four_levels_in_senml_json(lab: Lab) -> None:
    server = await filled(lab)
    for path, base in (("/3", "/3/"), ("/3/0", "/3/0/"), ("/3/0/7", "/3/0/"), ("/3/0/7/1", "/3/0/7/")):
        pack = json.loads(await server.read(path, SENML_JSON))
        assert pack[0]["bn"] == base
        found = {base + each["n"]: each.get("v", each.get("vs")) for each in pack}
        assert found["/3/0/7/1"] == 5000
        assert all(each.startswith(path) for each in found)


async def test_232_read_at_four_levels_in_senml_cbor(lab: Lab) -> None:
    server = await filled(lab)
    for path, base in (("/3", "/3/"), ("/3/0", "/3/0/"), ("/3/0/7", "/3/0/"), ("/3/0/7/1", "/3/0/7/")):
        pack = cbor2.loads(await server.read(path, SENML_CBOR))
        assert pack[0][-2] == base
        assert {base + each[0]: each.get(2) for each in pack}["/3/0/7/1"] == 5000
    assert await server.read("/3/0/7/1", SENML_CBOR) == bytes.fromhex("81 A3 21 67 2F332F302F372F 00 61 31 02 19 1388")


@pytest.mark.parametrize(("version", "format"), [("1.0", TLV), ("1.1", SENML_CBOR)])
async def test_237_read_without_accept(lab: Lab, version: str, format: int) -> None:
    server = await filled(lab, version=version)
    for path in ("/3", "/3/0", "/3/0/9", "/3/0/7/0"):
        assert int((await server.ask(codes.GET, path)).opt.content_format) == format


async def test_formats_that_cannot_be_are_not_acceptable(lab: Lab) -> None:
    server = await filled(lab)
    for path, accept in (("/3/0", TEXT), ("/3/0/7", CBOR), ("/3/0/0", OPAQUE), ("/3/0", 50), ("/3", 65000)):
        assert (await server.ask(codes.GET, path, accept=accept)).code == codes.NOT_ACCEPTABLE


async def test_formats_go_by_the_numbers_that_they_had_before_registration(lab: Lab) -> None:
    server = await filled(lab)
    for accept, payload in ((1541, b"100"), (1542, b"\xc1\x09d"), (1543, b'{"bn":"/3/0/","e":[{"n":"9","v":100}]}')):
        assert await server.read("/3/0/9", accept) == payload
    assert await server.write("/3/0/14", b"+01:00", 1541) == codes.CHANGED
    assert (await server.ask(codes.POST, "/3/0/12", format=1541)).code == codes.CHANGED


async def test_what_is_not_there_is_not_found(lab: Lab) -> None:
    server = await filled(lab)
    for path in ("/9", "/3/1", "/3/0/99", "/3/00", "/3/0/0/0", "/x", "/70000"):
        assert (await server.ask(codes.GET, path)).code == codes.NOT_FOUND, path
    for code, path in ((codes.GET, "/3/0/4"), (codes.GET, "/"), (codes.DELETE, "/3/0/9"), (codes.PATCH, "/3/0")):
        assert (await server.ask(code, path)).code == codes.METHOD_NOT_ALLOWED, path


async def test_221_object_0_is_nobodys_business(lab: Lab) -> None:
    server = await filled(lab)
    assert (await server.ask(codes.GET, "/0")).code == codes.UNAUTHORIZED
    assert (await server.ask(codes.PUT, "/0/0/0", b"coap://192.0.2.2", format=TEXT)).code == codes.UNAUTHORIZED
    assert (await server.ask(codes.PUT, "/0", query="pmin=10")).code == codes.UNAUTHORIZED
    assert (await server.ask(codes.GET, "/0", accept=LINK_FORMAT)).code == codes.UNAUTHORIZED
    answer = await server.composite(b'[{"n":"/0/0/5"},{"n":"/3/0/0"}]')
    assert answer.payload == b'[{"n":"/3/0/0","vs":"Make"}]'
    answer = await server.ask(codes.iPATCH, "/", b'[{"n":"/0/0/0","vs":"coap://192.0.2.2"}]', format=SENML_JSON)
    assert answer.code == codes.UNAUTHORIZED


# -- write -----------------------------------------------------------------------------------------------------


async def test_205_write_in_text(lab: Lab) -> None:
    server = await filled(lab)
    for id, value in ((2, b"101"), (3, b"1010"), (5, b"2000")):
        assert await server.write(f"/1/0/{id}", value, TEXT) == codes.CHANGED
        assert await server.read(f"/1/0/{id}", TEXT) == value
    assert await server.write("/1/0/2", b"x", TEXT) == codes.BAD_REQUEST
    assert await server.read("/1/0/2", TEXT) == b"101"


async def test_210_write_of_opaque(lab: Lab) -> None:
    blob = TableObject(26999, {0: {0: b""}})
    server = await filled(lab, blob)
    assert await server.write("/26999/0/0", b"\0\xff", OPAQUE) == codes.CHANGED
    assert await server.write("/26999/0/0", b"AP8=", TEXT) == codes.CHANGED
    assert blob.read(0, 0) == b"\0\xff"


async def test_212_write_in_cbor(lab: Lab) -> None:
    server = await filled(lab)
    for id, value in ((2, "18 65"), (3, "19 03F2"), (6, "F4")):
        assert await server.write(f"/1/0/{id}", bytes.fromhex(value), CBOR) == codes.CHANGED
        assert await server.read(f"/1/0/{id}", CBOR) == bytes.fromhex(value)
    assert await server.write("/1/0/6", b"\x01", CBOR) == codes.BAD_REQUEST


async def test_215_partial_write_and_replacement_in_tlv(lab: Lab) -> None:
    server = await filled(lab)
    before = await server.read("/1/0", TLV)
    assert (await server.ask(codes.POST, "/1/0", PARTIAL, format=TLV)).code == codes.CHANGED
    assert await server.read("/1/0", TLV) == bytes.fromhex(
        "C1 00 01 C4 01 00015180 C1 02 65 C2 03 03F2 C2 05 07D0 C1 06 01 C1 07 55 C1 17 00"
    )
    restore = bytes.fromhex("C4 01 00015180 C1 06 01 C1 07 55 C1 17 00")
    assert await server.write("/1/0", restore, TLV) == codes.CHANGED
    assert await server.read("/1/0", TLV) == before


async def test_220_partial_write_and_replacement_in_json(lab: Lab) -> None:
    server = await filled(lab)
    partial = (
        b'{"bn":"/1/0/","e":[{"n":"2","v":101},{"n":"3","v":1010},{"n":"5","v":2000},'
        b'{"n":"6","bv":true},{"n":"7","sv":"U"}]}'
    )
    assert (await server.ask(codes.POST, "/1/0", partial, format=JSON)).code == codes.CHANGED
    assert await server.read("/1/0/3", TEXT) == b"1010"
    without_base = b'{"e":[{"n":"1","v":86400},{"n":"6","bv":true},{"n":"7","sv":"U"}]}'
    assert await server.write("/1/0", without_base, JSON) == codes.CHANGED
    assert (await server.ask(codes.GET, "/1/0/3")).code == codes.NOT_FOUND


async def test_226_a_lifetime_in_a_partial_write_is_told_at_once(lab: Lab) -> None:
    server = await filled(lab)
    partial = bytes.fromhex("C1 01 3D C1 06 01")
    assert (await server.ask(codes.POST, "/1/0", partial, format=TLV)).code == codes.CHANGED
    assert (await server.next(within=1)).queries == ["lt=61"]


async def test_227_a_lifetime_that_is_written_is_told_at_once(lab: Lab) -> None:
    server = await filled(lab)
    assert await server.write("/1/0/1", b"63", TEXT) == codes.CHANGED
    update = await server.next(within=1)
    assert (update.path, update.queries) == ("/rd/5a3f", ["lt=63"])


async def test_228_write_of_a_resource_instance(lab: Lab) -> None:
    server = await filled(lab, portfolio())
    assert await server.write("/16/0/0/1", b"new", TEXT) == codes.CHANGED
    assert await server.read("/16/0/0/1", TEXT) == b"new"
    assert await server.read("/16/0/0/0", TEXT) == b"Host Device ID #1"
    assert await server.write("/16/0/0/9", bytes.fromhex("41 09 78"), TLV) == codes.CHANGED  # one that was not there
    assert await server.read("/16/0/0/9", TEXT) == b"x"


async def test_230_several_paths_are_written_at_once(lab: Lab) -> None:
    server = await filled(lab, portfolio())
    pack = (
        b'[{"n":"/1/0/1","v":65},{"n":"/16/0/0/0","vs":"a"},{"n":"/16/0/0/1","vs":"b"},'
        b'{"n":"/16/0/0/2","vs":"c"},{"n":"/16/0/0/3","vs":"d"}]'
    )
    assert (await server.ask(codes.iPATCH, "/", pack, format=SENML_JSON)).code == codes.CHANGED
    assert (await server.next(within=1)).queries == ["lt=65"]
    assert await server.read("/16/0/0", TLV) == bytes.fromhex("88 00 0C 41 00 61 41 01 62 41 02 63 41 03 64")


async def test_233_write_in_senml_cbor(lab: Lab) -> None:
    server = await filled(lab, portfolio())
    instance = cbor2.dumps([{-2: "/1/0/", 0: "1", 2: 71}, {0: "6", 4: False}, {0: "7", 3: "U"}])
    assert await server.write("/1/0", instance, SENML_CBOR) == codes.CHANGED
    assert (await server.next(within=1)).queries == ["lt=71"]
    one = cbor2.dumps([{-2: "/16/0/0/", 0: "0", 3: "cbor"}])
    assert await server.write("/16/0/0/0", one, SENML_CBOR) == codes.CHANGED
    assert await server.read("/16/0/0/0", TEXT) == b"cbor"
    assert await server.write("/1/0/1", cbor2.dumps([{-2: "/1/0/1", 2: 72}]), SENML_CBOR) == codes.CHANGED
    assert (await server.next(within=1)).queries == ["lt=72"]


async def test_234_write_in_senml_json(lab: Lab) -> None:
    server = await filled(lab, portfolio())
    instance = b'[{"bn":"/1/0/","n":"1","v":71},{"n":"6","vb":false},{"n":"7","vs":"U"}]'
    assert await server.write("/1/0", instance, SENML_JSON) == codes.CHANGED
    assert (await server.next(within=1)).queries == ["lt=71"]
    assert await server.read("/1/0/6", TEXT) == b"0"
    assert await server.write("/16/0/0/0", b'[{"n":"/16/0/0/0","vs":"json"}]', SENML_JSON) == codes.CHANGED
    assert await server.write("/1/0/1", b'[{"n":"/1/0/1","v":72}]', SENML_JSON) == codes.CHANGED
    assert (await server.next(within=1)).queries == ["lt=72"]
    assert await server.write("/1/0/1", b'[{"n":"/3/0/14","vs":"x"}]', SENML_JSON) == codes.BAD_REQUEST


async def test_256_what_is_read_only_is_not_written(lab: Lab) -> None:
    server = await filled(lab)
    assert await server.write("/1/0/0", b"7", TEXT) == codes.METHOD_NOT_ALLOWED
    assert await server.read("/1/0/0", TEXT) == b"1"


async def test_257_write_composite(lab: Lab) -> None:
    server = await filled(lab)
    pack = b'[{"n":"/1/0/2","v":5},{"n":"/1/0/6","vb":false},{"n":"/3/0/13","v":1700000000}]'
    assert (await server.ask(codes.iPATCH, "/", pack, format=SENML_JSON)).code == codes.CHANGED
    assert await server.read("/1/0/2", TEXT) == b"5"
    assert await server.read("/1/0/6", TEXT) == b"0"
    assert await server.read("/3/0/13", TEXT) == b"1700000000"


async def test_257_all_or_nothing(lab: Lab) -> None:
    server = await filled(lab)
    for last, code in (
        (b'{"n":"/1/0/0","v":5}', codes.METHOD_NOT_ALLOWED),
        (b'{"n":"/3/0/99","v":5}', codes.NOT_FOUND),
        (b'{"n":"/1/9/1","v":5}', codes.NOT_FOUND),
        (b'{"n":"/1/0/1","vs":"x"}', codes.BAD_REQUEST),
        (b'{"n":"/1/0/2","v":6}', codes.BAD_REQUEST),
        (b'{"n":"/1/0","v":6}', codes.BAD_REQUEST),
    ):
        pack = b'[{"n":"/1/0/2","v":5},' + last + b"]"
        assert (await server.ask(codes.iPATCH, "/", pack, format=SENML_JSON)).code == code
        assert (await server.ask(codes.GET, "/1/0/2")).code == codes.NOT_FOUND
    for format in (None, TEXT, 50):
        answer = await server.ask(codes.iPATCH, "/", b"[]", format=format)
        assert answer.code == codes.UNSUPPORTED_CONTENT_FORMAT


async def test_an_object_holds_what_it_has_room_for(lab: Lab) -> None:
    blob = TableObject(26999, {0: {0: b""}, 1: {0: b""}})
    server = await filled(lab, blob, portfolio())
    assert await server.write("/26999/0/0", b"a" * 600_000, OPAQUE) == codes.CHANGED
    assert await server.write("/26999/1/0", b"a" * 600_000, OPAQUE) == codes.REQUEST_ENTITY_TOO_LARGE
    assert blob.read(1, 0) == b""
    many = b"".join(bytes((0x60,)) + id.to_bytes(2, "big") for id in range(256, 1300))
    assert await server.write("/16/0/0", b"\xb0\x00" + len(many).to_bytes(2, "big") + many) == codes.BAD_REQUEST


async def test_651_652_the_clock_is_set_and_the_version_read(lab: Lab) -> None:
    server = await filled(lab)
    payload = bytes.fromhex("C4 0D 5182428F C6 0E 2B30323A3030 C8 0F 0C 4575726F70652F5061726973")
    assert (await server.ask(codes.POST, "/3/0", payload, format=TLV)).code == codes.CHANGED
    read = [await server.read(f"/3/0/{id}", TEXT) for id in (13, 14, 15, 3)]
    assert read == [b"1367491215", b"+02:00", b"Europe/Paris", b"1.1"]


async def test_680_685_there_is_one_device(lab: Lab) -> None:
    server = await filled(lab)
    assert (await server.ask(codes.POST, "/3", b"", format=TLV)).code == codes.METHOD_NOT_ALLOWED
    assert (await server.ask(codes.DELETE, "/3/0")).code == codes.METHOD_NOT_ALLOWED
    assert (await server.ask(codes.DELETE, "/1/0")).code == codes.METHOD_NOT_ALLOWED


# -- execute ---------------------------------------------------------------------------------------------------


async def test_241_reboot(lab: Lab) -> None:
    server = await filled(lab)
    before = server.peer
    assert (await server.ask(codes.POST, "/3/0/4")).code == codes.CHANGED
    again = await server.next()
    assert (again.code, again.path) == (codes.POST, "/rd")  # without a DELETE: it was a reset
    assert server.peer != before


async def test_execute_with_arguments(lab: Lab) -> None:
    said: list[str] = []
    server = await filled(lab, TableObject(3311, {0: {5850: False, 1: said.append}}))
    for arguments in (b"", b"5", b"2='10.3'", b"7,0='https://www.example.org/',1"):
        assert (await server.ask(codes.POST, "/3311/0/1", arguments)).code == codes.CHANGED
    assert said == ["", "5", "2='10.3'", "7,0='https://www.example.org/',1"]
    for arguments in (b"x", b"10", b"1=2", b"1='a", b"1,1", b"1,", b"\xff", b"1='it's'"):
        assert (await server.ask(codes.POST, "/3311/0/1", arguments)).code == codes.BAD_REQUEST, arguments
    wrong = await server.ask(codes.POST, "/3311/0/1", b"1", format=TLV)
    assert wrong.code == codes.UNSUPPORTED_CONTENT_FORMAT
    assert (await server.ask(codes.POST, "/3311/0/5850")).code == codes.METHOD_NOT_ALLOWED


# -- composite reads -------------------------------------------------------------------------------------------


async def test_229_read_composite_at_all_levels(lab: Lab) -> None:
    server = await filled(lab)
    answer = await server.composite(b'[{"n":"/3"},{"n":"/1/0"},{"n":"/1/0/1"},{"n":"/3/0/11/0"}]')
    names = [each["n"] for each in json.loads(answer.payload)]
    assert {"/3/0/0", "/3/0/7/1", "/1/0/1", "/3/0/11/0"} <= set(names)
    assert len(names) == len(set(names))


async def test_235_read_composite_of_the_root(lab: Lab) -> None:
    server = await filled(lab)
    answer = await server.composite(b'[{"n":"/"}]')
    assert answer.code == codes.CONTENT
    objects = {each["n"].split("/")[1] for each in json.loads(answer.payload)}
    assert objects == {"1", "3", "4", "5", "6", "7"}


async def test_236_read_composite_of_what_is_there(lab: Lab) -> None:
    server = await filled(lab)
    answer = await server.composite(b'[{"n":"/3/0/0"},{"n":"/3/0/99"},{"n":"/99"},{"n":"/3/0/7/9"}]')
    assert (answer.code, answer.payload) == (codes.CONTENT, b'[{"n":"/3/0/0","vs":"Make"}]')


async def test_280_read_composite_of_exactly_these(lab: Lab) -> None:
    server = await filled(lab)
    ask = cbor2.dumps([{0: "/3/0/16"}, {0: "/3/0/11/0"}, {0: "/1/0"}])
    answer = await server.composite(ask, format=SENML_CBOR, accept=SENML_CBOR)
    names = [each[0] for each in cbor2.loads(answer.payload)]
    assert names == ["/3/0/16", "/3/0/11/0", "/1/0/0", "/1/0/1", "/1/0/6", "/1/0/7", "/1/0/23"]


async def test_281_read_composite_leaves_out_what_is_executed(lab: Lab) -> None:
    server = await filled(lab)
    answer = await server.composite(b'[{"n":"/1/0/1"},{"n":"/1/0/7"},{"n":"/1/0/8"}]')
    assert answer.payload == b'[{"n":"/1/0/1","v":86400},{"n":"/1/0/7","vs":"U"}]'


async def test_composite_reads_that_make_no_sense(lab: Lab) -> None:
    server = await filled(lab)
    for payload, format, code in (
        (b"", SENML_JSON, codes.BAD_REQUEST),
        (b"{}", SENML_JSON, codes.BAD_REQUEST),
        (b'[{"n":"3/x"}]', SENML_JSON, codes.BAD_REQUEST),
        (b"\xff", SENML_CBOR, codes.BAD_REQUEST),
        (b"/3/0", TEXT, codes.UNSUPPORTED_CONTENT_FORMAT),
    ):
        assert (await server.composite(payload, format=format)).code == code
    assert (await server.composite(b'[{"n":"/3/0"}]', accept=TLV)).code == codes.NOT_ACCEPTABLE
    assert (
        await server.ask(codes.FETCH, "/3/0", b'[{"n":"/3/0"}]', format=SENML_JSON)
    ).code == codes.METHOD_NOT_ALLOWED


# -- discover and attributes -------------------------------------------------------------------------------------


async def test_260_discover(lab: Lab) -> None:
    server = await filled(lab)
    assert (await server.discover("/3")).startswith(b"</3>;ver=1.1,</3/0>,</3/0/0>,")
    assert b"</3/0/6>;dim=2,</3/0/7>;dim=2,</3/0/8>;dim=2,</3/0/9>," in await server.discover("/3")
    assert (await server.ask(codes.PUT, "/3", query="pmin=10&pmax=200")).code == codes.CHANGED
    assert (await server.discover("/3")).startswith(b"</3>;ver=1.1;pmin=10;pmax=200,</3/0>,")
    assert (await server.ask(codes.PUT, "/3/0/9", query="gt=60&lt=50&st=1")).code == codes.CHANGED
    assert await server.discover("/3/0/9") == b"</3/0/9>;pmin=10;pmax=200;gt=60;lt=50;st=1"
    assert (await server.ask(codes.PUT, "/3/0/9", query="pmax=60&lt")).code == codes.CHANGED
    assert await server.discover("/3/0/9") == b"</3/0/9>;pmin=10;pmax=60;gt=60;st=1"
    assert await server.discover("/3/0/7") == (
        b"</3/0/7>;dim=2;pmin=10;pmax=200,</3/0/7/0>;pmin=10;pmax=200,</3/0/7/1>;pmin=10;pmax=200"
    )


async def test_261_attributes_at_all_levels(lab: Lab) -> None:
    server = await filled(lab)
    for path, query in (
        ("/3", "pmin=5&pmax=50"),
        ("/3/0", "pmax=40"),
        ("/3/0/7", "gt=4000"),
        ("/3/0/7/0", "epmin=2&epmax=20"),
    ):
        assert (await server.ask(codes.PUT, path, query=query)).code == codes.CHANGED
    assert await server.discover("/3/0/7/0") == b"</3/0/7/0>;pmin=5;pmax=40;gt=4000;epmin=2;epmax=20"
    assert (await server.discover("/3/0")).startswith(b"</3/0>;pmax=40,</3/0/0>,")
    assert b"</3/0/7>;dim=2;gt=4000," in await server.discover("/3/0")


@pytest.mark.parametrize(
    "query", ["pmin=x", "pmin=-1", "what=5", "gt=nan", "st=-1", "gt=1&lt=2", "pmin=5&pmax=4", "pmax=99999999999"]
)
async def test_attributes_that_make_no_sense(lab: Lab, query: str) -> None:
    server = await filled(lab)
    assert (await server.ask(codes.PUT, "/3/0/9", query=query)).code == codes.BAD_REQUEST
    assert await server.discover("/3/0/9") == b"</3/0/9>"


async def test_thresholds_belong_to_resources(lab: Lab) -> None:
    server = await filled(lab)
    assert (await server.ask(codes.PUT, "/3/0", query="gt=5")).code == codes.BAD_REQUEST
    assert (await server.ask(codes.PUT, "/3/9", query="pmin=5")).code == codes.NOT_FOUND


# -- object 16 -------------------------------------------------------------------------------------------------

IDENTITIES = [
    "Host Device ID #1",
    "Host Device Manufacturer #1",
    "Host Device Model #1",
    "Host Device Software Version #1",
]


def portfolio() -> TableObject:
    return TableObject(16, {0: {0: dict(enumerate(IDENTITIES))}}, fixed=False)


async def test_1630_create_an_instance(lab: Lab) -> None:
    server = await filled(lab, portfolio())
    # Instance 1 with four identities: OMA's example of TLV inside TLV.
    identities = b"".join(bytes((0x48, id, len(text))) + text.encode() for id, text in enumerate(IDENTITIES))
    inside = b"\x88\x00" + bytes((len(identities),)) + identities
    payload = b"\x08\x01" + bytes((len(inside),)) + inside
    answer = await server.ask(codes.POST, "/16", payload, format=TLV)
    assert (answer.code, answer.opt.location_path) == (codes.CREATED, ("16", "1"))
    assert await server.read("/16/1", TLV) == inside
    assert b"</16/1>" in (await server.next(within=1)).payload
    assert (await server.ask(codes.POST, "/16", payload, format=TLV)).code == codes.BAD_REQUEST  # it is there now
    answer = await server.ask(codes.POST, "/16", inside, format=TLV)  # the device chooses the id
    assert (answer.code, answer.opt.location_path) == (codes.CREATED, ("16", "2"))
    assert await server.read("/16/2", TLV) == inside
    answer = await server.ask(codes.POST, "/16", b"", format=TLV)
    assert answer.opt.location_path == ("16", "3")
    for wrong in (b"\x08", b"\x41\x00\x61", payload + payload.replace(b"\x08\x01", b"\x08\x09", 1)):
        assert (await server.ask(codes.POST, "/16", wrong, format=TLV)).code == codes.BAD_REQUEST


async def test_1635_delete_all_instances(lab: Lab) -> None:
    server = await filled(lab, portfolio())
    assert (await server.ask(codes.DELETE, "/16")).code == codes.METHOD_NOT_ALLOWED
    assert (await server.ask(codes.DELETE, "/16/0")).code == codes.DELETED
    assert (await server.ask(codes.DELETE, "/16/0")).code == codes.NOT_FOUND
    update = await server.next(within=1)
    assert update.payload.endswith(b",</16>")
    assert await server.read("/16", TLV) == b""


async def test_701_751_801_901_other_core_objects(lab: Lab) -> None:
    server = await filled(lab)
    assert (await server.read("/4/0", SENML_JSON)).startswith(b'[{"bn":"/4/0/","n":"0","v":41}')
    state = json.loads(await server.read("/5/0", SENML_JSON))
    numbers = {each["n"]: each["v"] for each in state if "v" in each}
    assert numbers == {"3": 0, "5": 0, "8/0": 0, "8/1": 1, "8/2": 2, "8/3": 4, "8/4": 5, "9": 2}
    assert {each["n"]: each["vs"] for each in state if "vs" in each} == {"1": "", "6": "MAIN", "7": "1.0.0"}
    assert len(json.loads(await server.read("/6/0", SENML_JSON))) == 4
    assert (await server.ask(codes.POST, "/7/0/6")).code == codes.CHANGED
    for _ in range(40):
        await server.read("/3/0", SENML_JSON)
    assert (await server.ask(codes.POST, "/7/0/7")).code == codes.CHANGED
    collected = {each["n"]: each["v"] for each in json.loads(await server.read("/7/0", SENML_JSON))}
    assert collected["2"] >= 10 and collected["4"] > 200 and collected["5"] > 100
    assert await server.write("/7/0/8", b"60", TEXT) == codes.CHANGED
