"""Axes as all figures have them: their size, scales and ticks, a title, and a note of clock and simulation."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import matplotlib.pyplot as plt
from matplotlib.figure import FigureBase
from matplotlib.ticker import FuncFormatter, NullFormatter

from pdmlab.plots.words import estimates, human_size, whose

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

CHARACTERS_AN_INCH = 17
_estimates: WeakKeyDictionary[FigureBase, dict[str, dict[str, None]]] = WeakKeyDictionary()


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
        known = whose(frame)
        clocks = sorted(set(frame["clock"]) - {""})
        times = "no time is measured" if clocks == ["none"] else f"{', '.join(clocks)} clock"
        note = f"{known}, {times}" if known else times
    if frame is not None:
        note_estimates(ax, frame)
    if title:
        ax.set_title(title, loc="left", fontsize="medium", weight="bold", pad=raised + (16 if note else 6))
    if note:
        ax.text(0, 1.015, note, transform=ax.transAxes, fontsize="x-small", color="0.4")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax


def note_estimates(ax: Axes, frame: pd.DataFrame) -> None:
    """Say once, under the whole figure, which figures without a source its axes hang on."""
    figure = ax.figure
    known = _estimates.setdefault(figure, {})
    for name, figures in estimates(frame).items():
        known.setdefault(name, {}).update(dict.fromkeys(figures))
    if known:
        said = "; ".join(f"{name}: {', '.join(figures)}" for name, figures in known.items())
        root = ax.get_figure(root=True)
        assert root is not None
        width = int(root.get_figwidth() * CHARACTERS_AN_INCH)
        text = textwrap.fill(f"Hangs on estimates, which no source vouches for: {said}", width)
        figure.supxlabel(text, x=0.01, ha="left", fontsize="x-small", color="0.4")
