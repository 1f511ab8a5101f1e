"""What a suite measured, as rows: from the lines of stock firmware, and from the `pdmlab_row` that adds to them.

A stock line says bytes, speed and seconds as it rounds them (stock_lines.py), and the name of its case says buffers,
threads, block device and file system (case_names.py). A `pdmlab_row` of the same transfer that follows it says more,
and to the nanosecond: where one follows, it adds to the line's row. A `pdmlab_row` says also whether its board is
simulated. That goes before what the host takes the board for: behind a pty or a TCP port it cannot know.

Times are the board's own: stock firmware reads them from its timer, and prints them later. So `clock` is "device" on
real boards too, unless a `pdmlab_row` says otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pdmlab.frames import Cell, Schema, to_frame
from pdmlab.greentea.case_names import CaseSettings, case_settings
from pdmlab.greentea.stock_lines import Progress, StockLines, Transfer

if TYPE_CHECKING:
    import pandas as pd

ROW_KEY = "pdmlab_row"

FACTORS = (
    "suite", "case", "operation", "thread", "threads", "file", "buffer_B", "stdio_B", "receive_buffer_B", "window_B",
    "block_device", "part", "timing", "bus", "bus_Hz", "file_system", "volume_B", "interface", "bearer",
)  # fmt: skip
"""Columns that were chosen; the others were measured."""
MEASURES = (
    "bytes", "duration_s", "duration_resolution_s", "throughput_kBps", "throughput_resolution_kBps", "calls",
    "pieces", "latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "latency_p99.9_ms", "latency_p100_ms",
    "latency_max_ms", "reads", "programs", "erases", "read_B", "programmed_B", "erased_B", "round_trip_ms",
    "file_system_version", "estimates",
)  # fmt: skip
"""Columns that firmware is known to measure. duration_resolution_s is how far apart the longest and the shortest time
are that a stock line fits; the duration is in their middle. It is empty where the time was not rounded. Where a line
says no time at all (0.00 secs), the duration lies between nothing and 5 ms, and there is no throughput."""
COLUMNS = ("board", "simulated", "clock", *FACTORS, *MEASURES)

Row = dict[str, Cell]

_RUNNING = re.compile(r"^>>> Running case #\d+: '(.+)'\.\.\.")
_RAN = re.compile(r"^>>> '.+': \d+ passed, \d+ failed")


@dataclass
class Measured:
    """Collects what a suite measures, line by line."""

    board: str = ""
    simulated: bool | None = None
    """Whether the medium and link were simulated, by the board's own word if it gave one; None if nobody knows."""
    suite: str = ""
    on_row: Callable[[Row], None] | None = field(default=None, repr=False)
    """Called with each row as soon as nothing can be added to it any more."""
    _rows: list[Row] = field(default_factory=list)
    _progress: list[Row] = field(default_factory=list)
    _waiting: dict[tuple[str, int], int] = field(default_factory=dict)
    _lines: StockLines = field(default_factory=StockLines)
    _unread: list[Row] = field(default_factory=list)
    _case: str = ""
    _named: str = ""  # the case that the harness's own text says is running: logs may have its key-values later
    _told: int = 0
    _adds: bool = False  # whether the board prints `pdmlab_row`s

    def line(self, text: str, case: str, time: float) -> None:
        """Take a line that the board printed in a case; time is the host's (s since the epoch)."""
        if named := _RUNNING.search(text):
            self._named = named[1]
        elif _RAN.search(text):
            self._named = ""
        case = self._named or case
        if case != self._case:
            self._waiting.clear()
        self._case = case
        self._tell(everything=not self._adds)
        for found in self._lines.take(text):
            if isinstance(found, Transfer):
                self._stock(found, case)
            else:
                self._step(found, case, time)
        self._note_unread(case, time)

    def row(self, value: str, case: str) -> None:
        """Take a `pdmlab_row`: name=value pairs between commas. What is no pair is passed over."""
        case = self._named or case
        given = {
            name: _cell(text) for name, equals, text in (pair.partition("=") for pair in value.split(",")) if equals
        }
        if "simulated" in given:
            self.simulated = bool(given.pop("simulated"))
        if not given:
            return
        self._adds = True
        if given.get("suite") == "net":
            given.setdefault("operation", "download")
        given.pop("suite", None)
        given = dict(_as_in_sweeps(name, cell) for name, cell in given.items())
        size, duration = given.get("bytes"), given.get("duration_s")
        if isinstance(size, int) and isinstance(duration, int | float) and duration > 0:
            given.setdefault("throughput_kBps", round(size / duration / 1e3, 6))
        thread = given.get("thread")
        number = thread if isinstance(thread, int) else 0
        place = self._waiting.pop((str(given.get("operation")), number), None)
        if place is None:
            settings = self._settings(case_settings(case), given, number) if "operation" in given else {}
            self._rows.append({**self._identity(case), **settings, **given})
        else:
            before = self._rows[place]
            if "duration_s" in given:  # it is not rounded
                before = {name: cell for name, cell in before.items() if "_resolution_" not in name}
            self._rows[place] = {**before, **given}
        self._tell()

    def end(self, time: float = 0.0) -> None:
        """Take it that no more lines come."""
        self._lines.end()
        self._note_unread(self._case, time)
        self._tell(everything=True)

    def cells(self) -> list[Row]:
        """Return the transfers, one row each."""
        return [{**row, "simulated": self.simulated} for row in self._rows]

    def rows(self) -> pd.DataFrame:
        """Return the transfers as a frame: one row each, typed columns, units in `attrs["units"]`."""
        return frame_of(self.cells())

    def progress(self) -> pd.DataFrame:
        """Return the lines of progress as a frame; host_s counts from the first."""
        start = self._progress[0]["host_s"] if self._progress else 0
        assert isinstance(start, int | float)
        return frame_of(
            {**row, "simulated": self.simulated, "host_s": round(float(row["host_s"] or 0) - start, 6)}
            for row in self._progress
        )

    def unread(self) -> pd.DataFrame:
        """Return the lines that look like measurements but could not be read: case, host_s, text, why."""
        return frame_of(self._unread, ("case", "host_s", "text", "why"))

    def _identity(self, case: str) -> Row:
        return {
            "board": self.board, "simulated": self.simulated, "clock": "device",
            "suite": self.suite, "case": case,
        }  # fmt: skip

    @staticmethod
    def _settings(settings: CaseSettings, given: Mapping[str, Cell], thread: int) -> Row:
        """Return what the case's name says of this transfer."""
        if given["operation"] in ("write", "read"):
            return {
                "threads": settings.threads, "buffer_B": settings.buffer(thread),
                "block_device": settings.block_device, "file_system": settings.file_system,
            }  # fmt: skip
        if given["operation"] == "download":
            return {
                "threads": settings.threads, "receive_buffer_B": settings.receive_buffer,
                "interface": settings.interface,
            }  # fmt: skip
        return {}

    def _stock(self, found: Transfer, case: str) -> None:
        key = found.operation, found.thread
        self._waiting[key] = len(self._rows)
        row: Row = {
            **self._identity(case), "operation": found.operation, "thread": found.thread,
            **self._settings(case_settings(case), {"operation": found.operation}, found.thread),
            "bytes": found.bytes,
            "duration_s": round(found.seconds, 9), "duration_resolution_s": round(2 * found.half_s, 9),
        }  # fmt: skip
        shortest, longest = max(found.seconds - found.half_s, 0.0), found.seconds + found.half_s
        if shortest > 0:  # else it may have been as fast as one likes: no figure
            fastest, slowest = found.bytes / 1e3 / shortest, found.bytes / 1e3 / longest
            row["throughput_kBps"] = round(found.bytes / 1e3 / found.seconds, 6)
            row["throughput_resolution_kBps"] = round(fastest - slowest, 6)
        else:
            row["throughput_kBps"] = row["throughput_resolution_kBps"] = None
        self._rows.append(row)

    def _step(self, found: Progress, case: str, time: float) -> None:
        self._progress.append(
            {
                **self._identity(case), "thread": found.thread, "host_s": time, "received_B": found.received,
                "percent": found.percent, "speed_Bps": found.speed, "eta_s": found.eta_s,
            }
        )  # fmt: skip

    def _note_unread(self, case: str, time: float) -> None:
        for unread in self._lines.unread:
            self._unread.append({"case": case, "host_s": time, "text": unread.text, "why": unread.why})
        self._lines.unread.clear()

    def _tell(self, *, everything: bool = False) -> None:
        """Hand on the rows that are whole; those of stock lines are when another line comes, if no rows add to them."""
        waiting = set() if everything else set(self._waiting.values())
        while self._told < len(self._rows) and self._told not in waiting:
            if self.on_row is not None:
                self.on_row({**self._rows[self._told], "simulated": self.simulated})
            self._told += 1


