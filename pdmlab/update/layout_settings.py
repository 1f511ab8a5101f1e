"""What an mbed_app.json says of where things lie in a board's flash: read whole, whatever is wrong with it.

print(survey(document, "K64F", find("K64F").geometry()))
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from pdmlab.errors import ConfigError
from pdmlab.update.areas import INTERNAL, STORAGE_COMPONENTS, Area, Fault, FlashGeometry
from pdmlab.update.expressions import Expressions, Value, macro_name
from pdmlab.update.survey import Survey

HEADER_OFFSET = 0x10000
HEADER_REGION = 0x400
BOOTLOADER_SIZE = "(32*1024)"
"""mbed-bootloader's own default (mbed_lib.json: bootloader-size), where expressions ask for MBED_BOOTLOADER_SIZE."""
MACROS = "(macros)"
"""Under this key, which no file can have, `overrides` keeps the file's macros."""


def survey(
    document: Mapping[str, Any],
    target: str,
    geometry: FlashGeometry,
    *,
    candidate_on: str | None = None,
    storage_size: int | None = None,
    file: str = "mbed_app.json",
) -> Survey:
    """Read where everything of `target` lies in an mbed_app.json, whatever is wrong with it.

    candidate_on is the component that the board has anyhow, for files that add none themselves; storage_size (B) is
    the external medium's, if known; file is what messages call the document. The keys are those of
    `FlashLayout.from_mbed_app`.

    Raises:
        ConfigError: the file has nothing for this target.
    """
    return survey_config(
        overrides(document, target, file), geometry, candidate_on=candidate_on, storage_size=storage_size
    )


def survey_config(
    config: Mapping[str, Any],
    geometry: FlashGeometry,
    *,
    candidate_on: str | None = None,
    storage_size: int | None = None,
) -> Survey:
    """Read it from the settings of one target, already merged."""
    read = _Reader(config, geometry)
    return read.survey(candidate_on, storage_size)


