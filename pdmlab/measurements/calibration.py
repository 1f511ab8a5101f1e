"""`calibrate`: fit a part's figures to what a board measured, and say what error is left.

>>> fit = calibrate(load_run("20261125T214835-3cab4f"), part="SDHC", board="K64F")
>>> fit.figures, fit.rows     # what was fitted, how well; each row before and after
>>> Path("mine.toml").write_text(fit.as_toml()); load_parts("mine.toml")

The model is the simulation itself: each row's file is written and read on it as the suite does, through the same C
library's buffer. Figures that the rows do not tell apart are not fitted, and the result says which, and why.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from pdmlab.boards import catalog
from pdmlab.errors import ConfigError
from pdmlab.firmware.stdio import BUFSIZ
from pdmlab.measurements.fitting import Fit, Problem, Vector, fit
from pdmlab.measurements.volumes import Bus, FileSystemName
from pdmlab.measurements.workloads import MCU, Figures, Operation, Recording, Setting, Workload
from pdmlab.storage.figures import meaning
from pdmlab.storage.mcu import TICK
from pdmlab.storage.parts import Part, part_from, parts

if TYPE_CHECKING:
    import pandas as pd

STOCK_VOLUME = 2 * 1024 * 1024
"""What stock suites slice off the block device (B): tests-fs-size, unless an mbed_app.json says otherwise."""
UNKNOWN = 0.002
"""Share of a time by which the model may be off for reasons that no figure stands for: an estimate; the residuals
correct it."""
BYTE = 12_000
"""What a byte takes that Mbed's SD driver polls with, at 1 MHz and with its mutex (ns)."""
NOT_BY_ITSELF = ("stall", "stall_every")
"""Figures that are not fitted unless they are named: a stall is in one row by chance."""
_NAMES = {"FAT": "FAT", "FatFs": "FAT", "LFS": "LFS", "littlefs": "LFS"}


@dataclass(frozen=True)
class Calibration:
    """A part with figures from a board's rows, and how well it then does.

    part: what was fitted; drivers and sweeps take it as it is. cycles: the microcontroller's figures, where any were
    fitted. figures: one row a figure: before, after, half_width (95 %), unit, fitted, why not. rows: one row a
    measurement: measured_s, before_s, after_s, their errors in per cent of what was measured, and unseen_percent, the
    error that it would have if it had not been there to be fitted to. left_out: rows that could not be used, and why.
    """

    part: Part
    cycles: Mapping[str, int]
    figures: pd.DataFrame = field(repr=False)
    rows: pd.DataFrame = field(repr=False)
    left_out: pd.DataFrame = field(repr=False)
    board: str
    source: str
    estimates: str = ""
    """Figures without a source that the model's times still hang on."""

    @property
    def error_before(self) -> float:
        """Root mean square error of the model before (% of the measured times)."""
        return _rms(self.rows["before_percent"])

    @property
    def error_after(self) -> float:
        """Root mean square error that is left (% of the measured times)."""
        return _rms(self.rows["after_percent"])

    @property
    def error_unseen(self) -> float:
        """Root mean square error of rows that were left out of the fit in turn (%): what to expect of other rows."""
        return _rms(self.rows["unseen_percent"])

    @property
    def curves(self) -> pd.DataFrame:
        """Board and model in one tidy frame, for `plots.overlay`: operation, buffer_B, throughput_kBps, model."""
        import pandas as pd

        pieces = []
        for name, column in (("", "measured_s"), ("before", "before_s"), ("after", "after_s")):
            piece = self.rows[["board", "operation", "buffer_B", "bytes", "bus_Hz"]].copy()
            piece["throughput_kBps"] = self.rows["bytes"] / self.rows[column] / 1e3
            piece["simulated"] = self.rows["simulated"] if not name else True
            piece["model"], piece["estimates"] = name, self.estimates if name else ""
            pieces.append(piece.drop_duplicates() if name else piece)
        frame = pd.concat(pieces, ignore_index=True)
        frame.insert(1, "clock", "device")
        frame = frame.astype({"model": "string", "estimates": "string", "clock": "string", "simulated": "boolean"})
        frame.attrs = {
            "units": {"buffer_B": "B", "bytes": "B", "throughput_kBps": "kB/s", "bus_Hz": "Hz"},
            "labels": {"buffer_B": "buffer (B)", "throughput_kBps": "throughput (kB/s)"},
        }
        return frame

    def as_toml(self) -> str:
        """Return the part as a row for a file of your own, which storage.load_parts reads."""
        lines = [f"# {self.source}", f"# error left: {self.error_after:.2g} % of the measured times (root mean square)"]
        lines += [f"# {MCU}{name} = {value} cycles, fitted with it" for name, value in self.cycles.items()]
        return "\n".join(lines) + "\n" + self.part.to_toml()

    def _said(self) -> str:
        fitted = self.figures[self.figures["fitted"]]
        values = ", ".join(
            f"{row['figure']} {_shown(row['after'], row['unit'])} ± {_shown(row['half_width'], row['unit'])}"
            for row in fitted.to_dict("records")
        )
        return (
            f"{self.part.name} on {self.board}: {values or 'nothing fitted'}; error {self.error_before:.3g} % before, "
            f"{self.error_after:.3g} % after, {len(self.rows)} rows"
        )

    def __repr__(self) -> str:
        kept = self.figures[~self.figures["fitted"]]
        why = "".join(f"\n  not fitted: {row.figure}, {row.why}" for row in kept.itertuples())
        left = f"\n  left out: {len(self.left_out)} rows, see .left_out" if len(self.left_out) else ""
        return f"<calibration of {self._said()}{why}{left}>"

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr style='text-align:left'><td>{row['figure']}</td><td>{_shown(row['before'], row['unit'])}</td><td>"
            + (f"{_shown(row['after'], row['unit'])} ± {_shown(row['half_width'], row['unit'])}" * row["fitted"])
            + f"</td><td>{escape(row['why'])}</td></tr>"
            for row in self.figures.fillna({"half_width": 0.0}).to_dict("records")
        )
        head = "".join(f"<th>{title}</th>" for title in ("figure", "before", "after (95 %)", "why not"))
        table = f"<table><tr>{head}</tr>{cells}</table>"
        return f"<div><b>{escape(self._said())}</b>{table}<p>{escape(self.source)}</p></div>"


