"""What happened, and where things lie: timelines, transcripts, strips of cells, maps of memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from pdmlab.plots.canvas import finish, new_axes
from pdmlab.plots.words import COLOURS, human_size, plain, rounded

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def timeline(frame: pd.DataFrame, *, since: str = "reset", ax: Axes | None = None, title: str = "") -> Axes:
    """Draw steps as horizontal bars: `step`, `start_ms` and `duration_ms` (since what?) a row."""
    ax = ax if ax is not None else new_axes(width=9, height=1.2 + 0.34 * len(frame))
    rows: list[Any] = list(frame.itertuples())
    for number, row in enumerate(rows):
        start, duration = float(row.start_ms), float(row.duration_ms)
        ax.barh(number, duration, left=start, color=COLOURS[0], height=0.6)
        ax.annotate(f" {rounded(duration)} ms", (start + duration, number), va="center", fontsize="small")
    ax.set_yticks(range(len(rows)), [str(row.step) for row in rows])
    ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.set_xlim(left=0)
    ax.set_xlabel(f"time since {since} (ms)")
    return finish(ax, frame, title)


def lanes(
    transcript: pd.DataFrame, *, simulated: bool, ax: Axes | None = None, title: str = "", most: int = 40
) -> Axes:
    """Draw a console's transcript in two lanes, the board's and the host's: `time`, `direction`, `text` a row."""
    rows: list[Any] = list(transcript.head(most).itertuples())
    ax = ax if ax is not None else new_axes(width=9.5, height=0.9 + 0.25 * max(len(rows), 4))
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
    return finish(ax, None, title, note=f"{'SIMULATED, ' if simulated else ''}host clock")


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
    ax = ax if ax is not None else new_axes(width=9, height=1.4 + 0.42 * len(rows))
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
    elif all(value.is_integer() for value in xs):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(xlabel or plain(x))
    return finish(ax, frame, title, raised=14)


def regions(
    parts: Iterable[tuple[str, int, int, str]],
    *,
    size: int,
    simulated: bool = False,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw a memory to scale: (name, start in B, size in B, what it holds) for each region of a part of `size` B."""
    ax = ax if ax is not None else new_axes(width=9, height=2.2)
    shown = sorted(parts, key=lambda part: part[1])
    labels = _spread([(start + length / 2) / size for _, start, length, _ in shown])
    for number, (name, start, length, holds) in enumerate(shown):
        colour = COLOURS[number % len(COLOURS)]
        ax.barh(0, max(length, size / 400), left=start, height=0.8, color=colour, alpha=0.75, edgecolor="white")
        ax.annotate(
            f"{name}\n{holds}", (start + length / 2, 0.42), (labels[number] * size, 1.0), ha="center",
            fontsize="x-small", arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.6, "relpos": (0.5, 0)},
        )  # fmt: skip
    ax.set_xlim(0, size)
    ax.set_ylim(-0.5, 1.8)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_locator(MultipleLocator(size / 8))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"0x{int(value):x}"))
    ax.set_xlabel("offset (B)")
    return finish(ax, None, title, note="SIMULATED" if simulated else "")


def _spread(places: Sequence[float], gap: float = 0.11) -> list[float]:
    """Return places (ascending, of 0 to 1) moved apart by a label's width, so that no label lies on another's line."""
    apart: list[float] = []
    for place in places:
        apart.append(max(place, apart[-1] + gap if apart else gap / 2))
    limit = 1 - gap / 2
    for number in reversed(range(len(apart))):
        apart[number] = min(apart[number], limit)
        limit = apart[number] - gap
    return apart
