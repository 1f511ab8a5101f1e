"""Axes as all figures have them: their size, scales and ticks, a title, and a note of clock and simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from pdmlab.plots.words import human_size

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis


def new_axes(width: float = 7.0, height: float = 4.0) -> Axes:
    _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    return ax


def scale(ax: Axes, frame: pd.DataFrame, x: str, *, log_x: bool) -> None:
    values = sorted({float(value) for value in frame[x]})
    if log_x and values and values[0] > 0:
        ax.set_xscale("log", base=2)
    if x.endswith("_B") and len(values) <= 12:
        sizes = [human_size(value) for value in values]
        ax.set_xticks(values, sizes, rotation=45, ha="right", rotation_mode="anchor", fontsize="small")
        ax.minorticks_off()


def plain_ticks(axis: Axis) -> None:
    """Write the powers of ten of a logarithmic axis as plain numbers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def finish(ax: Axes, frame: pd.DataFrame | None, title: str, *, note: str = "", raised: float = 0) -> Axes:
    if frame is not None and "simulated" in frame.columns and len(frame):
        simulated = bool(frame["simulated"].any())
        note = f"{'SIMULATED, ' if simulated else ''}{', '.join(sorted(set(frame['clock'])))} clock"
    if title:
        ax.set_title(title, loc="left", fontsize="medium", weight="bold", pad=raised + (16 if note else 6))
    if note:
        ax.text(0, 1.015, note, transform=ax.transAxes, fontsize="x-small", color="0.4")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax
