"""One start's copying: what it has installed, what it has given up, and why."""

from __future__ import annotations

from collections.abc import Callable

from pdmlab.errors import ImageRejected, StorageError
from pdmlab.update.bootloaders.trial.choice import Choice, Source
from pdmlab.update.bootloaders.trial.copying import ImagePlace, Read, SourceLost
from pdmlab.update.bootloaders.trial.places import Places
from pdmlab.update.bootloaders.trial.verify import Verifier
from pdmlab.update.header import FirmwareHeader

TRIES = 2
"""How often an image is copied, or read, before it is given up for this start."""
MOST_COPIES = 8
"""How many copies one start makes, whatever becomes of them: flash may read well once, and not again."""
_WORDS = {
    "install": "Installing {0}: copying it over the application",
    "revert": "Going back to {0}: copying it over the image that was not confirmed",
    "restore": "Restoring {0} from the {1} slot",
}


class Installer:
    """Copies images between a board's places; whether all went well shows when everything is looked at again.

    say: takes a line for the console. make_ready: sees to it that a trial can be noted, raises StorageError if not.
    given_up: images that are not what they claim, or cannot be copied, and why.
    installed, reverted: whether a candidate, or the previous image, was put in place.
    """

    def __init__(
        self, places: Places, verifier: Verifier, say: Callable[[str], None], make_ready: Callable[[], None]
    ) -> None:
        self._places = places
        self._verifier = verifier
        self._say = say
        self._make_ready = make_ready
        self.given_up: dict[Source, str] = {}
        self.installed = self.reverted = False
        self._copies = self._failures = self._misread = 0

    def carry_out(self, choice: Choice, header: FirmwareHeader, active: FirmwareHeader | None) -> None:
        """Carry out a step that copies the image of that header over the active one."""
        source = choice.source
        assert source is not None
        try:
            read = self._places.reader(source, header)
            fault = self._verifier.fault(header, read)
            if fault:
                self.give_up(source, fault)
                return
            if (
                choice.step == "install"
                and active is not None
                and (why := self._not_ready(header) or self.keep(active))
            ):
                self.give_up("candidate", why)
                return
            self._copies += 1
            if self._copies > MOST_COPIES:
                self.give_up(source, "what is copied into flash does not stay there")
                return
            self._say(_WORDS[choice.step].format(header.version, source))
            self._replace_active(source, header, read)
        except ImageRejected as error:
            self.give_up(source, error.message)
        except StorageError as error:
            self._cannot_read(source, error.message)

    def _not_ready(self, header: FirmwareHeader) -> str:
        """Say why a new image must not be installed, since nobody would know afterwards that it is on trial."""
        try:
            self._make_ready()
        except StorageError as error:
            return f"that {header.version} is on trial could not be noted ({error.message})"
        return ""

    def storage_is_back(self) -> None:
        """Forget what could not be read of a card that was out."""
        self._misread = 0

    def give_up(self, source: Source, why: str) -> None:
        """Use this image no more in this start."""
        self.given_up[source] = why
        if source == "previous":
            self._say(f"Previous image: {why}")

    def _replace_active(self, source: Source, header: FirmwareHeader, read: Read) -> None:
        if self._put(self._places.active, header, read):
            self.installed, self.reverted = source == "candidate", source == "previous"
            return
        self._failures += 1
        if self._failures >= TRIES:
            self._failures = 0
            self.give_up(source, "it cannot be copied into flash")

    def keep(self, active: FirmwareHeader) -> str:
        """Copy the active image into the previous slot, unless it is there; say why that cannot be, or nothing."""
        previous = self._places.previous
        if active.size > previous.capacity:
            return f"{active.version} has no room in the slot that would keep it"
        try:
            kept = previous.header()
            if kept is not None and kept.digest == active.digest and not self._verifier.fault(kept, previous.read):
                return ""
            self._say(f"Keeping {active.version} in the previous slot")
            if self._put(previous, active, self._places.active.read):
                return ""
            return f"{active.version} cannot be kept in the previous slot"
        except StorageError as error:
            return f"{active.version} cannot be kept in the previous slot: {error.message}"

    def _put(self, place: ImagePlace, header: FirmwareHeader, read: Read) -> bool:
        """Copy an image, verify the copy, and write its header; say whether the place took it.

        Raises:
            SourceLost: the image cannot be read any more.
        """
        try:
            done = place.copy_from(read, header.size)
            if done.kept:
                self._say(f"{done.kept} of {done.kept + done.written} sectors held their bytes already")
            if self._verifier.digest(place.read, header.size) != header.digest:
                raise StorageError(f"{place.name} does not hold what was copied to it")
            place.write_header(FirmwareHeader(header.size, header.version, header.digest, signature=header.signature))
        except SourceLost:
            raise
        except StorageError as error:
            self._say(f"The copy failed: {error.message}")
            return False
        return True

    def _cannot_read(self, source: Source, why: str) -> None:
        """Note that an image could not be read; one that is there, and not readable twice, is given up."""
        self._say(f"The copy stopped: {why}")
        self._misread += 1
        if self._misread >= TRIES:
            self._misread = 0
            self.give_up(source, why)
