"""What a virtual board stores on: its internal flash and its card or flash chip, with everything that lies on them."""

from __future__ import annotations

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
from pdmlab.storage.mcu import mcu
from pdmlab.storage.medium import Medium
from pdmlab.storage.supply import Supply
from pdmlab.update.layout import INTERNAL, FlashLayout

if TYPE_CHECKING:
    from pdmlab.boards.catalog import BoardRow


class BoardMedia:
    """The bytes that survive power: internal flash and card or chip, in files below a folder, or in memory."""

    def __init__(self, row: BoardRow, layout: FlashLayout, folder: Path | None) -> None:
        self.supply = Supply()
        self.flash = _medium("flash", layout.geometry.size, 0xFF, folder and folder / "flash.bin", self.supply)
        try:
            self.storage = _medium(
                row.storage,
                row.storage_size,
                0x00 if row.storage == "SD" else 0xFF,
                folder and folder / f"{row.storage.lower()}.bin",
                self.supply,
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


def _medium(name: str, size: int, erase_value: int, path: Path | None, supply: Supply) -> Medium:
    """Make a part on the board's supply; its image, if it has one, is its owner's alone."""
    try:
        medium = Medium(size, erase_value=erase_value, path=path, name=name, supply=supply)
    except OSError as error:
        raise BoardError(
            f"{path} cannot be written: {error.strerror}", hint="make room on that disk, or set PDMLAB_STATE"
        ) from error
    if path is not None:
        make_private(path, PRIVATE_FILE)
    return medium


class BoardStorage:
    """The drivers and stores of one start of a board, over its media.

    seed: of what varies in the parts' times; another start of the board draws on from another place.
    """

    def __init__(
        self, row: BoardRow, layout: FlashLayout, clock: DeviceClock, media: BoardMedia, *, seed: int = 0
    ) -> None:
        self.name = row.storage
        self.media = media
        geometry = layout.geometry
        processor = mcu(row.mcu, row.core_clock)
        self.flash = FlashIAPBlockDevice(
            media.flash,
            clock=clock,
            part=row.flash_part,
            sectors=geometry.sectors,
            program_size=geometry.program_size,
            seed=seed,
            mcu=processor,
        )
        self.device: BlockDevice = _DRIVERS[row.storage](
            media.storage, clock=clock, part=row.storage_part, seed=seed, mcu=processor
        )
        self.profile = ProfilingBlockDevice(self.device)
        inside = layout.candidate_on == INTERNAL
        self.candidate_device: BlockDevice = self.flash if inside else self.device
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
