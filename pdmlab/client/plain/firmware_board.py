"""A board's firmware below object 5: packages wait in the update storage, and its bootloader installs from there.

The update storage is divided in two at an erase unit's edge. A package lies in the second half until it is withdrawn;
Update copies its image into the first, the bootloader's candidate slot, so that nothing that only waits is installed
by a reset. State and result are in NVStore.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pdmlab.client.plain.firmware_store import Record, Running
from pdmlab.client.platform import Platform
from pdmlab.errors import ConfigError, NoSpace, StorageError
from pdmlab.storage.kv.nvstore import NvstoreError, keep, root_of_trust
from pdmlab.update import signed_version, suit
from pdmlab.update.bootloaders.interface import ImageHeader
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.candidate_v2 import StorageLocation, UpdateStorage
from pdmlab.update.checks import Acceptance
from pdmlab.update.components import MAIN
from pdmlab.update.credentials import UpdateResources
from pdmlab.update.header import NO_PRECURSOR
from pdmlab.update.header_v2 import FirmwareHeaderV2
from pdmlab.update.manifest import Manifest
from pdmlab.update.object5 import Result, State
from pdmlab.update.packages import BareImage, Firmware, HeadedImage, Package, PackageKind, PackageRejected
from pdmlab.update.region import Region, round_up
from pdmlab.update.version import Version

RECORD_KEY = 12
"""NVStore's key of state, result, and what was asked for; free in sotp.h and in nvstore.h."""

_RECORD = struct.Struct("<BBI32s")


class StagedPackage:
    """A package in the second half of the update storage."""

    def __init__(self, place: Region, size: int) -> None:
        self._place = place
        self.size = size

    def __repr__(self) -> str:
        return f"<StagedPackage of {self.size} B at 0x{self._place.offset:x}>"

    def read(self, position: int, size: int) -> bytes:
        """See Package."""
        return self._place.read(position, max(min(size, self.size - position), 0))


@dataclass
class _Staging:
    """A package on its way: bytes programmed, bytes erased (both from the place's start), and what fills no unit."""

    programmed: int = 0
    erased: int = 0
    tail: bytes = b""


