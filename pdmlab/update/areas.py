"""Areas of a flash or of a medium beside it, and what is wrong with how they lie.

Offsets of areas in flash count from its start, as Mbed's header_offset and app_offset do, and as a block device over
the whole flash takes them.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from pdmlab.errors import ConfigError
from pdmlab.update.header import HEADER_SIZE

INTERNAL = "FLASHIAP"
STORAGE_COMPONENTS = ("SD", "SPIF", "QSPIF", INTERNAL)

FaultKind = Literal["unreadable", "contradiction", "no room", "outside", "overlap", "misaligned", "warning"]


@dataclass(frozen=True)
class FlashGeometry:
    """A microcontroller's flash: start address, size (B), runs of (count, size) of sectors from the lowest."""

    start: int
    size: int
    sectors: tuple[tuple[int, int], ...]
    program_size: int = 1

    def __post_init__(self) -> None:
        total = sum(count * size for count, size in self.sectors)
        if total != self.size:
            raise ConfigError(f"the flash's sectors make {total} B, its size is {self.size} B")

    def bounds(self) -> list[int]:
        """Return the offset of every sector's start, and the end of flash."""
        sizes = itertools.chain.from_iterable([size] * count for count, size in self.sectors)
        return list(itertools.accumulate(sizes, initial=0))


@dataclass(frozen=True)
class Area:
    """A named stretch of a medium: offset and size (B)."""

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Return the first offset after the area."""
        return self.offset + self.size

    def __str__(self) -> str:
        return f"{self.name} at 0x{self.offset:x}..0x{self.end:x}"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a layout, in words, and what to do; from start to end (B) of a medium it is marked.

    Where start is end, there is no such place: two settings contradict each other, or one cannot be read. Of what lies
    across sectors that is the sector, and `edge` is the offset (B) that is not one of its edges. A warning is of what a
    board can live with, but not whatever is built for it.
    """

    kind: FaultKind
    words: str
    hint: str
    medium: str = INTERNAL
    start: int = 0
    end: int = 0
    edge: int | None = None

    def __str__(self) -> str:
        return f"{self.words}: {self.hint}"


class Placed(Protocol):
    """Where everything lies, be it well or not."""

    @property
    def geometry(self) -> FlashGeometry:
        """The microcontroller's flash."""
        ...

    @property
    def header(self) -> Area:
        """The active image's header."""
        ...

    @property
    def application(self) -> Area:
        """The active image."""
        ...

    @property
    def sotp(self) -> tuple[Area, Area]:
        """Where the root of trust is kept."""
        ...

    @property
    def candidate(self) -> Area:
        """The update candidate's slot."""
        ...

    @property
    def candidate_on(self) -> str:
        """What the candidate lies on: one of STORAGE_COMPONENTS."""
        ...

    def areas(self) -> list[Area]:
        """List the areas in flash by offset."""
        ...


def faults(placed: Placed, *, storage_size: int | None = None) -> Iterator[Fault]:
    """Yield what would destroy itself, or can never be; storage_size (B) is the external medium's, if known."""
    areas, candidate, medium = placed.areas(), placed.candidate, placed.candidate_on
    if medium not in STORAGE_COMPONENTS:
        yield Fault(
            "contradiction", f"no storage component {medium!r}", f"use one of {', '.join(STORAGE_COMPONENTS)}", medium
        )
    external = medium != INTERNAL
    for area in [*areas, *([candidate] if external else [])]:
        if area.offset < 0 or area.size <= 0:
            on = medium if area is candidate else INTERNAL
            hint = "look at the sizes and offsets in mbed_app.json"
            yield Fault("no room", f"{area} has no room", hint, on, area.offset, area.offset)
    flash = placed.geometry.size
    for area in areas:
        if area.end > flash:
            yield Fault(
                "outside",
                f"{area} ends outside the flash of 0x{flash:x} B",
                "look at flash-start-address and flash-size",
                start=max(area.offset, flash),
                end=area.end,
            )
    if external and storage_size is not None and candidate.end > storage_size:
        yield Fault(
            "outside",
            f"{candidate} ends outside the {medium} medium of {storage_size} B",
            "look at update-client.storage-address and storage-size",
            medium,
            max(candidate.offset, storage_size),
            candidate.end,
        )
    for below, above in itertools.combinations(areas, 2):
        start, end = max(below.offset, above.offset), min(below.end, above.end)
        if start < end:
            words = f"{below} and {above} overlap"
            yield Fault("overlap", words, "move one of them in mbed_app.json", start=start, end=end)
    yield from _misaligned(placed, areas)


def _misaligned(placed: Placed, areas: list[Area]) -> Iterator[Fault]:
    geometry, header, application = placed.geometry, placed.header, placed.application
    bounds = geometry.bounds()
    erased = [*placed.sotp, *([placed.candidate] if placed.candidate_on == INTERNAL else [])]
    edges = [(area, edge) for area in erased if area.size > 0 for edge in (area.offset, area.end)]
    edges.append((header, header.offset))
    # Installing erases from the header's sector to the end of the application's last one.
    if application.size > 0 and _shared(application, areas, bounds):
        edges.append((application, application.end))
    for area, edge in edges:
        if edge not in bounds and 0 <= edge <= geometry.size:
            at = bisect_right(bounds, edge)
            yield Fault(
                "misaligned",
                f"{area}: 0x{edge:x} is not the edge of a flash sector",
                f"an erase takes whole sectors: here 0x{bounds[at - 1]:x}..0x{bounds[at]:x}",
                start=bounds[at - 1],
                end=bounds[at],
                edge=edge,
            )
    if 0 < header.size < HEADER_SIZE:
        words = f"{header} is smaller than a firmware header ({HEADER_SIZE} B)"
        yield Fault("no room", words, "move target.app_offset up", start=header.offset, end=header.end)
    unit = geometry.program_size
    for area in (header, application):
        if area.offset % unit:
            words = f"{area} is not aligned to the program size of {unit} B"
            start, at = area.offset // unit * unit, area.offset
            yield Fault("misaligned", words, "move it", start=start, end=start + unit, edge=at)
    if header.end != application.offset:
        words, hint = f"{header} and {application} do not touch", "app_offset is where the header's region ends"
        yield Fault("contradiction", words, hint, start=header.end, end=application.offset)


def _shared(application: Area, areas: list[Area], bounds: list[int]) -> bool:
    """Whether the application's last sector holds something else behind it."""
    at = bisect_right(bounds, application.end - 1)
    last = bounds[at] if at < len(bounds) else application.end
    return any(application.end <= area.offset < last for area in areas)
