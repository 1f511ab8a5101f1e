"""The bootloader: decides what a board starts, and installs a candidate by copying it over the application.

It behaves as the 4.x bootloader that reads firmware headers v3 does, with mbed-bootloader's console
text. Order of an installation: erase (header first, so that a half-erased image never counts), body,
verify, header last. The candidate stays until it is the active image, so a cut anywhere is made good
at the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pdmlab.errors import BootFailed, ImageRejected, StorageError
from pdmlab.storage.kv.sotp import SotpType
from pdmlab.update.bootloaders.interface import (
    BootResult,
    Hardware,
    Kind,
    Print,
    ResetReason,
    Slot,
    SlotState,
)
from pdmlab.update.candidate import Candidate, CandidateSlot
from pdmlab.update.header import FLAG_ENCRYPTED, MAX_HEADER_SIZE, NO_PRECURSOR, FirmwareHeader
from pdmlab.update.layout import INTERNAL
from pdmlab.update.region import CHUNK, Region, round_up
from pdmlab.update.version import Version


@dataclass(frozen=True)
class _Active:
    """The active slot as found: a verified image, or what is wrong with it."""

    header: FirmwareHeader | None
    fault: str | None


class FotaBootloader:
    """One start's bootloader, over its hardware and the board's candidate slot."""

    kind: Kind = "fota"

    def __init__(self, hardware: Hardware, candidate: CandidateSlot, *, component: str = "MAIN") -> None:
        self.layout = layout = hardware.layout
        self._area = Region(hardware.flash, layout.header_offset, layout.application.end - layout.header_offset)
        self._app = layout.app_offset - layout.header_offset
        self._candidate = candidate
        self._hash_rate = hardware.hash_rate
        self._nvstore = hardware.nvstore
        self._component = component

    def boot(self, write: Print, reason: ResetReason = "power-on") -> BootResult:
        """Choose what starts, installing first if there is something better; write gets the console's text.

        Raises BootFailed, after the line "Failed to jump to application!", if nothing may start.
        """
        say: Print = lambda line: write(f"{line}\r\n")
        say("Mbed Bootloader")
        active = self._read_active()
        if active.fault:
            say(f"[DBG ] {active.fault}")
        candidate, refused = self._choose(active.header)
        installed = False
        if candidate:
            say("[DBG ] Update active firmware")
            active = self._install(candidate.header, say)
            installed, refused = active.fault is None, active.fault
        else:
            say(refused or "No Update image")
            say("[DBG ] Active firmware up-to-date" if active.header else "[ERR ] Active firmware invalid")
        if active.header is None:
            say("Failed to jump to application!")
            raise BootFailed(
                f"Failed to jump to application! Active: {active.fault}; candidate: {refused or 'No Update image'}",
                hint="flash an application, or one combined with its bootloader and header",
            )
        say("booting...")
        return BootResult(active.header, installed, refused)

    def program(self, image: bytes, version: Version) -> FirmwareHeader:
        """Put an application and its header in place, as a programmer at the debug port does; return the header."""
        header = FirmwareHeader(len(image), version, hashlib.sha256(image).digest())
        if header.size > self.layout.application.size:
            raise ImageRejected(
                f"an image of {header.size} B does not fit the application's {self.layout.application.size} B"
            )
        pieces = (image[at : at + CHUNK] for at in range(0, len(image), CHUNK))
        self._copy(header, pieces, lambda line: None)
        return header

    def active(self) -> FirmwareHeader | None:
        """Return the header of the active image if the image is whole, as the application asks for it too."""
        return self._read_active().header

    def slots(self) -> Sequence[Slot]:
        """Look at the active image and the candidate."""
        return [self._active_slot(), self._candidate_slot()]

    def confirm(self) -> None:
        """Do nothing: this bootloader keeps what it has installed."""

    def _active_slot(self) -> Slot:
        place = "active", INTERNAL, self.layout.header_offset, self._area.size
        try:
            active = self._read_active()
            if active.header is not None:
                return Slot(*place, "whole", active.header)
            found = FirmwareHeader.parse(self._area.read(0, MAX_HEADER_SIZE))
        except ImageRejected:
            return Slot(*place, "empty")
        except StorageError as error:
            return Slot(*place, "unreadable", detail=error.message)
        return Slot(*place, "corrupt", found, active.fault or "")

    def _candidate_slot(self) -> Slot:
        area = self.layout.candidate
        place = "candidate", self.layout.candidate_on, area.offset, area.size
        try:
            header, ready = self._candidate.header(), self._candidate.read()
            if header is None:
                return Slot(*place, "empty")
            if ready is None:
                return Slot(*place, "incomplete", header, "not marked as whole")
            whole = self._digest(self._image(header)) == header.digest
        except (ImageRejected, StorageError) as error:
            return Slot(*place, "unreadable", detail=error.message)
        state: SlotState = "whole" if whole else "corrupt"
        return Slot(*place, state, header, f"for component {ready.component}")

    def _read_active(self) -> _Active:
        try:
            header = FirmwareHeader.parse(self._area.read(0, MAX_HEADER_SIZE))
        except ImageRejected:
            return _Active(None, "Active firmware slot is empty")
        if header.size > self.layout.application.size or self._digest(self._active_image(header)) != header.digest:
            return _Active(None, "Active firmware integrity check failed")
        return _Active(header, None)

    def _choose(self, active: FirmwareHeader | None) -> tuple[Candidate | None, str | None]:
        """Return the candidate to install, or the console's word on why the one that is there is not."""
        try:
            candidate = self._candidate.read()
            refused = self._refusal(candidate, active) if candidate else None
        except StorageError:
            return None, "Failed to initialize update storage"
        return (None, refused) if refused or candidate is None else (candidate, None)

    def _refusal(self, candidate: Candidate, active: FirmwareHeader | None) -> str | None:
        header = candidate.header
        if candidate.component != self._component:
            return f"Update image is for component {candidate.component}"
        if header.size > min(self.layout.application.size, self._candidate.capacity):
            return "Update image too large"
        # Without a whole active image there is nothing to be newer than, and a copy that was cut must go on.
        if active and header.version <= active.version:
            return "Update image is older"
        if active and header.precursor not in (NO_PRECURSOR, active.digest):
            return "Update image is for another active firmware"
        try:
            whole = self._digest(self._image(header)) == header.digest
        except ImageRejected:
            return "Update image is encrypted"
        return None if whole else "Update image integrity check failed"

    def _image(self, header: FirmwareHeader) -> Iterable[bytes]:
        """Read the candidate's image; one that is encrypted opens with this device's root of trust."""
        key = None
        if header.flags & FLAG_ENCRYPTED:
            with contextlib.suppress(StorageError):
                key = self._nvstore.get(SotpType.ROT)
        return self._candidate.image(header, key)

    def _install(self, header: FirmwareHeader, say: Print) -> _Active:
        try:
            self._copy(header, self._image(header), say)
        except StorageError as error:
            say("[DBG ] Firmware update failed")
            fault = f"Firmware update failed ({error.message})"
            # Flash that refuses the first erase still holds what ran before.
            return _Active(self._read_active().header, fault)
        active = self._read_active()
        say("[DBG ] Firmware update failed" if active.fault else "[DBG ] New active firmware is valid")
        return active

    def _copy(self, header: FirmwareHeader, image: Iterable[bytes], say: Print) -> None:
        say("[DBG ] Erase active application")
        self._area.erase(0, self._app + round_up(header.size, self._area.device.program_size))
        say("[DBG ] Copy application")
        at = self._app
        for chunk in image:
            self._area.program(at, chunk)
            at += len(chunk)
        self._area.device.sync()
        say("[DBG ] Verify application")
        if self._digest(self._active_image(header)) != header.digest:
            raise StorageError("the flash does not hold what was copied to it")
        say("[DBG ] Write header")
        self._area.program(0, header.pack())
        self._area.device.sync()

    def _active_image(self, header: FirmwareHeader) -> Iterable[bytes]:
        return self._area.chunks(self._app, header.size)

    def _digest(self, chunks: Iterable[bytes]) -> bytes:
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
            self._area.device.clock.charge(self._hash_rate.cost(len(chunk)))
        return digest.digest()
