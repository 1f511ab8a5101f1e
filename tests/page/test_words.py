"""How values, times and messages are written on the page."""

from __future__ import annotations

import base64
import json
import xml.etree.ElementTree as ElementTree

import cbor2
import pytest

from pdmlab.errors import ServiceError
from pdmlab.page import words
from pdmlab.page.values import decode
from pdmlab.update import hub
from pdmlab.update.results import FotaResult


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_an_instance_is_values_by_id_in_whatever_format_it_came() -> None:
    records = [{"bn": "/3/0/", "n": "0", "vs": "pdmlab"}, {"n": "9", "v": 97}, {"n": "11/0", "v": 0}]
    as_cbor = cbor2.dumps([{-2: "/3/0/", 0: "0", 3: "pdmlab"}, {0: "9", 2: 97}, {0: "11/0", 2: 0}])
    as_tlv = bytes.fromhex("c80006") + b"pdmlab" + bytes.fromhex("c10961") + bytes.fromhex("830b410000")
    wanted = {0: "pdmlab", 9: 97, 11: {0: 0}}
    assert decode(b64(json.dumps(records).encode()), "application/senml+json", "/3/0") == wanted
    assert decode(b64(as_cbor), "application/senml+cbor", "/3/0") == wanted
    assert decode(b64(as_tlv), "application/vnd.oma.lwm2m+tlv", "/3/0") == wanted
    assert words.value(wanted, "/3/0") == "0: pdmlab, 9: 97, 11: 0: 0"


def test_what_cannot_be_read_is_shown_as_it_came() -> None:
    assert decode(b64(b"no records"), "application/senml+json", "/3/0") == "no records"
    assert decode(b64(b"\xff\x00"), "application/senml+cbor", "/3/0") == b"\xff\x00"
    assert words.value(b"\xff\x00", "/3/0/0") == "ff 00 (2 B)"
    one = cbor2.dumps([{0: "/3/0/11/0", 2: 5}])
    assert decode(b64(one), "application/senml+cbor", "/3/0/11/0") == {0: 5}
    with pytest.raises(ServiceError, match="no base64"):
        decode("*", "text/plain", "/3/0/0")


def test_numbers_have_units_and_times_a_clock() -> None:
    assert words.value("97", "/3/0/9") == "97 %"
    assert words.value("1795668941", "/3/0/13") == "2026-11-26 04:55:41 UTC, device clock"
    assert words.value("x" * 500, "/5000/0/1") == "x" * words.MOST + "…"
    assert (words.size(1536), words.size(204_800), words.size(13_000_000)) == ("1,536 B", "204.8 kB", "13.0 MB")
    assert [words.duration(each) for each in (45, 720, 12_000, 200_000, None)] == [
        "45 s",
        "12 min",
        "3 h 20 min",
        "2 d",
        "",
    ]
    assert words.time_of("2026-11-26T04:55:41.123456Z") == "2026-11-26 04:55:41" and words.time_of(None) == ""
    assert [words.numeric(each) for each in ("21.5", "on", "nan", "inf", b"1", 3)] == [21.5, None, None, None, None, 3]


def test_times_have_a_date_unless_it_is_todays() -> None:
    at = 1_795_668_941.0
    assert (words.moment(at, now=at + 60), words.moment(at, now=at + 86_400)) == ("04:55:41", "2026-11-26 04:55:41")
    text = "2026-11-26T04:55:41.123456Z"
    assert (words.lately(text, now=at), words.lately(text, now=at - 86_400)) == ("04:55:41", "2026-11-26 04:55:41")
    assert words.lately(None) == ""


def test_what_the_service_keeps_says_where_it_is_from() -> None:
    assert [words.kept(each) for each in (None, 45, 0, -3)] == [
        "came with the registration",
        "kept by the service, fresh for 45 s",
        "kept by the service, stale",
        "kept by the service, stale",
    ]
    assert (words.devices(1), words.devices(1200), words.devices(0)) == ("1 device", "1,200 devices", "0 devices")


def test_states_and_results_of_an_update_are_words() -> None:
    assert words.value("1", "/10252/0/2") == "1 (idle)" and words.value(8.0, "/10252/0/2") == "8 (rebooting)"
    assert words.value("23", "/10252/0/3") == str(FotaResult(23)) and words.value("-1", "/10252/0/3").startswith("-1 (")
    assert words.value("221", "/10252/0/3") == f"221 ({hub.explain(221)[0]})"
    assert [words.value(each, "/10252/0/2") for each in ("77", "on", "nan")] == ["77", "on", "nan"]
    assert words.value("77", "/10252/0/3") == "77" and words.value("1", "/10252/0/4") == "1"


def test_a_sparkline_stays_in_its_place() -> None:
    assert words.sparkline([1.0]) == ""
    for values in ([5.0, 5.0], [1.0, -1e9, 3.0], list(map(float, range(60)))):
        drawn = ElementTree.fromstring(words.sparkline(values))
        points = [tuple(map(float, point.split(","))) for point in drawn.find("polyline").attrib["points"].split()]
        assert len(points) == len(values)
        assert all(0 <= x <= 84 and 0 <= y <= 24 for x, y in points)


def test_what_a_device_says_is_no_html() -> None:
    row = {
        "number": 1, "time_ns": 1_795_668_941_123_456_789, "clock": "host", "direction": "in", "type": "CON",
        "code": "4.04 <Not Found>", "path": "/<b>", "query": "", "payload": "<script>", "options": "", "payload_B": 8,
        "transmission": 1, "outcome": "", "round_trip_ms": 1.25,
    }  # fmt: skip
    line = words.message(row)
    assert "<script>" not in line and "<b>/" not in line and "&lt;script&gt;" in line
    assert "2026-11-26" not in words.message(row, now=1_795_668_942.0) and "2026-11-26" in words.message(row, now=9e8)
    assert "04:55:41.123456 UTC" in line and 'class="bad"' in line and "after 1.2 ms" in line
