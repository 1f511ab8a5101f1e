"""What a virtual board stores on: its internal flash and its card or flash chip, with everything that lies on them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pdmlab.clock import DeviceClock
from pdmlab.errors import BoardError
from pdmlab.sim.state import PRIVATE_FILE, make_private
from pdmlab.storage import (
    FATFileSystem,
    FileSystem,
    FlashIAPBlockDevice,
    LittleFileSystem2,
    NVStore,
    ProfilingBlockDevice,
    QSPIFBlockDevice,
    SDBlockDevice,
    SlicingBlockDevice,
    SPIFBlockDevice,
)
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.medium import Medium
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.layout import INTERNAL, FlashLayout

if TYPE_CHECKING:
    from pdmlab.boards.catalog import BoardRow


class Supply:
    """What feeds the media: it can be made to fail after a number of programs and erases.

    writes_left: how many still succeed; the next one is torn. None: the supply is sound.
    cut: takes the board's power away.
    """

    def __init__(self) -> None:
        self.writes_left: int | None = None
        self.cut: Callable[[], None] = lambda: None

    def fails_now(self) -> bool:
        """Count one program or erase; whether the supply fails in the middle of it."""
        if self.writes_left is None:
            return False
        self.writes_left -= 1
        if self.writes_left >= 0:
            return False
        self.writes_left = None
        return True


class SuppliedMedium(Medium):
    """A part on a supply that may fail: of the program or erase in which it does, the first half takes effect."""

    def __init__(self, size: int, *, erase_value: int, path: Path | None, supply: Supply) -> None:
        with _explained(path):
            super().__init__(size, erase_value=erase_value, path=path)
        if path is not None:
            make_private(path, PRIVATE_FILE)
        self._supply = supply

    def poke(self, offset: int, data: bytes) -> None:
        """Put data there, as a programmer does."""
        with _explained(self.path):
            super().poke(offset, data)

    def program(self, offset: int, data: bytes) -> None:
        """Program data."""
        if self._supply.fails_now():
            super().program(offset, data[: len(data) // 2])
            self._supply.cut()
        super().program(offset, data)

    def erase(self, offset: int, size: int) -> None:
        """Erase a block."""
        if self._supply.fails_now():
            super().erase(offset, size // 2)
            self._supply.cut()
        super().erase(offset, size)


@contextlib.contextmanager
def _explained(path: Path | None) -> Iterator[None]:
    """Say of the host's disk what a board's driver has no word for: it is full, or went away."""
    try:
        yield
    except OSError as error:
        raise BoardError(
            f"{path} cannot be written: {error.strerror}", hint="make room on that disk, or set PDMLAB_STATE"
        ) from error


class BoardMedia:
    """The bytes that survive power: internal flash and card or chip, in files below a folder, or in memory."""

    def __init__(self, row: BoardRow, layout: FlashLayout, folder: Path | None) -> None:
        self.supply = Supply()
        self.flash = SuppliedMedium(
            layout.geometry.size, erase_value=0xFF, path=folder and folder / "flash.bin", supply=self.supply
        )
        try:
            self.storage = SuppliedMedium(
                row.storage_size,
                erase_value=0x00 if row.storage == "SD" else 0xFF,
                path=folder and folder / f"{row.storage.lower()}.bin",
                supply=self.supply,
            )
        except BaseException:
            self.flash.close()
            raise
        self._name = row.storage

    @property
    def powered(self) -> bool:
        """Whether the media take programs and erases."""
        return self.flash.powered

    @powered.setter
    def powered(self, powered: bool) -> None:
        self.flash.powered = self.storage.powered = powered

    def close(self) -> None:
        """Write everything to the files and let go of them."""
        self.flash.close()
        self.storage.close()

    def __repr__(self) -> str:
        return f"{self._name} of {self.storage.size >> 20} MiB, flash of {self.flash.size >> 10} KiB"


class BoardStorage:
    """The drivers and stores of one start of a board, over its media."""

    def __init__(self, row: BoardRow, layout: FlashLayout, clock: DeviceClock, media: BoardMedia) -> None:
        self.name = row.storage
        self.media = media
        geometry = layout.geometry
        self.flash = FlashIAPBlockDevice(
            media.flash,
            clock=clock,
            part=row.flash_part,
            sectors=geometry.sectors,
            program_size=geometry.program_size,
        )
        self.device: BlockDevice = _DRIVERS[row.storage](media.storage, clock=clock, part=row.storage_part)
        self.profile = ProfilingBlockDevice(self.device)
        inside = layout.candidate_on == INTERNAL
        self.candidate = CandidateSlot(
            self.flash if inside else self.device, offset=layout.candidate.offset, size=layout.candidate.size
        )
        self.file_system_part: BlockDevice = (
            self.profile if inside else SlicingBlockDevice(self.profile, 0, layout.candidate.offset)
        )
        self.nvstore = NVStore(self.flash, [(area.offset, area.size) for area in layout.sotp])

    def make_file_system(self, name: str = "fs") -> FileSystem:
        """Make, unmounted, the board's file system: FAT on cards, which people take out; littlefs on chips."""
        return FATFileSystem(name) if self.name == "SD" else LittleFileSystem2(name)

    def __repr__(self) -> str:
        return f"<storage {self.device!r}, flash {self.flash!r}, SIMULATED>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(repr(device))}</td></tr>"
            for name, device in ((self.name, self.device), ("flash", self.flash))
        )
        return f"<table><caption>Storage (SIMULATED)</caption>{rows}</table>"


_DRIVERS: dict[str, type[SDBlockDevice] | type[SPIFBlockDevice] | type[QSPIFBlockDevice]] = {
    "SD": SDBlockDevice,
    "SPIF": SPIFBlockDevice,
    "QSPIF": QSPIFBlockDevice,
}
