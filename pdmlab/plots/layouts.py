"""A board's flash to scale: its areas, its sectors, the medium beside it, and what overlaps or lies across sectors."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from matplotlib.patches import Polygon, Rectangle

from pdmlab.plots.canvas import finish, new_axes
from pdmlab.plots.words import human_size
from pdmlab.update.areas import INTERNAL, Area, Fault
from pdmlab.update.map_picture import colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pdmlab.update.layout import FlashLayout
    from pdmlab.update.survey import Survey

BAD, WARNED = "#b00020", "#9a6700"
NARROW = 1 / 60
"""Of a strip: what is narrower is shown once more, magnified."""
_TALL, _GAP, _STEP = 0.62, 0.3, 2.25
"""Of a strip: its height, the room for leaders above it, and how far the next one lies below it."""
_INCHES = 0.52
"""A unit of height."""
_SECTORS = 600
_SIGN = {"warning": "⚠"}
_LABEL = 0.135
"""Of a strip's width, that a label takes."""


class _Strip:
    """A stretch of a medium, drawn from 0 to 1: its areas in there, its sectors, its marks."""

    def __init__(self, title: str, medium: str, start: int, end: int, areas: Sequence[Area]) -> None:
        self.title, self.medium, self.start, self.end = title, medium, start, end
        self.areas = [area for area in areas if _lies(area, start, end)]

    def place(self, offset: int) -> float:
        return (offset - self.start) / (self.end - self.start)


def _lies(area: Area, start: int, end: int) -> bool:
    """Whether something of an area lies there; an area without room counts where it would begin."""
    return (area.offset < end and area.end > start) if area.size > 0 else start <= max(area.offset, 0) <= end