def calibrate(
    frame: pd.DataFrame,
    part: str | Part | None = None,
    board: str | None = None,
    *,
    figures: Sequence[str] | None = None,
    bus: Bus | None = None,
    bus_Hz: int | None = None,
    file_system: FileSystemName | None = None,
    volume_B: int | None = None,
    name: str | None = None,
) -> Calibration:
    """Fit a part's figures to the rows of a board.

    Args:
        frame: rows of fs-single (`result.rows`, `load_run`), or of `measurements.file_transfer`.
        part: where to start from; default: the board's own of the catalogue.
        board: Mbed's target name, for its microcontroller; default: the one that the rows name.
        figures: what to fit; default: every time of the part that the rows tell. `mcu.byte`, `mcu.call` and the like
            are the microcontroller's cycles (storage/mcus.toml).
        bus, bus_Hz, file_system, volume_B: what was measured on, where the rows do not say: of stock firmware they say
            the file system alone. Default: the driver's bus clock, and the 2 MiB that stock suites use.
        name: of the part that comes out; default: the part's with the board's.

    Raises:
        ConfigError: there is no such part, board or figure, or too few rows can be used; says which and why.
    """
    used, left_out = _usable(frame, board, bus_Hz, volume_B)
    target = catalog.find(used[0].board if board is None else board).target
    start = _part_of(part or catalog.find(target).storage_part)
    recordings = _record(used, start, target, bus, file_system)
    model = _Model(used, recordings)
    chosen = _figures(figures, model.names, start)
    measured = np.array([row.seconds for row in used])
    sigma = np.sqrt(np.array([row.resolution for row in used]) ** 2 / 12 + (UNKNOWN * measured) ** 2)
    begin = {figure: float(model.original[figure]) for figure in chosen}
    found = fit(
        Problem(
            model.seconds,
            measured,
            sigma,
            groups=[row.operation for row in used],
            start=begin,
            least={figure: _least(start, figure) for figure in chosen},
            grain={figure: model.grain(figure) for figure in chosen},
        )
    )
    before, after = model.original_seconds(), model.seconds(found.values)
    source = _source(frame, used, target)
    fitted = model.original.with_({figure: found.values[figure] for figure in found.half_width})
    return Calibration(
        _finished(fitted.part, found, source, name or f"{start.name}_{target}"),
        {n.removeprefix(MCU): round(found.values[n]) for n in found.half_width if n.startswith(MCU)},
        _figures_frame(start, begin, found),
        _rows_frame(used, before, after, found),
        left_out,
        target,
        source,
        _still_estimated(model.estimates, found),
    )