class BoardFirmware:
    """The firmware of the board that a client runs on; make it in device code.

    kinds: of packages that it takes, beside images with a header, images that name themselves, and SUIT envelopes
    where the running image has an update certificate.
    """

    in_place = False

    def __init__(self, board: Platform, *, kinds: Sequence[PackageKind] = ()) -> None:
        self._board = board
        self._signed = board.bootloader.kind == "trial"
        # Not every platform can tell what an image names.
        names: Callable[[Package], tuple[str, str] | None] | None = getattr(board, "names_of", None)
        own: list[PackageKind] = [HeadedImage()] if names is None else [HeadedImage(), BareImage(names)]
        active = board.bootloader.active()
        if board.image.update_resources is not None:
            own.append(_signed_packages(board, UpdateResources.from_mapping(board.image.update_resources), active))
        self.kinds: Sequence[PackageKind] = (*own, *kinds)
        self._active = b"" if active is None else active.digest
        self.running = Running("MAIN", "" if active is None else active.version_text)
        slot: object = board.candidate
        self._slot: CandidateSlot | StorageLocation
        if isinstance(slot, UpdateStorage):
            self._slot = slot.locations[0]
        elif isinstance(slot, CandidateSlot):
            self._slot = slot
        else:
            raise ConfigError(f"object 5 knows no update storage such as {slot!r}")
        self._half, self._place = _halves(self._slot.region)
        self._staging = _Staging()
        self._powered = False

    def __repr__(self) -> str:
        return f"<BoardFirmware {self.running.version}, room for {self.capacity} B>"

    @property
    def capacity(self) -> int:
        """The largest package (B)."""
        unit = self._place.device.program_size
        return self._place.size // unit * unit

    # -- what outlives a restart ---------------------------------------------------------------------------

    def load(self) -> Record:
        """See FirmwareStore; what cannot be read counts as nothing."""
        try:
            state, result, size, digest = _RECORD.unpack(self._board.nvstore.get(RECORD_KEY))
            return Record(State(state), Result(result), size, digest)
        except StorageError as error:
            if error.code == NvstoreError.NOT_FOUND:
                return Record()
            raise
        except (struct.error, ValueError):
            return Record()

    def save(self, record: Record) -> None:
        """See FirmwareStore."""
        if record != self.load():
            data = _RECORD.pack(record.state, record.result, record.package_size, record.digest.ljust(32, b"\0"))
            keep(self._board.nvstore, RECORD_KEY, data)

    # -- a package -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """See FirmwareStore."""
        self._power()
        self._staging = _Staging()

    def write(self, data: bytes) -> None:
        """See FirmwareStore."""
        at = self._staging
        if at.programmed + len(at.tail) + len(data) > self.capacity:
            raise NoSpace(f"there is room for {self.capacity} B of a package")
        waiting = at.tail + data
        whole = len(waiting) // self._place.device.program_size * self._place.device.program_size
        self._program(waiting[:whole])
        at.tail = waiting[whole:]

    def _program(self, data: bytes) -> None:
        at = self._staging
        while at.erased < at.programmed + len(data):
            position, unit = next(self._place.sectors(at.erased, 1))
            self._place.erase(position, unit)
            at.erased += unit
        if data:
            self._place.program(at.programmed, data)
            at.programmed += len(data)

    def package(self, size: int | None = None) -> Package:
        """See FirmwareStore."""
        self._power()
        if size is None:
            at = self._staging
            size, tail = at.programmed + len(at.tail), at.tail
            if tail:
                at.tail = b""
                self._program(tail.ljust(self._place.device.program_size, b"\xff"))
            self._place.device.sync()
        if size > self.capacity:
            raise StorageError(f"a package of {size} B in a place for {self.capacity} B")
        return StagedPackage(self._place, size)

    def discard(self) -> None:
        """See FirmwareStore; its bytes stay, and nothing says that there are any."""
        self._staging = _Staging()

    def _power(self) -> None:
        if not self._powered:
            self._place.device.init()
            self._powered = True

    # -- installing ------------------------------------------------------------------------------------------

    def check(self, firmware: Firmware) -> None:
        """See FirmwareStore."""
        room = min(self._board.layout.application.size, self._half - (self._slot.region.size - self._slot.capacity))
        if firmware.size > room:
            raise PackageRejected(Result.NO_STORAGE, f"an image of {firmware.size} B where {room} B fit")
        if self._signed and not firmware.signature:
            raise PackageRejected(
                Result.PACKAGE_TYPE, "the image has no signature, and this bootloader starts signed images only"
            )
        head = next(firmware.image(), b"")
        version = firmware.version
        if self._signed and (why := signed_version.disagreement(head, version.number, str(version))):
            raise PackageRejected(Result.INTEGRITY, f"the image is of another version: {why}")

    def install(self, firmware: Firmware) -> None:
        """See FirmwareStore: write the candidate, and mark it as whole."""
        self._power()
        if isinstance(self._slot, StorageLocation):
            root_of_trust(self._board.nvstore, self._board.random_bytes)  # its header is signed under it
            self._slot.begin(FirmwareHeaderV2(firmware.size, firmware.version.number, firmware.digest))
        else:
            self._slot.begin(_manifest(firmware), precursor=self._active or NO_PRECURSOR, signed=self._signed)
        for piece in firmware.image():
            self._slot.write(self._slot.position, piece)
        self._slot.finish()

    def withdraw(self) -> None:
        """See FirmwareStore."""
        self._power()
        if isinstance(self._slot, StorageLocation):
            self._slot.region.erase(0, 1)
        else:
            self._slot.forget()

    def runs(self, record: Record) -> bool:
        """See FirmwareStore."""
        return record.digest == self._active != b""

    def confirm(self) -> None:
        """See FirmwareStore."""
        self._board.bootloader.confirm()


def _manifest(firmware: Firmware) -> Manifest:
    """Return what a candidate slot is begun with; nobody signs it or sends it anywhere."""
    return Manifest(
        bytes(16), bytes(16), str(firmware.version), firmware.digest, firmware.size, "/5/0/0",
        installed_signature=firmware.signature,
    )  # fmt: skip


def _halves(whole: Region) -> tuple[int, Region]:
    """Return where the second half of a region begins, at an erase unit's edge, and that half.

    Raises:
        ConfigError: it is one erase unit.
    """
    unit = whole.device.get_erase_size(whole.offset)
    middle = round_up(whole.size // 2, unit)
    if middle >= whole.size or not whole.device.is_valid_erase(whole.offset, middle):
        edges = [at for at, _ in whole.sectors(0, whole.size)][1:]
        if not edges:
            raise ConfigError("the update storage is one erase unit: it cannot hold a package and a candidate")
        middle = min(edges, key=lambda at: abs(2 * at - whole.size))
    return middle, Region(whole.device, whole.offset + middle, whole.size - middle)


def _signed_packages(board: Platform, update: UpdateResources, active: ImageHeader | None) -> suit.SuitPackage:
    """Return the kind of SUIT envelopes that this firmware accepts."""
    try:
        version = Version(0, 0, 0) if active is None else Version.from_number(active.version_number)
    except ConfigError:
        version = Version(0, 0, 0)  # mbed-bootloader's headers have timestamps
    area = board.layout.candidate
    accepted = Acceptance(update.public_key, update.vendor_id, update.class_id, {MAIN: version}, storage_size=area.size)
    return suit.SuitPackage(accepted, None if active is None else active.digest)
