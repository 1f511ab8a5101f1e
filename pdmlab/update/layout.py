"""Flash layouts: where bootloader, header, application, SOTP sections and update candidate lie.

Addresses of areas in flash are offsets from the start of flash, as Mbed's header_offset and app_offset
are, and as a block device over the whole flash takes them. A layout comes from an mbed_app.json and the
board's flash geometry:

    FlashLayout.from_mbed_app(document, "K64F", FlashGeometry(0, 1 << 20, ((256, 4096),), program_size=8))
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pdmlab.errors import ConfigError
from pdmlab.update.expressions import Expressions, Value, macro_name
from pdmlab.update.header import HEADER_SIZE

HEADER_OFFSET = 0x10000
APP_OFFSET = 0x10400
INTERNAL = "FLASHIAP"
STORAGE_COMPONENTS = ("SD", "SPIF", "QSPIF", INTERNAL)


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
class FlashLayout:
    """Where everything lies; constructing one checks it and raises ConfigError for what would destroy itself.

    candidate_on: the component that holds the candidate slot: SD, SPIF, QSPIF, or FLASHIAP for the
    internal flash itself (the candidate's offset then counts from the start of flash as well).
    """

    geometry: FlashGeometry
    bootloader: Area
    header: Area
    application: Area
    sotp: tuple[Area, Area]
    candidate: Area
    candidate_on: str

    def __post_init__(self) -> None:
        for fault, hint in self._faults():
            raise ConfigError(fault, hint=hint)

    @property
    def header_offset(self) -> int:
        """Return Mbed's target.header_offset."""
        return self.header.offset

    @property
    def app_offset(self) -> int:
        """Return Mbed's target.app_offset."""
        return self.application.offset

    def areas(self) -> list[Area]:
        """List the areas in flash by offset; the candidate only if it lies there too."""
        inside = [self.bootloader, self.header, self.application, *self.sotp]
        if self.candidate_on == INTERNAL:
            inside.append(self.candidate)
        return sorted(inside, key=lambda area: area.offset)

    def address(self, area: Area) -> int:
        """Return the address at which the processor sees an area in flash."""
        return self.geometry.start + area.offset

    def _faults(self) -> Iterator[tuple[str, str]]:
        if self.candidate_on not in STORAGE_COMPONENTS:
            yield f"no storage component {self.candidate_on!r}", f"use one of {', '.join(STORAGE_COMPONENTS)}"
        for area in [*self.areas(), self.candidate]:
            if area.offset < 0 or area.size <= 0:
                yield f"{area} has no room", "look at the sizes and offsets in mbed_app.json"
        flash = self.geometry.size
        for area in self.areas():
            if area.end > flash:
                yield f"{area} ends outside the flash of 0x{flash:x} B", "look at flash-start-address and flash-size"
        for below, above in itertools.pairwise(self.areas()):
            if below.end > above.offset:
                yield f"{below} and {above} overlap", "move one of them in mbed_app.json"
        bounds = set(self.geometry.bounds())
        erased = [*self.sotp, *([self.candidate] if self.candidate_on == INTERNAL else [])]
        aligned = [(area, edge) for area in erased for edge in (area.offset, area.end)]
        # Installing erases from the header's sector to the end of the application's last one.
        for area, edge in [*aligned, (self.header, self.header.offset), (self.application, self.application.end)]:
            if edge not in bounds:
                yield f"{area}: 0x{edge:x} is not the edge of a flash sector", "an erase takes whole sectors"
        if self.header.size < HEADER_SIZE:
            yield f"{self.header} is smaller than a firmware header ({HEADER_SIZE} B)", "move target.app_offset up"
        if self.header.offset % self.geometry.program_size or self.app_offset % self.geometry.program_size:
            yield f"{self.header} is not aligned to the program size of {self.geometry.program_size} B", "move it"
        if self.header.end != self.application.offset:
            yield f"{self.header} and {self.application} do not touch", "app_offset is where the header's region ends"

    @classmethod
    def from_mbed_app(
        cls,
        document: Mapping[str, Any],
        target: str,
        geometry: FlashGeometry,
        *,
        candidate_on: str | None = None,
        storage_size: int | None = None,
    ) -> FlashLayout:
        """Read the layout of `target` from an mbed_app.json.

        candidate_on is the component that the board has anyhow, for files that add none themselves;
        storage_size (B) is the external medium's, if known.

        The keys are those of the seed's configuration guide: `device-management.flash-*` and
        `sotp-section-*`, `update-client.*`, `target.header_offset` and `app_offset`. What the file leaves
        out is taken from geometry, and SOTP from the last two sectors of flash.
        """
        config = _overrides(document, target)
        return cls.from_config(config, geometry, candidate_on=candidate_on, storage_size=storage_size)

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        geometry: FlashGeometry,
        *,
        candidate_on: str | None = None,
        storage_size: int | None = None,
    ) -> FlashLayout:
        """Read the layout from the settings of one target, already merged."""
        reader = _Reader(config, geometry)
        start, size = reader.number("flash-start-address", geometry.start), reader.number("flash-size", geometry.size)
        if (start, size) != (geometry.start, geometry.size):
            raise ConfigError(
                f"the configuration has 0x{size:x} B of flash at 0x{start:x}, the board 0x{geometry.size:x} B"
                f" at 0x{geometry.start:x}",
                hint="look at flash-start-address and flash-size in mbed_app.json",
            )
        header_offset = reader.number("target.header_offset", HEADER_OFFSET)
        app_offset = reader.number("target.app_offset", APP_OFFSET)
        details = reader.number("update-client.application-details", start + header_offset)
        if details - start != header_offset:
            raise ConfigError(
                f"update-client.application-details is 0x{details:x}, but target.header_offset 0x{header_offset:x}",
                hint="both must name the same place; the bootloader looks at application-details",
            )
        sotp = reader.sotp()
        component, candidate = reader.candidate(candidate_on, storage_size)
        tops = [area.offset for area in sotp if area.offset > app_offset]
        if component == INTERNAL and candidate.offset > app_offset:
            tops.append(candidate.offset)
        below = [area.offset for area in sotp if area.offset < header_offset]
        return cls(
            geometry,
            Area("bootloader", 0, min([*below, header_offset])),
            Area("header", header_offset, app_offset - header_offset),
            Area("application", app_offset, min([*tops, geometry.size]) - app_offset),
            sotp,
            candidate,
            component,
        )

    def _repr_html_(self) -> str:
        rows = [("flash", area) for area in self.areas()]
        if self.candidate_on != INTERNAL:
            rows.append((self.candidate_on, self.candidate))
        body = "".join(
            f"<tr><td>{html.escape(where)}</td><td>{html.escape(area.name)}</td><td>0x{area.offset:x}</td>"
            f"<td>0x{area.end:x}</td><td>{area.size} B</td></tr>"
            for where, area in rows
        )
        head = "<tr><th>medium</th><th>area</th><th>from</th><th>to</th><th>size</th></tr>"
        return f"<table><caption>Flash layout</caption>{head}{body}</table>"


