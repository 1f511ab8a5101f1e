"""The key-value protocol: lines of a serial console in, events out. Nothing here waits or talks.

>>> parse("noise {{__testcase_finish;adds up;1;0}}")
[Text(text='noise', time=0.0), KeyValue(key='__testcase_finish', value='adds up;1;0', time=0.0)]
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pdmlab.errors import MalformedEvent

if TYPE_CHECKING:
    import pandas as pd

WAKE_UP = "mbed" * 10
"""What the host sends before its sync: it flushes out of the board's parser what was half said."""


@dataclass(frozen=True)
class KeyValue:
    """A key with its value, which may be several joined by semicolons; time in seconds since the epoch, host clock."""

    key: str
    value: str
    time: float = 0.0

    @property
    def values(self) -> list[str]:
        """The value's parts."""
        return self.value.split(";")

    @property
    def system(self) -> bool:
        """Whether the key is the protocol's own, and no suite's."""
        return self.key.startswith("__")

    def number(self) -> int:
        """Return the value as a whole number.

        Raises:
            MalformedEvent: it is none.
        """
        try:
            return int(self.value)
        except ValueError:
            raise MalformedEvent(
                f"the board sent {self!s}, whose value is no whole number", hint="is the line noisy?"
            ) from None

    def __str__(self) -> str:
        return f"{{{{{self.key};{self.value}}}}}"


@dataclass(frozen=True)
class Text:
    """What a line has beside its key-values; a whole line mostly."""

    text: str
    time: float = 0.0


@dataclass(frozen=True)
class Malformed:
    """What looks like a key-value but cannot be one; a conversation goes on past it."""

    text: str
    why: str
    time: float = 0.0


Event: TypeAlias = KeyValue | Text | Malformed

_KEY_VALUE = re.compile(r"\{\{([\w-]+);([^{}]+)\}\}")
_FORMS = {
    "__timeout": r"\d+",
    "__timeout_set": r"\d+",
    "__timeout_adjust": r"-?\d+",
    "__testcase_count": r"\d+",
    "__testcase_finish": r"[^;]+;\d+;\d+",
    "__testcase_summary": r"\d+;\d+",
    "__coverage_start": r"[^;]+;[0-9A-Fa-f]*",
    "__exit": r"-?\d+",
}


def parse(line: str, time: float = 0.0) -> list[Event]:
    """Return what a line says, in order; an empty line says an empty text.

    A line that repeats the host's wake-up repeats whatever it hears (a shell does), and says nothing of its own.
    """
    if WAKE_UP in line:
        return [Text(line.rstrip(), time)]
    matches = list(_KEY_VALUE.finditer(line))
    if not matches:
        return [_text(line.rstrip(), time)]
    events: list[Event] = []
    at = 0
    for match in matches:
        events += _around(line[at : match.start()], time)
        key, value = match.groups()
        form = _FORMS.get(key)
        if form is not None and not re.fullmatch(form, value):
            events.append(Malformed(match[0], f"{key} takes {form}", time))
        else:
            events.append(KeyValue(key, value, time))
        at = match.end()
    return events + _around(line[at:], time)


def _around(text: str, time: float) -> list[Event]:
    return [_text(text.strip(), time)] if text.strip() else []


def _text(text: str, time: float) -> Event:
    if "{{" in text:
        why = "neither key nor value may be empty or hold braces" if "}}" in text else "it ends too early"
        return Malformed(text, why, time)
    return Text(text, time)


def format_key_value(key: str, value: object) -> str:
    """Return a key-value as the host sends it, without the end of line."""
    return f"{{{{{key};{value}}}}}"


def to_frame(events: Iterable[Event]) -> pd.DataFrame:
    """Return events as a frame: time (UTC, host clock), kind (key-value, text, malformed), key, value."""
    import pandas as pd

    rows = [
        (event.time, "key-value", event.key, event.value)
        if isinstance(event, KeyValue)
        else (event.time, "text" if isinstance(event, Text) else "malformed", "", event.text)
        for event in events
    ]
    times, kinds, keys, values = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pd.DataFrame(
        {
            "time": pd.to_datetime(list(times), unit="s", utc=True),
            "kind": pd.array(list(kinds), dtype="string"),
            "key": pd.array(list(keys), dtype="string"),
            "value": pd.array(list(values), dtype="string"),
        }
    )
