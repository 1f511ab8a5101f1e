"""FatFs has few volumes, and each has a least and a largest size."""

from __future__ import annotations

import pytest

from pdmlab.errors import StorageError
from pdmlab.storage import FATFileSystem, HeapBlockDevice
from pdmlab.storage.fat import _VOLUMES, LEAST_SECTORS


def test_volumes_that_nobody_unmounted_are_claimed_again() -> None:
    for _ in range(3 * _VOLUMES):
        fs = FATFileSystem("fs")
        fs.reformat(HeapBlockDevice(1 << 18))
        cycle = [fs]
        cycle.append(cycle)  # type: ignore[arg-type]
        del fs, cycle  # only the garbage collector finds it now: while the next one is being claimed


class Sparse(HeapBlockDevice):
    """A card that keeps only the sectors that were written."""

    def __init__(self, size: int, sector: int) -> None:
        super().__init__(sector, sector, sector, sector)
        self._bytes, self._sectors = size, dict[int, bytes]()

    @property
    def size(self) -> int:
        return self._bytes

    @property
    def erase_value(self) -> int:
        return -1

    def read(self, address: int, size: int) -> bytes:
        unit = self.erase_size
        return b"".join(self._sectors.get(at, bytes(unit)) for at in range(address, address + size, unit))

    def program(self, address: int, data: bytes) -> None:
        unit = self.erase_size
        self._sectors |= {address + at: bytes(data[at : at + unit]) for at in range(0, len(data), unit)}

    def erase(self, address: int, size: int) -> None:
        """Do nothing, as a card."""


@pytest.mark.parametrize("sector", [512, 1024, 2048, 4096])
def test_the_sizes_that_the_hint_names_are_those_that_can_be_formatted(sector: int) -> None:
    largest = sector << 23  # 65,536 clusters of 128 sectors: just too many
    for size in (LEAST_SECTORS * sector, largest - largest // 4096):
        FATFileSystem("fs").reformat(Sparse(size, sector))
    for size in ((LEAST_SECTORS - 1) * sector, largest):
        with pytest.raises(StorageError) as error:
            FATFileSystem("fs").reformat(Sparse(size, sector))
        assert error.value.hint is not None
        said = f"{LEAST_SECTORS * sector >> 10} KiB to just under {largest >> 30} GiB"
        assert said in error.value.hint
