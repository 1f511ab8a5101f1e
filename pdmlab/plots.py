"""Figures: a frame goes in, Axes come out; labels and units come from the frame.

Every figure says which clock its times were read from and whether they are simulated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullFormatter

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# Okabe and Ito's palette: told apart by colour-blind readers, and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
REASONS = ("change", "gt", "lt", "st", "pmax", "observe")
"""Why a value is told: the attribute that fired; "observe" is the first answer."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def human_size(n: float) -> str:
    """Return a size in bytes as an engineer writes it: 64 B, 4 KiB, 2 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if abs(n) < 1024 or unit == "MiB":
            return f"{n:g} {unit}"
        n /= 1024
    raise AssertionError("unreachable")


def human_frequency(n: float) -> str:
    """Return a frequency in Hz as an engineer writes it: 100 kHz, 4 MHz."""
    for factor, unit in ((1_000_000, "MHz"), (1_000, "kHz")):
        if n >= factor:
            return f"{n / factor:g} {unit}"
    return f"{n:g} Hz"


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
    ax = ax if ax is not None else _new_axes()
    columns = [y] if isinstance(y, str) else list(y)
    groups: list[tuple[str, Any]] = _groups(frame, by) if by else [("", frame)]
    number = 0
    for name, part in groups:
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
    _scale(ax, frame, x, log_x=log_x)
    if log_y:
        ax.set_yscale("log")
        _plain_ticks(ax.yaxis)
    else:
        ax.set_ylim(bottom=0)
    ax.set_xlabel(label(frame, x, short=x.endswith("_B")))  # its ticks carry the unit
    ax.set_ylabel(label(frame, columns[0]) if len(columns) == 1 else _common_unit(frame, columns))
    if number > 1:
        ax.legend(frameon=False, fontsize="small")
    return _finish(ax, frame, title)


def points(
    frame: pd.DataFrame, x: str, y: str, *, by: str, diagonal: str = "", ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw every row as a point, both axes logarithmic; `diagonal` names the line on which y equals x."""
    ax = ax if ax is not None else _new_axes()
    for number, (name, part) in enumerate(_groups(frame, by)):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        xs, ys = (part[column].astype(float).tolist() for column in (x, y))
        ax.scatter(xs, ys, marker=marker, color=colour, s=28, alpha=0.8, label=name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    if diagonal:
        ends = [float(frame[[x, y]].min().min()), float(frame[[x, y]].max().max())]
        ax.plot(ends, ends, color="0.4", lw=1, ls="--", label=diagonal)
    _plain_ticks(ax.xaxis)
    _plain_ticks(ax.yaxis)
    ax.set_xlabel(label(frame, x))
    ax.set_ylabel(label(frame, y))
    ax.legend(frameon=False, fontsize="small")
    return _finish(ax, frame, title)


def timeline(frame: pd.DataFrame, *, since: str = "reset", ax: Axes | None = None, title: str = "") -> Axes:
    """Draw steps as horizontal bars: `step`, `start_ms` and `duration_ms` (since what?) a row."""
    ax = ax if ax is not None else _new_axes(width=9, height=1.2 + 0.34 * len(frame))
    rows: list[Any] = list(frame.itertuples())
    for number, row in enumerate(rows):
        start, duration = float(row.start_ms), float(row.duration_ms)
        ax.barh(number, duration, left=start, color=COLOURS[0], height=0.6)
        ax.annotate(f" {_number(duration)} ms", (start + duration, number), va="center", fontsize="small")
    ax.set_yticks(range(len(rows)), [str(row.step) for row in rows])
    ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.set_xlim(left=0)
    ax.set_xlabel(f"time since {since} (ms)")
    return _finish(ax, frame, title)


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
    ax = ax if ax is not None else _new_axes(width=9, height=4)
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
    return _finish(ax, frame, title)


def sequence(
    log: pd.DataFrame, *, left: str = "board", ax: Axes | None = None, title: str = "", most: int = 60
) -> Axes:
    """Draw a service's message log (MessageLog.frame()) as a sequence diagram: the board on the left.

    Its rows are what the service's endpoints received ("in") and sent ("out"), on the log's own clock.
    """
    shown_rows: list[Any] = list(log.head(most).itertuples())
    ax = ax if ax is not None else _new_axes(width=9.5, height=1.1 + 0.31 * max(len(shown_rows), 3))
    begin = shown_rows[0].time_ns if shown_rows else 0
    endpoints = list(dict.fromkeys(str(row.endpoint) for row in shown_rows))
    places = {name: 0.72 + 0.28 * number / max(len(endpoints) - 1, 1) for number, name in enumerate(endpoints)}
    for number, row in enumerate(shown_rows):
        place, colour = places[str(row.endpoint)], COLOURS[endpoints.index(str(row.endpoint))]
        start, end = (0.0, place) if row.direction == "in" else (place, 0.0)
        ax.annotate("", (end, number), (start, number), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.1})
        ax.text(0.01, number - 0.1, _message(row), ha="left", va="bottom", fontsize="small", color=colour)
        milliseconds = f"{(row.time_ns - begin) / 1e6:,.1f}"
        ax.text(-0.02, number, milliseconds, ha="right", va="center", fontsize="x-small", color="0.4")
    for name, place in ((left, 0.0), *places.items()):
        ax.plot([place, place], [-0.9, len(shown_rows) - 0.4], color="0.3", lw=1)
        ax.text(place, -1.1, name, ha="center", va="bottom", weight="bold")
    ax.text(-0.06, -1.1, "ms", ha="right", va="bottom", fontsize="x-small", color="0.4")
    if len(log) > most:
        ax.text(0.01, len(shown_rows), f"… and {len(log) - most} more", fontsize="x-small", color="0.5")
    ax.set_xlim(-0.12, 1.06)
    ax.set_ylim(len(shown_rows) + 0.6, -2.2)
    ax.axis("off")
    return _finish(ax, log, title)