@dataclass(frozen=True)
class _Row:
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


class _Model:
    """What every row would be with other figures."""

    def __init__(self, rows: Sequence[_Row], recordings: Mapping[Any, Recording]) -> None:
        self._rows = rows
        self._recordings = recordings
        any_of_them = next(iter(recordings.values()))
        self.original: Figures = any_of_them.figures
        self.names: list[str] = any_of_them.names
        self.estimates = any_of_them.estimates
        self._known: dict[tuple[tuple[str, float], ...], Vector] = {}

    def grain(self, figure: str) -> float:
        """Return changes of a figure that polling rounds away (ns, or cycles): a byte, or a tick of the RTOS."""
        if figure.startswith(MCU):
            return 2.0
        return BYTE if self.original.part.kind in ("sd", "internal") else TICK

    def seconds(self, values: Mapping[str, float]) -> Vector:
        """Return what each row would be (s)."""
        key = tuple(sorted(values.items()))
        if key not in self._known:
            self._known[key] = self._of(self.original.with_(values))
        return self._known[key]

    def original_seconds(self) -> Vector:
        """Return what each row would be with the part as it was (s)."""
        return self._of(self.original)

    def _of(self, figures: Figures) -> Vector:
        took = {group: recording.seconds(figures) for group, recording in self._recordings.items()}
        return np.array([took[row.group][row.workload, row.operation] for row in self._rows])


def _usable(
    frame: pd.DataFrame, board: str | None, bus_Hz: int | None, volume_B: int | None
) -> tuple[list[_Row], pd.DataFrame]:
    """Return the rows that can be fitted to, and those that cannot, with why."""
    import pandas as pd

    used: list[_Row] = []
    left: list[dict[str, Any]] = []
    target = catalog.find(board).target if board is not None else None
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
) -> tuple[_Row | None, str]:
    operation = cells.get("operation")
    if operation not in ("write", "read"):
        return None, "no file was written or read"
    if int(cells.get("threads", 1)) != 1:
        return None, "other threads were at work"
    if cells.get("mode", "new") != "new" or float(cells.get("fill_percent", 0)) > 0:
        return None, "not a new file on an empty volume"
    seconds = _seconds(cells)
    if seconds is None or seconds <= 0:
        return None, "it says no time"
    if "bytes" not in cells or "buffer_B" not in cells:
        return None, "it says no size of file or buffer: is its case one of fs-single?"
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
    words = str(cells.get("file_system", "")).split()
    file_system = cast("FileSystemName | None", _NAMES.get(words[0]) if words else None)
    return _Row(
        index, target, cells.get("simulated"), cast("Operation", operation), workload, seconds,
        float(cells.get("duration_resolution_s", 0.0)), bus, volume, file_system,
        cells["bus"] if cells.get("bus") in get_args(Bus) else None,
    ), ""  # fmt: skip


def _seconds(cells: Mapping[str, Any]) -> float | None:
    for name, unit in (("duration_s", 1.0), ("duration_ms", 1e-3), ("duration_ns", 1e-9)):
        if name in cells:
            return float(cells[name]) * unit
    return None


