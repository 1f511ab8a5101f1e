"""Where a firmware package waits on a device, and what installs it: the seam below object 5, and one in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pdmlab.errors import NoSpace
from pdmlab.update.object5 import Result, State
from pdmlab.update.packages import Firmware, HeadedImage, Package, PackageKind

ROOM = 4 << 20
"""What a device without a board has for a package, unless told (B)."""


@dataclass(frozen=True)
class Record:
    """What outlives a restart: state and result, how much of a package there is (B), and which image was asked for."""

    state: State = State.IDLE
    result: Result = Result.INITIAL
    package_size: int = 0
    digest: bytes = b""


@dataclass(frozen=True)
class Running:
    """The firmware that runs: its name and version."""

    name: str
    version: str


class FirmwareStore(Protocol):
    """A device's firmware; all of it may block, as a board's media do.

    kinds     of packages that it can install
    in_place  whether `install` is all: the device need not restart for the new firmware to run
    """

    @property
    def kinds(self) -> Sequence[PackageKind]: ...

    @property
    def in_place(self) -> bool: ...

    @property
    def capacity(self) -> int:
        """The largest package (B)."""
        ...

    @property
    def running(self) -> Running:
        """The firmware that runs."""
        ...

    def load(self) -> Record:
        """Return what was saved last; an empty record if nothing was."""
        ...

    def save(self, record: Record) -> None:
        """Save a record, so that it is there after a restart."""
        ...

    def begin(self) -> None:
        """Make room for a package."""
        ...

    def write(self, data: bytes) -> None:
        """Append to the package; raise NoSpace if it has no more room."""
        ...

    def package(self, size: int | None = None) -> Package:
        """Return the package that was written; of a size (B) if it was before a restart."""
        ...

    def discard(self) -> None:
        """Drop the package."""
        ...

    def check(self, firmware: Firmware) -> None:
        """Raise PackageRejected if a package's firmware could not be installed here."""
        ...

    def install(self, firmware: Firmware) -> None:
        """Hand an image of the package to what installs it, at the next restart or at once.

        Raises:
            PdmlabError: it cannot be.
        """
        ...

    def withdraw(self) -> None:
        """Take back what was handed over and not installed: nobody tries it again."""
        ...

    def runs(self, record: Record) -> bool:
        """Whether what runs is the image that a record asked for."""
        ...

    def confirm(self) -> None:
        """Keep the firmware that runs: it has registered."""
        ...


class MemoryFirmware:
    """The firmware of a device that is no board: a name, a version, and a package in this process's memory.

    kinds: of packages that it takes, beside images with a header.
    """

    in_place = True

    def __init__(
        self, name: str = "MAIN", version: str = "1.0.0", *, room: int = ROOM, kinds: Sequence[PackageKind] = ()
    ) -> None:
        self.running = Running(name, version)
        self.capacity = room
        self.kinds: Sequence[PackageKind] = (HeadedImage(), *kinds)
        self._record = Record()
        self._data = bytearray()
        self._digest = b""

    def __repr__(self) -> str:
        return f"<MemoryFirmware {self.running.name} {self.running.version}, {len(self._data)} B wait>"

    @property
    def size(self) -> int:
        """See Package: this is one, too."""
        return len(self._data)

    def read(self, position: int, size: int) -> bytes:
        """See Package."""
        return bytes(self._data[position : position + size])

    def load(self) -> Record:
        """See FirmwareStore."""
        return self._record

    def save(self, record: Record) -> None:
        """See FirmwareStore."""
        self._record = replace(record)

    def begin(self) -> None:
        """See FirmwareStore."""
        self._data.clear()

    def write(self, data: bytes) -> None:
        """See FirmwareStore."""
        if len(self._data) + len(data) > self.capacity:
            raise NoSpace(f"there is room for {self.capacity} B of a package")
        self._data += data

    def package(self, size: int | None = None) -> Package:
        """See FirmwareStore."""
        return self

    def discard(self) -> None:
        """See FirmwareStore."""
        self._data.clear()

    def check(self, firmware: Firmware) -> None:
        """See FirmwareStore."""

    def install(self, firmware: Firmware) -> None:
        """See FirmwareStore."""
        self.running, self._digest = Running(firmware.name, str(firmware.version)), firmware.digest

    def withdraw(self) -> None:
        """See FirmwareStore."""

    def runs(self, record: Record) -> bool:
        """See FirmwareStore."""
        return record.digest == self._digest != b""

    def confirm(self) -> None:
        """See FirmwareStore."""
