"""What came of fitting a part to a board: the part, how well it does now, and what the rows could not tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from pdmlab.measurements.workloads import MCU
from pdmlab.storage.parts import Part

if TYPE_CHECKING:
    import pandas as pd


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


def _rms(percent: pd.Series[float]) -> float:
    return float(np.sqrt(np.mean(np.square(percent.to_numpy(dtype=float)))))


def _shown(value: float, unit: str) -> str:
    if unit != "ns":
        return f"{value:.4g} {unit}"
    for factor, name in ((1e6, "ms"), (1e3, "µs")):
        if value >= factor:
            return f"{value / factor:.4g} {name}"
    return f"{value:.4g} ns"
