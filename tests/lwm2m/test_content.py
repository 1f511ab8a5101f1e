"""Resource values in text, opaque and TLV."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import (
    LINK_FORMAT,
    OPAQUE,
    TEXT,
    TLV,
    TLV_OLD,
    decode,
    default_format,
    encode,
    from_text,
    to_bytes,
    to_text,
)
from pdmlab.lwm2m.paths import Path

HERE = Path.parse("/3303/0/5700")

VALUES = {
    "string": st.text(max_size=40),
    "integer": st.integers(-(1 << 63), (1 << 63) - 1),
    "time": st.integers(0, 1 << 40),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "opaque": st.binary(max_size=40),
    "objlnk": st.builds("{}:{}".format, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
}
TYPED = st.sampled_from(list(VALUES)).flatmap(lambda type: st.tuples(st.just(type), VALUES[type]))


@given(TYPED, st.sampled_from([TEXT, TLV, TLV_OLD]))
def test_every_value_comes_back(typed: tuple, format: int) -> None:
    type, value = typed
    again = decode(encode(value, type, format, HERE), type, format, HERE)
    assert again == value
    assert isinstance(again, bool) == (type == "boolean")


@given(TYPED)
def test_every_value_comes_back_in_the_format_that_nobody_asks_for(typed: tuple) -> None:
    type, value = typed
    payload = encode(value, type, default_format(type), HERE)
    assert decode(payload, type, default_format(type), HERE) == value
    assert decode(payload, type, None, HERE) == value


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (True, "boolean", "1"),
        (False, "boolean", "0"),
        (-5, "integer", "-5"),
        (1367491215, "time", "1367491215"),
        (20.5, "float", "20.5"),
        (3, "float", "3"),
        (b"\0\1\xff", "opaque", "AAH/"),
        ("67:0", "objlnk", "67:0"),
        ("", "string", ""),
    ],
)
def test_text_is_as_the_specification_writes_it(value: object, type: str, text: str) -> None:
    assert to_text(value, type) == text  # type: ignore[arg-type]
    assert from_text(text, type) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "type"),
    [
        ("", "integer"),
        ("1.0", "integer"),
        ("1_000", "integer"),
        ("٣", "integer"),
        (" 1", "integer"),
        (str(1 << 63), "integer"),
        (str(-(1 << 63) - 1), "integer"),
        ("9" * 100_000, "integer"),
        ("", "float"),
        ("1_0.5", "float"),
        ("٣.5", "float"),
        (" 1.5", "float"),
        ("nan", "float"),
        ("inf", "float"),
        ("1e999", "float"),
        ("9" * 100_000, "float"),
        ("0x10", "float"),
        ("true", "boolean"),
        ("2", "boolean"),
        ("no base64!", "opaque"),
        ("AAH", "opaque"),
        ("3", "objlnk"),
        ("65536:0", "objlnk"),
    ],
)
def test_text_that_is_no_value_of_its_type_is_refused(text: str, type: str) -> None:
    with pytest.raises(Lwm2mError, match=f"is no {type}"):
        from_text(text, type)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "type"),
    [
        ("5", "integer"),
        (5, "string"),
        (1, "boolean"),
        ("AA", "opaque"),
        (b"1", "string"),
        ("x", "objlnk"),
        ("70000:1", "objlnk"),
        (1 << 63, "integer"),
    ],
)
def test_values_of_another_type_are_not_written(value: object, type: str) -> None:
    with pytest.raises(Lwm2mError):
        to_bytes(value, type)  # type: ignore[arg-type]


@given(st.text(max_size=30), st.sampled_from(list(VALUES)))
def test_any_text_is_a_value_or_an_error(text: str, type: str) -> None:
    try:
        value = from_text(text, type)  # type: ignore[arg-type]
    except Lwm2mError:
        return
    assert not isinstance(value, float) or math.isfinite(value)


@given(st.binary(max_size=60), st.sampled_from(list(VALUES)), st.sampled_from([None, TEXT, OPAQUE, TLV, 50]))
def test_any_payload_is_a_value_or_an_error(payload: bytes, type: str, format: int | None) -> None:
    try:
        decode(payload, type, format, HERE)  # type: ignore[arg-type]
    except Lwm2mError as error:
        assert error.message


def test_a_multiple_resource_is_a_dict_and_one_of_it_a_value() -> None:
    payload = tlv.encode([tlv.multiple(7, [(0, b"\x0e\xd8"), (1, b"\x13\x88")])])
    assert decode(payload, "integer", TLV, Path.parse("/3/0/7")) == {0: 3800, 1: 5000}
    assert decode(payload, "integer", TLV, Path.parse("/3/0/7/1")) == 5000
    with pytest.raises(Lwm2mError, match="has no /3/0/7/2"):
        decode(payload, "integer", TLV, Path.parse("/3/0/7/2"))
    one = encode(5000, "integer", TLV, Path.parse("/3/0/7/1"))
    assert one.hex() == "8407" + "42011388"
    assert decode(one, "integer", TLV, Path.parse("/3/0/7/1")) == 5000


def test_a_resource_is_found_inside_its_object_instance_and_among_others() -> None:
    inside = [tlv.resource(0, b"ARM"), tlv.resource(1, b"K64F")]
    for entries in (inside, [tlv.object_instance(0, inside)]):
        assert decode(tlv.encode(entries), "string", TLV, Path.parse("/3/0/1")) == "K64F"
    with pytest.raises(Lwm2mError, match="has no /3/0/2"):
        decode(tlv.encode(inside), "string", TLV, Path.parse("/3/0/2"))


def test_opaque_is_raw_unless_text_is_said() -> None:
    assert encode(b"\0\1", "opaque", OPAQUE, HERE) == b"\0\1"
    assert decode(b"\xff\0", "opaque", None, HERE) == b"\xff\0"
    assert decode(b"AAE=", "opaque", TEXT, HERE) == b"\0\1"
    assert decode(b"21", "integer", OPAQUE, HERE) == 21


@pytest.mark.parametrize("format", [LINK_FORMAT, 50, 41])
def test_a_format_that_is_not_known_is_said_with_those_that_are(format: int) -> None:
    with pytest.raises(Lwm2mError, match=f"content format {format} is not known") as caught:
        decode(b"", "string", format, HERE)
    assert "text/plain" in str(caught.value)
    with pytest.raises(Lwm2mError, match=f"content format {format} is not known"):
        encode("", "string", format, HERE)
