"""How much of a medium a ready story takes, and how large its values may be, so that it can be told there."""

from __future__ import annotations

from collections.abc import Callable

from pdmlab.errors import ConfigError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.fat import LARGEST_SECTOR, LEAST_SECTORS
from pdmlab.storage.parts import Part
from pdmlab.storage.powercuts.geometries import Geometry, geometry

_FAT_B, _FLASH_B, _AREA_B = 128 * 1024, 8192, 8192
_VALUES = 11
"""Values that an area of a store must have room for: those of its keys, the master record, and what is being set."""

Fitted = tuple[Geometry, int | None]
"""A medium, and its size (B) where that is not what the story takes of itself, as the story's name has it."""


def fitted(of: str | Geometry | Part | BlockDevice, size: int | None, usual: Callable[[Geometry], int]) -> Fitted:
    """Return a medium of the size (B), or of the usual one if None; a smaller one, or one of sectors, is taken whole.

    usual: returns the size (B) that the story takes of a medium of such units.
    """
    whole = geometry(of)
    own = whole
    if not whole.sectors:
        wanted = usual(whole)
        own = whole.of_size(min(wanted + -wanted % whole.erase, whole.size))
    if size is None or size == own.size:
        return own, None
    return geometry(of, size=size), size


def fat_medium(of: str | Geometry | Part | BlockDevice, size: int | None) -> Fitted:
    """Return a medium that FAT can be made on.

    Raises:
        ConfigError: its sectors are too large, or too few.
    """
    found = fitted(of, size, lambda units: max(_FAT_B, 2 * LEAST_SECTORS * max(512, units.erase)))
    medium = found[0]
    sector = max(512, medium.erase)
    if sector > LARGEST_SECTOR:
        raise ConfigError(
            f"FAT has no sectors of {sector} B, the erase unit of {medium.name}",
            hint=f"erase units of at most {LARGEST_SECTOR} B, as sd and nor have; or littlefs",
        )
    if medium.size < LEAST_SECTORS * sector:
        raise ConfigError(
            f"FAT on {medium.name} takes at least {LEAST_SECTORS} sectors of {sector} B: {medium.size} B are too few",
            hint=f"size={LEAST_SECTORS * sector} or more",
        )
    return found


def flash_medium(of: str | Geometry | Part | BlockDevice, size: int | None) -> Fitted:
    """Return a medium for NVStore's two areas.

    Raises:
        ConfigError: it cannot be read byte by byte.
    """
    found = fitted(of, size, lambda units: max(_FLASH_B, 2 * units.erase))
    if found[0].read > 1:
        raise ConfigError(
            f"NVStore and SOTP read flash byte by byte, and {found[0].name} is read by {found[0].read} B",
            hint="K64F, STM32F4, nor, eeprom, or a part of a microcontroller's flash",
        )
    return found


def area(units: Geometry) -> int:
    """Return the size (B) of an area of TDBStore with room for a few records of such units."""
    wanted = max(_AREA_B, 40 * units.program)
    return wanted + -wanted % units.erase


def largest_value(medium: Geometry, *, areas: int) -> int:
    """Return the largest value (B) of a store whose medium has so many areas; key and header have their own units."""
    each = medium.size // areas
    return max(min(each // 12, each // _VALUES - 3 * medium.program), 1)
