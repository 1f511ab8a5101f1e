"""The units of a medium on which the power is cut: taken from a list, a part, a device, or numbers.

>>> geometry("nor")
Geometry(name='nor', read=1, program=1, erase=4096, size=1048576, erase_value=255, cache=0, sectors=())
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

from pdmlab.errors import ConfigError
from pdmlab.storage.blockdevice import UNKNOWN_ERASE_VALUE, BlockDevice
from pdmlab.storage.parts import Part, parts

MIB = 1 << 20
_MOST_SECTORS = 65536


@dataclass(frozen=True)
class Geometry:
    """Smallest units to read, program and erase (B), and the size (B).

    erase_value: 0xFF is NOR flash, where programming clears bits and a unit can be half programmed; -1 is a card,
        which overwrites, and whose erase does nothing.
    cache: programs that the device may hold back, and lose in any order, until it is synced; 0 for none.
    sectors: runs of (count, size in B) from the lowest address, where erase units differ; `erase` is the largest.
    """

    name: str
    read: int
    program: int
    erase: int
    size: int
    erase_value: int = 0xFF
    cache: int = 0
    sectors: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        units = (self.read, self.program, self.erase)
        every = (*units, self.size, self.erase_value, self.cache, *(each for run in self.sectors for each in run))
        for each in every:
            if type(each) is not int:
                raise ConfigError(f"geometry {self.name}: {each!r} is no number of bytes", hint="whole numbers")
        if not UNKNOWN_ERASE_VALUE <= self.erase_value <= 0xFF or self.cache < 0:
            raise ConfigError(
                f"geometry {self.name}: erase_value is {self.erase_value}, cache {self.cache}",
                hint="0xFF is NOR flash, -1 a card; a cache holds 0 or more programs",
            )
        sizes = [size for _, size in self.sectors] or [self.erase]
        whole = sum(count * size for count, size in self.sectors) or self.size
        if (
            min(*units, *sizes, self.size) < 1
            or self.program % self.read
            or any(size % self.program for size in sizes)
            or self.size % (self.erase if not self.sectors else 1)
            or whole != self.size
        ):
            raise ConfigError(
                f"geometry {self.name}: {self.size} B cannot have units of {self.read}/{self.program}/"
                f"{'+'.join(map(str, sizes))} B to read/program/erase",
                hint="each unit is a multiple of the one before, and the size of the erase units",
            )
        if self.cache and self.overwrites is False:
            raise ConfigError(
                f"geometry {self.name}: NOR flash holds no programs back",
                hint="a cache belongs to a card: erase_value=-1",
            )

    @property
    def overwrites(self) -> bool:
        """Whether programming replaces what was there, as on a card, instead of clearing bits."""
        return self.erase_value != 0xFF

    @property
    def units(self) -> str:
        """Return the units as littlefs's runner writes them: read/program/erase (B)."""
        return f"{self.read}/{self.program}/{self.erase}"

    def of_size(self, size: int) -> Geometry:
        """Return the same units on another size (B)."""
        if self.sectors:
            raise ConfigError(f"geometry {self.name} has sectors of its own", hint="make a Geometry(...) with others")
        return replace(self, size=size)


GEOMETRIES = {
    each.name: each
    for each in (
        # littlefs's own list (runners/test_runner.c), and a card
        Geometry("default", 16, 16, 512, MIB),
        Geometry("eeprom", 1, 1, 512, MIB),
        Geometry("emmc", 512, 512, 512, MIB),
        Geometry("nor", 1, 1, 4096, MIB),
        Geometry("nand", 4096, 4096, 32768, MIB),
        Geometry("sd", 512, 512, 512, MIB, erase_value=UNKNOWN_ERASE_VALUE, cache=8),
        # a microcontroller's last sectors, as NVStore has them
        Geometry("K64F", 1, 8, 4096, 2 * 4096, sectors=((2, 4096),)),
        Geometry("STM32F4", 1, 4, 65536, 16384 + 65536, sectors=((1, 16384), (1, 65536))),
    )
}
"""Geometries by name; each is 1 MiB, but for the areas of microcontrollers."""


def geometry(of: str | Geometry | Part | BlockDevice, *, size: int | None = None) -> Geometry:
    """Return the geometry of that name or part, or of a device; `size` (B) takes another size of the same units.

    A name is one of GEOMETRIES, or of a part that has none of that name there.

    Raises:
        ConfigError: no such geometry, or one that cannot be.
    """
    found = _geometry(of)
    return found if size is None or size == found.size else found.of_size(size)


def _geometry(of: str | Geometry | Part | BlockDevice) -> Geometry:
    if isinstance(of, Geometry):
        return of
    if isinstance(of, Part):
        return _of_part(of)
    if isinstance(of, BlockDevice):
        return _of_device(of)
    if isinstance(of, str) and of in GEOMETRIES:
        return GEOMETRIES[of]
    if isinstance(of, str) and of in parts():
        return _of_part(parts()[of])
    raise ConfigError(
        f"there is no geometry {of!r}", hint=f"one of {', '.join(GEOMETRIES)}, or a part: {', '.join(parts())}"
    )


def _of_part(part: Part) -> Geometry:
    if part.kind == "sd":
        return replace(GEOMETRIES["sd"], name=part.name, size=part["capacity"])
    if part.kind == "internal":
        size = sum(count * each for count, each in part.sectors)
        unit = part["unit"]
        return Geometry(part.name, 1, unit, max(each for _, each in part.sectors), size, sectors=part.sectors)
    if part.kind == "nor":
        return Geometry(part.name, 1, 1, 4096, part["capacity"])
    page = part["page_binary"] if "page_binary" in part else part["page"]
    return Geometry(part.name, 1, 1, page, part["capacity"] // page * page)


def _of_device(device: BlockDevice) -> Geometry:
    name = device.type.lower()
    cache = GEOMETRIES["sd"].cache if device.erase_value == UNKNOWN_ERASE_VALUE else 0
    units = (name, device.read_size, device.program_size, device.erase_size, device.size, device.erase_value, cache)
    if device.size // device.erase_size > _MOST_SECTORS:
        return Geometry(*units)  # a card: its units do not differ
    sizes, address = [], 0
    while address < device.size:
        sizes.append(device.get_erase_size(address))
        address += sizes[-1]
    runs = tuple((len(list(group)), each) for each, group in groupby(sizes))
    return Geometry(*units, sectors=runs if len(runs) > 1 else ())
