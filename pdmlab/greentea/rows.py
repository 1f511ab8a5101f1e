"""What a suite measured, as rows: from the lines of stock firmware, and from the `pdmlab_row` that adds to them.

A stock line says bytes, speed and seconds (to the hundredth); a `pdmlab_row` of the same transfer that follows
it says it in nanoseconds, with operation counts and percentiles. Where one follows, it takes the line's place.
A `pdmlab_row` says also whether its board is simulated. That goes before what the host takes the board for: behind
a pty or a TCP port it cannot know.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pdmlab.frames import Cell, Schema, to_frame

if TYPE_CHECKING:
    import pandas as pd

ROW_KEY = "pdmlab_row"

_NUMBER = r"(\d+(?:\.\d+)?)"
_SPEED = rf"\({_NUMBER}KB/s, {_NUMBER} secs\)"
_FILE = re.compile(rf'^\[FS\] (Wrote|Read) ?: "([^"]*)" {_NUMBER}KB {_SPEED}')
_DOWNLOADED = re.compile(rf"^\[NET-(\d+)\] Downloaded: {_NUMBER}KB {_SPEED}")
_RECEIVED = re.compile(
    rf"^\[NET-(\d+)\] Received bytes: (\d+), \({_NUMBER}%, {_NUMBER}KB/s, ETA: (\d+):(\d\d):(\d\d)\)"
)
_FIRMWARE_START = re.compile(rf"^\[INFO\] Firmware download started\. Size: {_NUMBER}KB")
_FIRMWARE = re.compile(rf"^\[INFO\] Downloading: {_NUMBER}% \({_NUMBER}KB/s, ETA: (\d+):(\d\d):(\d\d)\)")
_FIRMWARE_DONE = re.compile(
    rf"^\[INFO\] Firmware download completed\. {_NUMBER}KB in {_NUMBER} seconds \({_NUMBER}KB/s\)"
)
_FILE_CASE = re.compile(r"^\S+ (\d+) files?, buff\s+(\d+)$")
_NET_CASE = re.compile(r"^\S+\s+(\d+) buffer$")

FACTORS = ("suite", "case", "operation", "thread", "file", "buffer_B", "stdio_B", "receive_buffer_B", "file_system")
"""Columns that were chosen; the others were measured."""


@dataclass
class Measured:
    """Collects what a suite measures, line by line."""

    board: str = ""
    simulated: bool | None = None
    """Whether the medium and link were simulated, by the board's own word if it gave one; None if nobody knows."""
    suite: str = ""
    _rows: list[dict[str, Cell]] = field(default_factory=list)
    _progress: list[dict[str, Cell]] = field(default_factory=list)
    _waiting: dict[tuple[str, int], int] = field(default_factory=dict)
    _firmware_kib: float | None = None

    def line(self, text: str, case: str, time: float) -> None:
        """Take a line that the board printed in a case; time is the host's (s)."""
        if match := _FILE.match(text):
            operation, name, kib, _, seconds = match.groups()
            thread = int(found[1]) if (found := re.search(r"(\d+)\.txt$", name)) else 0
            settings = _FILE_CASE.match(case)
            self._stock(
                "write" if operation == "Wrote" else "read", thread, case, kib, seconds,
                buffer_B=int(settings[2]) if settings else None,
            )  # fmt: skip
        elif match := _DOWNLOADED.match(text):
            thread_text, kib, _, seconds = match.groups()
            settings = _NET_CASE.match(case)
            self._stock(
                "download", int(thread_text), case, kib, seconds,
                receive_buffer_B=int(settings[1]) if settings else None,
            )  # fmt: skip
        elif match := _RECEIVED.match(text):
            number, received, percent, speed, *eta = match.groups()
            self._step(case, time, int(number), int(received), percent, speed, eta)
        elif match := _FIRMWARE_START.match(text):
            self._firmware_kib = float(match[1])
        elif match := _FIRMWARE.match(text):
            percent, speed, *eta = match.groups()
            size = self._firmware_kib
            received_B = round(float(percent) / 100 * size * 1024) if size is not None else None
            self._step(case, time, None, received_B, percent, speed, eta)
        elif match := _FIRMWARE_DONE.match(text):
            self._stock("firmware", 0, case, match[1], match[2])

    def row(self, value: str, case: str) -> None:
        """Take a `pdmlab_row`: name=value pairs between commas. What is no pair is passed over."""
        given = {
            name: _cell(text) for name, equals, text in (pair.partition("=") for pair in value.split(",")) if equals
        }
        if "simulated" in given:
            self.simulated = bool(given.pop("simulated"))
        if not given:
            return
        if given.get("suite") == "net":
            given.setdefault("operation", "download")
        given.pop("suite", None)
        if "duration_ns" in given and "bytes" in given and "throughput_Bps" not in given:
            duration, size = given["duration_ns"], given["bytes"]
            if isinstance(duration, int) and isinstance(size, int) and duration > 0:
                given["throughput_Bps"] = round(size * 1e9 / duration, 3)
        thread = given.get("thread")
        key = (str(given.get("operation")), thread if isinstance(thread, int) else 0)
        row = {**self._identity(case), **given}
        place = self._waiting.pop(key, None)
        if place is None:
            self._rows.append(row)
        else:
            self._rows[place] = row

    def rows(self) -> pd.DataFrame:
        """Return the transfers as a frame: one row each, typed columns, units in `attrs["units"]`."""
        return _frame({**row, "simulated": self.simulated} for row in self._rows)

    def progress(self) -> pd.DataFrame:
        """Return the lines of progress as a frame; host_s counts from the first."""
        start = self._progress[0]["host_s"] if self._progress else 0
        assert isinstance(start, int | float)
        return _frame(
            {**row, "simulated": self.simulated, "host_s": round(float(row["host_s"] or 0) - start, 6)}
            for row in self._progress
        )

    def _identity(self, case: str) -> dict[str, Cell]:
        return {
            "board": self.board, "simulated": self.simulated, "clock": "device",
            "suite": self.suite, "case": case,
        }  # fmt: skip

    def _stock(self, operation: str, thread: int, case: str, kib: str, seconds: str, **settings: Cell) -> None:
        size = round(float(kib) * 1024)
        duration = round(float(seconds) * 1e9)
        self._waiting[operation, thread] = len(self._rows)
        self._rows.append(
            {
                **self._identity(case), "operation": operation, "thread": thread, **settings, "bytes": size,
                "duration_ns": duration,
                "throughput_Bps": round(size * 1e9 / duration, 3) if duration else None,
            }
        )  # fmt: skip

    def _step(
        self, case: str, time: float, thread: int | None, received: int | None, percent: str, speed: str, eta: list[str]
    ) -> None:
        hours, minutes, seconds = map(int, eta)
        self._progress.append(
            {
                **self._identity(case), "thread": thread, "host_s": time, "received_B": received,
                "percent": float(percent), "speed_Bps": round(float(speed) * 1024, 3),
                "eta_s": hours * 3600 + minutes * 60 + seconds,
            }
        )  # fmt: skip


def _cell(text: str) -> Cell:
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return text or None
    return number if math.isfinite(number) else None


def _frame(rows: Iterable[Mapping[str, Cell]]) -> pd.DataFrame:
    rows = list(rows)
    columns: dict[str, list[Cell]] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        cells = [row.get(name) for row in rows]
        kinds = {type(cell) for cell in cells if cell is not None}
        if len(kinds) > 1:  # whole numbers among fractions, or anything among texts
            convert = float if kinds == {int, float} else str
            cells = [None if cell is None else convert(cell) for cell in cells]
        columns[name] = cells
    example = {name: next((cell for cell in cells if cell is not None), None) for name, cells in columns.items()}
    whole = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return to_frame(Schema.from_rows(FACTORS, example), whole)