class _Reader:
    """One target's settings, by any of the prefixes under which they are in use."""

    # The library's own name changed; bootloaders keep the section addresses under nvstore.
    _PREFIXES = ("", "device-management.", "device_management.", "app.")

    def __init__(self, config: Mapping[str, Any], geometry: FlashGeometry) -> None:
        self._config = config
        self._geometry = geometry
        symbols: dict[str, Value] = {
            "MBED_CONF_APP_FLASH_START_ADDRESS": geometry.start,
            "MBED_CONF_APP_FLASH_SIZE": geometry.size,
            "MBED_ROM_START": geometry.start,
            "MBED_ROM_SIZE": geometry.size,
        }
        for key, value in config.items():
            if isinstance(value, int | str) and not isinstance(value, bool):
                symbols[macro_name(key)] = value
                # mbed_lib.json of the seed gives its own settings the application's macro names.
                for prefix in self._PREFIXES[1:3]:
                    if key.startswith(prefix):
                        symbols[macro_name(key.removeprefix(prefix))] = value
        self._expressions = Expressions(symbols)

    def number(self, key: str, default: int) -> int:
        for prefix in self._PREFIXES if "." not in key else ("",):
            value = self._config.get(prefix + key)
            if value is not None:
                return self._expressions.value(value, of=prefix + key)
        return default

    def sotp(self) -> tuple[Area, Area]:
        bounds = self._geometry.bounds()
        start, sections = self._geometry.start, []
        for number in (1, 2):
            offset, end = bounds[number - 4], bounds[number - 3]  # the last two sectors
            address = self.number(f"nvstore.area_{number}_address", start + offset)
            size = self.number(f"nvstore.area_{number}_size", end - offset)
            address = self.number(f"sotp-section-{number}-address", address)
            size = self.number(f"sotp-section-{number}-size", size)
            sections.append(Area(f"SOTP section {number}", address - start, size))
        return sections[0], sections[1]

    def candidate(self, candidate_on: str | None, storage_size: int | None) -> tuple[str, Area]:
        component = self._component() or candidate_on or INTERNAL
        start, size = self._geometry.start, self._geometry.size
        bounds = self._geometry.bounds()
        if component == INTERNAL:
            # Without a word in the file: the upper half of flash, as the bootloader's own configuration has it.
            half = next(bound for bound in bounds if bound >= size // 2)
            address = self.number("update-client.storage-address", start + half)
            room = self.number("update-client.storage-size", bounds[-3] - half)
            return component, Area("candidate", address - start, room)
        address = self.number("update-client.storage-address", 0)
        room = self.number("update-client.storage-size", (storage_size or address + size) - address)
        candidate = Area("candidate", address, room)
        if storage_size is not None and candidate.end > storage_size:
            raise ConfigError(
                f"{candidate} ends outside the {component} medium of {storage_size} B",
                hint="look at update-client.storage-address and storage-size",
            )
        return component, candidate

    def _component(self) -> str | None:
        added = self._config.get("target.components_add", [])
        if "NUSD" in added:  # Nuvoton's own driver for the same cards
            return "SD"
        return next((name for name in STORAGE_COMPONENTS if name in added), None)


def _overrides(document: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Merge the settings for every target with those of one, and the numbers of the file's macros."""
    sections = document.get("target_overrides")
    if not isinstance(sections, Mapping) or target not in sections:
        known = ", ".join(name for name in sections if name != "*") if isinstance(sections, Mapping) else "none"
        raise ConfigError(
            f"mbed_app.json has no target_overrides for {target}", hint=f"it has: {known}; add a section for {target}"
        )
    declared = {key: row["value"] for key, row in document.get("config", {}).items() if "value" in row}
    return {**declared, **sections.get("*", {}), **sections[target]}
