"""What one looks at in a log, all of it or what is of one device: rows, lines, a frame, a table, counters, a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pdmlab.capture.dialect import Dialect
from pdmlab.capture.failures import Failures
from pdmlab.capture.kept import Kept, KeptEvent
from pdmlab.capture.reading import Reader, Reading
from pdmlab.capture.rows import LoggedMessage

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 200
"""Rows that a table in a notebook has: the latest."""
_INTEGERS = {"answers": "Int64"}  # with rows that answer nothing


class Messages(ABC):
    """Messages and events in their order."""

    dialect: Dialect
    """Says what payloads mean."""

    @abstractmethod
    def kept(self) -> list[Kept | KeptEvent]:
        """Return what is kept, oldest first."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, in a few words."""

    def _readings(self) -> tuple[Reader, list[Reading]]:
        reader = Reader(self.dialect)
        return reader, [reader.feed(each) for each in self.kept()]

    def rows(self) -> list[LoggedMessage]:
        """Return a row a message or event, decoded now."""
        reader, readings = self._readings()
        return [reader.row(each) for each in readings]

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
        left_out = f", the latest {SHOWN}" if len(rows) > SHOWN else ""
        head = "".join(f"<th>{name}</th>" for name in ("time", "", "peer", "type", "message", "payload", "delivery"))
        body = "".join(map(_html, rows[-SHOWN:]))
        clocks = ", ".join(dict.fromkeys(row.clock for row in rows)) or "no"
        caption = f"<b>{escape(self.title)}</b>: {len(rows)} messages and events{left_out}; {escape(clocks)} clock"
        return (
            f"<table style='font-size:90%'><caption style='text-align:left'>{caption}</caption>"
            f"<tr style='text-align:left'>{head}</tr>{body}</table>"
        )


_IN, _OUT, _EVENT, _BAD = "#0072b2", "#a84a00", "#6a3d9a", "#b00020"
_ARROWS = {"in": ("←", _IN), "out": ("→", _OUT), "": ("•", _EVENT)}


def _html(row: LoggedMessage) -> str:
    arrow, colour = _ARROWS[row.direction]
    bad = row.code[:2] in ("4.", "5.") or row.outcome in ("reset", "never acknowledged") or "failed" in row.code
    again = row.transmission > 1
    what = f"<b style='color:{_BAD if bad else colour}'>{escape(row.code)}</b> {escape(row.asked)}"
    if row.options:
        what += f"<br><small>{escape(row.options)}</small>"
    size = f"{row.payload_B} B " if row.payload_B else ""
    cells = (
        f"<code>{escape(row.time.strip())}</code>",
        f"<span style='color:{colour}'>{escape(row.endpoint)}&nbsp;{arrow}</span>",
        escape(row.place),
        escape(row.type),
        what,
        size + escape(row.payload),
        f"<span style='color:{_BAD}'>{escape(row.remarks)}</span>" if bad or again else escape(row.remarks),
    )
    style = "text-align:left;vertical-align:top" + (";opacity:.6" if again else "")
    return f"<tr style='{style}'>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells) + "</tr>"
