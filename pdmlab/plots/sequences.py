"""Who said what to whom, and when: a message log as a sequence diagram."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pdmlab.plots.canvas import finish, new_axes
from pdmlab.plots.words import rounded

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_IN, _OUT, _EVENT, _BAD = "#0072b2", "#a84a00", "#6a3d9a", "#b00020"  # as in the table that a log is
_GREY = "0.55"
_LONGEST = 58  # characters beside an arrow
_PAUSE_NS = 1_000_000_000
"""Silence that is worth a line of its own."""
_BLOCK = re.compile(r"Block([12]) (\d+)/([01])/\d+(?: \((block [^)]+)\))?")
_STEPS = ("handshake started", "handshake completed", "handshake failed", "closed", "gave up")


@dataclass
class _Line:
    """What is drawn in one row: an arrow of a message, or a bar of something that happened."""

    row: Any  # of itertuples()
    began_ns: int | None = None  # of a handshake, when it started
    pause_ns: int = 0  # before it

    @property
    def start_ns(self) -> int:
        return int(self.row.time_ns if self.began_ns is None else self.began_ns)


def sequence(
    log: pd.DataFrame, *, left: str = "board", ax: Axes | None = None, title: str = "", most: int = 60
) -> Axes:
    """Draw a service's message log (MessageLog.frame()) as a sequence diagram: the board on the left.

    Its rows are what the service's endpoints received ("in") and sent ("out"), on the log's own clock. Colours are
    those of the log's table: blue was received, orange was sent, violet are handshakes and ends of connections, which
    are bars between the lanes. A message that was sent again is dashed; what only acknowledges is grey; what was
    refused, reset or never acknowledged is red. A second or more without a message is a line in words.
    """
    lines = _lines(log)
    shown = lines[:most]
    rows = len(shown) + sum(line.pause_ns > 0 for line in shown)
    ax = ax if ax is not None else new_axes(width=9.5, height=1.1 + 0.29 * max(rows, 3))
    endpoints = list(dict.fromkeys(str(line.row.endpoint) for line in shown))
    places = {name: 0.72 + 0.28 * number / max(len(endpoints) - 1, 1) for number, name in enumerate(endpoints)}
    at = -1
    for line in shown:
        at += 1
        if line.pause_ns:
            words = f"⋮  {rounded(line.pause_ns / 1e9)} s without a message at the service"
            ax.text(0.36, at, words, ha="center", va="center", fontsize="small", style="italic", color="0.4")
            at += 1
        draw = _draw_event if line.row.direction == "" else _draw_message
        draw(ax, line, at, places[str(line.row.endpoint)])
        milliseconds = f"{(line.start_ns - shown[0].start_ns) / 1e6:,.1f}"
        ax.text(-0.02, at, milliseconds, ha="right", va="center", fontsize="x-small", color="0.4")
    for name, place in ((left, 0.0), *places.items()):
        ax.plot([place, place], [-0.9, rows - 0.4], color="0.3", lw=1, zorder=0)
        ax.text(place, -1.1, name, ha="center", va="bottom", weight="bold")
    ax.text(-0.06, -1.1, "ms", ha="right", va="bottom", fontsize="x-small", color="0.4")
    if len(lines) > most:
        ax.text(0.01, rows, f"… and {len(lines) - most} more", fontsize="x-small", color="0.5")
    ax.set_xlim(-0.12, 1.06)
    ax.set_ylim(rows + 0.6, -2.2)
    ax.axis("off")
    return finish(ax, log, title)


def _lines(log: pd.DataFrame) -> list[_Line]:
    """Return what is drawn: a handshake is one line from its start to its end, if both are there."""
    lines: list[_Line] = []
    begun: dict[tuple[str, str], int] = {}
    for row in log.itertuples():
        who = str(row.endpoint), str(getattr(row, "peer", ""))
        if row.direction == "":
            if row.code not in _STEPS:
                continue
            if row.code == "handshake started":
                begun[who] = len(lines)
            elif str(row.code).startswith("handshake") and who in begun:
                at = begun.pop(who)
                lines[at] = _Line(row, lines[at].row.time_ns)
                continue
        lines.append(_Line(row))
    for before, line in itertools.pairwise(lines):
        pause = line.start_ns - int(before.row.time_ns)
        line.pause_ns = pause if pause >= _PAUSE_NS else 0
    return lines


def _draw_message(ax: Axes, line: _Line, number: int, place: float) -> None:
    row = line.row
    start, end = (0.0, place) if row.direction == "in" else (place, 0.0)
    again, lost = getattr(row, "transmission", 1) > 1, getattr(row, "outcome", "") in ("never acknowledged", "reset")
    empty = row.code in ("acknowledged", "ping")
    bad = lost or str(row.code)[:2] in ("4.", "5.") or row.code == "reset"
    colour = _BAD if bad else _GREY if empty else _IN if row.direction == "in" else _OUT
    style = {"arrowstyle": "-|>", "color": colour, "lw": 0.8 if empty else 1.1}
    if again:
        style["linestyle"] = (0, (4, 3))
    ax.annotate("", (end, number), (start, number), arrowprops=style)
    if row.outcome == "never acknowledged" if hasattr(row, "outcome") else False:
        ax.text(end, number, "✗", ha="center", va="center", color=_BAD, weight="bold")
    ax.text(0.01, number - 0.08, _message(row), ha="left", va="bottom", fontsize="small", color=colour)


def _draw_event(ax: Axes, line: _Line, number: int, place: float) -> None:
    row = line.row
    bad = row.code in ("handshake failed", "gave up")
    colour = _BAD if bad else _EVENT
    text = f"{row.type} {row.code}"
    if str(row.code).startswith("handshake"):
        known = line.began_ns is not None
        took = f" ({rounded((row.time_ns - line.start_ns) / 1e6)} ms at the service)" if known else ""
        text = f"{row.type} handshake{took}: " + {"handshake started": "begun"}.get(row.code, _how(row))
    elif row.code == "gave up":
        text = str(row.payload)
    ax.barh(
        number, place, height=0.62, color=colour, alpha=0.13, edgecolor=colour, linewidth=0, zorder=0,
        hatch="" if row.code != "closed" else "////",
    )  # fmt: skip
    # Beside the first lane, on no other lane's line.
    ax.text(0.36, number, _cut(text, 74), ha="center", va="center", fontsize="small", color=colour)


def _how(row: Any) -> str:  # Any: a row of itertuples()
    if row.code == "handshake failed":
        return f"failed, {row.options}"
    return f"{str(row.payload).split(',')[0]}, {row.options}"


def _message(row: Any) -> str:  # Any: a row of itertuples()
    """Return a logged message in words: type, code, path, block and payload."""
    what = f"{row.type} {row.code}" if row.code else row.type
    is_answer = str(row.code)[:1].isdigit()
    if row.code == "acknowledged":
        return f"{row.type}{_again(row)}"
    where = str(row.path) if is_answer else f"{row.path}{row.query}"
    block = _block(str(row.options), is_answer)
    size = f"  {row.payload_B} B" if row.payload_B else ""
    return _cut(f"{what} {where}", _LONGEST - len(block + size)) + block + size + _again(row)


def _block(options: str, is_answer: bool) -> str:
    """Return which block a message carries or asks for, counted and called as in the log's table."""
    for kind, number, more, words in _BLOCK.findall(options):
        if is_answer and kind == "1":  # what it answers to
            continue
        if words or (number, more) != ("0", "0"):
            return f"  {words or f'block {int(number) + 1}'}"
    return ""


def _again(row: Any) -> str:
    transmission = getattr(row, "transmission", 1)
    return f"  (again, {transmission})" if transmission > 1 else ""


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 2] + "…"
