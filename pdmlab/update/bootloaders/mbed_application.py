"""The active application as mbed-bootloader checks it and copies over it (its source/active_application.cpp)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from pdmlab.errors import ImageRejected, StorageError
from pdmlab.update.bootloaders.interface import Hardware
from pdmlab.update.header_v2 import INTERNAL_SIZE, FirmwareHeaderV2
from pdmlab.update.region import CHUNK, Region

Say = Callable[[str], None]


class Active(NamedTuple):
    """The application as found; "empty" is only what has a header that says 0 B."""

    status: Literal["success", "empty", "error"]
    header: FirmwareHeaderV2 | None

    @property
    def version(self) -> int:
        """The version's number; 0 without a header."""
        return 0 if self.header is None else self.header.version


class ActiveApplication:
    """Header and application in flash. header_last: the header is written when the image is right."""

    def __init__(self, hardware: Hardware, *, header_last: bool) -> None:
        layout = hardware.layout
        self.area = Region(hardware.flash, layout.header_offset, layout.application.end - layout.header_offset)
        self._hardware = hardware
        self._app = layout.app_offset - layout.header_offset
        self._room, self._largest = layout.application.size, layout.max_application_size
        self._header_last = header_last

    def check(self) -> Active:
        """Read the header and hash the image."""
        try:
            header = FirmwareHeaderV2.parse_internal(self.area.read(0, INTERNAL_SIZE))
        except ImageRejected:
            return Active("error", None)
        if header.size == 0:
            return Active("empty", header)
        return Active("success" if self._is_whole(header) else "error", header)

    def install(self, header: FirmwareHeaderV2, image: Region, say: Say) -> bool:
        """Copy a stored image over the application; whether it is right in the end. say prints a line.

        Order: erase, from the header's sector on; header; image in pieces of 16 KiB; hash. With header_last the header
        comes when the hash is right.

        Raises:
            StorageError: the flash refuses an operation.
        """
        say("[DBG ] Erase active application")
        if not self._erase(header.size, say):
            return False
        if not self._header_last:
            self._write_header(header, say)
        say("[DBG ] Copy application")
        if not self._copy(image, say):
            return False
        say("[DBG ] Verify application")
        if self._header_last:
            if not self._is_whole(header):
                return False
            self._write_header(header, say)
        self.area.device.sync()
        return self.check().status == "success"

    def _erase(self, size: int, say: Say) -> bool:
        """Erase what the header and an image of size B take, lowest first; False where the room would be exceeded."""
        header_end = sum(unit for _, unit in self.area.sectors(0, INTERNAL_SIZE))
        start, needed = 0, self._app + size
        if header_end < self._app:
            say("[DBG ] Erasing header separately from active application")
            self.area.erase(0, INTERNAL_SIZE)
            start, needed = self._app, size
        end = start
        for at, unit in self.area.sectors(start, needed):
            end = at + unit
        if end > self._app + self._largest:
            say(
                "[DBG ] Firmware size rounded up to the nearest sector boundary is larger than the maximum "
                "application size"
            )
            return False
        self.area.erase(start, needed)
        return True

    def _write_header(self, header: FirmwareHeaderV2, say: Say) -> None:
        say("[DBG ] Write header")
        self.area.program(0, header.pack_internal())

    def _copy(self, image: Region, say: Say) -> bool:
        unit = self.area.device.program_size
        step = CHUNK // unit * unit
        for done in range(0, image.size, step):
            try:
                piece = image.read(done, min(step, image.size - done))
            except StorageError:
                say("[DBG ] ARM_UCP_Read returned 0 bytes")
                return False
            self.area.program(self._app + done, piece)
        return True

    def _is_whole(self, header: FirmwareHeaderV2) -> bool:
        if header.size > self._room:
            return False
        return self._hardware.sha256(self.area.chunks(self._app, header.size)) == header.digest