class _Reader:
    """One target's settings, by any of the prefixes under which they are in use; what cannot be read is a fault."""

    # The library's own name changed; bootloaders keep the section addresses under nvstore.
    _PREFIXES = ("", "device-management.", "device_management.", "app.", "mbed-bootloader.")

    def __init__(self, config: Mapping[str, Any], geometry: FlashGeometry) -> None:
        self._config = config
        self._geometry = geometry
        self._faults: list[Fault] = []
        self._assumed: list[str] = []
        symbols: dict[str, Value] = {
            "MBED_CONF_APP_FLASH_START_ADDRESS": geometry.start,
            "MBED_CONF_APP_FLASH_SIZE": geometry.size,
            "MBED_ROM_START": geometry.start,
            "MBED_ROM_SIZE": geometry.size,
            "MBED_BOOTLOADER_SIZE": self._said("bootloader-size") or BOOTLOADER_SIZE,
        }
        for key, value in config.items():
            if isinstance(value, int | str) and not isinstance(value, bool):
                symbols[macro_name(key)] = value
                # mbed_lib.json of the seed gives its own settings the application's macro names.
                for prefix in self._PREFIXES[1:3]:
                    if key.startswith(prefix):
                        symbols[macro_name(key.removeprefix(prefix))] = value
        symbols |= {name: value for name, value in config.get(MACROS, {}).items() if name not in symbols}
        self._expressions = Expressions(symbols)

    def survey(self, candidate_on: str | None, storage_size: int | None) -> Survey:
        geometry, number = self._geometry, self.number
        start = geometry.start
        said = number("flash-start-address", start), number("flash-size", geometry.size)
        if said != (start, geometry.size):
            self._contradiction(
                f"the configuration has 0x{said[1]:x} B of flash at 0x{said[0]:x}, the board 0x{geometry.size:x} B"
                f" at 0x{start:x}",
                "look at flash-start-address and flash-size in mbed_app.json",
            )
        details = self.optional("update-client.application-details")
        header = self.optional("application-header-address") if details is None else details  # the 4.x bootloader's
        header_offset = number("target.header_offset", HEADER_OFFSET if header is None else header - start)
        if details is not None and details - start != header_offset:
            self._contradiction(
                f"update-client.application-details is 0x{details:x}, but target.header_offset 0x{header_offset:x}",
                "both must name the same place; the bootloader looks at application-details",
            )
        self._agree("application-header-address", header_offset, "target.header_offset")
        begins = self.optional("application-start-address")
        app_offset = number("target.app_offset", header_offset + HEADER_REGION if begins is None else begins - start)
        self._agree("application-start-address", app_offset, "target.app_offset")
        component, candidate = self.candidate(candidate_on, storage_size, app_offset)
        sotp = self.sotp(candidate if component == INTERNAL else None)
        locations, limit = self._locations(), self.optional("max-application-size")
        tops = [area.offset for area in sotp if area.offset > app_offset]
        if component == INTERNAL and candidate.offset > app_offset:
            tops.append(candidate.offset)
        top = min([*tops, geometry.size])
        below = [area.offset for area in sotp if area.offset < header_offset]
        return Survey(
            geometry,
            Area("bootloader", 0, self._bootloader(min([*below, header_offset]))),
            Area("header", header_offset, app_offset - header_offset),
            Area("application", app_offset, self._application(app_offset, top)),
            sotp,
            candidate,
            component,
            storage_size,
            tuple(sorted(self._assumed, key="candidate".__eq__)),
            tuple(self._faults),
            locations,
            limit,
        )

    def _agree(self, key: str, offset: int, other: str) -> None:
        """Note a contradiction where an address is not that of an offset."""
        address = self.optional(key)
        if address is not None and address - self._geometry.start != offset:
            self._contradiction(
                f"{key} is 0x{address:x}, but {other} 0x{offset:x}",
                "both must name the same place; the bootloader looks at its own",
            )

    def _locations(self) -> int:
        """Return the number of storage locations, at least 1."""
        said = self.number("update-client.storage-locations", 1)
        if said < 1:
            self._contradiction(f"update-client.storage-locations is {said}", "there is at least one: write 1")
        return max(said, 1)

    def _bootloader(self, room: int) -> int:
        """Return its size: what is said, in the bootloader's own file what it is restricted to, else what is left."""
        if self._is_bootloaders_own and self._said("target.restrict_size") is not None:
            return self.number("target.restrict_size", room)
        size = self.optional("bootloader-size")
        return room if size is None else size

    def _application(self, offset: int, top: int) -> int:
        """Return its size: what the linker is told, if it is; else as far as the next area."""
        said = None if self._is_bootloaders_own else self.optional("target.restrict_size")
        return top - offset if said is None else said

    @property
    def _is_bootloaders_own(self) -> bool:
        """Whether the file is that of a bootloader: only it says where applications start."""
        return self._said("application-start-address") is not None

    def number(self, key: str, default: int) -> int:
        found = self.optional(key)
        return default if found is None else found

    def optional(self, key: str) -> int | None:
        """Return a setting's number; None where there is none, or none that can be read, which is a fault."""
        for prefix in self._prefixes(key):
            value = self._config.get(prefix + key)
            if value is not None:
                try:
                    if isinstance(value, bool) or not isinstance(value, int | str):
                        raise ConfigError(f"{prefix + key}: {str(value)[:40]!r} is no number")
                    return self._expressions.value(value, of=prefix + key)
                except ConfigError as error:
                    fault = Fault("unreadable", error.message, error.hint or "write a number, or arithmetic on macros")
                    if fault not in self._faults:
                        self._faults.append(fault)
                    return None
        return None

    def _said(self, key: str) -> Value | None:
        return next(
            (
                self._config[prefix + key]
                for prefix in self._prefixes(key)
                if self._config.get(prefix + key) is not None
            ),
            None,
        )

    def _prefixes(self, key: str) -> tuple[str, ...]:
        return self._PREFIXES if "." not in key else ("",)

    def _contradiction(self, words: str, hint: str) -> None:
        self._faults.append(Fault("contradiction", words, hint))

    def sotp(self, candidate: Area | None) -> tuple[Area, Area]:
        """Return its sections: by default the last two sectors, or the two before a candidate that takes those."""
        bounds = self._geometry.bounds()
        start, sections = self._geometry.start, []
        store = self._internal_store()
        first = len(bounds) - 3
        if candidate is not None and candidate.offset > bounds[2] and candidate.end > bounds[first]:
            first = bisect_right(bounds, candidate.offset) - 3
        for number in (1, 2):
            offset, end = bounds[first + number - 1], bounds[first + number]
            if store is not None:
                offset, end = store.offset + (number - 1) * store.size // 2, store.offset + number * store.size // 2
            name = f"SOTP section {number}"
            address = self.optional(f"sotp-section-{number}-address")
            if address is None:
                address = self.optional(f"nvstore.area_{number}_address")
            if address is None and store is None:
                self._assumed.append(name)
            size = self.number(f"nvstore.area_{number}_size", end - offset)
            size = self.number(f"sotp-section-{number}-size", size)
            sections.append(Area(name, offset if address is None else address - start, size))
        return sections[0], sections[1]

    def _internal_store(self) -> Area | None:
        """Return where KVStore keeps the root of trust in flash, in two halves; None if the file has none."""
        for name, size in (("tdb_internal", "internal_size"), ("filesystem", "rbp_internal_size")):
            base = self.optional(f"storage_{name}.internal_base_address")
            room = self.optional(f"storage_{name}.{size}")
            if base and room:
                return Area("KVStore", base - self._geometry.start, room)
        return None

    def candidate(self, candidate_on: str | None, storage_size: int | None, app_offset: int) -> tuple[str, Area]:
        start, size = self._geometry.start, self._geometry.size
        bounds = self._geometry.bounds()
        said, size_said = self.optional("update-client.storage-address"), self.optional("update-client.storage-size")
        fota, fota_size = self.optional("fota.storage-start-address"), self.optional("fota.storage-size")
        for ours, theirs, what in ((said, fota, "storage-address"), (size_said, fota_size, "storage-size")):
            if ours is not None and theirs is not None and ours != theirs:
                self._contradiction(
                    f"update-client.{what} is 0x{ours:x}, but the one of fota 0x{theirs:x}",
                    "both name the candidate's slot: leave one of them out",
                )
        said, size_said = (fota if said is None else said), (fota_size if size_said is None else size_said)
        if said is None:
            self._assumed.append("candidate")
        # Addresses of a flash that begins at 0 look like any medium's. What lies behind the application, and ends where
        # the flash does or before, leaves no medium beside it a file system worth its name.
        inside = said is not None and start + app_offset < said < said + (size_said or 1) <= start + size
        component = self._component() or (INTERNAL if inside else candidate_on) or INTERNAL
        if component == INTERNAL:
            # Without a word in the file: the upper half of flash, as the bootloader's own configuration has it.
            half = next(bound for bound in bounds if bound >= size // 2)
            address = start + half if said is None else said
            room = bounds[-3] - (address - start) if size_said is None else size_said
            return component, Area("candidate", address - start, room)
        address = said or 0
        room = (storage_size or address + size) - address if size_said is None else size_said
        return component, Area("candidate", address, room)

    def _names(self, key: str) -> list[str]:
        found = self._config.get(key)
        return [str(each) for each in found] if isinstance(found, list) else []

    def _component(self) -> str | None:
        added = self._names("target.components_add")
        if "NUSD" in added:  # Nuvoton's own driver for the same cards
            return "SD"
        if self._config.get(MACROS, {}).get("MBED_CLOUD_CLIENT_UPDATE_STORAGE") == "ARM_UCP_FLASHIAP":
            return INTERNAL
        if self._config.get("fota.block-device-type") == "FOTA_INTERNAL_FLASH_BD":
            return INTERNAL
        # mbed-cloud-client-example names the bootloader that it brings: BL_SD, BL_QSPIF, BL_INTERNAL_FLASH.
        labels = self._names("target.extra_labels_add")
        if "BL_INTERNAL_FLASH" in labels:
            return INTERNAL
        named = (name for name in STORAGE_COMPONENTS if f"BL_{name}" in labels or name in added)
        return next(named, None)


def overrides(document: Mapping[str, Any], target: str, file: str = "mbed_app.json") -> dict[str, Any]:
    """Merge the settings for every target with those of one, the values of the file's own settings, and its macros.

    Raises:
        ConfigError: the file has nothing for this target.
    """
    sections = document.get("target_overrides")
    mine = sections.get(target) if isinstance(sections, Mapping) else None
    if isinstance(sections, Mapping) and list(sections) == ["*"]:
        mine = {}  # a file for whatever board it is built for
    if not isinstance(sections, Mapping) or not isinstance(mine, Mapping):
        known = ", ".join(name for name in sections if name != "*") if isinstance(sections, Mapping) else "none"
        raise ConfigError(
            f"{file} has no target_overrides for {target}", hint=f"it has: {known}; add a section for {target}"
        )
    rows = _mapping(document.get("config"))
    declared = {key: row["value"] for key, row in rows.items() if isinstance(row, Mapping) and "value" in row}
    merged = {**declared, **_mapping(sections.get("*")), **mine}
    added = [each for each in (document.get("macros"), merged.get("target.macros_add")) if isinstance(each, list)]
    pairs = (str(macro).partition("=") for each in added for macro in each)
    return {**merged, MACROS: {name: value for name, equals, value in pairs if equals}}


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
