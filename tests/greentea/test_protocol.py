"""Lines become events, whatever else is on them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import MalformedEvent
from pdmlab.greentea.protocol import Event, KeyValue, Malformed, Text, format_key_value, parse, to_frame


@pytest.mark.parametrize(
    ("line", "events"),
    [
        ("{{__version;1.3.0}}", [KeyValue("__version", "1.3.0")]),
        ("mbedmbed{{__sync;a-b}}", [Text("mbedmbed"), KeyValue("__sync", "a-b")]),
        ("{{end;success}}{{__exit;0}}", [KeyValue("end", "success"), KeyValue("__exit", "0")]),
        ("{{a;1}} then {{b;2}}", [KeyValue("a", "1"), Text("then"), KeyValue("b", "2")]),
        ("", [Text("")]),
        ("  indented text  ", [Text("  indented text")]),
        ("{{__testcase_name;Initialize Simple PDMC }}", [KeyValue("__testcase_name", "Initialize Simple PDMC ")]),
        ("{{verify_lwm2m_get_test;/5000/0/1}}", [KeyValue("verify_lwm2m_get_test", "/5000/0/1")]),
        (f"echo: {'mbed' * 10}{{{{__sync;a}}}}", [Text(f"echo: {'mbed' * 10}{{{{__sync;a}}}}")]),
        ("{{{{__timeout;5}}", [Malformed("{{", "it ends too early"), KeyValue("__timeout", "5")]),
    ],
)
def test_a_line_says_what_is_on_it(line: str, events: list[Event]) -> None:
    assert parse(line) == events


@pytest.mark.parametrize(
    "line",
    [
        "{{__timeout;soon}}",
        "{{__testcase_finish;adds up}}",
        "{{__testcase_finish;adds up;one;0}}",
        "{{__testcase_summary;1}}",
        "{{__testcase_count;-}}",
        "{{end}}",
        "{{;}}",
        "{{__sync;half",
    ],
)
def test_what_cannot_be_a_key_value_is_malformed_and_no_more(line: str) -> None:
    (event,) = parse(line, 2.5)
    assert isinstance(event, Malformed)
    assert (event.text, event.time) == (line, 2.5)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=200))
def test_no_line_is_too_strange(line: str) -> None:
    events = parse(line)
    assert events
    assert len(to_frame(events)) == len(events)


@given(st.from_regex(r"[\w-]{1,20}", fullmatch=True), st.from_regex(r"[^{}\r\n]{1,40}", fullmatch=True))
def test_what_is_formatted_is_parsed_back(key: str, value: str) -> None:
    if not key.startswith("__"):
        assert parse(format_key_value(key, value)) == [KeyValue(key, value)]


def test_a_number_that_is_none_says_so() -> None:
    with pytest.raises(MalformedEvent, match=r"\{\{iteration;two\}\}, whose value is no whole number"):
        KeyValue("iteration", "two").number()


def test_events_make_a_frame() -> None:
    frame = to_frame([KeyValue("end", "success", 1.0), Text("hello", 2.0), Malformed("{{", "half", 3.0)])
    assert frame["kind"].to_list() == ["key-value", "text", "malformed"]
    assert frame["key"].to_list() == ["end", "", ""]
    assert frame["value"].to_list() == ["success", "hello", "{{"]
    assert str(frame["time"].dtype).startswith("datetime64")
