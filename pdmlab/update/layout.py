"""Flash layouts: where bootloader, header, application, SOTP sections and update candidate lie.

Addresses of areas in flash are offsets from the start of flash, as Mbed's header_offset and app_offset
are, and as a block device over the whole flash takes them. A layout comes from an mbed_app.json and the
board's flash geometry:

    FlashLayout.from_mbed_app(document, "K64F", FlashGeometry(0, 1 << 20, ((256, 4096),), program_size=8))

A file whose layout is not possible has none; `survey` shows all of it nevertheless, and what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pdmlab.errors import ConfigError
from pdmlab.update.areas import INTERNAL, STORAGE_COMPONENTS, Area, FlashGeometry, faults
from pdmlab.update.layout_settings import HEADER_OFFSET, overrides, survey_config
from pdmlab.update.survey import shown, str_of

__all__ = ["HEADER_OFFSET", "INTERNAL", "STORAGE_COMPONENTS", "Area", "FlashGeometry", "FlashLayout"]


@dataclass(frozen=True)
class FlashLayout:
    """Where everything lies; constructing one checks it and raises ConfigError for what would destroy itself.

    candidate_on: the component that holds the candidate slot: SD, SPIF, QSPIF, or FLASHIAP for the
    internal flash itself (the candidate's offset then counts from the start of flash as well).
    storage_locations: into how many slots mbed-bootloader and the older client divide the candidate's area.
    application_limit: mbed-bootloader's max-application-size (B), if the file has one.
    """

    geometry: FlashGeometry
    bootloader: Area
    header: Area
    application: Area
    sotp: tuple[Area, Area]
    candidate: Area
    candidate_on: str
    storage_locations: int = 1
    application_limit: int | None = None

    def __post_init__(self) -> None:
        for fault in faults(self):
            raise ConfigError(fault.words, hint=fault.hint)

    @property
    def header_offset(self) -> int:
        """Return Mbed's target.header_offset."""
        return self.header.offset

    @property
    def app_offset(self) -> int:
        """Return Mbed's target.app_offset."""
        return self.application.offset

    @property
    def max_application_size(self) -> int:
        """Return the largest image that a bootloader installs (B)."""
        room = self.application.size
        return room if self.application_limit is None else min(room, self.application_limit)

    def areas(self) -> list[Area]:
        """List the areas in flash by offset; the candidate only if it lies there too."""
        inside = [self.bootloader, self.header, self.application, *self.sotp]
        if self.candidate_on == INTERNAL:
            inside.append(self.candidate)
        return sorted(inside, key=lambda area: area.offset)

    def address(self, area: Area) -> int:
        """Return the address at which the processor sees an area in flash."""
        return self.geometry.start + area.offset

    @property
    def candidate_unit(self) -> int:
        """How much of the candidate's medium is programmed at once (B): a card's block is 512 B (SD Physical Layer)."""
        if self.candidate_on == INTERNAL:
            return self.geometry.program_size
        return 512 if self.candidate_on == "SD" else 1

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
        `sotp-section-*`, `update-client.*`, `target.header_offset` and `app_offset`; those of bootloaders' own
        files and of `target.restrict_size` as well. What the file leaves out is taken from geometry, and SOTP from
        the last two sectors of flash.
        """
        config = overrides(document, target)
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
        found = survey_config(config, geometry, candidate_on=candidate_on, storage_size=storage_size)
        for fault in found.faults:
            raise ConfigError(fault.words, hint=fault.hint)
        return cls(
            geometry,
            found.bootloader,
            found.header,
            found.application,
            found.sotp,
            found.candidate,
            found.candidate_on,
            found.storage_locations,
            found.application_limit,
        )

    def __repr__(self) -> str:
        inside = [(INTERNAL, area) for area in self.areas()]
        rows = inside if self.candidate_on == INTERNAL else [*inside, (self.candidate_on, self.candidate)]
        size, start = self.geometry.size, self.geometry.start
        lines = [f"FlashLayout: {size // 1024:,} KiB of flash at 0x{start:08x}; offsets count from there"]
        lines += [str_of(medium, area) for medium, area in rows]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return shown(self, [])
