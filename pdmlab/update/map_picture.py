"""Strips to scale as SVG: what lies where on a medium, its sectors, and where something is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT = 920, 8
"""Of a strip (px), and where the medium begins in it."""
LETTER = 6.1
"""Of a label, on the average (px)."""
SECTORS = 512
"""Sectors that are drawn at most: more would be a grey field."""
COLOURS = {
    "bootloader": "#56B4E9",
    "header": "#E69F00",
    "application": "#0072B2",
    "active": "#0072B2",
    "candidate": "#009E73",
    "previous": "#CC79A7",
    "old": "#CC79A7",
    "scratch": "#F0E442",
    "SOTP": "#CC79A7",
}
"""Okabe and Ito's palette, by the first word of a name: told apart by colour-blind readers."""
_BAD = "#b00020"
_Mark = tuple[int, int, str]


@dataclass(frozen=True)
class Stretch:
    """A named piece of a medium: offset and size (B); `filled` says how many of its bytes hold something."""

    name: str
    offset: int
    size: int
    filled: int | None = None
    note: str = ""


def colour(name: str) -> str:
    """Return the colour of an area or a slot."""
    return COLOURS.get(name, COLOURS.get(name.split(" ")[0], "#888888"))


def strip(
    title: str,
    size: int,
    stretches: Sequence[Stretch],
    bounds: Sequence[int] = (),
    marks: Sequence[_Mark] = (),
    start: int = 0,
) -> str:
    """Return a medium of `size` B as SVG: every stretch where it lies and as wide as it is, `marks` hatched in red.

    bounds: offsets of sectors' edges; start: the offset that the strip begins with. A stretch that is too narrow to be
    seen keeps its edges, and its label.
    """
    scale = (WIDTH - 2 * LEFT) / max(size - start, 1)
    places = sorted(stretches, key=lambda each: (each.offset, each.size))
    rows = _rows(
        [(LEFT + (each.offset - start + each.size / 2) * scale, len(_label(each)) * LETTER) for each in places]
    )
    top = 36 + 20 * (max((row for _, row in rows), default=0) + 1)
    parts = [f'<text x="{LEFT}" y="13" class="t">{escape(title)}</text>']
    parts.append(f'<rect x="{LEFT}" y="{top}" width="{(size - start) * scale:.2f}" height="34" class="m"/>')
    for each, (label, row) in zip(places, rows, strict=True):
        parts += _stretch(each, start, scale, top, label, 26 + 20 * row)
    if len(bounds) <= SECTORS:
        lines = "".join(f"M{LEFT + (edge - start) * scale:.2f} {top + 28}v6" for edge in bounds)
        parts.append(f'<path d="{lines}" class="s"/>')
    for first, last, words in marks:
        x, width = LEFT + (first - start) * scale, max((last - first) * scale, 3)
        x = min(x, WIDTH - width)
        parts.append(
            f'<rect x="{x:.2f}" y="{top - 3}" width="{width:.2f}" height="40" class="b"><title>{escape(words)}</title>'
            f'</rect><path d="M{x + width / 2:.2f} {top + 39}l-5 9h10z" fill="{_BAD}"/>'
        )
    for quarter in range(5):
        at = start + (size - start) * quarter // 4
        anchor = ("start", "middle", "middle", "middle", "end")[quarter]
        x = LEFT + (at - start) * scale
        parts.append(f'<text x="{x:.1f}" y="{top + 58}" text-anchor="{anchor}" class="a">0x{at:x}</text>')
    height = top + 66
    said = escape(f"{title}: " + ", ".join(f"{each.name} at 0x{each.offset:x}" for each in places), quote=True)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="100%" style="max-width:{WIDTH}px;display:block" role="img"'
        f' aria-label="{said}" xmlns="http://www.w3.org/2000/svg"><defs><pattern id="h" width="6" height="6"'
        f' patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M0 0v6" stroke="{_BAD}"'
        f' stroke-width="3"/></pattern></defs><style>.t{{font:600 13px sans-serif}}.l,.a{{font:11px sans-serif}}'
        f".t,.l{{fill:currentColor}}.a{{fill:currentColor;opacity:.65}}.m{{fill:none;stroke:currentColor;opacity:.45}}"
        f".s{{stroke:currentColor;stroke-width:.5;opacity:.35;fill:none}}.k{{stroke:currentColor;stroke-width:.6;"
        f"opacity:.5;fill:none}}.b{{fill:url(#h);stroke:{_BAD};stroke-width:1.5}}</style>{''.join(parts)}</svg>"
    )


def _stretch(each: Stretch, start: int, scale: float, top: int, label: float, line: int) -> list[str]:
    x, width = LEFT + (each.offset - start) * scale, max(each.size, 0) * scale
    fill, middle = colour(each.name), x + width / 2
    words = f"{each.name}: 0x{each.offset:x}..0x{each.offset + each.size:x}, {each.size:,} B" + (
        f"; {each.note}" if each.note else ""
    )
    opacity = ".78" if each.filled is None else ".3"
    parts = [
        f'<rect x="{x:.2f}" y="{top}" width="{width:.2f}" height="34" fill="{fill}" fill-opacity="{opacity}"'
        f' stroke="{fill}" stroke-width="1" data-area="{escape(each.name)}" data-offset="{each.offset}"'
        f' data-size="{each.size}"><title>{escape(words)}</title></rect>'
    ]
    if each.filled:
        parts.append(
            f'<rect x="{x:.2f}" y="{top}" width="{min(each.filled, each.size) * scale:.2f}" height="34" fill="{fill}"'
            f' fill-opacity=".85"><title>{escape(words)}</title></rect>'
        )
    parts.append(f'<path d="M{middle:.2f} {top}V{line + 14}L{label:.2f} {line + 10}" class="k"/>')
    words = escape(_label(each))
    parts.append(f'<text x="{label:.2f}" y="{line + 6}" text-anchor="middle" class="l">{words}</text>')
    return parts


def _label(each: Stretch) -> str:
    return f"{each.name} · 0x{each.offset:x}"


def _rows(labels: Sequence[tuple[float, float]]) -> list[tuple[float, int]]:
    """Return for labels (middle, ascending, and width, px) where each stands, and in which row: none on another."""
    ends: list[float] = []
    found = []
    for middle, width in labels:
        place = min(max(middle, width / 2), WIDTH - width / 2)
        row = next((number for number, end in enumerate(ends) if end <= place - width / 2), len(ends))
        ends[row : row + 1] = [place + width / 2 + LETTER]
        found.append((place, row))
    return found
