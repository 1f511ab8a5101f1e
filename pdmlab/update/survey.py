"""Where everything would lie in a board's flash, be it possible or not, and what is wrong with that.

A `FlashLayout` is what a board can live with; a survey is for looking at a file that is still being written:
`layout_settings.survey` makes one.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pdmlab.update.areas import INTERNAL, Area, Fault, FlashGeometry, faults
from pdmlab.update.map_picture import Stretch, strip

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Survey:
    """Where everything would lie; `faults` says why it cannot. Sizes and offsets in B.

    assumed  names of areas of which the file says nothing, so that they lie where they do by default
    """

    geometry: FlashGeometry
    bootloader: Area
    header: Area
    application: Area
    sotp: tuple[Area, Area]
    candidate: Area
    candidate_on: str
    storage_size: int | None = None
    assumed: tuple[str, ...] = ()
    unread: tuple[Fault, ...] = field(default=(), repr=False)
    storage_locations: int = 1
    application_limit: int | None = None

    @property
    def faults(self) -> list[Fault]:
        """What is wrong, what could not be read first; [] where a board can live with it."""
        return [*self.unread, *map(self._with_default, faults(self, storage_size=self.storage_size))]

    @property
    def warnings(self) -> list[Fault]:
        """What is possible here, but not for everything that may be built for the board; [] where there is nothing."""
        open_ = [number for number in (0, 1) if self.sotp[number].name in self.assumed]
        bounds = self.geometry.bounds()
        lost = [
            (bounds[number - 3], bounds[number - 2])
            for number in open_
            if self.candidate_on == INTERNAL and self.candidate.offset < bounds[number - 2]
            and self.candidate.end > bounds[number - 3] and self.sotp[number].offset != bounds[number - 3]
        ]  # fmt: skip
        if not lost:
            return []
        start, end = lost[0][0], lost[-1][1]
        words = (
            f"{self.candidate} takes 0x{start:x}..0x{end:x}, where an application built without sotp keys has its SOTP:"
            " the first update would erase its root of trust"
        )
        hint = (
            "set sotp-section-1-address and sotp-section-2-address in the application's mbed_app.json, or end the"
            " candidate before them; a virtual board has SOTP before the candidate"
        )
        return [Fault("warning", words, hint, start=start, end=end)]

    def areas(self) -> list[Area]:
        """List the areas in flash by offset; the candidate only if it lies there too."""
        inside = [self.bootloader, self.header, self.application, *self.sotp]
        if self.candidate_on == INTERNAL:
            inside.append(self.candidate)
        return sorted(inside, key=lambda area: area.offset)

    def frame(self) -> pd.DataFrame:
        """Return a row an area: medium, area, offset_B, end_B, size_B, assumed, faults and warnings (in words)."""
        import pandas as pd

        found, warned = self.faults, self.warnings
        rows = [
            {
                "medium": medium,
                "area": area.name,
                "offset_B": area.offset,
                "end_B": area.end,
                "size_B": area.size,
                "assumed": area.name in self.assumed,
                "faults": "; ".join(fault.words for fault in found if str(area) in fault.words),
                "warnings": "; ".join(fault.words for fault in warned if str(area) in fault.words),
            }
            for medium, area in self.placed()
        ]
        return pd.DataFrame(rows)

    def placed(self) -> list[tuple[str, Area]]:
        """List every area with its medium: those in flash by offset, then the candidate, if it lies elsewhere."""
        inside = [(INTERNAL, area) for area in self.areas()]
        return inside if self.candidate_on == INTERNAL else [*inside, (self.candidate_on, self.candidate)]

    def _with_default(self, fault: Fault) -> Fault:
        places = [name for name in self.assumed if name in fault.words]
        if not places:
            return fault
        said = f"{fault.hint}; the file does not place {' and '.join(places)}, which lies there by default"
        return replace(fault, hint=said)

    def __str__(self) -> str:
        lines = [
            str_of(medium, area) + (" (by default)" if area.name in self.assumed else "")
            for medium, area in self.placed()
        ]
        lines += [f"{fault.kind}: {fault.words}\n  hint: {fault.hint}" for fault in [*self.faults, *self.warnings]]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return shown(self, [*self.faults, *self.warnings], self.storage_size, self.assumed)


def str_of(medium: str, area: Area) -> str:
    """Return an area in a line, as text lists it."""
    return f"{medium:<9} 0x{area.offset:08x}..0x{area.end:08x} {area.size:>12,} B  {area.name}"


def shown(
    layout: Any,  # Any: a Survey or a FlashLayout, which have the same areas
    found: list[Fault],
    storage_size: int | None = None,
    assumed: tuple[str, ...] = (),
) -> str:
    """Return a layout as a cell shows it: strips to scale, the areas with addresses, what is wrong in words."""
    geometry: FlashGeometry = layout.geometry
    inside = [(INTERNAL, area) for area in layout.areas()]
    rows = inside if layout.candidate_on == INTERNAL else [*inside, (layout.candidate_on, layout.candidate)]
    strips = _strip(f"flash, {geometry.size // 1024:,} KiB", geometry.size, inside, found, geometry.bounds())
    if layout.candidate_on != INTERNAL:
        size = max(storage_size or 0, layout.candidate.end)
        known = f", {size >> 20:,} MiB" if storage_size else ", as far as it is known"
        strips += _strip(f"{layout.candidate_on}{known}", size, rows[len(inside) :], found)
    start = geometry.start
    default = dict.fromkeys(assumed, " (by default)")
    body = ""
    for where, area in rows:
        address = f"0x{start + area.offset:08x}" if where == INTERNAL else ""
        cells = (where, area.name + default.get(area.name, ""), f"0x{area.offset:x}", f"0x{area.end:x}",
                 f"{area.size} B", address)  # fmt: skip
        body += "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
    head = "<tr><th>medium</th><th>area</th><th>from</th><th>to</th><th>size</th><th>address</th></tr>"
    said = "".join(
        f"<li><b style='color:#b00020'>{fault.kind}</b> {html.escape(fault.words)}"
        f" <i>{html.escape(fault.hint)}</i></li>"
        for fault in found
    )
    table = f"<table><caption>Flash layout</caption>{head}{body}</table>"
    return f"{strips}{table}" + (f"<ul>{said}</ul>" if said else "")


def _strip(
    title: str, size: int, rows: list[tuple[str, Area]], found: list[Fault], bounds: list[int] | None = None
) -> str:
    medium = rows[0][0]
    marks = [
        (fault.start, fault.end, fault.words) for fault in found if fault.medium == medium and fault.end > fault.start
    ]
    return strip(title, size, [Stretch(area.name, area.offset, area.size) for _, area in rows], bounds or [], marks)