def flash_layout(layout: FlashLayout | Survey, *, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw where everything lies, to scale; what is wrong is hatched in red, and said in words below.

    A warning is hatched in brown.

    The first strip is the whole flash; what would be too narrow to see there follows, magnified, and then the medium
    that the candidate lies on, if that is another. A `Survey` may be of a file that no board could live with.
    """
    faults: list[Fault] = [*getattr(layout, "faults", []), *getattr(layout, "warnings", [])]
    strips = _strips(layout)
    said = [
        textwrap.fill(
            f"{_SIGN.get(fault.kind, '✗')} {fault.kind}: {fault.words}. {fault.hint[:1].upper()}{fault.hint[1:]}.",
            150,
            subsequent_indent="   ",
        )
        for fault in faults
    ]
    below = _STEP * (len(strips) - 1) + 0.75 + 0.31 * sum(text.count("\n") + 1 for text in said)
    ax = ax if ax is not None else new_axes(width=10, height=0.4 + _INCHES * (below + 1.7))
    bounds = layout.geometry.bounds()
    for number, each in enumerate(strips):
        _draw(ax, each, -_STEP * number, bounds if each.medium == INTERNAL else [], faults)
    line = -_STEP * (len(strips) - 1) - 0.7
    for fault, text in zip(faults, said, strict=True):
        ax.text(0, line, text, va="top", fontsize="small", color=_ink(fault))
        line -= 0.31 * (text.count("\n") + 1)
    ax.set_xlim(-0.012, 1.012)
    ax.set_ylim(-below, 1.7)
    ax.axis("off")
    assumed: tuple[str, ...] = getattr(layout, "assumed", ())
    note = f"by default, the file does not say: {', '.join(assumed)}" if assumed else ""
    return finish(ax, None, title, note=note)


def _strips(layout: FlashLayout | Survey) -> list[_Strip]:
    geometry, areas = layout.geometry, layout.areas()
    size = max([geometry.size, *(area.end for area in areas)])
    beyond = f", areas to 0x{size:x}" if size > geometry.size else ""
    strips = [_Strip(f"flash, {human_size(geometry.size)} at 0x{geometry.start:08x}{beyond}", INTERNAL, 0, size, areas)]
    for start, end in _magnified(areas, size):
        strips.append(_Strip(f"magnified ×{size / (end - start):.0f}", INTERNAL, start, end, areas))
    if layout.candidate_on != INTERNAL:
        known = getattr(layout, "storage_size", None)
        end = max(known or 0, layout.candidate.end)
        title = f"{layout.candidate_on}, {human_size(end)}" if known else f"{layout.candidate_on}, as far as is known"
        strips.append(_Strip(title, layout.candidate_on, 0, end, [layout.candidate]))
    return strips


def _magnified(areas: Sequence[Area], size: int) -> list[tuple[int, int]]:
    """Return the stretches around areas that are too narrow at full length, or have no room: from and to (B)."""
    found: list[tuple[int, int]] = []
    for area in areas:
        room = max(area.size, 0)
        if room < size * NARROW and 0 <= area.offset <= size:
            around = max(room * 2, size // 64)
            start, end = max(area.offset - around, 0), min(area.offset + room + around, size)
            if found and start <= found[-1][1]:
                start, end = found[-1][0], max(end, found.pop()[1])
            found.append((start, end))
    return [(start, end) for start, end in found if end - start < size / 2]


def _draw(ax: Axes, strip: _Strip, y: float, bounds: Sequence[int], faults: Sequence[Fault]) -> None:
    ax.text(0, y + 1.62, strip.title, fontsize="small", weight="bold", va="top")
    ax.add_patch(Rectangle((0, y), 1, _TALL, facecolor="0.95", edgecolor="0.6", linewidth=0.6))
    for area, start, end, lane, lanes in _pieces(strip.areas):
        left, right = (min(max(strip.place(edge), 0), 1) for edge in (start, end))
        high, fill = _TALL / lanes, colour(area.name)
        ax.add_patch(
            Rectangle((left, y + high * lane), right - left, high, facecolor=fill, alpha=0.8, edgecolor=fill,
                      linewidth=0.8, gid=f"{strip.medium} {area.name}")
        )  # fmt: skip
    middles = [
        (min(max(strip.place(area.offset), 0), 1) + min(max(strip.place(area.end), 0), 1)) / 2 for area in strip.areas
    ]
    for area, middle, label in zip(strip.areas, middles, _apart(middles), strict=True):
        ax.annotate(
            f"{area.name}\n0x{area.offset:x} · {human_size(area.size)}", (middle, y + _TALL),
            (label, y + _TALL + _GAP), ha="center", va="bottom", fontsize="x-small", linespacing=1.1,
            arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.5, "shrinkA": 0, "shrinkB": 0, "relpos": (0.5, 0)},
        )  # fmt: skip
    inside = [edge for edge in bounds if strip.start <= edge <= strip.end]
    if len(inside) <= _SECTORS:
        ax.vlines([strip.place(edge) for edge in inside], y, y + 0.1, color="0.2", linewidth=0.5)
    for fault in faults:
        if fault.medium == strip.medium and strip.start <= fault.start < fault.end <= strip.end:
            _mark(ax, strip, fault, y)
    for at in _ticks(strip, inside):
        place = strip.place(at)
        align = "left" if place < 0.02 else "right" if place > 0.98 else "center"
        ax.text(place, y - 0.22, f"0x{at:x}", ha=align, va="top", fontsize="x-small", color="0.4")


def _ink(fault: Fault) -> str:
    return WARNED if fault.kind == "warning" else BAD


def _mark(ax: Axes, strip: _Strip, fault: Fault, y: float) -> None:
    """Hatch what is wrong over the strip's height; what lies across sectors below it, with a line at its edge."""
    left, right = strip.place(fault.start), strip.place(fault.end)
    low, high = (y - 0.16, 0.16) if fault.edge is not None else (y - 0.03, _TALL + 0.06)
    ax.add_patch(
        Rectangle((left, low), right - left, high, facecolor="none", edgecolor=_ink(fault), hatch="////", linewidth=1.3,
                  gid=f"{fault.kind} 0x{fault.start:x}..0x{fault.end:x}")
    )  # fmt: skip
    if fault.edge is not None:
        ax.vlines([strip.place(fault.edge)], y - 0.16, y + _TALL + 0.05, color=BAD, linewidth=1.6)
    elif right - left < 0.02:
        middle = (left + right) / 2
        points = [(middle, y - 0.04), (middle - 0.006, y - 0.18), (middle + 0.006, y - 0.18)]
        ax.add_patch(Polygon(points, facecolor=_ink(fault), edgecolor="none"))


def _pieces(areas: Sequence[Area]) -> Iterator[tuple[Area, int, int, int, int]]:
    """Yield each area in pieces: from, to (B), and its lane of how many there: where areas overlap they share it."""
    for area in areas:
        edges = sorted({edge for each in areas for edge in (each.offset, each.end) if area.offset < edge < area.end})
        for start, end in pairwise([area.offset, *edges, area.end]):
            here = [each for each in areas if (each.offset < max(end, start + 1) and each.end > start) or each is area]
            yield area, start, end, here.index(area), len(here)


def _ticks(strip: _Strip, bounds: Sequence[int]) -> list[int]:
    """Return offsets to write below a strip: of up to seven sectors' edges where it is magnified, else its quarters."""
    if strip.start == 0 or len(bounds) < 2:
        return [strip.start + (strip.end - strip.start) * quarter // 4 for quarter in range(5)]
    return list(bounds[:: -(-len(bounds) // 7)])


def _apart(middles: Sequence[float]) -> list[float]:
    """Return for each middle where its label stands: moved aside so that none lies on another."""
    order = sorted(range(len(middles)), key=lambda number: middles[number])
    places: list[float] = []
    for number in order:
        place = max(middles[number], _LABEL / 2)
        places.append(max(place, places[-1] + _LABEL) if places else place)
    limit = 1 - _LABEL / 2
    for at in reversed(range(len(places))):
        places[at] = min(places[at], limit)
        limit = places[at] - _LABEL
    found = dict(zip(order, places, strict=True))
    return [found[number] for number in range(len(middles))]
