"""SenML against the examples of RFC 8428, LwM2M's own, and hostile input."""

from __future__ import annotations

import json
import math

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.senml import MAX_NAME, MAX_RECORDS, MAX_SIZE, Record, read, write

DEV = "urn:dev:ow:10e2073a01080063"

# RFC 8428, section 5.1.
SINGLE = b'[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]'
TWO = b'[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]'
SERIES = (
    b'[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},'
    b'{"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3},{"n":"current","t":-3,"v":1.4},'
    b'{"n":"current","t":-2,"v":1.5},{"n":"current","t":-1,"v":1.6},{"n":"current","v":1.7}]'
)
TYPES = (
    b'[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},{"n":"label","vs":"Machine Room"},'
    b'{"n":"open","vb":false},{"n":"nfc-reader","vd":"aGkgCg"}]'
)
COLLECTION = (
    b'[{"bn":"2001:db8::2/","n":"temperature","u":"Cel","v":25.2},{"n":"humidity","u":"%RH","v":30},'
    b'{"bn":"2001:db8::1/","n":"temperature","u":"Cel","v":12.3},{"n":"humidity","u":"%RH","v":67}]'
)
# Section 6: SERIES in CBOR.
SERIES_CBOR = bytes.fromhex(
    "87"
    "A7 21 78 1B 75726E3A6465763A6F773A3130653230373361303130383030363A 22 FB 41D303A15B001062 23 61 41 20 05"
    "   00 67 766F6C74616765 01 61 56 02 FB 405E066666666666"
    "A3 00 67 63757272656E74 06 24 02 FB 3FF3333333333333"
    "A3 00 67 63757272656E74 06 23 02 FB 3FF4CCCCCCCCCCCD"
    "A3 00 67 63757272656E74 06 22 02 FB 3FF6666666666666"
    "A3 00 67 63757272656E74 06 21 02 F9 3E00"
    "A3 00 67 63757272656E74 06 20 02 FB 3FF999999999999A"
    "A3 00 67 63757272656E74 06 00 02 FB 3FFB333333333333"
)


def test_the_rfcs_packs_read_as_they_are_meant() -> None:
    assert read(SINGLE, binary=False) == [Record(DEV, "v", 23.1, unit="Cel")]
    assert read(TWO, binary=False) == [
        Record(f"{DEV}:voltage", "v", 120.1, unit="V"),
        Record(f"{DEV}:current", "v", 1.2, unit="A"),
    ]
    assert read(TYPES, binary=False) == [
        Record(f"{DEV}:temp", "v", 23.1, unit="Cel"),
        Record(f"{DEV}:label", "vs", "Machine Room"),
        Record(f"{DEV}:open", "vb", False),
        Record(f"{DEV}:nfc-reader", "vd", b"hi \n"),
    ]
    assert [each.name for each in read(COLLECTION, binary=False)] == [
        "2001:db8::2/temperature",
        "2001:db8::2/humidity",
        "2001:db8::1/temperature",
        "2001:db8::1/humidity",
    ]


@pytest.mark.parametrize(("payload", "binary"), [(SERIES, False), (SERIES_CBOR, True)], ids=["JSON", "CBOR"])
def test_the_rfcs_series_has_its_times_and_units(payload: bytes, binary: bool) -> None:
    records = read(payload, binary=binary)
    assert records[0] == Record("urn:dev:ow:10e2073a0108006:voltage", "v", 120.1, 1276020076.001, "V")
    assert [each.value for each in records[1:]] == [1.2, 1.3, 1.4, 1.5, 1.6, 1.7]
    assert {(each.name, each.unit) for each in records[1:]} == {("urn:dev:ow:10e2073a0108006:current", "A")}
    assert [round(1276020076.001 - (each.time or 0)) for each in records[1:]] == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("payload", "values"),
    [
        (b'[{"bn":"a","bv":20,"v":1},{"v":2},{}]', [21, 22, 20]),
        (b'[{"bn":"a","bv":20},{"n":"b","vs":"x"}]', [20, "x"]),
        (b'[{"bn":"a","v":1},{"n":"b"}]', [1, None]),
    ],
)
def test_a_base_value_is_added_to_numbers_and_stands_for_missing_ones(payload: bytes, values: list[object]) -> None:
    assert [each.value for each in read(payload, binary=False)] == values


def test_a_decimal_fraction_is_a_number() -> None:
    pack = bytes.fromhex("81 A2 00 63 2F312F 02 C4 82 21 18 E7").replace(b"/1/", b"/1/")
    (record,) = read(pack, binary=True)
    assert record.value == pytest.approx(2.31)


# LwM2M's own: its example of /3/0, vlo, and names that are asked for.


