"""A microcontroller's own flash, as Mbed's FlashIAPBlockDevice drives it; addresses count from its start."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, chain
from typing import ClassVar

from pdmlab.clock import Clock
from pdmlab.errors import ConfigError
from pdmlab.storage.blockdevice import BD_ERROR_DEVICE_ERROR
from pdmlab.storage.driver import MediumDevice
from pdmlab.storage.figures import Kind
from pdmlab.storage.mcu import Mcu
from pdmlab.storage.medium import Medium, MediumFault
from pdmlab.storage.parts import Part, Timing

RETRIES = 16
"""How often FlashIAP tries a page or a sector that the flash refuses."""


class FlashIAPBlockDevice(MediumDevice):
    """Bytes to read, `program_size` to program, sectors that may differ in size to erase.

    sectors: runs of (count, size in B) from the lowest address; the part's own, as far as the medium goes, if left
    out. Ready from the start: the flash is what the code itself runs from.
    """

    type = "FLASHIAP"
    kind: ClassVar[Kind] = "internal"
    figures: tuple[str, ...] = ("program", "read")
    cycles: tuple[str, ...] = ("call", "lock")

    def __init__(
        self,
        medium: Medium,
        *,
        clock: Clock | None = None,
        part: str | Part = "K64F",
        sectors: Iterable[tuple[int, int]] | None = None,
        program_size: int | None = None,
        seed: int = 0,
        timing: Timing = "typical",
        mcu: str | Mcu = "generic",
    ) -> None:
        super().__init__(medium, part, clock, seed=seed, timing=timing, mcu=mcu)
        runs = list(sectors) if sectors is not None else _as_far_as(self.part, medium.size)
        sizes = list(chain.from_iterable([size] * count for count, size in runs))
        if sum(sizes) != medium.size:
            raise ConfigError(
                f"the flash's sectors make {sum(sizes)} B, its medium has {medium.size} B",
                hint=f"Medium({sum(sizes)}), or sectors=[(count, size), …] that make {medium.size} B",
            )
        self._sizes = sizes
        self._starts = list(accumulate(sizes, initial=0))[:-1]
        self._edges = frozenset((*self._starts, medium.size))
        self._program_size = self.part["unit"] if program_size is None else program_size
        unit = self._program_size
        if type(unit) is not int or unit < 1 or any(sector % unit for sector in set(sizes)):
            raise ConfigError(
                f"{self.type} ({self.part.name}): {unit!r} B cannot be a program unit",
                hint=f"one that divides sectors of {', '.join(map(str, sorted(set(sizes))))} B",
            )
        self._erases = {size: self._range(self._erase_figure(size)) for size in set(sizes)}
        self.figures = (*self.figures, *sorted({self._erase_figure(size) for size in self._erases}))
        self._unit, self._read_kib = self._range("program"), self.part["read"]
        medium.erase_block = min(sizes)
        self._users = 1

    def _erase_figure(self, size: int) -> str:
        """Return the part's figure for a sector of that size (B), or for the smallest of its own that is not less."""
        known = self.part.erases
        return known[min((own for own in known if own >= size), default=max(known))]

    @property
    def program_size(self) -> int:
        """Smallest programmable unit (B)."""
        return self._program_size

    @property
    def erase_size(self) -> int:
        """The largest sector (B)."""
        return max(self._sizes)

    @property
    def erase_value(self) -> int:
        """What erased bytes read as."""
        return self.medium.erase_value

    def get_erase_size(self, address: int) -> int:
        """Return the size (B) of the sector at address."""
        return self._sizes[max(bisect_right(self._starts, address) - 1, 0)]

    def read(self, address: int, size: int) -> bytes:
        """Read bytes, as the processor does."""
        self._check(self.is_valid_read(address, size), "read", address, size)
        with self._mutex:
            self.clock.charge(self._call + self._read_kib * size // 1024)
            try:
                return self.medium.read(address, size)
            except MediumFault as fault:
                raise self._refuse_fault(fault, BD_ERROR_DEVICE_ERROR) from fault

    def program(self, address: int, data: bytes) -> None:
        """Program units; a power cut leaves those before it."""
        self._check(self.is_valid_program(address, len(data)), "program", address, len(data))
        with self._mutex:
            spent, unit = self._call, self.part["unit"]
            # One charge for many units keeps the simulation fast; a cut tears at the edge of a chunk.
            chunk = max(256 // self._program_size, 1) * self._program_size
            for start in range(0, len(data), chunk):
                piece = data[start : start + chunk]
                cost = -(-len(piece) // unit) * self._draw(self._unit)
                self.clock.charge(spent + cost)
                spent = 0
                try:
                    self.medium.program(address + start, piece)
                except MediumFault as fault:
                    self.clock.charge((RETRIES - 1) * cost)
                    raise self._refuse_fault(fault, BD_ERROR_DEVICE_ERROR) from fault

    def erase(self, address: int, size: int) -> None:
        """Erase sectors one by one."""
        self._check(self.is_valid_erase(address, size), "erase", address, size)
        with self._mutex:
            end, spent = address + size, self._call
            while address < end:
                sector = self.get_erase_size(address)
                cost = self._draw(self._erases[sector])
                self.clock.charge(spent + cost)
                spent = 0
                try:
                    self.medium.erase(address, sector)
                except MediumFault as fault:
                    self.clock.charge((RETRIES - 1) * cost)
                    raise self._refuse_fault(fault, BD_ERROR_DEVICE_ERROR) from fault
                address += sector

    def is_valid_erase(self, address: int, size: int) -> bool:
        """Whether this stretch begins and ends at edges of sectors."""
        return self._inside(address, size) and address in self._edges and address + size in self._edges

    def _check(self, valid: bool, what: str, address: int, size: int) -> None:
        if not self._users:
            raise self._refuse_before_init(what)
        self._require(valid, what, address, size)


def _as_far_as(part: Part, size: int) -> list[tuple[int, int]]:
    """Return the runs of a part's sectors that a medium of that size (B) holds, from the lowest address."""
    runs = []
    for count, sector in part.sectors:
        fitting = min(count, size // sector)
        if fitting:
            runs.append((fitting, sector))
            size -= fitting * sector
        if fitting < count:
            break
    return runs
