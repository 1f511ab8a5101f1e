"""Measures against factors, and values over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pdmlab.plots.canvas import finish, new_axes, plain_ticks, scale
from pdmlab.plots.words import COLOURS, MARKERS, common_unit, groups, label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

REASONS = ("change", "gt", "lt", "st", "pmax", "observe")
"""Why a value is told: the attribute that fired; "observe" is the first answer."""


def lines(
    frame: pd.DataFrame,
    x: str,
    y: str | Sequence[str],
    *,
    by: str | None = None,
    ax: Axes | None = None,
    bound: str = "",
    log_x: bool = True,
    log_y: bool = False,
    title: str = "",
) -> Axes:
    """Draw y against x, a line for each value of `by` (or for each y), with the spread of repeats as a band.

    bound: a column that y cannot exceed; dashed.
    """
    ax = ax if ax is not None else new_axes()
    columns = [y] if isinstance(y, str) else list(y)
    parts = groups(frame, by) if by else [("", frame)]
    number = 0
    for name, part in parts:
        for column in columns:
            stats = part.groupby(x)[column].agg(["mean", "min", "max"]).astype(float)
            said = " ".join(word for word in (name, label(frame, column) if len(columns) > 1 else "") if word)
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            xs = [float(value) for value in stats.index]
            ax.plot(xs, stats["mean"].tolist(), marker=marker, color=colour, label=said or None)
            if (stats["max"] > stats["min"]).any():
                ax.fill_between(xs, stats["min"].tolist(), stats["max"].tolist(), color=colour, alpha=0.15)
            if bound:
                limit = part.groupby(x)[bound].mean().astype(float)
                ax.plot(xs, limit.tolist(), color=colour, lw=1, ls="--", alpha=0.7)
            number += 1
    if bound:
        ax.plot([], [], color="0.4", lw=1, ls="--", label=label(frame, bound, short=True))
        number += 1
    scale(ax, frame, x, log_x=log_x)
    if log_y:
        ax.set_yscale("log")
        plain_ticks(ax.yaxis)
    else:
        ax.set_ylim(bottom=0)
    ax.set_xlabel(label(frame, x, short=x.endswith("_B")))  # its ticks carry the unit
    ax.set_ylabel(label(frame, columns[0]) if len(columns) == 1 else common_unit(frame, columns))
    if number > 1:
        ax.legend(frameon=False, fontsize="small")
    return finish(ax, frame, title)


def points(
    frame: pd.DataFrame, x: str, y: str, *, by: str, diagonal: str = "", ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw every row as a point, both axes logarithmic; `diagonal` names the line on which y equals x."""
    ax = ax if ax is not None else new_axes()
    for number, (name, part) in enumerate(groups(frame, by)):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        xs, ys = (part[column].astype(float).tolist() for column in (x, y))
        ax.scatter(xs, ys, marker=marker, color=colour, s=28, alpha=0.8, label=name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    if diagonal:
        ends = [float(frame[[x, y]].min().min()), float(frame[[x, y]].max().max())]
        ax.plot(ends, ends, color="0.4", lw=1, ls="--", label=diagonal)
    plain_ticks(ax.xaxis)
    plain_ticks(ax.yaxis)
    ax.set_xlabel(label(frame, x))
    ax.set_ylabel(label(frame, y))
    ax.legend(frameon=False, fontsize="small")
    return finish(ax, frame, title)


def notifications(
    frame: pd.DataFrame,
    *,
    ylabel: str = "value",
    gt: float | None = None,
    lt: float | None = None,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw a value over time (`time_s`, `value`), what was told of it (`told`, `known`), and why (`reason`)."""
    ax = ax if ax is not None else new_axes(width=9, height=4)
    times, values = frame["time_s"].astype(float).tolist(), frame["value"].astype(float).tolist()
    ax.step(times, values, where="post", color="0.55", lw=1, label="value on the device")
    known = frame["known"].astype(float).tolist()
    ax.step(times, known, where="post", color="0.2", lw=1, ls=":", label="what the server knows")
    for name, limit in (("gt", gt), ("lt", lt)):
        if limit is not None:
            ax.axhline(limit, color="0.7", lw=0.8, ls="--")
            ax.annotate(f" {name}={limit:g}", (1, limit), xycoords=("axes fraction", "data"), fontsize="x-small")
    told = frame[frame["told"]]
    for number, reason in enumerate(REASONS):
        part = told[told["reason"] == reason]
        if len(part):
            ax.scatter(part["time_s"].astype(float).tolist(), part["value"].astype(float).tolist(), zorder=3, s=34,
                       color=COLOURS[number], marker=MARKERS[number], label=f"{reason} ({len(part)})")  # fmt: skip
    ax.set_xlabel("time (s)")
    ax.set_ylabel(ylabel)
    ax.legend(frameon=False, fontsize="small", ncols=2)
    return finish(ax, frame, title)
