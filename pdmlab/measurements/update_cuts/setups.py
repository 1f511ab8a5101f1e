"""On what updates are cut: a board's own flash and update storage, or small ones with the same units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pdmlab.errors import ConfigError
from pdmlab.update.layout import INTERNAL, Area, FlashGeometry, FlashLayout

if TYPE_CHECKING:
    from pdmlab.measurements.bench import Bench

KIB = 1024
IMAGE_B = 9 * KIB - 37
"""Size of the images on small setups (B): a few sectors, and no whole number of program units."""


@dataclass(frozen=True)
class UpdateSetup:
    """A board as far as an update goes: its layout, its parts, and what holds the candidate.

    storage: SD, SPIF, QSPIF, or FLASHIAP for the flash itself; storage_size in B. flash_part, storage_part: rows of
    parts.toml.
    """

    name: str
    layout: FlashLayout
    flash_part: str
    storage: str
    storage_part: str = ""
    storage_size: int = 0


def of_board(board: Bench) -> UpdateSetup:
    """Return a board's own."""
    row, layout = board.info, board.layout
    storage = INTERNAL if layout.candidate_on == INTERNAL else row.storage
    return UpdateSetup(row.target, layout, row.flash_part, storage, row.storage_part, row.storage_size)


def _small(
    name: str,
    sectors: tuple[tuple[int, int], ...],
    program: int,
    header: int,
    sotp: tuple[int, int],
    part: str,
    storage: str = INTERNAL,
    storage_part: str = "",
    candidate: tuple[int, int] = (0, 96 * KIB),
) -> UpdateSetup:
    """Make a small setup; header: its offset; sotp: offset and size of the first of two sections (B)."""
    geometry = FlashGeometry(0, sum(count * size for count, size in sectors), sectors, program)
    at, size = sotp
    tops = [geometry.size, *[at for at in (at, candidate[0] if storage == INTERNAL else 0) if at > header]]
    layout = FlashLayout(
        geometry,
        Area("bootloader", 0, min(header, at)),
        Area("header", header, KIB),
        Area("application", header + KIB, min(tops) - header - KIB),
        (Area("SOTP section 1", at, size), Area("SOTP section 2", at + size, size)),
        Area("candidate", *candidate),
        storage,
    )
    return UpdateSetup(name, layout, part, storage, storage_part, 0 if storage == INTERNAL else 96 * KIB)


def _all() -> dict[str, UpdateSetup]:
    k64f = ((16, 4 * KIB),)
    stm32f4 = ((4, 16 * KIB), (1, 64 * KIB), (3, 128 * KIB))
    every = (
        _small("K64F-SD", k64f, 8, 8 * KIB, (56 * KIB, 4 * KIB), "K64F", "SD", "SDHC"),
        _small("K64F-NOR", k64f, 8, 8 * KIB, (56 * KIB, 4 * KIB), "K64F", "SPIF", "MX25R6435F"),
        _small(
            "K64F-flash", ((24, 4 * KIB),), 8, 8 * KIB, (88 * KIB, 4 * KIB), "K64F",
            candidate=(24 * KIB, 64 * KIB),
        ),
        _small(
            "STM32L4-NOR", ((32, 2 * KIB),), 8, 8 * KIB, (56 * KIB, 4 * KIB), "STM32L475VG", "QSPIF", "MX25R6435F"
        ),
        # Sectors of 16, 64 and 128 KiB: SOTP lies before the application, as there is nothing small behind it.
        _small("STM32F4-SD", stm32f4, 4, 64 * KIB, (32 * KIB, 16 * KIB), "STM32F429ZI", "SD", "SDHC"),
        _small(
            "STM32F4-flash", stm32f4, 4, 64 * KIB, (32 * KIB, 16 * KIB), "STM32F429ZI",
            candidate=(128 * KIB, 256 * KIB),
        ),
    )  # fmt: skip
    return {each.name: each for each in every}


SETUPS = _all()
"""Small setups by name: sectors of 2, 4, and 64 to 128 KiB; candidates on a card, on NOR and in the flash itself."""


def setup(name: str) -> UpdateSetup:
    """Return a small setup by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in SETUPS:
        raise ConfigError(f"there is no setup {name!r}", hint=f"one of {', '.join(SETUPS)}")
    return SETUPS[name]