def test_the_device_of_the_specification() -> None:
    payload = (
        b'[{"bn":"/3/0/","n":"0","vs":"Open Mobile Alliance"},{"n":"9","v":95},{"n":"13","v":1367491215},'
        b'{"n":"6/0","v":1},{"n":"22","vlo":"66:0"}]'
    )
    records = [
        Record("/3/0/0", "vs", "Open Mobile Alliance"),
        Record("/3/0/9", "v", 95),
        Record("/3/0/13", "v", 1367491215),
        Record("/3/0/6/0", "v", 1),
        Record("/3/0/22", "vlo", "66:0"),
    ]
    assert read(payload, binary=False) == records
    assert write(records, binary=False, base="/3/0/") == payload
    binary = write(records, binary=True, base="/3/0/")
    assert read(binary, binary=True) == records
    assert cbor2.loads(binary)[4] == {0: "22", "vlo": "66:0"}
    assert binary[:28].hex() == bytes.fromhex("85 A3 21 65 2F332F302F 00 61 30 03 74").hex() + b"Open Mobile Al".hex()


def test_names_that_are_asked_for_have_no_value() -> None:
    asked = [Record("/3/0/0"), Record("/1")]
    assert write(asked, binary=False) == b'[{"n":"/3/0/0"},{"n":"/1"}]'
    assert read(write(asked, binary=True), binary=True) == asked


@pytest.mark.parametrize("written", ["aGkgCg", "aGkgCg==", "_-8", "_-8=", "/+8="])
def test_data_is_read_in_either_alphabet_with_and_without_padding(written: str) -> None:
    (record,) = read(json.dumps([{"n": "a", "vd": written}]).encode(), binary=False)
    assert record.value in (b"hi \n", b"\xff\xef")


NAMES = st.text("abc/0123456789", min_size=1, max_size=9)
VALUES = st.one_of(
    st.tuples(
        st.just("v"),
        st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False),
    ),
    st.tuples(st.just("vs"), st.text(max_size=20)),
    st.tuples(st.just("vb"), st.booleans()),
    st.tuples(st.just("vd"), st.binary(max_size=20)),
    st.tuples(st.just("vlo"), st.just("3:0")),
    st.tuples(st.none(), st.none()),
)
RECORDS = st.builds(
    lambda name, value, time, unit: Record("/" + name, *value, time, unit),
    NAMES,
    VALUES,
    st.none()
    | st.integers(-(1 << 30), 1 << 40).map(float)
    | st.floats(0, 1e9).filter(lambda time: not time.is_integer()),
    st.none() | st.text(max_size=5),
)


@given(st.lists(RECORDS, max_size=6), st.booleans(), st.sampled_from(["", "/", "/a"]))
def test_what_is_written_is_read(records: list[Record], binary: bool, base: str) -> None:
    records = [each for each in records if each.name.startswith(base) and each.name != base]
    assert read(write(records, binary=binary, base=base), binary=binary) == records


@pytest.mark.parametrize(
    "record", [Record("a", "v", 1e30), Record("a", "v", 1, 1e30), Record("a", "v", -1.8e19, -1e30)]
)
def test_numbers_beyond_64_bits_are_floats(record: Record) -> None:
    for binary in (False, True):
        assert read(write([record], binary=binary), binary=binary) == [record]


