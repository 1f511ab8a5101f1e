"""The two areas of a store, drawn to scale: what is live, what is garbage, what is free."""

from __future__ import annotations

from html import escape

from pdmlab.storage.kv.dump import Area, Dump, Row

COLOURS = {
    "master": "#4477aa",
    "reserved": "#aa3377",
    "live": "#228833",
    "deleted": "#ccbb44",
    "garbage": "#bbbbbb",
    "damaged": "#ee6677",
}
"""Of each state; blank flash is white."""
_WIDTH, _HEIGHT, _LEFT = 760, 22, 150


def state_of(row: Row) -> str:
    """Return a row's state, or damaged."""
    return row.state if row.sound else "damaged"


def svg(dump: Dump) -> str:
    """Return the picture; pointing at a record says what it is."""
    longest = max(area.size for area in dump.areas)
    bars = "".join(_bar(area, number, longest) for number, area in enumerate(dump.areas))
    used = {state_of(row) for area in dump.areas for row in area.rows}
    keys = "".join(
        f"<tspan fill='{colour}'>&#9632;</tspan> {state} &#160; " for state, colour in COLOURS.items() if state in used
    )
    height = len(dump.areas) * (_HEIGHT + 8) + 18
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_LEFT + _WIDTH + 4}' height='{height}' "
        f"font-family='sans-serif' font-size='11'>{bars}<text x='{_LEFT}' y='{height - 5}'>{keys}</text></svg>"
    )


def _bar(area: Area, number: int, longest: int) -> str:
    top = number * (_HEIGHT + 8) + 1
    scale = _WIDTH / longest
    version = "blank" if area.version is None else f"version {area.version}"
    label = f"area {number}, {version}{', live' if area.live else ''}"
    boxes = "".join(_box(row, _LEFT + (row.offset - area.offset) * scale, top, row.length * scale) for row in area.rows)
    return (
        f"<text x='0' y='{top + 15}'>{label}</text>"
        f"<rect x='{_LEFT}' y='{top}' width='{area.size * scale:.2f}' height='{_HEIGHT}' fill='white' stroke='#555'/>"
        f"{boxes}"
    )


def _box(row: Row, left: float, top: int, width: float) -> str:
    told = f"0x{row.offset:x}: {row.key}, {row.size} B, {state_of(row)}"
    return (
        f"<rect x='{left:.2f}' y='{top}' width='{max(width, 0.5):.2f}' height='{_HEIGHT}' "
        f"fill='{COLOURS[state_of(row)]}' stroke='white' stroke-width='0.4'><title>{escape(told)}</title></rect>"
    )
