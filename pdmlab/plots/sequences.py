"""Who said what to whom, and when: a message log as a sequence diagram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pdmlab.plots.canvas import finish, new_axes
from pdmlab.plots.words import COLOURS, rounded

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_GREY, _BAD = "0.55", "#b00020"
_LONGEST = 58  # characters beside an arrow
_STEPS = ("handshake started", "handshake completed", "handshake failed", "closed", "gave up")


@dataclass
class _Line:
    """What is drawn in one row: an arrow of a message, or a bar of something that happened."""

    row: Any  # of itertuples()
    began_ns: int | None = None  # of a handshake, when it started


def sequence(
    log: pd.DataFrame, *, left: str = "board", ax: Axes | None = None, title: str = "", most: int = 60
) -> Axes:
    """Draw a service's message log (MessageLog.frame()) as a sequence diagram: the board on the left.

    Its rows are what the service's endpoints received ("in") and sent ("out"), on the log's own clock. Handshakes and
    ends of connections are bars between the lanes; a message that was sent again is dashed; what only acknowledges is
    grey; what was refused, reset or never acknowledged is red.
    """
    lines = _lines(log)
    shown = lines[:most]
    ax = ax if ax is not None else new_axes(width=9.5, height=1.1 + 0.29 * max(len(shown), 3))
    begin = (shown[0].began_ns or shown[0].row.time_ns) if shown else 0
    endpoints = list(dict.fromkeys(str(line.row.endpoint) for line in shown))
    places = {name: 0.72 + 0.28 * number / max(len(endpoints) - 1, 1) for number, name in enumerate(endpoints)}
    for number, line in enumerate(shown):
        endpoint = str(line.row.endpoint)
        colour = COLOURS[endpoints.index(endpoint) % len(COLOURS)]
        draw = _draw_event if line.row.direction == "" else _draw_message
        draw(ax, line, number, places[endpoint], colour)
        milliseconds = f"{((line.began_ns or line.row.time_ns) - begin) / 1e6:,.1f}"
        ax.text(-0.02, number, milliseconds, ha="right", va="center", fontsize="x-small", color="0.4")
    for name, place in ((left, 0.0), *places.items()):
        ax.plot([place, place], [-0.9, len(shown) - 0.4], color="0.3", lw=1, zorder=0)
        ax.text(place, -1.1, name, ha="center", va="bottom", weight="bold")
    ax.text(-0.06, -1.1, "ms", ha="right", va="bottom", fontsize="x-small", color="0.4")
    if len(lines) > most:
        ax.text(0.01, len(shown), f"… and {len(lines) - most} more", fontsize="x-small", color="0.5")
    ax.set_xlim(-0.12, 1.06)
    ax.set_ylim(len(shown) + 0.6, -2.2)
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
    return lines


def _draw_message(ax: Axes, line: _Line, number: int, place: float, colour: str) -> None:
    row = line.row
    start, end = (0.0, place) if row.direction == "in" else (place, 0.0)
    again, lost = getattr(row, "transmission", 1) > 1, getattr(row, "outcome", "") in ("never acknowledged", "reset")
    empty = row.code in ("acknowledged", "ping")
    bad = lost or str(row.code)[:2] in ("4.", "5.") or row.code == "reset"
    colour = _BAD if bad else _GREY if empty else colour
    style = {"arrowstyle": "-|>", "color": colour, "lw": 0.8 if empty else 1.1}
    if again:
        style["linestyle"] = (0, (4, 3))
    ax.annotate("", (end, number), (start, number), arrowprops=style)
    if row.outcome == "never acknowledged" if hasattr(row, "outcome") else False:
        ax.text(end, number, "✗", ha="center", va="center", color=_BAD, weight="bold")
    ax.text(0.01, number - 0.08, _message(row), ha="left", va="bottom", fontsize="small", color=colour)


def _draw_event(ax: Axes, line: _Line, number: int, place: float, colour: str) -> None:
    row = line.row
    bad = row.code in ("handshake failed", "gave up")
    colour = _BAD if bad else colour
    text = f"{row.type} {row.code}"
    if str(row.code).startswith("handshake"):
        took = f" ({rounded((row.time_ns - line.began_ns) / 1e6)} ms)" if line.began_ns is not None else ""
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
    """Return which block a message carries, or what it answers to."""
    for part in options.split(", "):
        if part.startswith(("Block1", "Block2")):
            return "  block " + part.split()[1].split("/")[0] if not is_answer or part.startswith("Block2") else ""
    return ""


def _again(row: Any) -> str:
    transmission = getattr(row, "transmission", 1)
    return f"  (again, {transmission})" if transmission > 1 else ""


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 2] + "…"