def test_sums_beyond_64_bits_are_floats() -> None:
    (record,) = read(b'[{"bn":"a","bv":18446744073709551615,"v":18446744073709551615}]', binary=False)
    assert record.value == 2.0**65
    assert read(write([record], binary=True), binary=True) == [record]


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_records_or_an_error(payload: bytes, binary: bool) -> None:
    try:
        records = read(payload, binary=binary)
    except Lwm2mError as error:
        assert error.message
    else:
        assert all(0 < len(each.name) <= MAX_NAME for each in records)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: (
        st.lists(inside, max_size=4)
        | st.dictionaries(
            st.sampled_from(["n", "bn", "v", "vs", "vb", "vd", "vlo", "t", "bt", "bv", "bver", "x_", "u"]), inside
        )
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_anything_in_json_or_cbor_is_records_or_an_error(item: object) -> None:
    for payload, binary in ((json.dumps(item).encode(), False), (cbor2.dumps(item), True)):
        try:
            records = read(payload, binary=binary)
        except Lwm2mError as error:
            assert error.message
        else:
            for each in records:
                assert not isinstance(each.value, float) or math.isfinite(each.value)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[1]",
        b"[[]]",
        b"[{}]",
        b'[{"n":1}]',
        b'[{"n":"a","v":"1"}]',
        b'[{"n":"a","v":true}]',
        b'[{"n":"a","vb":1}]',
        b'[{"n":"a","vs":1}]',
        b'[{"n":"a","vd":"a"}]',
        b'[{"n":"a","vd":"a!=="}]',
        b'[{"n":"a","v":1,"vs":"1"}]',
        b'[{"n":"a","v":1,"v":2}]',
        b'[{"n":"a","v":NaN}]',
        b'[{"n":"a","v":Infinity}]',
        b'[{"n":"a","v":1e999}]',
        b'[{"n":"a","v":' + b"9" * 5000 + b"}]",
        b'[{"n":"a","v":1e308,"bv":1e308}]',
        b'[{"n":"a","bver":11,"v":1}]',
        b'[{"n":"a","bver":0,"v":1}]',
        b'[{"n":"a","odd_":1}]',
        b'[{"n":"' + b"a" * (MAX_NAME + 1) + b'"}]',
        b"[" * 100_000,
        b'[{"n":"a","x":' + b"[" * 100_000,
        b'[{"n":"a","vs":"\xff"}]',
        b"[" + b'{"n":"a"},' * MAX_RECORDS + b'{"n":"a"}]',
        b" " * (MAX_SIZE + 1),
    ],
    ids=lambda payload: payload[:24].decode(errors="replace"),
)
def test_what_is_no_senml_is_refused(payload: bytes) -> None:
    with pytest.raises(Lwm2mError):
        read(payload, binary=False)


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "81",
        "A0",
        "81 A0",
        "81 01",
        "81 A1 00 61 61 00",  # a byte behind the end
        "9B 7FFFFFFFFFFFFFFF",
        "BB 7FFFFFFFFFFFFFFF",
        "5B 7FFFFFFFFFFFFFFF",
        "81 A2 00 61 61 02 5B 7FFFFFFFFFFFFFFF",
        "81 A2 00 61 61 02 F9 7E00",  # NaN
        "81 A2 00 61 61 02 FB 7FF0000000000000",
        "81 A2 00 61 61 02 C2 49 010000000000000000",  # a big number
        "81 A2 00 61 61 02 C4 82 1B 7FFFFFFFFFFFFFFF 01",  # ten to the 2^63rd
        "81 A2 00 61 61 02 C5 82 1B 7FFFFFFFFFFFFFFF 01",  # two to the 2^63rd
        "81 A2 00 61 61 02 C4 82 C2 41 01 01",
        "81 A2 00 61 61 02 D8 1C 01",  # a shared reference
        "81 A3 00 61 61 02 01 02 02",  # a key twice
        "81 A3 00 61 61 02 01 18 02 02",  # a key twice, written longer
        "81 A2 F4 61 61 02 01",  # false is no key
        "81 A2 80 01 00 61 61",
        "81 A2 00 61 61 02",
        "81 A1 00",
        "FF",
        "81 FF",
        "81 A1 00 FF",
        "81 BF 00 61 61 02 FF",
        "81 9F 9F 9F 9F 9F 9F 9F",
        "7F 61 61 00 FF",
        "7F 7F 61 61 FF FF",
        "1C",
        "3F",
        "C0 61 61",
        "81 A2 00 61 FF 02 01",  # not UTF-8
        "81 A1 65 6F 64 64 65 5F 01",
    ],
)
def test_what_is_no_senml_in_cbor_is_refused(payload: str) -> None:
    with pytest.raises(Lwm2mError):
        read(bytes.fromhex(payload), binary=True)


def test_indefinite_lengths_are_read() -> None:
    pack = bytes.fromhex("9F BF 00 7F 61 61 61 62 FF 02 01 FF FF")
    assert read(pack, binary=True) == [Record("ab", "v", 1)]


def test_hostile_packs_cost_little() -> None:
    """A long base name is not kept once a record, and maps of many keys are not built."""
    long_base = b'[{"bn":"' + b"a" * 200_000 + b'"}' + b',{"n":"b"}' * 5000 + b"]"
    with pytest.raises(Lwm2mError, match="a name of 200000 characters"):
        read(long_base, binary=False)
    colliding = b"\x81\xb9\x75\x30" + b"".join(
        b"\x1b" + (key % 7 * ((1 << 61) - 1)).to_bytes(8, "big") + b"\0" for key in range(30_000)
    )
    with pytest.raises(Lwm2mError, match="a map of 60000 items"):
        read(colliding, binary=True)
    for filling in (b"\x81" * 200_000, b"\x9f" * 200_000, b"\xa1\x00" * 100_000, b"\xc4" * 200_000, b"\x7f" * 200_000):
        with pytest.raises(Lwm2mError):
            read(filling, binary=True)
    for filling in (b"\x9f" + b"\0" * 300_000 + b"\xff", b"\x7f" + b"\x60" * 300_000 + b"\xff"):
        with pytest.raises(Lwm2mError, match="more than 100000 items"):
            read(filling, binary=True)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_not_written(number: float) -> None:
    for binary in (False, True):
        with pytest.raises(Lwm2mError, match="no way to write"):
            write([Record("/3/0/9", "v", number)], binary=binary)
