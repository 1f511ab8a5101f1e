"""FatFs has few volumes: those of boards that were switched off without unmounting come back."""

from __future__ import annotations

from pdmlab.storage import FATFileSystem, HeapBlockDevice
from pdmlab.storage.fat import _VOLUMES


def test_volumes_that_nobody_unmounted_are_claimed_again() -> None:
    for _ in range(3 * _VOLUMES):
        fs = FATFileSystem("fs")
        fs.reformat(HeapBlockDevice(1 << 18))
        cycle = [fs]
        cycle.append(cycle)  # type: ignore[arg-type]
        del fs, cycle  # only the garbage collector finds it now: while the next one is being claimed