def _record(
    rows: Sequence[_Row],
    part: Part,
    target: str,
    bus: Bus | None,
    file_system: FileSystemName | None,
) -> dict[Any, Recording]:
    """Run the workloads of each group of rows once on the model."""
    groups: dict[Any, list[_Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    quad = part.kind == "nor" and catalog.find(target).storage == "QSPIF"
    usual: Bus | None = "QSPI" if quad else None  # make_volume knows the others
    found = {}
    for group, members in groups.items():
        bus_Hz, volume_B, named, said, _ = group
        setting = Setting(target, part, bus or said or usual, bus_Hz, file_system or named, volume_B)
        found[group] = Recording(setting, list(dict.fromkeys(row.workload for row in members)))
    return found


def _part_of(part: str | Part) -> Part:
    if isinstance(part, Part):
        return part
    try:
        return parts()[part]
    except KeyError:
        raise ConfigError(
            f"no part {part!r} in parts.toml", hint=f"there are {', '.join(parts())}; load_parts() reads your own"
        ) from None


def _figures(asked: Sequence[str] | None, names: Sequence[str], part: Part) -> list[str]:
    if asked is None:
        return [name for name in names if not name.startswith(MCU) and name not in NOT_BY_ITSELF]
    unknown = [name for name in asked if name not in names]
    if unknown or not asked or isinstance(asked, str):
        raise ConfigError(
            f"{part.name} has no figure {', '.join(unknown) or repr(asked)} that takes time here",
            hint=f"a list of some of {', '.join(names)}",
        )
    return list(dict.fromkeys(asked))


def _least(part: Part, figure: str) -> float:
    known = None if figure.startswith(MCU) else meaning(part.kind, figure)
    return float(known.least) if known is not None else 0.0


def _source(frame: pd.DataFrame, used: Sequence[_Row], target: str) -> str:
    runs = list(dict.fromkeys(str(run) for run in frame["run"].dropna())) if "run" in frame else []
    simulated = any(row.simulated is True or row.simulated == 1 for row in used)
    run = f"run{'s' if len(runs) > 1 else ''} {', '.join(runs)}" if runs else f"rows of {target}"
    today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    return f"calibrated from {'SIMULATED ' if simulated else ''}{run}, {len(used)} rows, on {today}"


def _finished(part: Part, found: Fit, source: str, name: str) -> Part:
    """Return the part with the fitted figures' source and uncertainty in its rows."""
    row = part.row
    for figure, half in found.half_width.items():
        if not figure.startswith(MCU):
            row[figure] |= {"source": source, "note": f"± {round(half)} ns (95 %)"}
    row["title"] = f"{part.title}, {source}"
    return part_from(row, name)


def _figures_frame(part: Part, begin: Mapping[str, float], found: Fit) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "figure": name,
                "before": value,
                "after": found.values[name] if name in found.half_width else value,
                "half_width": found.half_width.get(name),
                "unit": "cycles" if name.startswith(MCU) else "ns",
                "fitted": name in found.half_width,
                "why": found.why.get(name, ""),
                "source": "" if name.startswith(MCU) else part.sources[name] or "estimate",
            }
            for name, value in begin.items()
        ]
    ).astype({"half_width": "Float64", "figure": "string", "why": "string"})


def _rows_frame(used: Sequence[_Row], before: Vector, after: Vector, found: Fit) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(
        [
            {
                "row": row.index,
                "board": row.board,
                "simulated": row.simulated,
                "operation": row.operation,
                "buffer_B": row.workload.buffer,
                "bytes": row.workload.bytes,
                "bus_Hz": row.bus_Hz,
                "measured_s": row.seconds,
                "resolution_s": row.resolution,
                "before_s": float(was),
                "after_s": float(is_now),
                "before_percent": 100 * (float(was) / row.seconds - 1),
                "after_percent": 100 * (float(is_now) / row.seconds - 1),
                "unseen_percent": 100 * (float(is_now) / row.seconds - 1) / max(1 - float(lever), 1e-3),
            }
            for row, was, is_now, lever in zip(used, before, after, found.leverage, strict=True)
        ]
    ).astype({"simulated": "boolean", "bus_Hz": "Int64", "operation": "string", "board": "string"})
    frame.attrs["units"] = {
        name: "%" if name.endswith("_percent") else name.rsplit("_", 1)[-1] for name in frame.columns if "_" in name
    }
    return frame


def _still_estimated(estimates: str, found: Fit) -> str:
    """Return the estimates that are left when the fitted figures are none any more."""
    groups = []
    for group in estimates.split("; ") if estimates else []:
        owner, _, names = group.partition(": ")
        left = [
            name for name in names.split(", ") if name not in found.half_width and MCU + name not in found.half_width
        ]
        if left:
            groups.append(f"{owner}: {', '.join(left)}")
    return "; ".join(groups)


def _rms(percent: pd.Series[float]) -> float:
    return float(np.sqrt(np.mean(np.square(percent.to_numpy(dtype=float)))))


def _shown(value: float, unit: str) -> str:
    if unit != "ns":
        return f"{value:.4g} {unit}"
    for factor, name in ((1e6, "ms"), (1e3, "µs")):
        if value >= factor:
            return f"{value / factor:.4g} {name}"
    return f"{value:.4g} ns"
