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
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from pdmlab.boards import catalog
from pdmlab.errors import ConfigError
from pdmlab.measurements.calibration import Calibration
from pdmlab.measurements.fittable import FileRow, usable
from pdmlab.measurements.fitting import Fit, Problem, Vector, fit
from pdmlab.measurements.volumes import Bus, FileSystemName
from pdmlab.measurements.workloads import MCU, Figures, Recording, Setting
from pdmlab.storage.figures import meaning
from pdmlab.storage.mcu import TICK
from pdmlab.storage.parts import Part, part_from
from pdmlab.storage.parts import part as part_of

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = 0.002
"""Share of a time by which the model may be off for reasons that no figure stands for: an estimate; the residuals
correct it."""
BYTE = 12_000
"""What a byte takes that Mbed's SD driver polls with, at 1 MHz and with its mutex (ns)."""
NOT_BY_ITSELF = ("stall", "stall_every")
"""Figures that are not fitted unless they are named: a stall is in one row by chance."""


def calibrate(
    frame: pd.DataFrame | Any,
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
        frame: rows of fs-single (`result.rows`, `load_run`), or of `measurements.file_transfer`; or the result, or
            the run, itself.
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
    frame = _rows_of(frame)
    if file_system not in (None, *get_args(FileSystemName)):
        raise ConfigError(
            f"no file system {file_system!r} here", hint=f"there are {', '.join(get_args(FileSystemName))}"
        )
    if bus not in (None, *get_args(Bus)):
        raise ConfigError(f"no bus {bus!r} here", hint=f"there are {', '.join(get_args(Bus))}")
    used, left_out = usable(frame, board, bus_Hz, volume_B)
    target = catalog.find(used[0].board if board is None else board).target
    start = part_of(part or catalog.find(target).storage_part)
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


def _rows_of(measured: Any) -> pd.DataFrame:  # Any: whatever was handed in
    """Return the rows of a frame, of a suite's result, or of a run."""
    import pandas as pd

    for name in ("rows", "frame"):
        if not isinstance(measured, pd.DataFrame):
            measured = getattr(measured, name, measured)
    if not isinstance(measured, pd.DataFrame):
        raise ConfigError(
            f"{measured!r} has no rows to fit to",
            hint="calibrate(pdmlab.load_run('…')), or of run(board, 'fs-single') its .rows",
        )
    return measured


class _Model:
    """What every row would be with other figures."""

    def __init__(self, rows: Sequence[FileRow], recordings: Mapping[Any, Recording]) -> None:
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


def _record(
    rows: Sequence[FileRow],
    part: Part,
    target: str,
    bus: Bus | None,
    file_system: FileSystemName | None,
) -> dict[Any, Recording]:
    """Run the workloads of each group of rows once on the model."""
    groups: dict[Any, list[FileRow]] = {}
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


def _source(frame: pd.DataFrame, used: Sequence[FileRow], target: str) -> str:
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


def _rows_frame(used: Sequence[FileRow], before: Vector, after: Vector, found: Fit) -> pd.DataFrame:
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
