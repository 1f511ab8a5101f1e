"""TLV against the examples of OMA LwM2M 1.0.2, section 6.4.3, the stock client's bytes, and hostile ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import TLV, decode, encode, from_bytes, to_bytes
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.tlv import Entry, Kind, multiple, object_instance, resource

# The Device object of the specification's example: bytes, and what they mean.
DEVICE = {
    "C8 00 14 4F70656E204D6F62696C6520416C6C69616E6365": resource(0, b"Open Mobile Alliance"),
    "C8 01 16 4C69676874776569676874204D324D20436C69656E74": resource(1, b"Lightweight M2M Client"),
    "C8 02 09 333435303030313233": resource(2, b"345000123"),
    "C3 03 312E30": resource(3, b"1.0"),
    "86 06 41 00 01 41 01 05": multiple(6, [(0, b"\1"), (1, b"\5")]),
    "88 07 08 42 00 0ED8 42 01 1388": multiple(7, [(0, to_bytes(3800, "integer")), (1, to_bytes(5000, "integer"))]),
    "87 08 41 00 7D 42 01 0384": multiple(8, [(0, to_bytes(125, "integer")), (1, to_bytes(900, "integer"))]),
    "C1 09 64": resource(9, to_bytes(100, "integer")),
    "C1 0A 0F": resource(10, to_bytes(15, "integer")),
    "83 0B 41 00 00": multiple(11, [(0, b"\0")]),
    "C4 0D 5182428F": resource(13, to_bytes(1367491215, "time")),
    "C6 0E 2B30323A3030": resource(14, b"+02:00"),
    "C1 10 55": resource(16, b"U"),
}
DEVICE_BYTES = bytes.fromhex("".join(DEVICE))

EXAMPLES = {
    "/3/0": (DEVICE_BYTES, tuple(DEVICE.values())),
    "/3": (b"\x08\x00\x79" + DEVICE_BYTES, (object_instance(0, list(DEVICE.values())),)),
    "/2": (
        bytes.fromhex(
            "08 00 0E C1 00 01 C1 01 00 83 02 41 7F 07 C1 03 7F"
            "08 02 12 C1 00 03 C1 01 00 87 02 41 7F 07 61 0136 01 C1 03 7F"
        ),
        (
            object_instance(
                0, [resource(0, b"\1"), resource(1, b"\0"), multiple(2, [(127, b"\7")]), resource(3, b"\x7f")]
            ),
            object_instance(
                2,
                [
                    resource(0, b"\3"),
                    resource(1, b"\0"),
                    multiple(2, [(127, b"\7"), (310, b"\1")]),
                    resource(3, b"\x7f"),
                ],
            ),
        ),
    ),
    "/1": (
        bytes.fromhex("08 00 0F C1 00 01 C4 01 00015180 C1 06 01 C1 07 55"),
        (
            object_instance(
                0,
                [
                    resource(0, b"\1"),
                    resource(1, to_bytes(86400, "integer")),
                    resource(6, to_bytes(True, "boolean")),
                    resource(7, b"U"),
                ],
            ),
        ),
    ),
    "a partial write of /1/0 (OMA ETS, 215)": (
        bytes.fromhex("C1 02 65 C2 03 03F2 C2 05 07D0 C1 06 01 C1 07 55"),
        (
            resource(2, to_bytes(101, "integer")),
            resource(3, to_bytes(1010, "integer")),
            resource(5, to_bytes(2000, "integer")),
            resource(6, b"\1"),
            resource(7, b"U"),
        ),
    ),
    "the stock client's counter, 8 bytes wide": (
        bytes.fromhex("E8 157D 08 0000000000000000"),
        (resource(5501, to_bytes(0, "integer", wide_integers=True)),),
    ),
    "an object link to /67/0": (bytes.fromhex("C4 02 0043 0000"), (resource(2, to_bytes("67:0", "objlnk")),)),
    "an empty value": (bytes.fromhex("C0 05"), (resource(5, b""),)),
    "nothing": (b"", ()),
}


@pytest.mark.parametrize(("data", "entries"), EXAMPLES.values(), ids=EXAMPLES)
def test_the_specifications_examples_read_and_write(data: bytes, entries: tuple[Entry, ...]) -> None:
    assert tlv.decode(data) == entries
    assert tlv.encode(entries) == data


def test_the_device_example_has_the_length_that_the_specification_counts() -> None:
    assert len(DEVICE_BYTES) == 121


@pytest.mark.parametrize(
    ("size", "head"),
    [(7, "c705"), (8, "c80508"), (255, "c805ff"), (256, "d0050100"), (65535, "d005ffff"), (65536, "d805010000")],
)
def test_a_length_takes_the_shortest_field(size: int, head: str) -> None:
    data = tlv.encode([resource(5, bytes(size))])
    assert data[: len(head) // 2].hex() == head
    assert tlv.decode(data) == (resource(5, bytes(size)),)


def test_longer_fields_than_needed_are_read_too() -> None:
    assert tlv.decode(bytes.fromhex("F8 0005 000002 3132")) == (resource(5, b"12"),)


def test_what_tlv_cannot_hold_is_said() -> None:
    with pytest.raises(Lwm2mError, match="id 65536"):
        tlv.encode([resource(65536, b"")])
    with pytest.raises(Lwm2mError, match="16777216 B"):
        tlv.encode([resource(1, bytes(1 << 24))])


# -- properties --------------------------------------------------------------------------------------

IDS = st.integers(0, 0xFFFF)
RESOURCES = st.builds(resource, IDS, st.binary(max_size=300))
MULTIPLES = st.builds(multiple, IDS, st.lists(st.tuples(IDS, st.binary(max_size=20)), max_size=4))
INSTANCES = st.builds(object_instance, IDS, st.lists(st.one_of(RESOURCES, MULTIPLES), max_size=4))


@given(st.lists(st.one_of(RESOURCES, MULTIPLES, INSTANCES), max_size=6))
def test_what_is_written_is_read(entries: list[Entry]) -> None:
    assert tlv.decode(tlv.encode(entries)) == tuple(entries)


@given(st.binary(max_size=200))
def test_any_bytes_are_entries_or_an_error_and_entries_hold_no_more_than_came(data: bytes) -> None:
    try:
        entries = tlv.decode(data)
    except Lwm2mError:
        return
    assert len(tlv.encode(entries)) <= len(data)
    assert tlv.decode(tlv.encode(entries)) == entries


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.booleans())
def test_integers_of_any_width_come_back(value: int, wide: bool) -> None:
    path = Path.parse("/3303/0/5700")
    data = encode(value, "integer", TLV, path, wide_integers=wide)
    assert decode(data, "integer", TLV, path) == value
    if wide:
        assert len(tlv.decode(data)[0].value) == 8


# -- hostile -----------------------------------------------------------------------------------------

HOSTILE = {
    "a header alone": "C8",
    "no length": "C8 00",
    "an id of two bytes that has one": "E0 01",
    "3 bytes of length, 2 there": "D8 00 0000",
    "more than there is": "C5 00 31",
    "16 MiB announced": "D8 00 FFFFFF 00",
    "an instance that ends inside an entry": "02 00 C1 00",
    "a multiple resource that ends inside an instance": "82 06 41 00",
    "an object instance in an object instance": "04 00 02 00 C0 00",
    "a resource in a multiple resource": "82 06 C0 00",
    "a multiple resource in a multiple resource": "82 06 80 00",
    "a resource instance in an object instance": "03 00 41 00 01",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_tlv_is_refused(data: str) -> None:
    with pytest.raises(Lwm2mError, match="TLV: "):
        tlv.decode(bytes.fromhex(data))


def test_nesting_is_bounded_by_the_format() -> None:
    data = b""
    for _ in range(100_000 // 4):
        data = b"\x18\0" + len(data).to_bytes(3, "big") + data if len(data) < 1000 else data
    with pytest.raises(Lwm2mError, match="does not belong there"):
        tlv.decode(data)


def test_entries_are_bounded() -> None:
    assert len(tlv.decode(b"\xc0\0" * tlv.MAX_ENTRIES)) == tlv.MAX_ENTRIES
    with pytest.raises(Lwm2mError, match="more than 10000 entries"):
        tlv.decode(b"\xc0\0" * (tlv.MAX_ENTRIES + 1))
    inside = tlv.encode([multiple(1, [(n, b"") for n in range(6000)])] * 2)
    with pytest.raises(Lwm2mError, match="more than 10000 entries"):
        tlv.decode(inside)


def test_kinds_are_the_specifications_numbers() -> None:
    assert [Kind(n).name for n in range(4)] == [
        "OBJECT_INSTANCE",
        "RESOURCE_INSTANCE",
        "MULTIPLE_RESOURCE",
        "RESOURCE",
    ]


@pytest.mark.parametrize(
    ("data", "type"),
    [("000000", "integer"), ("", "integer"), ("02", "boolean"), ("0000", "float"), ("00", "objlnk"), ("ff", "string")],
)
def test_bytes_that_are_no_value_of_their_type_are_refused(data: str, type: str) -> None:
    with pytest.raises(Lwm2mError, match=f"are no {type}"):
        from_bytes(bytes.fromhex(data), type)  # type: ignore[arg-type]