def lanes(
    transcript: pd.DataFrame, *, simulated: bool, ax: Axes | None = None, title: str = "", most: int = 40
) -> Axes:
    """Draw a console's transcript in two lanes, the board's and the host's: `time`, `direction`, `text` a row."""
    rows: list[Any] = list(transcript.head(most).itertuples())
    ax = ax if ax is not None else _new_axes(width=9.5, height=0.9 + 0.25 * max(len(rows), 4))
    places = {"host": (0.09, COLOURS[1]), "board": (0.53, COLOURS[0])}
    for number, row in enumerate(rows):
        place, colour = places[str(row.direction)]
        text = str(row.text)
        ax.text(place, number, text if len(text) < 52 else text[:50] + "…", fontsize="small", color=colour,
                family="monospace", va="center")  # fmt: skip
        seconds = (row.time - rows[0].time).total_seconds()
        ax.text(0.06, number, f"{seconds:.3f}", fontsize="x-small", color="0.5", va="center", ha="right")
    for direction, (place, colour) in places.items():
        ax.text(place, -1.2, direction, weight="bold", color=colour)
    ax.text(0.06, -1.2, "s", fontsize="x-small", color="0.5", ha="right")
    ax.axvline(0.51, color="0.85", lw=1)
    ax.set_xlim(0, 1)
    figure = ax.get_figure(root=True)
    lines_that_fit = int(figure.get_figheight() / 0.27) - 3 if figure is not None else 4
    ax.set_ylim(max(len(rows), lines_that_fit), -2)
    ax.axis("off")
    if len(transcript) > most:
        ax.text(0.09, len(rows), f"… and {len(transcript) - most} more", fontsize="x-small", color="0.5")
    return _finish(ax, None, title, note=f"{'SIMULATED, ' if simulated else ''}host clock")


