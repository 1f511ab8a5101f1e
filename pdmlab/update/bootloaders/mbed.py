"""mbed-bootloader, the seed's: it reads firmware headers v2 and copies the newest stored image over the application.

Steps, order of flash operations and console text are those of mbed-bootloader's source/main.cpp, upgrade.cpp and
active_application.cpp (docs/bootloaders.md). Its weaknesses are there too, and each can be mended: `WEAKNESSES`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from pdmlab.errors import BootFailed, ImageRejected, StorageError
from pdmlab.update.bootloaders.interface import BootResult, Hardware, Kind, Print, ResetReason, Slot, SlotState
from pdmlab.update.bootloaders.mbed_application import Active, ActiveApplication
from pdmlab.update.bootloaders.records import BootCount, VersionFloor
from pdmlab.update.candidate_v2 import StorageLocation, storage_locations
from pdmlab.update.header_v2 import FirmwareHeaderV2
from pdmlab.update.layout import INTERNAL

WEAKNESSES = {
    "recopy": "an image that fails is copied again from its slot, for ever, or nothing starts (its issue 72)",
    "rollback": "with an application that is not whole, an older image is installed",
    "header-first": "the header is written before the image",
    "counter": "the count of failed starts is lost with the power",
    "equal": "an image of the version that runs is called older",
    "one-copy": "a copy that fails is not tried again",
    "storage": "without its update storage nothing starts",
}
"""What the stock one does badly, by the names under which `fixed` mends it."""
MAX_BOOT_RETRIES, MAX_COPY_RETRIES = 3, 1
MENDED_COPY_RETRIES = 3
_HEADER_VERSION = 2
_VERSION, _COUNTER = "heapVersion", "bootCounter"


class _Best(NamedTuple):
    location: StorageLocation
    header: FirmwareHeaderV2


class MbedBootloader:
    """One start's bootloader, over its hardware.

    fixed: names of WEAKNESSES that are mended. max_boot_retries, max_copy_retries, show_serial_output: as
    mbed-bootloader's mbed_lib.json has them.
    """

    kind: Kind = "mbed"

    def __init__(
        self,
        hardware: Hardware,
        *,
        fixed: Collection[str] = (),
        max_boot_retries: int = MAX_BOOT_RETRIES,
        max_copy_retries: int = MAX_COPY_RETRIES,
        show_serial_output: bool = True,
    ) -> None:
        self.layout = layout = hardware.layout
        self._hardware = hardware
        self._locations = storage_locations(hardware, layout.storage_locations)
        self._fixed = frozenset(fixed)
        self._application = ActiveApplication(hardware, header_last="header-first" in fixed)
        self._boot_retries = max_boot_retries
        self._copy_retries = max(max_copy_retries, MENDED_COPY_RETRIES if "one-copy" in fixed else 1)
        self._shows = show_serial_output
        self._floor = VersionFloor(hardware.nvstore, _HEADER_VERSION)
        self._count = BootCount(hardware.nvstore)
        self._write: Print = print

    def __repr__(self) -> str:
        mended = f", mended: {', '.join(sorted(self._fixed))}" if self._fixed else ""
        return f"<mbed-bootloader, headers v2, {len(self._locations)} slots{mended}>"

    # -- a start ---------------------------------------------------------------------------------------

    def boot(self, write: Print, reason: ResetReason = "power-on") -> BootResult:
        """Choose what starts, installing first if there is something better; write gets the console's text.

        Raises:
            BootFailed: it hangs, after its last line.
        """
        self._write = write
        self._say("Mbed Bootloader")
        stored = self._storage_fault()
        if stored is not None:
            self._say("Failed to initialize update storage")
            if "storage" not in self._fixed:
                raise BootFailed(
                    f"Failed to initialize update storage: {stored}",
                    hint="the stock bootloader starts nothing without its card; put it in, or mend: fixed=['storage']",
                )
        active = self._check_active()
        count = self._count_start(active, reason)
        failed = count >= self._boot_retries
        valid = active.status == "success" and not failed
        if not valid:
            self._say(f"[DBG ] {self._complaint(active, failed)}")
        best, refused = (None, None) if stored is not None else self._search(active, valid=valid, failed=failed)
        installed = False
        if best is not None:
            valid = installed = self._update(best)
            refused = None if installed else "Firmware update failed"
        elif not valid and active.status == "success" and "recopy" in self._fixed:
            valid = True  # whole, and nothing better anywhere
        if best is None:
            self._say("[DBG ] Active firmware up-to-date" if valid else "[ERR ] Active firmware invalid")
        header = best.header if best is not None else active.header
        if not valid or header is None:
            self._forget_count()
            self._say("Failed to jump to application!")
            raise BootFailed(
                "Failed to jump to application! Active: "
                f"{self._complaint(active, failed)}; candidate: {refused or 'No Update image'}",
                hint="flash an application, or one combined with its bootloader and header",
            )
        if "rollback" in self._fixed:
            self._floor.raise_to(header.version)
        self._say("booting...")
        return BootResult(header, installed, refused)

    def _check_active(self) -> Active:
        try:
            return self._application.check()
        except StorageError as error:
            self._say("Failed to initialize active storage")
            raise BootFailed(
                f"Failed to initialize active storage: {error.message}", hint="its flash cannot be read: another chip"
            ) from error

    def _storage_fault(self) -> str | None:
        """Return why the update storage cannot be read; None if it can."""
        device, area = self._hardware.storage, self.layout.candidate
        try:
            device.read(area.offset - area.offset % device.read_size, device.read_size)
        except StorageError as error:
            return error.message
        return None

    def _count_start(self, active: Active, reason: ResetReason) -> int:
        """Count a soft reset of the version that started before; return how often that was.

        Stock keeps the count in RAM that a soft reset leaves, and that an application which comes up overwrites.
        """
        lasting = "counter" in self._fixed
        retained = self._hardware.retained
        before, count = self._count.read() if lasting else (retained.get(_VERSION, 0), retained.get(_COUNTER, 0))
        if reason != "software":
            return count if lasting and before == active.version else 0
        count = (count + 1) & 0xFF if before == active.version else 0
        if lasting:
            self._count.write(active.version, count)
        retained[_VERSION], retained[_COUNTER] = active.version, count
        return count

    def _forget_count(self) -> None:
        if "counter" not in self._fixed:
            self._hardware.retained[_COUNTER] = 0

    @staticmethod
    def _complaint(active: Active, failed: bool) -> str:
        if active.status == "empty":
            return "Active firmware slot is empty"
        return "Failed to boot active application" if failed else "Active firmware integrity check failed"

    def _search(self, active: Active, *, valid: bool, failed: bool) -> tuple[_Best | None, str | None]:
        """Return the best stored image, and the console's word on the last one that is none."""
        best: _Best | None = None
        refused: str | None = None
        least = active.version if valid else 0
        for location in self._locations:
            header = self._header_in(location)
            if header is None:
                self._say("No Update image")
                continue
            floor = least if best is None else best.header.version
            fault = self._compare(header, floor, active, valid=valid, failed=failed) or self._check(location, header)
            if fault is None:
                best = _Best(location, header)
            else:
                refused = fault
                self._say(fault)
        return best, refused

    def _compare(self, header: FirmwareHeaderV2, best: int, active: Active, *, valid: bool, failed: bool) -> str | None:
        fixed, version = self._fixed, header.version
        if "recopy" in fixed and failed and active.header is not None and header.digest == active.header.digest:
            return "Update image failed to boot before"
        if "rollback" in fixed and not valid and version < max(self._floor.read(), active.version):
            return "Update image is older"
        if "equal" in fixed and valid and version == active.version:
            return "Update image is the active one"
        started = self._hardware.retained.get(_VERSION, 0)
        if version > best and header.size > 0 and (version != started or not valid):
            return None
        return "Update image is older"

    def _check(self, location: StorageLocation, header: FirmwareHeaderV2) -> str | None:
        try:
            region = location.image_region(header)
            whole = self._hardware.sha256(region.chunks(0, header.size)) == header.digest
        except (ImageRejected, StorageError):
            self._say("[DBG ] ARM_UCP_Read returned 0 bytes")
            whole = False
        if not whole:
            return "Update image integrity check failed"
        return "Update image too large" if header.size > self.layout.max_application_size else None

    def _update(self, best: _Best) -> bool:
        for _ in range(self._copy_retries):
            self._say("[DBG ] Update active firmware")
            try:
                done = self._application.install(best.header, best.location.image_region(best.header), self._say)
            except StorageError:
                done = False
            self._say("[DBG ] New active firmware is valid" if done else "[DBG ] Firmware update failed")
            if done:
                return True
        return False

    # -- for the application ---------------------------------------------------------------------------

    def active(self) -> FirmwareHeaderV2 | None:
        """Return the header of the active image if the image is whole, as the application asks for it too."""
        found = self._application.check()
        return found.header if found.status == "success" else None

    def confirm(self) -> None:
        """Forget the counted starts: an application that has come this far uses the memory in which they were."""
        self._hardware.retained.clear()
        if "counter" in self._fixed:
            self._count.write(0, 0)

    # -- what lies where -------------------------------------------------------------------------------

    def slots(self) -> Sequence[Slot]:
        """Look at the active image and every storage location."""
        with self._hardware.storage_in_use():
            return [self._active_slot(), *(self._stored_slot(index) for index in range(len(self._locations)))]

    def _active_slot(self) -> Slot:
        place = "active", INTERNAL, self.layout.header_offset, self._application.area.size
        try:
            active = self._application.check()
        except StorageError as error:
            return Slot(*place, "unreadable", detail=error.message)
        if active.header is None or active.status == "empty":
            return Slot(*place, "empty", active.header)
        if active.status == "success":
            return Slot(*place, "whole", active.header)
        return Slot(*place, "corrupt", active.header, "the image's SHA-256 is not its header's")

    def _stored_slot(self, index: int) -> Slot:
        location = self._locations[index]
        region = location.region
        place = f"candidate {index}", self.layout.candidate_on, region.offset, region.size
        try:
            header = location.header()
            if header is None:
                return Slot(*place, "empty")
            pieces = location.image_region(header).chunks(0, header.size)
            state: SlotState = "whole" if self._hardware.sha256(pieces) == header.digest else "corrupt"
        except (ImageRejected, StorageError) as error:
            return Slot(*place, "unreadable", detail=error.message)
        return Slot(*place, state, header)

    def _header_in(self, location: StorageLocation) -> FirmwareHeaderV2 | None:
        """Return the header in a slot; None too where the medium or the root of trust cannot be read."""
        try:
            return location.header()
        except StorageError:
            return None

    def _say(self, line: str) -> None:
        if self._shows:
            self._write(f"{line}\r\n")