def _as_in_sweeps(name: str, cell: Cell) -> tuple[str, Cell]:
    """Return a measure by the name and in the unit that sweeps give it, where firmware prints ns, B/s or a version."""
    if name == "file_system":
        return "file_system_version", cell
    if name in _SIZES:
        return _SIZES[name], cell
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        if name == "duration_ns":
            return "duration_s", round(cell / 1e9, 9)
        if name.endswith("_ns"):
            return f"{name.removesuffix('_ns')}_ms", round(cell / 1e6, 6)
        if name.endswith("_Bps"):
            return f"{name.removesuffix('_Bps')}_kBps", round(cell / 1e3, 6)
    return name, cell


_SIZES = {"read_bytes": "read_B", "programmed_bytes": "programmed_B", "erased_bytes": "erased_B"}


def _cell(text: str) -> Cell:
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return text.replace("%2C", ",").replace("%25", "%") or None
    return number if math.isfinite(number) else None


def whole_rows(rows: Iterable[Mapping[str, Cell]]) -> list[Row]:
    """Return rows that all have the columns of each: known ones first, in their order; None where one had none."""
    rows = list(rows)
    found = dict.fromkeys(name for row in rows for name in row)
    names = [*(name for name in COLUMNS if name in found), *(name for name in found if name not in COLUMNS)]
    cells_of: dict[str, list[Cell]] = {}
    for name in names:
        cells = [row.get(name) for row in rows]
        kinds = {type(cell) for cell in cells if cell is not None}
        if len(kinds) > 1:  # whole numbers among fractions, or anything among texts
            convert = float if kinds == {int, float} else str
            cells = [None if cell is None else convert(cell) for cell in cells]
        cells_of[name] = cells
    return [dict(zip(cells_of, cells, strict=True)) for cells in zip(*cells_of.values(), strict=True)]


def frame_of(rows: Iterable[Mapping[str, Cell]], columns: Iterable[str] = ()) -> pd.DataFrame:
    """Return rows, whose columns may differ, as one frame with units; `columns` are those of a frame without rows."""
    whole = whole_rows(rows)
    return to_frame(Schema.from_rows(FACTORS, *(whole or [dict.fromkeys(columns)])), whole)