def strips(
    frame: pd.DataFrame,
    x: str,
    rows: Mapping[str, str],
    *,
    colours: Mapping[str, str],
    xlabel: str = "",
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw columns of words as strips of cells: `rows` is column -> what it is, `colours` word -> colour."""
    ax = ax if ax is not None else _new_axes(width=9, height=1.4 + 0.42 * len(rows))
    xs = [float(value) for value in frame[x]]
    step = min((b - a for a, b in pairwise(sorted(set(xs)))), default=1.0)
    for number, column in enumerate(rows):
        for word, colour in colours.items():
            cells = [(at, step) for at, cell in zip(xs, frame[column], strict=True) if cell == word]
            ax.broken_barh(cells, (number - 0.4, 0.8), facecolor=colour)
    used = {word for column in rows for word in frame[column]}
    handles = [Patch(color=colour, label=word) for word, colour in colours.items() if word in used]
    ax.legend(handles=handles, frameon=False, fontsize="small", ncols=len(handles), loc="lower left",
              bbox_to_anchor=(0, 1.0 if not title else 1.04))  # fmt: skip
    ax.set_yticks(range(len(rows)), list(rows.values()))
    ax.set_xlim(min(xs), max(xs) + step)
    ax.invert_yaxis()
    if x.endswith("_B"):
        ax.xaxis.set_major_locator(MultipleLocator(2 ** round(math.log2(max(max(xs) / 8, 1)))))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_size(value)))
    ax.set_xlabel(xlabel or plain(x))
    return _finish(ax, frame, title, raised=14)


def regions(parts: Iterable[tuple[str, int, int, str]], *, size: int, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw a memory to scale: (name, start in B, size in B, what it holds) for each region of a part of `size` B."""
    ax = ax if ax is not None else _new_axes(width=9, height=2.2)
    for number, (name, start, length, holds) in enumerate(parts):
        colour = COLOURS[number % len(COLOURS)]
        ax.barh(0, max(length, size / 400), left=start, height=0.8, color=colour, alpha=0.75, edgecolor="white")
        ax.annotate(
            f"{name}\n{holds}", (start + length / 2, 0.42), (start + length / 2, 0.75 + 0.55 * (number % 2)),
            ha="center", fontsize="x-small", arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.6},
        )  # fmt: skip
    ax.set_xlim(0, size)
    ax.set_ylim(-0.5, 2.0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MultipleLocator(size / 8))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"0x{int(value):x}"))
    ax.set_xlabel("offset (B)")
    return _finish(ax, None, title)


def _new_axes(width: float = 7.0, height: float = 4.0) -> Axes:
    _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    return ax


def _groups(frame: pd.DataFrame, by: str) -> list[tuple[str, pd.DataFrame]]:
    """Return name and rows of each value of a column: numbers in order, words as they first appear."""
    words = frame[by].dtype == "string"
    name = "" if words else f"{label(frame, by, short=True)} "
    return [(name + shown(by, key), part) for key, part in frame.groupby(by, sort=not words)]


def label(frame: pd.DataFrame, column: str, *, short: bool = False) -> str:
    """Return a column's axis label with its unit; without it if `short`."""
    labels: Mapping[str, str] = frame.attrs.get("labels", {})
    text = labels.get(column, column.replace("_", " "))
    return text.split(" (")[0] if short else text


def _common_unit(frame: pd.DataFrame, columns: Sequence[str]) -> str:
    units = {frame.attrs.get("units", {}).get(column, "") for column in columns}
    return units.pop() if len(units) == 1 else ""


def _plain_ticks(axis: Axis) -> None:
    """Write the powers of ten of a logarithmic axis as plain numbers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _message(row: Any) -> str:  # Any: a row of itertuples()
    """Return a logged message in words: type, code, path and payload."""
    what = f"{row.type} {row.code}" if row.code else row.type
    is_answer = str(row.code)[:1].isdigit()
    where = str(row.path) if is_answer else f"{row.path}{row.query}"
    where = where if len(where) <= 52 else where[:50] + "…"
    size = f"  {row.payload_B} B" if row.payload_B else ""
    return f"{what} {where}{size}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plain(column: str) -> str:
    """Return a column's name without its unit, as a slider shows it: buffer_B is a buffer."""
    stem, _, unit = column.rpartition("_")
    return (stem if stem and unit in _UNITS else column).replace("_", " ")


_UNITS = ("B", "Bps", "kBps", "ns", "us", "ms", "s", "Hz", "bps")


def shown(column: str, value: Any) -> str:  # Any: a cell of a frame
    """Return a factor's value with its unit, as a legend or a slider shows it."""
    if isinstance(value, str | bool):
        return str(value)
    if column.endswith("_B"):
        return human_size(value)
    if column.endswith("_Hz"):
        return human_frequency(value)
    unit = column.rsplit("_", 1)[-1] if "_" in column else ""
    return f"{value:g} {unit}" if unit in ("ns", "us", "ms", "s") else f"{value:g}"


def _scale(ax: Axes, frame: pd.DataFrame, x: str, *, log_x: bool) -> None:
    values = sorted({float(value) for value in frame[x]})
    if log_x and values and values[0] > 0:
        ax.set_xscale("log", base=2)
    if x.endswith("_B") and len(values) <= 12:
        ax.set_xticks(values, [human_size(value) for value in values], rotation=45, fontsize="small")
        ax.minorticks_off()


def _finish(ax: Axes, frame: pd.DataFrame | None, title: str, *, note: str = "", raised: float = 0) -> Axes:
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
