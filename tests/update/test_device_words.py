"""What a device says of its slots is read with bounds, whatever it is."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.lwm2m import tlv
from pdmlab.update import device_words
from pdmlab.update.device_words import BOOTLOADER, LOG, MOST_LOG, MOST_SLOTS, REFUSAL, SLOTS

REPORT = {
    "media": {"FLASHIAP": 0x100000},
    "areas": [["bootloader", 0, 0x10000], ["header", 0x10000, 0x400], ["SOTP section 1", 0xFE000, 0x1000]],
    "slots": [
        {
            "name": "active",
            "medium": "FLASHIAP",
            "offset": 0x10000,
            "size": 0xEE000,
            "state": "whole",
            "detail": "",
            "header": {"size": 0x30000, "version": "1.0.0", "number": 1 << 40, "digest": "ab" * 32, "more": {}},
        },
        {"name": "candidate", "medium": "SD", "offset": 64 << 20, "size": 2 << 20, "state": "empty", "header": None},
    ],
}


def said(report: Any = REPORT, bootloader: bytes = b"fota", log: bytes = b"a\r\nb\r\n", refusal: bytes = b"") -> bytes:
    text = report if isinstance(report, bytes) else json.dumps(report).encode()
    values = {BOOTLOADER: bootloader, SLOTS: text, LOG: log, REFUSAL: refusal}
    return tlv.encode([tlv.resource(id, value) for id, value in values.items()])


def test_slots_log_and_refusal_are_read() -> None:
    words = device_words.read(said(refusal=b"result 27"))
    assert words is not None
    assert (words["bootloader"], words["log"], words["refusal"]) == ("fota", "a\nb", "result 27")
    assert [slot["name"] for slot in words["slots"]] == ["active", "candidate"]
    assert words["slots"][0]["header"]["version"] == "1.0.0" and words["slots"][1]["header"] is None
    assert words["areas"][0] == {"name": "bootloader", "offset": 0, "size": 0x10000}


def test_the_picture_has_slots_to_scale_and_areas_beside_them() -> None:
    words = device_words.read(said())
    assert words is not None
    picture = device_words.picture(words)
    drawn = re.findall(r'x="([\d.]+)" y="\d+" width="[\d.]+"[^>]*data-area="([^"]+)"', picture)
    assert {name: float(x) for x, name in drawn} == pytest.approx(
        {
            "bootloader": 8.0,
            "active (whole)": 8 + 904 / 16,
            "SOTP section 1": 8 + 904 * 0xFE / 0x100,
            "candidate (empty)": 8.0,  # how large the card is, nobody knows: its strip begins with the slot
        },
        abs=0.01,
    )
    assert "SD, from 0x4000000 on" in picture and "flash, 1,024 KiB" in picture


def test_what_is_too_long_is_cut() -> None:
    report = {**REPORT, "slots": [{**REPORT["slots"][0], "detail": "x" * 9000}] * 100}  # type: ignore[index,dict-item]
    words = device_words.read(said(report, log=b"n" * 2 * MOST_LOG, refusal=b"y" * 5000))
    assert words is None  # all together is more than a device may say
    words = device_words.read(
        said({**report, "slots": report["slots"][:2]}, log=b"n" * MOST_LOG * 2, refusal=b"y" * 900)
    )
    assert words is not None and len(words["log"]) == MOST_LOG and len(words["refusal"]) == 600
    assert len(words["slots"][0]["detail"]) == 200
    many = device_words.whole({"slots": [{}] * 100, "areas": [["a", 1, 2]] * 100})
    assert len(many["slots"]) == len(many["areas"]) == MOST_SLOTS


@pytest.mark.parametrize("payload", [b"", b"\xff", b"4.04", tlv.encode([tlv.resource(9, b"x")]), bytes(70_000)])
def test_what_is_no_such_object_is_none(payload: bytes) -> None:
    assert device_words.read(payload) is None


def test_what_is_no_json_leaves_the_log() -> None:
    for report in (b"{", b"[" * 20_000, b"[]", b"null", b"\xff\xfe", b'"' + b"\\ud800" + b'"'):
        words = device_words.read(said(report))
        assert words is not None and words["slots"] == [] and words["log"] == "a\nb"


def test_halves_of_characters_and_controls_are_no_text() -> None:
    words = device_words.whole({"slots": [{"name": "a\ud800\x00\x1b[31m", "offset": -1, "size": True}], "log": "\x07x"})
    assert words["slots"][0]["name"] == "a?  [31m" and words["log"] == "x"
    assert (words["slots"][0]["offset"], words["slots"][0]["size"]) == (0, 0)
    json.dumps(words, ensure_ascii=False).encode()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["slots", "areas", "media", "header", "more", "name", "offset", "size", "state", "problem"]
            ),
            inner,
        )
    ),
)


@given(st.dictionaries(st.sampled_from(["slots", "areas", "media", "problem", "bootloader"]), anything))
def test_any_report_can_be_shown(report: dict[str, Any]) -> None:
    words = device_words.whole(report)
    assert words == device_words.whole(words)
    json.dumps(words, ensure_ascii=False).encode()
    device_words.picture(words)
