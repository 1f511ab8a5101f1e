"""The third bootloader: it starts signed images only, each new one on trial, and keeps the old one until then.

    bootloader = TrialBootloader(hardware, candidate, image_key)
    bootloader.boot(print)      # starts 2.0.0 on trial
    bootloader.confirm()        # the application, when it has proved itself

At every start the active image's SHA-256 and signature are checked. A candidate that is signed and newer is
installed: the active image is copied into the previous slot first, beside the candidate, unless it lies there already,
then the candidate over the active one. The new image is started once; if that start is not confirmed, the next one puts
the old image back, whatever ended it. What it does next hangs on the images and on two records of NVStore alone
(choice.py, records.py), so that a cut anywhere, torn or whole, is made good by doing the same again: see
docs/decisions/0036-a-bootloader-without-a-journal.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pdmlab.clock import SECOND
from pdmlab.errors import BootFailed, StorageError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.update import signed_version
from pdmlab.update.bootloaders.interface import BootResult, Hardware, Kind, Print, ResetReason, Slot
from pdmlab.update.bootloaders.trial.choice import Choice, Source, can_go_back, choose, refusal, version_of
from pdmlab.update.bootloaders.trial.installing import Installer
from pdmlab.update.bootloaders.trial.places import Places, active_place, previous_place
from pdmlab.update.bootloaders.trial.records import MARK_SIZE, TrialRecords, programmer_mark
from pdmlab.update.bootloaders.trial.slots import slots
from pdmlab.update.bootloaders.trial.verify import Verifier
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.layout import INTERNAL
from pdmlab.update.region import round_up

COMPONENT = "MAIN"
WAIT_S = 30
"""How long a start waits for a card without which nothing may start (s); it looks every second."""


@dataclass
class _Start:
    """One start: its console and its copying; lost: why the update storage cannot be read; waited: for it (s).

    lost_first: what it said at first; after that it says only that it was not initialised.
    programmed: whether the active image has a programmer's mark. unnoted: that it is on trial cannot be noted.
    """

    say: Callable[[str], None]
    installer: Installer
    lost: str = ""
    lost_first: str = ""
    waited: int = 0
    programmed: bool = False
    unnoted: bool = False


class TrialBootloader:
    """One start's bootloader, over its hardware and the board's candidate slot.

    image_key: the public key that images must be signed by, compiled into it: its point (65 B).
    """

    kind: Kind = "trial"

    def __init__(self, hardware: Hardware, candidate: CandidateSlot, image_key: bytes) -> None:
        self.layout = hardware.layout
        self._hardware = hardware
        self.image_key = image_key
        self._places = Places(active_place(hardware), candidate, previous_place(hardware), hardware.nvstore)
        self._storage: BlockDevice | None = None if hardware.layout.candidate_on == INTERNAL else hardware.storage
        self._records = TrialRecords(hardware.nvstore)
        self._verifier = Verifier(hardware, image_key, self._places.active.capacity)
        self._clock = hardware.flash.clock

    def __repr__(self) -> str:
        return f"<trial bootloader, images signed by the key {self.image_key[1:5].hex()}…>"

    # -- one start -------------------------------------------------------------------------------------

    def boot(self, write: Print, reason: ResetReason = "power-on") -> BootResult:
        """Choose what starts, installing or going back first if need be; write gets the console's text.

        Raises:
            BootFailed: nothing may start.
        """
        write("Trial bootloader: it starts signed images only\r\n")
        say: Callable[[str], None] = lambda line: write(f"[BOOT] {line}\r\n")
        start = _Start(say, Installer(self._places, self._verifier, say, self._records.make_ready))
        while True:
            active, fault = self._look_at_active(start)
            floor = self._floor(active, start)
            claims = self._claims(start)
            choice = choose(active, claims.get("candidate"), claims.get("previous"), floor, self._tried())
            if active is not None and choice.step == "try" and not self._note_trial(active, start):
                choice = self._without_note(active, claims.get("previous"), floor)
            if choice.source is not None:
                if choice.step == "install" and active is not None and self._had_its_trial(active, floor):
                    start.say(f"{active.version} was not confirmed, and there is nothing to go back to")
                start.installer.carry_out(choice, claims[choice.source], active)
            elif active is not None:
                if choice.step == "start" and not start.lost:
                    self._keep_a_copy(active, claims, start)
                return self._jump(choice, active, self._refused(claims.get("candidate"), active, floor, start), start)
            elif not self._wait(start):
                raise self._failed(fault, start)

    def _jump(self, choice: Choice, active: FirmwareHeader, refused: str | None, start: _Start) -> BootResult:
        if refused:
            start.say(f"Candidate: {refused}")
        if choice.step == "start":
            start.say(f"Starting {active.version}, confirmed")
        elif choice.step == "try":
            start.say(
                f"Starting {active.version} on trial: unless the application confirms it, the next start goes back"
            )
        elif start.unnoted:
            start.say(
                f"Starting {active.version} all the same: it is not confirmed, and there is nothing to go back to"
            )
        else:
            start.say(f"{active.version} was not confirmed, but there is nothing to go back to: starting it again")
        done = start.installer
        return BootResult(active, done.installed, refused, choice.step != "start", done.reverted)

    def _keep_a_copy(self, active: FirmwareHeader, claims: dict[Source, FirmwareHeader], start: _Start) -> None:
        """Copy a confirmed image into the previous slot if the update storage holds it nowhere: flash ages."""
        if all(header.digest != active.digest for header in claims.values()):
            start.installer.keep(active)

    def _refused(
        self, candidate: FirmwareHeader | None, active: FirmwareHeader, floor: int, start: _Start
    ) -> str | None:
        if start.lost:
            return f"the update storage cannot be read ({start.lost})"
        if "candidate" in start.installer.given_up:
            return start.installer.given_up["candidate"]
        return refusal(candidate, active, floor, self._tried()) if candidate is not None else None

    def _note_trial(self, active: FirmwareHeader, start: _Start) -> bool:
        """Note, before the new image gets the processor, that it had its start; say whether that is noted."""
        try:
            self._records.tried = active.digest
        except StorageError as error:
            if not start.unnoted:
                start.unnoted = True
                start.installer.give_up(
                    "candidate", f"that {active.version} is on trial cannot be noted ({error.message})"
                )
            return False
        return True

    def _without_note(self, active: FirmwareHeader, previous: FirmwareHeader | None, floor: int) -> Choice:
        """Choose instead of a trial that nobody would know of at the next start."""
        return Choice("revert", "previous") if can_go_back(active, previous, floor) else Choice("start again")

    def _had_its_trial(self, active: FirmwareHeader, floor: int) -> bool:
        return active.version_number > floor and active.digest == self._tried()

    def _failed(self, fault: str, start: _Start) -> BootFailed:
        start.say("Nothing may start: the board waits for its next reset")
        others = "; ".join(f"{name}: {why}" for name, why in start.installer.given_up.items())
        where = f"update storage: {start.lost}" if start.lost else others or "no candidate, no previous image"
        return BootFailed(
            f"nothing may start. Active: {fault}; {where}",
            hint="put the card back and reset the board"
            if start.lost
            else "flash an application that is signed by the bootloader's key",
        )

    def _wait(self, start: _Start) -> bool:
        """Wait a second for the update storage to come back; say whether it is worth looking again."""
        if self._storage is None or not start.lost or start.waited >= WAIT_S:
            return False
        if start.waited == 0:
            start.say(f"The update storage does not answer ({start.lost}): put its card back, and the copy goes on")
        start.waited += 1
        self._clock.sleep(SECOND)
        with contextlib.suppress(StorageError):  # what is wrong shows at the next look
            # A card that was out has forgotten its initialisation.
            self._storage.deinit()
            self._storage.init()
            start.installer.storage_is_back()
        return True

    # -- looking ---------------------------------------------------------------------------------------

    def _look_at_active(self, start: _Start) -> tuple[FirmwareHeader | None, str]:
        """Verify the active image; return its header, or why it may not start."""
        place, start.programmed = self._places.active, False
        try:
            header = place.header()
            fault = "no image" if header is None else self._verifier.fault(header, place.read)
            programmed = header is not None and not fault and self._is_programmed(header)
        except StorageError as error:
            header, fault, programmed = None, error.message, False
        if header is not None and not fault:
            floor = self._floor(header, start)
            start.programmed = programmed
            if programmed and floor != header.version_number:
                self._begin_anew(header, start)
            elif header.version_number < floor:
                fault = f"{header.version} is below {version_of(floor)}, the least that may run"
        if fault and not start.waited:
            start.say(f"Active image: {fault}")
        return (None, fault) if fault else (header, "")

    def _is_programmed(self, header: FirmwareHeader) -> bool:
        region = self._places.active.region
        at = round_up(header.length, region.device.program_size)
        return region.read(at, MARK_SIZE) == programmer_mark(header.digest)

    def _floor(self, active: FirmwareHeader | None, start: _Start) -> int:
        try:
            floor = self._records.floor
            # What a programmer has written is confirmed, also where the counter could not be set to it.
            return active.version_number if active is not None and start.programmed else floor
        except StorageError as error:
            # What runs goes on running, and nothing older is installed.
            start.say(f"The version counter cannot be read ({error.message})")
            return active.version_number if active is not None else 0

    def _begin_anew(self, header: FirmwareHeader, start: _Start) -> None:
        """Take over what a programmer has written: the counter begins with it; a candidate from before is passed by."""
        try:
            candidate = self._claims(start).get("candidate")
            if candidate is not None and candidate.digest != header.digest:
                self._records.tried = candidate.digest
            elif self._records.tried is not None:
                self._records.forget_trial()
            self._records.floor = header.version_number
        except StorageError as error:
            start.say(f"The version counter cannot be set ({error.message})")

    def _tried(self) -> bytes | None:
        try:
            return self._records.tried
        except StorageError:
            return None

    def _claims(self, start: _Start) -> dict[Source, FirmwareHeader]:
        """Read the headers in the update storage: what lies there, if it is what it says."""
        claims: dict[Source, FirmwareHeader] = {}
        start.lost = ""
        given_up = start.installer.given_up
        try:
            ready = self._places.candidate.read()
            previous = self._places.previous.header()
        except StorageError as error:
            start.lost = start.lost_first = start.lost_first or error.message
            return {}
        if ready is not None and ready.component != COMPONENT:
            start.installer.give_up("candidate", f"it is for component {ready.component}")
        if ready is not None and "candidate" not in given_up:
            claims["candidate"] = ready.header
        if previous is not None and "previous" not in given_up:
            claims["previous"] = previous
        return claims

    # -- what the application and its programmer ask -----------------------------------------------------

    def active(self) -> FirmwareHeader | None:
        """Return the header of the active image if it is whole and signed, as the application asks for it too."""
        header = self._places.active.header()
        return header if header is not None and not self._verifier.fault(header, self._places.active.read) else None

    def slots(self) -> Sequence[Slot]:
        """Look at the active image, the candidate and the image that is kept."""
        with self._hardware.storage_in_use():
            return slots(self._places, self._verifier, self._records, self.layout.candidate_on)

    def confirm(self) -> None:
        """Keep the image that runs: from now on nothing older than it may start.

        Raises:
            StorageError: the counter cannot be raised; the next start goes back.
        """
        # By what was signed: the header's version was held against it at the start, and lies open since.
        version = signed_version.version_in(self._places.active.read(0, signed_version.END))
        if version is not None and version.number > self._records.floor:
            self._records.floor = version.number

    def rejected(self, digest: bytes) -> str | None:
        """Say why the image of this SHA-256, which was installed, does not run any more; None if that is not so."""
        header = self._places.active.header()
        if self._tried() != digest or (header is not None and header.digest == digest):
            return None
        return "the new firmware was started on trial and not confirmed, so the next start has put the old one back"

    def allow_again(self, digest: bytes) -> None:
        """Let an image that was not confirmed have another trial: someone has asked for it anew."""
        if self._tried() == digest:
            self._records.forget_trial()
