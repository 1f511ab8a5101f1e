"""Values of one and of several resources in every format, there and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.content import (
    CBOR,
    JSON,
    OPAQUE,
    SENML_CBOR,
    SENML_ETCH_CBOR,
    SENML_ETCH_JSON,
    SENML_JSON,
    TEXT,
    TLV,
    decode,
    encode,
)
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.payload import Values, decode_all, decode_paths, encode_all, encode_paths
from tests.lwm2m.test_content import VALUES as TYPED_VALUES

MANY = [TLV, JSON, SENML_JSON, SENML_CBOR, SENML_ETCH_JSON, SENML_ETCH_CBOR]
TYPES = [*TYPED_VALUES, "unsigned", "corelnk"]
VALUES = TYPED_VALUES | {"unsigned": st.integers(0, (1 << 64) - 1), "corelnk": st.text(max_size=20)}
VALUES["objlnk"] = st.builds("{}:{}".format, st.integers(0, 65535), st.integers(0, 65535))
TYPED = st.sampled_from(TYPES).flatmap(lambda type: st.tuples(st.just(type), VALUES[type]))
HERE = Path.parse("/3303/0/5700")


@given(TYPED, st.sampled_from([CBOR, *MANY]), st.sampled_from([HERE, HERE / 7]))
def test_every_value_comes_back(typed: tuple, format: int, path: Path) -> None:
    type, value = typed
    again = decode(encode(value, type, format, path), type, format, path)
    assert again == value
    assert isinstance(again, bool) == (type == "boolean")


def types_of(resources: dict[int, str]):
    return lambda path: resources.get(path.ids[2])


RESOURCES = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 65534)),
    st.sampled_from(TYPES).flatmap(
        lambda type: st.tuples(
            st.just(type), VALUES[type] | st.dictionaries(st.integers(0, 65534), VALUES[type], min_size=1, max_size=3)
        )
    ),
    max_size=5,
)


@given(RESOURCES, st.sampled_from(MANY), st.integers(1, 3))
def test_objects_instances_and_resources_come_back(resources: dict, format: int, level: int) -> None:
    types = {resource: type for (_, resource), (type, _) in resources.items()}
    values: Values = {
        Path.of(3303, instance, resource): value
        for (instance, resource), (type, value) in resources.items()
        if types[resource] == type
    }
    base = Path.of(3303)
    if level > 1 and values:
        base = Path(next(iter(values)).ids[:level])
        values = {path: value for path, value in values.items() if base.contains(path)}
    payload = encode_all(values, types_of(types), format, base)
    assert decode_all(payload, types_of(types), format, base) == values


@given(RESOURCES, st.sampled_from(MANY[1:]))
def test_a_composite_comes_back(resources: dict, format: int) -> None:
    types = {resource: type for (_, resource), (type, _) in resources.items()}
    values: Values = {
        Path.of(object, 0, resource): value
        for (object, resource), (type, value) in resources.items()
        if types[resource] == type
    }
    payload = encode_all(values, types_of(types), format, None)
    assert decode_all(payload, types_of(types), format, None) == values


@given(st.lists(st.none() | st.lists(st.integers(0, 65534), min_size=1, max_size=4).map(lambda ids: Path(tuple(ids)))))
def test_paths_that_are_asked_for_come_back(paths: list[Path | None]) -> None:
    for format in (SENML_JSON, SENML_CBOR):
        assert decode_paths(encode_paths(paths, format), format) == list(dict.fromkeys(paths))


@given(st.binary(max_size=60), st.sampled_from([None, TEXT, CBOR, 50, *MANY]), st.sampled_from(TYPES))
def test_any_payload_is_values_or_an_error(payload: bytes, format: int | None, type: str) -> None:
    for base in (None, Path.of(3303), Path.of(3303, 0), HERE, HERE / 1):
        try:
            decode_all(payload, lambda path: type, format, base)
        except Lwm2mError as error:
            assert error.message
    for read in (lambda: decode(payload, type, format, HERE), lambda: decode_paths(payload, format)):
        try:
            read()
        except Lwm2mError as error:
            assert error.message


def test_a_resource_of_unknown_type_keeps_what_the_format_says() -> None:
    unknown = lambda path: None
    assert decode_all(b'[{"n":"/9/0/1","v":1},{"n":"/9/0/2","vd":"AA"}]', unknown, SENML_JSON, None) == {
        Path.of(9, 0, 1): 1,
        Path.of(9, 0, 2): b"\0",
    }
    assert decode_all(b"\xc1\x01\x05", unknown, TLV, Path.of(9, 0)) == {Path.of(9, 0, 1): b"\x05"}


@pytest.mark.parametrize(
    ("payload", "format", "base"),
    [
        (b'[{"n":"/3/0/0","vs":"a"},{"n":"/3/0/0","vs":"b"}]', SENML_JSON, "/3/0"),  # twice
        (b'[{"n":"/3/0/0","vs":"a"},{"n":"/3/0/0/1","vs":"b"}]', SENML_JSON, "/3/0"),  # one value and several
        (b'[{"n":"/3/0/0/1","vs":"a"},{"n":"/3/0/0/1","vs":"b"}]', SENML_JSON, "/3/0"),
        (b'[{"n":"/3/1/0","vs":"a"}]', SENML_JSON, "/3/0"),  # elsewhere
        (b'[{"n":"/3/0","vs":"a"}]', SENML_JSON, "/3/0"),  # no resource
        (b'[{"n":"/3/0/0"}]', SENML_JSON, "/3/0"),  # no value
        (b'[{"n":"x","vs":"a"}]', SENML_JSON, "/3/0"),
        (b"\xc1\x00\x61\xc1\x00\x62", TLV, "/3/0"),
        (b"\x81\x00\x41\x00", TLV, "/3/0"),  # an end too early
        (b"\x08\x01\x03\xc1\x00\x61", TLV, "/3/0"),  # another instance
        (b"\xc1\x00\x61", TLV, "/3"),  # a resource of no instance
        (b"\x41\x00\x61", TLV, "/3/0"),  # an instance of no resource
        (b"\xc1\x01\x61", TLV, "/3/0/0"),
        (b"a", TEXT, "/3/0"),
        (b"a", None, "/3/0"),
    ],
)
def test_payloads_that_contradict_themselves_or_their_path_are_refused(payload: bytes, format: int, base: str) -> None:
    with pytest.raises(Lwm2mError):
        decode_all(payload, lambda path: "string", format, Path.parse(base))


def test_a_multiple_resource_without_instances_lives_in_tlv() -> None:
    values: Values = {Path.of(3, 0, 6): {}}
    assert encode_all(values, lambda path: "integer", TLV, Path.of(3, 0)) == b"\x80\x06"
    assert decode_all(b"\x80\x06", lambda path: "integer", TLV, Path.of(3, 0)) == values


# -- values, format by format ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "type", "format", "payload"),
    [
        (1 << 63, "unsigned", TLV, bytes.fromhex("E8 1644 08 8000000000000000")),
        (255, "unsigned", TLV, bytes.fromhex("E1 1644 FF")),
        (255, "integer", TLV, bytes.fromhex("E2 1644 00FF")),
        ((1 << 64) - 1, "unsigned", CBOR, bytes.fromhex("1B FFFFFFFFFFFFFFFF")),
        (-1, "integer", CBOR, b"\x20"),
        (1.5, "float", CBOR, bytes.fromhex("FB 3FF8000000000000")),
        (5e-324, "float", CBOR, bytes.fromhex("FB 0000000000000001")),
        (-0.0, "float", CBOR, bytes.fromhex("FB 8000000000000000")),
        ("3:0", "objlnk", CBOR, b"\x633:0"),
        (b"\0", "opaque", CBOR, b"\x41\0"),
        ("3:0", "objlnk", SENML_JSON, b'[{"bn":"/3303/0/","n":"5700","vlo":"3:0"}]'),
        (1.7976931348623157e308, "float", TEXT, b"1.7976931348623157e+308"),
        ("</a>;rt=b", "corelnk", TEXT, b"</a>;rt=b"),
        (b"\0\1", "opaque", JSON, b'{"bn":"/3303/0/","e":[{"n":"5700","sv":"AAE="}]}'),
        ("3:0", "objlnk", JSON, b'{"bn":"/3303/0/","e":[{"n":"5700","ov":"3:0"}]}'),
        (True, "boolean", JSON, b'{"bn":"/3303/0/","e":[{"n":"5700","bv":true}]}'),
    ],
)
def test_values_are_written_as_the_specification_says(value: object, type: str, format: int, payload: bytes) -> None:
    assert encode(value, type, format, HERE) == payload  # type: ignore[arg-type]
    assert decode(payload, type, format, HERE) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("payload", "type", "format", "value"),
    [
        (bytes.fromhex("C1 1A 5182428F"), "time", CBOR, 1367491215),  # with the tag of a time
        (bytes.fromhex("F9 3E00"), "float", CBOR, 1.5),
        (b"\x05", "float", CBOR, 5.0),
        (bytes.fromhex("FB 4014000000000000"), "integer", CBOR, 5),
        (b'[{"n":"/3303/0/5700","v":5.0}]', "integer", SENML_JSON, 5),
        (b'[{"bn":"/3303/0/5700","v":5}]', "float", SENML_JSON, 5.0),
        (b'{"e":[{"n":"","v":5}],"bn":"/3303/0/5700"}', "integer", JSON, 5),
        (b'{"bn":"/","e":[{"n":"3303/0/5700","sv":"7"}]}', "integer", JSON, 7),
        (b'{"bt":1,"bn":"/3303/0/","e":[{"n":"5700","v":7,"t":-1}]}', "time", JSON, 7),
    ],
)
def test_values_are_read_as_others_write_them(payload: bytes, type: str, format: int, value: object) -> None:
    assert decode(payload, type, format, HERE) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("payload", "type", "format"),
    [
        (b"\xf5", "integer", CBOR),
        (b"\x01", "boolean", CBOR),
        (b"\x20", "unsigned", CBOR),
        (bytes.fromhex("1B 8000000000000000"), "integer", CBOR),
        (bytes.fromhex("F9 7E00"), "float", CBOR),
        (bytes.fromhex("F9 7C00"), "float", CBOR),
        (b"\x80", "string", CBOR),
        (b"\xf6", "string", CBOR),
        (b"\x633:x", "objlnk", CBOR),
        (b'[{"n":"/3303/0/5700","v":1.5}]', "integer", SENML_JSON),
        (b'[{"n":"/3303/0/5700","v":-1}]', "unsigned", SENML_JSON),
        (b'[{"n":"/3303/0/5700","vs":"3:0"}]', "objlnk", SENML_JSON),
        (b'[{"n":"/3303/0/5700","vs":"AAE="}]', "opaque", SENML_JSON),
        (b'[{"n":"/3303/0/5701","v":1}]', "integer", SENML_JSON),
        (b"[]", "integer", SENML_JSON),
        (b"\x81\x00\x7f\xff\xff", "integer", TLV),
        (bytes.fromhex("E8 1644 08 7FF8000000000000"), "float", TLV),  # NaN
        (b'{"e":{}}', "integer", JSON),
        (b'{"e":[{"n":1}]}', "integer", JSON),
        (b'{"e":[{"n":"5700","v":"1"}]}', "integer", JSON),
        (b'{"e":[{"n":"5700","v":1,"sv":"1"}]}', "integer", JSON),
        (b'{"bn":5,"e":[]}', "integer", JSON),
        (b'{"e":[{"n":"5700","v":1e30}]}', "integer", JSON),
        (b'{"e":[{"n":"5700","bv":1}]}', "boolean", JSON),
        (b'{"e":[{"n":"5700","sv":"!"}]}', "opaque", JSON),
        (b"-1", "unsigned", TEXT),
        (b"18446744073709551616", "unsigned", TEXT),
    ],
)
def test_values_of_another_type_are_refused(payload: bytes, type: str, format: int) -> None:
    with pytest.raises(Lwm2mError):
        decode(payload, type, format, HERE)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_format_takes_a_number_that_is_none(number: float) -> None:
    for format in (TEXT, CBOR, OPAQUE, *MANY):
        with pytest.raises(Lwm2mError):
            encode(number, "float", format, HERE)
