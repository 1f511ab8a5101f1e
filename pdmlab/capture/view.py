"""What one looks at in a log, all of it or what is of one device: rows, lines, a frame, a table, counters, a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pdmlab.capture.dialect import Dialect
from pdmlab.capture.failures import Failures
from pdmlab.capture.kept import Kept, KeptEvent
from pdmlab.capture.reading import Reader
from pdmlab.capture.rows import LoggedMessage
from pdmlab.capture.talks import Reading

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 200
"""Rows that a table in a notebook has: the latest."""
_INTEGERS = {"answers": "Int64"}  # with rows that answer nothing


class Messages(ABC):
    """Messages and events in their order."""

    dialect: Dialect
    """Says what payloads mean."""
    own = False
    """Whether it is a device's own: all of it is about that device."""

    @abstractmethod
    def kept(self) -> list[Kept | KeptEvent]:
        """Return what is kept, oldest first."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, in a few words."""

    def _readings(self) -> tuple[Reader, list[Reading]]:
        reader = Reader(self.dialect, own=self.own)
        return reader, [reader.feed(each) for each in self.kept()]

    def rows(self) -> list[LoggedMessage]:
        """Return a row a message or event, decoded now."""
        reader, readings = self._readings()
        return [reader.row(each) for each in readings]

    @property
    def mark(self) -> int:
        """The number that the next message will have, for `since`."""
        kept = self.kept()
        return kept[-1].number + 1 if kept else 0

    def since(self, mark: int) -> Since:
        """Return what came after a `mark` was taken, with all that is known of it from before."""
        return Since(self, mark)

    def __iter__(self) -> Iterator[LoggedMessage]:
        return iter(self.rows())

    def lines(self) -> str:
        """Return the log as text, a line a message."""
        return "\n".join(map(str, self.rows()))

    def frame(self) -> pd.DataFrame:
        """Return the log as a frame, a row a message: the columns of LoggedMessage."""
        import pandas as pd

        columns = list(LoggedMessage.__dataclass_fields__)
        return pd.DataFrame([asdict(row) for row in self.rows()], columns=columns).astype(_INTEGERS)

    def counters(self) -> pd.DataFrame:
        """Count messages, retransmissions, round trips and handshakes by device; see counting.py."""
        from pdmlab.capture.counting import counted

        return counted(self.rows())

    def failures(self) -> Failures:
        """Return what went wrong, with what it means and what to do."""
        return Failures(self.rows())

    def save(self, path: Path | str) -> Path:
        """Write the messages to a pcapng file for Wireshark: as plain CoAP, whatever secured them on the way.

        Raises:
            NetworkError: it cannot be written.
        """
        from pdmlab.capture.plain import save

        return save(self.kept(), path, self.title)

    def _repr_html_(self) -> str:
        rows = self.rows()
        left_out = f", the latest {SHOWN} here" if len(rows) > SHOWN else ""
        clocks = ", ".join(dict.fromkeys(row.clock for row in rows)) or "no"
        times = "UTC, " if any(row.is_of_day for row in rows) else ""
        caption = (
            f"<b>{escape(self.title)}</b>: {len(rows)} messages and events{left_out}; {times}{escape(clocks)} clock"
        )
        names = ("time", "", "type", "message", "delivery")
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in names)
        return (
            f"<table style='font-size:90%'><caption style='text-align:left'>{caption}</caption>"
            f"<tr>{head}</tr>{''.join(_html(rows[-SHOWN:]))}</table>"
        )


class Since(Messages):
    """What came after a mark."""

    def __init__(self, messages: Messages, mark: int) -> None:
        self.dialect, self.own = messages.dialect, messages.own
        self._messages = messages
        self._mark = mark

    def __repr__(self) -> str:
        return f"<{self.title}, {len(self)} messages>"

    def __len__(self) -> int:
        return len(self.kept())

    @property
    def title(self) -> str:
        """See Messages.title."""
        return f"{self._messages.title}, from number {self._mark}"

    def kept(self) -> list[Kept | KeptEvent]:
        """See Messages.kept."""
        return [each for each in self._messages.kept() if each.number >= self._mark]

    def _readings(self) -> tuple[Reader, list[Reading]]:
        reader, readings = self._messages._readings()
        return reader, [each for each in readings if each.kept.number >= self._mark]


_IN, _OUT, _EVENT, _BAD = "#0072b2", "#a84a00", "#6a3d9a", "#b00020"
_ARROWS = {"in": ("←", _IN), "out": ("→", _OUT), "": ("•", _EVENT)}
_LEFT = "text-align:left;vertical-align:top"


def _html(rows: Sequence[LoggedMessage]) -> Iterator[str]:
    """Yield the rows of a table; where the other end changes, a row that says who it is."""
    place = ""
    for row in rows:
        if (here := f"{row.endpoint} ↔ {row.place}") != place:
            place = here
            about = " ".join(filter(None, (row.name, f"device {row.device}" if row.device else "")))
            yield f"<tr><td colspan='5' style='{_LEFT}'><b>{escape(here)}</b> {escape(about)}</td></tr>"
        yield _html_row(row)


def _html_row(row: LoggedMessage) -> str:
    arrow, colour = _ARROWS[row.direction]
    bad = row.code[:2] in ("4.", "5.") or row.outcome in ("reset", "never acknowledged") or "failed" in row.code
    bad = bad or row.code == "unreadable"
    again = row.transmission > 1
    what = f"<b style='color:{_BAD if bad else colour}'>{escape(row.code)}</b> {escape(row.asked)}"
    what += f" <small>{escape(row.options)}</small>" if row.options else ""
    size = f"{row.payload_B} B " if row.payload_B else ""
    what += f"<br>{size}{escape(row.payload)}" if size or row.payload else ""
    cells = (
        f"<code>{escape(row.time.strip())}</code>",
        f"<span style='color:{colour}'>{arrow}</span>",
        escape(row.type),
        what,
        f"<span style='color:{_BAD}'>{escape(row.remarks)}</span>" if bad or again else escape(row.remarks),
    )
    wide = f"{_LEFT};max-width:52em;overflow-wrap:anywhere"
    styles = (_LEFT, _LEFT, _LEFT, wide, f"{_LEFT};white-space:nowrap")
    body = "".join(f"<td style='{style}'>{cell}</td>" for style, cell in zip(styles, cells, strict=True))
    return f"<tr style='opacity:.6'>{body}</tr>" if again else f"<tr>{body}</tr>"
