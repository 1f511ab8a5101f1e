"""Where the trial bootloader's images lie: the application in flash, and two slots in the board's update storage.

The storage (update-client.storage-address and storage-size) is divided in two, as storage-locations 2 divides it: the
candidate lies in the first half, the image that is kept in the second.
"""

from __future__ import annotations

from dataclasses import dataclass

from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.storage.kv.sotp import SotpType
from pdmlab.update.bootloaders.interface import Hardware
from pdmlab.update.bootloaders.trial.choice import Source
from pdmlab.update.bootloaders.trial.copying import Forward, ImagePlace, Read
from pdmlab.update.bootloaders.trial.records import MARK_SIZE
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.header import FLAG_ENCRYPTED, FLAG_RESUME, SIGNED_HEADER_SIZE, FirmwareHeader
from pdmlab.update.layout import Area
from pdmlab.update.region import Region, round_up


@dataclass(frozen=True)
class Places:
    """The three places of a board, on one start's drivers."""

    active: ImagePlace
    candidate: CandidateSlot
    previous: ImagePlace
    nvstore: NVStore

    def reader(self, source: Source, header: FirmwareHeader) -> Read:
        """Return what reads an image in the update storage.

        Raises:
            ImageRejected: it cannot lie there.
        """
        if source == "previous":
            return self.previous.read
        if not header.flags & (FLAG_ENCRYPTED | FLAG_RESUME):
            return self.candidate.image_region(header).read
        key = self._device_key() if header.flags & FLAG_ENCRYPTED else None
        return Forward(lambda: self.candidate.image(header, key)).read

    def _device_key(self) -> bytes | None:
        """Return the root of trust, which candidates are encrypted under; None if there is none to be read."""
        try:
            return self.nvstore.get(SotpType.ROT)
        except StorageError:
            return None


def active_place(hardware: Hardware) -> ImagePlace:
    """Return where the active image lies.

    Raises:
        ConfigError: a signed header has no room before the application.
    """
    layout = hardware.layout
    room = layout.app_offset - layout.header_offset
    needed = round_up(SIGNED_HEADER_SIZE, hardware.flash.program_size) + MARK_SIZE
    if room < needed:
        raise ConfigError(
            f"{layout.header} has no room for a signed header and the programmer's mark, {needed} B",
            hint="move target.app_offset up",
        )
    region = Region(hardware.flash, layout.header_offset, layout.application.end - layout.header_offset)
    return ImagePlace("the application", region, room)


def candidate_slot(hardware: Hardware) -> CandidateSlot:
    """Return the slot that candidates are downloaded into: the first half of the update storage."""
    first, _ = halves(hardware.storage, hardware.layout.candidate)
    return CandidateSlot(hardware.storage, offset=first.offset, size=first.size)


def previous_place(hardware: Hardware) -> ImagePlace:
    """Return where the image before the active one is kept: the second half of the update storage."""
    _, second = halves(hardware.storage, hardware.layout.candidate)
    region = Region(hardware.storage, second.offset, second.size)
    return ImagePlace("the previous slot", region, round_up(SIGNED_HEADER_SIZE, hardware.storage.program_size))


def halves(device: BlockDevice, area: Area) -> tuple[Area, Area]:
    """Divide an area of a device in two, at the edge of an erase unit nearest to its middle.

    Raises:
        ConfigError: it is a single erase unit.
    """
    middle = area.size // 2 // device.erase_size * device.erase_size
    if not middle or not device.is_valid_erase(area.offset, middle):
        edges, at = [], area.offset
        while at < area.end:
            edges.append(at - area.offset)
            at += device.get_erase_size(at)
        middle = min(edges[1:], key=lambda edge: abs(2 * edge - area.size), default=0)
    if not middle:
        raise ConfigError(
            f"{area} is one erase unit: it cannot hold a candidate and the image before it",
            hint="enlarge update-client.storage-size: the trial bootloader needs two slots there",
        )
    return Area("candidate", area.offset, middle), Area("previous image", area.offset + middle, area.size - middle)
