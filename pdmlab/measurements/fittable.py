"""Rows of files that a model can be fitted to, and why others cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, cast, get_args

from pdmlab.boards import catalog
from pdmlab.errors import ConfigError
from pdmlab.firmware.stdio import BUFSIZ
from pdmlab.measurements.volumes import Bus, FileSystemName
from pdmlab.measurements.workloads import Operation, Workload

if TYPE_CHECKING:
    import pandas as pd

STOCK_VOLUME = 2 * 1024 * 1024
"""What stock suites slice off the block device (B): tests-fs-size, unless an mbed_app.json says otherwise."""
_NAMES = {"FAT": "FAT", "FatFs": "FAT", "LFS": "LFS", "littlefs": "LFS"}


@dataclass(frozen=True)
class FileRow:
    """A row that can be fitted to. resolution: how far apart the longest and the shortest time are that it fits (s)."""

    index: Any  # of the frame
    board: str
    simulated: Any  # True, False or NA
    operation: Operation
    workload: Workload
    seconds: float
    resolution: float
    bus_Hz: int | None
    volume_B: int | None
    file_system: FileSystemName | None
    bus: Bus | None

    @property
    def group(self) -> tuple[int | None, int | None, FileSystemName | None, Bus | None, bool]:
        """What rows share that are measured on one volume."""
        return self.bus_Hz, self.volume_B, self.file_system, self.bus, bool(self.workload.stdio)


def usable(
    frame: pd.DataFrame, board: str | None, bus_Hz: int | None, volume_B: int | None
) -> tuple[list[FileRow], pd.DataFrame]:
    """Return the rows that can be fitted to, and those that cannot, with why."""
    import pandas as pd

    used: list[FileRow] = []
    left: list[dict[str, Any]] = []
    target = catalog.find(board).target if board is not None else None
    for name, given in (("bus_Hz", bus_Hz), ("volume_B", volume_B)):
        if given is not None and not _at_least_one(given):
            raise ConfigError(
                f"{name} is {given!r}", hint="a whole number of 1 or more; leave it out if the rows say it"
            )
    for index, cells in zip(frame.index, frame.to_dict("records"), strict=True):
        known = {str(name): cell for name, cell in cells.items() if not pd.isna(cell)}
        row, why = _row(index, known, target, bus_Hz, volume_B)
        if row is not None:
            used.append(row)
        else:
            said = {name: known.get(name, "") for name in ("operation", "case")}
            left.append({"row": index, **said, "why": why})
    left_out = pd.DataFrame(left, columns=["row", "operation", "case", "why"])
    if len(used) < 2:
        reasons = "".join(f"; {count} not: {why}" for why, count in left_out["why"].value_counts().items())
        raise ConfigError(
            f"{len(used)} of {len(frame)} rows can be fitted to, and one figure needs two{reasons}",
            hint="give it the rows of fs-single: pdmlab.load_run(run), or run(board, 'fs-single').rows",
        )
    boards = {row.board for row in used}
    if boards & {"", "unknown", "board"}:
        raise ConfigError(
            "the rows do not name their board, whose microcontroller takes part in their times",
            hint="calibrate(frame, board='K64F'); a log is given its board by replay://FILE?board=K64F",
        )
    if len(boards) > 1:
        raise ConfigError(
            f"the rows are of {', '.join(sorted(boards))}", hint="one part is fitted to one board: board='K64F', say"
        )
    return used, left_out


def _row(
    index: Any, cells: Mapping[str, Any], board: str | None, bus_Hz: int | None, volume_B: int | None
) -> tuple[FileRow | None, str]:
    operation = cells.get("operation")
    if operation not in ("write", "read"):
        return None, "no file was written or read"
    if int(cells.get("threads", 1)) != 1:
        return None, "other threads were at work"
    if cells.get("mode", "new") != "new" or float(cells.get("fill_percent", 0)) > 0:
        return None, "not a new file on an empty volume"
    seconds = _seconds(cells)
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        return None, "it says no time"
    resolution = float(cells.get("duration_resolution_s", 0.0))
    if resolution >= 2 * seconds:
        return None, "it was over before its line could show a time"
    if "bytes" not in cells or "buffer_B" not in cells:
        return None, "it says no size of file or buffer: is its case one of fs-single?"
    for name in ("bytes", "buffer_B", "volume_B", "bus_Hz"):
        if name in cells and not _at_least_one(cells[name]):
            return None, f"its {name} is {cells[name]}"
    target = board or str(cells.get("board", ""))
    if board is not None and cells.get("board") not in (None, board, "unknown", "board"):
        return None, f"of another board: {cells['board']}"
    suite = "suite" in cells or "case" in cells
    stock = suite and "part" not in cells
    stdio = int(cells.get("stdio_B", BUFSIZ if suite else 0))
    if stdio not in (0, BUFSIZ):
        return None, f"a C library's buffer of {stdio} B, where the model has {BUFSIZ} B"
    size = int(cells["bytes"])
    sync = int(cells.get("sync_every_B", 0))
    workload = Workload(int(cells["buffer_B"]), size, stdio, sync if sync < size else 0)
    bus = bus_Hz or (int(cells["bus_Hz"]) if "bus_Hz" in cells else None)
    volume = volume_B or (int(cells["volume_B"]) if "volume_B" in cells else STOCK_VOLUME if stock else None)
    if volume is not None and size > volume:
        return None, f"its file of {size} B is larger than the volume of {volume} B"
    words = str(cells.get("file_system", "")).split()
    if words and words[0] not in _NAMES:
        return None, f"its file system is {cells['file_system']}, which the model has not"
    file_system = cast("FileSystemName | None", _NAMES[words[0]] if words else None)
    return FileRow(
        index, target, cells.get("simulated"), cast("Operation", operation), workload, seconds,
        resolution, bus, volume, file_system,
        cells["bus"] if cells.get("bus") in get_args(Bus) else None,
    ), ""  # fmt: skip


def _at_least_one(cell: Any) -> bool:
    """Return whether a cell is a whole number of 1 or more; frames with gaps have them as floats."""
    if isinstance(cell, bool) or not isinstance(cell, Real):
        return False
    number = float(cell)
    return math.isfinite(number) and number >= 1 and number == int(number)


def _seconds(cells: Mapping[str, Any]) -> float | None:
    for name, unit in (("duration_s", 1.0), ("duration_ms", 1e-3), ("duration_ns", 1e-9)):
        if name in cells:
            return float(cells[name]) * unit
    return None
