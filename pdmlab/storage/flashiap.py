"""A microcontroller's own flash, as Mbed's FlashIAPBlockDevice drives it; addresses count from its start."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, chain

from pdmlab.clock import Clock
from pdmlab.errors import ConfigError
from pdmlab.storage.driver import MediumDevice
from pdmlab.storage.medium import Medium
from pdmlab.storage.parts import part as find_part


class FlashIAPBlockDevice(MediumDevice):
    """Bytes to read, `program_size` to program, sectors that may differ in size to erase.

    sectors: runs of (count, size in B) from the lowest address; the part's own sector size if left out.
    Ready from the start: the flash is what the code itself runs from.
    """

    type = "FLASHIAP"

    def __init__(
        self,
        medium: Medium,
        *,
        clock: Clock | None = None,
        part: str = "K64F",
        sectors: Iterable[tuple[int, int]] | None = None,
        program_size: int | None = None,
    ) -> None:
        super().__init__(medium, find_part(part, "internal"), clock)
        runs = list(sectors) if sectors is not None else [(medium.size // self.part["sector"], self.part["sector"])]
        sizes = list(chain.from_iterable([size] * count for count, size in runs))
        if sum(sizes) != medium.size:
            raise ConfigError(f"the flash's sectors make {sum(sizes)} B, its medium has {medium.size} B")
        self._sizes = sizes
        self._starts = list(accumulate(sizes, initial=0))[:-1]
        self._program_size = program_size or self.part["unit"]
        medium.erase_block = min(sizes)
        self._users = 1

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
        return self._sizes[self._index(address)]

    def read(self, address: int, size: int) -> bytes:
        """Read bytes, as the processor does."""
        with self._busy(self.is_valid_read, "read", address, size):
            self.clock.charge(self.part["call"] + self.part["read_kib"] * size // 1024)
            return self.medium.read(address, size)

    def program(self, address: int, data: bytes) -> None:
        """Program units; a power cut leaves those before it."""
        with self._busy(self.is_valid_program, "program", address, len(data)):
            self.clock.charge(self.part["call"])
            unit = self.part["unit"]
            # One charge for many units keeps the simulation fast; a cut tears at the edge of a chunk.
            chunk = max(256 // self.program_size, 1) * self.program_size
            for start in range(0, len(data), chunk):
                piece = data[start : start + chunk]
                self.clock.charge(-(-len(piece) // unit) * self.part["program"])
                self._refuse_worn(address + start, len(piece))
                self.medium.program(address + start, piece)

    def erase(self, address: int, size: int) -> None:
        """Erase sectors one by one."""
        with self._busy(self.is_valid_erase, "erase", address, size):
            end = address + size
            while address < end:
                sector = self.get_erase_size(address)
                self.clock.charge(self.part["call"] + self.part["erase"] + self.part["erase_kib"] * sector // 1024)
                self._refuse_worn(address, sector)
                self.medium.erase(address, sector)
                address += sector

    def is_valid_erase(self, address: int, size: int) -> bool:
        """Whether this stretch begins and ends at edges of sectors."""
        if not self._inside(address, size) or address not in self._edges:
            return False
        return address + size in self._edges

    @property
    def _edges(self) -> set[int]:
        return {*self._starts, self.size}

    def _index(self, address: int) -> int:
        return max(bisect_right(self._starts, address) - 1, 0)
