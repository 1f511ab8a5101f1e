"""The 4.x clients' bootloader: it reads firmware headers v3, and installs a candidate over the application in place.

Order of checks, of flash operations and of the console's lines as in mbed-bootloader's source/main.cpp for FOTA
(docs/bootloaders.md), built with its traces on; the progress and "Install done" are those of the one for K64F. It
installs what is marked as whole, for MAIN, with the right SHA-256, made for the image whose header is active, and
newer. Installing: erase, header's sector first; image; header last. What it does about an application that is not
whole is its weakness (`WEAKNESSES`): then any whole candidate will do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from pdmlab.errors import BootFailed, ImageRejected, StorageError
from pdmlab.storage.kv.sotp import SotpType
from pdmlab.update.bootloaders.candidate_reader import CandidateReader, Found, Refusal
from pdmlab.update.bootloaders.interface import (
    BootResult,
    Hardware,
    Kind,
    Print,
    ResetReason,
    Slot,
    SlotState,
)
from pdmlab.update.bootloaders.records import VersionFloor
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.header import ACTIVE_SIZE, SIGNATURE_SIZE, HeaderFields
from pdmlab.update.layout import INTERNAL
from pdmlab.update.region import Region, round_up
from pdmlab.update.results import FotaResult

COMPONENT = "MAIN"
WEAKNESSES = {
    "rollback": "with an application that is not whole, any whole candidate is installed, however old",
}
"""What the stock one does badly, by the names under which `fixed` mends it."""
_HEADER_VERSION = 3
_PROGRESS_STEP = 5  # percent


class FotaBootloader:
    """One start's bootloader, over its hardware and the board's candidate slot.

    fixed: names of WEAKNESSES that are mended. encrypted: built for encrypted candidates, and then for no others.
    """

    kind: Kind = "fota"

    def __init__(
        self,
        hardware: Hardware,
        candidate: CandidateSlot,
        *,
        fixed: Collection[str] = (),
        encrypted: bool = False,
    ) -> None:
        self.layout = layout = hardware.layout
        self._hardware = hardware
        self._area = Region(hardware.flash, layout.header_offset, layout.application.end - layout.header_offset)
        self._app = layout.app_offset - layout.header_offset
        self._slot = candidate
        self._reader = CandidateReader(
            candidate.region, encrypted=encrypted, root_of_trust=lambda: hardware.nvstore.get(SotpType.ROT)
        )
        self._floor = VersionFloor(hardware.nvstore, _HEADER_VERSION) if "rollback" in fixed else None
        self._say: Print = print

    def __repr__(self) -> str:
        return f"<bootloader of the 4.x clients, headers v3, application at 0x{self.layout.app_offset:x}>"

    # -- a start ---------------------------------------------------------------------------------------

    def boot(self, write: Print, reason: ResetReason = "power-on") -> BootResult:
        """Choose what starts, installing first if there is something better; write gets the console's text.

        Raises:
            BootFailed: after the line "PANIC!"; the stock one resets then, again and again.
        """
        self._say = lambda line: write(f"{line}\r\n")
        self._say("[BOOT] Bootloader build at: SIMULATED")
        try:
            return self._start()
        except StorageError as error:
            self._say("[ERR ] Flash initialization failed!")
            self._say("[ERR ] PANIC!")
            raise BootFailed(
                f"Flash initialization failed! {error.message}", hint="its flash cannot be read: another chip"
            ) from error

    def _start(self) -> BootResult:
        self._say("[BOOT] Searching for candidate image...")
        attempt = self._check_and_install(self._header())
        refused = attempt if isinstance(attempt, Refusal) else None
        installed = isinstance(attempt, Found)
        if refused is not None and self._validate() is None:
            # Only a glitch or a cut in an installation leaves an application half written: install again, unchecked.
            again = self._check_and_install(None)
            installed, refused = isinstance(again, Found), again if isinstance(again, Refusal) else None
        active = self._validate()
        if active is None:
            self._say("[ERR ] Validating installed firmware failed")
            self._say("[ERR ] PANIC!")
            raise BootFailed(
                f"Validating installed firmware failed: {self._fault()}; candidate: {refused or 'not found'}",
                hint="flash an application, or one combined with its bootloader and header",
            )
        if installed:
            self._say("[BOOT] New active firmware is valid")
        if self._floor is not None:
            self._floor.raise_to(active.version_number)
        self._say(f"[BOOT] Current FW version is {active.version_text}")
        address = self.layout.address(self.layout.application)
        self._say(f"[BOOT] All clear. Jumping to application (at address 0x{address:x}).")
        return BootResult(active, installed, None if refused is None else str(refused))

    def _check_and_install(self, checked: HeaderFields | Refusal | None) -> Found | Refusal | None:
        """Install the candidate and return it, or say why not; None if there is none.

        checked: the active header that the candidate must be newer than and made for, or why there is none; None: the
        application is not whole, and nothing is compared.
        """
        try:
            outcome = self._reader.look(COMPONENT)
            if outcome is None:
                self._say("[BOOT] Candidate not found")
                return None
        except StorageError as error:
            self._say("[ERR ] Storage initialization failed!")
            return Refusal(FotaResult.INTERNAL, "Storage initialization failed!", error.message)
        if isinstance(outcome, Found):
            outcome = self._refusal(outcome, checked) or self._copy(outcome) or outcome
        if isinstance(outcome, Refusal):
            self._say(f"[ERR ] {outcome.words}")
        else:
            self._say("[BOOT] Install done")
        status = -outcome.status if isinstance(outcome, Refusal) else 0
        self._say(f"[BOOT] check_and_install_update {status}.")
        return outcome

    def _refusal(self, found: Found, checked: HeaderFields | Refusal | None) -> Refusal | None:
        header = found.header
        if header.size > self.layout.max_application_size:
            room = self.layout.max_application_size
            words = "Candidate does not fit the application's area"
            return Refusal(FotaResult.NO_STORAGE, words, f"{header.size} B in {room} B")
        self._say("[BOOT] Validating image...")
        try:
            if self._hardware.sha256(self._reader.image(found)) != header.digest:
                return Refusal(FotaResult.PAYLOAD_CORRUPTED, "Hash mismatch - corrupted candidate")
        except ImageRejected as error:
            return Refusal(FotaResult.CRYPTO, f"decrypt data failed, ret {-FotaResult.CRYPTO}", error.message)
        except StorageError as error:
            return Refusal(
                FotaResult.STORAGE_READ, f"storage read failed, ret {-FotaResult.STORAGE_READ}", error.message
            )
        self._say("[BOOT] Image is valid.")
        if self._floor is not None and checked is None and header.version_number < self._floor.read():
            return Refusal(FotaResult.VERSION_TOO_OLD, "Candidate version is older than one that was installed here")
        if checked is None:
            return None
        if isinstance(checked, Refusal) or header.precursor != checked.digest:
            why = checked.words if isinstance(checked, Refusal) else f"it is for {header.precursor.hex()}"
            return Refusal(FotaResult.PRECURSOR_MISMATCH, "Precursor doesn't match installed digest", why)
        if header.version_number <= checked.version_number:
            words = "Candidate version is not newer than installed"
            return Refusal(
                FotaResult.VERSION_TOO_OLD, words, f"{header.version_text}, installed is {checked.version_text}"
            )
        return None

    def _copy(self, found: Found) -> Refusal | None:
        self._say("[BOOT] Candidate verification successful. Starting installation to flash...")
        size, area, done = found.header.size, self._area, 0
        try:
            area.erase(0, self._app + size)
            for piece in _aligned(self._reader.image(found), area.device.program_size):
                before, now = done * 100 // size, min(done + len(piece), size) * 100 // size
                if done == 0 or now // _PROGRESS_STEP > before // _PROGRESS_STEP:
                    self._say(f"[BOOT] Flashing {now}%")
                area.program(self._app + done, piece)
                if area.read(self._app + done, len(piece)) != piece:
                    return Refusal(FotaResult.STORAGE_WRITE, "flash readback verification failed")
                done += len(piece)
            area.program(0, found.first_part.ljust(round_up(ACTIVE_SIZE, area.device.program_size), b"\0"))
            area.device.sync()
        except (StorageError, ImageRejected) as error:
            return Refusal(FotaResult.STORAGE_WRITE, "flash program failed", error.message)
        return None

    # -- the application -------------------------------------------------------------------------------

    def active(self) -> HeaderFields | None:
        """Return the header of the active image if the image is whole, as the application asks for it too."""
        header = self._header()
        return header if isinstance(header, HeaderFields) and self._is_whole(header) else None

    def confirm(self) -> None:
        """Do nothing: this bootloader keeps what it has installed."""

    def _header(self) -> HeaderFields | Refusal:
        """Return the active header, or that there is none."""
        try:
            return HeaderFields.parse_active(self._area.read(0, min(ACTIVE_SIZE + SIGNATURE_SIZE, self._app)))
        except ImageRejected as error:
            return Refusal(FotaResult.NOT_FOUND, error.message)

    def _is_whole(self, header: HeaderFields) -> bool:
        if header.size > self.layout.application.size:
            return False
        return self._hardware.sha256(self._area.chunks(self._app, header.size)) == header.digest

    def _validate(self) -> HeaderFields | None:
        """Return the active header if its image is whole, and say what is wrong otherwise."""
        self._say("[BOOT] Validating image on flash...")
        header = self._header()
        if isinstance(header, Refusal):
            self._say("[ERR ] failed read_installed_fw_header...")
            return None
        if not self._is_whole(header):
            self._say("[ERR ] Hash mismatch!")
            return None
        return header

    def _fault(self) -> str:
        header = self._header()
        return header.words if isinstance(header, Refusal) else "the image's SHA-256 is not its header's"

    # -- what lies where -------------------------------------------------------------------------------

    def slots(self) -> Sequence[Slot]:
        """Look at the active image and the candidate."""
        with self._hardware.storage_in_use():
            return [self._active_slot(), self._candidate_slot()]

    def _active_slot(self) -> Slot:
        place = "active", INTERNAL, self.layout.header_offset, self._area.size
        try:
            header = self._header()
            if isinstance(header, Refusal):
                return Slot(*place, "empty")
            whole = self._is_whole(header)
        except StorageError as error:
            return Slot(*place, "unreadable", detail=error.message)
        return Slot(*place, "whole", header) if whole else Slot(*place, "corrupt", header, self._fault())

    def _candidate_slot(self) -> Slot:
        area = self.layout.candidate
        place = "candidate", self.layout.candidate_on, area.offset, area.size
        try:
            found = self._reader.header()
            if found is None:
                return Slot(*place, "empty")
            if not found.component:
                return Slot(*place, "incomplete", found.header, "not marked as whole")
            whole = self._hardware.sha256(self._reader.image(found)) == found.header.digest
        except (ImageRejected, StorageError) as error:
            return Slot(*place, "unreadable", detail=error.message)
        state: SlotState = "whole" if whole else "corrupt"
        return Slot(*place, state, found.header, f"for component {found.component}")


def _aligned(pieces: Iterator[bytes], unit: int) -> Iterator[bytes]:
    """Yield what is read in whole program units, as far as there are; the last piece is what is left."""
    left = b""
    for piece in pieces:
        left += piece
        whole = len(left) // unit * unit
        if whole:
            yield left[:whole]
            left = left[whole:]
    if left:
        yield left
