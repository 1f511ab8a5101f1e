"""A storage location of the older update client: where a downloaded image waits for mbed-bootloader.

Layout (update-client-hub, modules/pal-blockdevice and pal-flashiap): header v2, filled up to the program size, then the
image. On an external medium the header is the external one, with an HMAC under the board's device key; in internal
flash the internal one. The storage is divided into equal locations, each on the edges of erase units.

    slot = StorageLocation(sd, offset=64 << 20, size=2 << 20, key=lambda: device_key(root_of_trust))
    slot.begin(FirmwareHeaderV2(len(image), timestamp, digest))
    slot.write(0, image)
    slot.finish()

The header goes in last, when the application has allowed the installation, as the newest of the stock block-device
drivers has it; the one for internal flash writes it first, and an image then counts before it is allowed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pdmlab.errors import ConfigError, ImageRejected, StorageError, UpdateError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.storage.kv.sotp import SotpType
from pdmlab.update.header_v2 import EXTERNAL_SIZE, INTERNAL_SIZE, FirmwareHeaderV2, device_key
from pdmlab.update.layout import INTERNAL
from pdmlab.update.region import Region, round_up

if TYPE_CHECKING:
    from pdmlab.update.bootloaders.interface import Hardware


class StorageLocation:
    """One location on any block device; key: returns the device key of external headers, None: internal headers."""

    def __init__(
        self, device: BlockDevice, *, offset: int = 0, size: int | None = None, key: Callable[[], bytes] | None = None
    ) -> None:
        self.region = Region(device, offset, device.size - offset if size is None else size)
        if not device.is_valid_erase(self.region.offset, self.region.size):
            raise ConfigError(
                f"a storage location of 0x{self.region.size:x} B at 0x{offset:x} does not lie on erase units"
                f" of {device.get_erase_size(offset)} B",
                hint="look at update-client.storage-address, storage-size and storage-locations in mbed_app.json",
            )
        self._key = key
        self._header_size = INTERNAL_SIZE if key is None else EXTERNAL_SIZE
        self.image_offset = round_up(self._header_size, device.program_size)
        """Where in the location the image begins (B)."""
        self._header: FirmwareHeaderV2 | None = None
        self._position = 0
        self._tail = b""
        self._verified = False

    def __repr__(self) -> str:
        kind = "internal" if self._key is None else "external"
        return f"<location at 0x{self.region.offset:x} for images of {self.capacity} B, {kind} headers v2>"

    @property
    def capacity(self) -> int:
        """Return the largest image that fits (B)."""
        unit = self.region.device.program_size
        return max(0, (self.region.size - self.image_offset) // unit * unit)

    @property
    def position(self) -> int:
        """Return where in the image the next write goes (B)."""
        return self._position + len(self._tail)

    def begin(self, header: FirmwareHeaderV2) -> None:
        """Erase what header and image will take; keep the header until `finish`.

        Raises:
            ImageRejected: the image does not fit. StorageError: as the medium has it.
        """
        if header.size > self.capacity:
            raise ImageRejected(f"an image of {header.size} B does not fit the location's {self.capacity} B")
        self._header, self._position, self._tail, self._verified = header, 0, b"", False
        self.region.erase(0, self.image_offset + header.size)

    def write(self, position: int, data: bytes) -> None:
        """Append data at position, which must be `self.position`; whole program units go to the medium."""
        header = self._begun()
        if position != self.position:
            raise UpdateError(f"the image goes on at {self.position} B, not at {position}")
        if position + len(data) > header.size:
            raise UpdateError(f"{position + len(data)} B are more than the image's {header.size}")
        self._tail += data
        unit = self.region.device.program_size
        whole = len(self._tail) // unit * unit
        if whole:
            self.region.program(self.image_offset + self._position, self._tail[:whole])
            self._position += whole
            self._tail = self._tail[whole:]

    def verify(self) -> None:
        """Write the last bytes, read the image back, and raise ImageRejected unless its SHA-256 is the header's."""
        header = self._begun()
        if self.position != header.size:
            raise ImageRejected(f"the location has {self.position} of {header.size} B")
        if self._tail:
            self.region.program(self.image_offset + self._position, self._tail)
            self._position, self._tail = header.size, b""
        self.region.device.sync()
        found = self.digest(header)
        if found != header.digest:
            raise ImageRejected(
                f"the stored image's SHA-256 is {found.hex()}, the manifest's {header.digest.hex()}",
                hint="the file under the manifest's URI is another one, or the medium does not keep what is written",
            )
        self._verified = True

    def finish(self) -> None:
        """Write the header, which makes the image count for the bootloader; verify first if that was not done."""
        header = self._begun()
        if not self._verified:
            self.verify()
        self.region.program(0, header.pack_internal() if self._key is None else header.pack_external(self._key()))
        self.region.device.sync()

    def header(self) -> FirmwareHeaderV2 | None:
        """Return the header that lies there, whether its image is whole or not; None if there is none of this board."""
        try:
            data = self.region.read(0, self._header_size)
            if self._key is None:
                return FirmwareHeaderV2.parse_internal(data)
            return FirmwareHeaderV2.parse_external(data, self._key())
        except ImageRejected:
            return None

    def image_region(self, header: FirmwareHeaderV2) -> Region:
        """Return the stretch of the device that holds the image; raise ImageRejected if it cannot."""
        if not 0 < header.size <= self.capacity:
            raise ImageRejected(f"an image of {header.size} B in a location for {self.capacity} B")
        return Region(self.region.device, self.region.offset + self.image_offset, header.size)

    def digest(self, header: FirmwareHeaderV2) -> bytes:
        """Read the image back and return its SHA-256."""
        digest = hashlib.sha256()
        for chunk in self.image_region(header).chunks(0, header.size):
            digest.update(chunk)
        return digest.digest()

    def erase(self) -> None:
        """Erase the location; on a card, which keeps old data through an erase, the header alone."""
        self.region.erase(0, self.region.size)
        if self.header() is not None:
            self.region.program(0, b"\xff" * self._header_size)
        self._header, self._position, self._tail, self._verified = None, 0, b"", False

    def _begun(self) -> FirmwareHeaderV2:
        if self._header is None:
            raise UpdateError("nothing was begun in this location", hint="call begin() first")
        return self._header


class UpdateStorage:
    """All locations of a board's update storage, of which a manifest names one."""

    def __init__(self, locations: Sequence[StorageLocation]) -> None:
        self.locations = tuple(locations)

    def __repr__(self) -> str:
        return f"<update storage: {', '.join(map(repr, self.locations))}>"

    @property
    def capacity(self) -> int:
        """Return the largest image that fits its first location (B)."""
        return self.locations[0].capacity

    def location(self, storage_id: str) -> StorageLocation:
        """Return the location of a manifest's storage id: a number, or the first for whatever else it is.

        Raises:
            StorageError: the board has no location of that number.
        """
        digits = storage_id[: len(storage_id) - len(storage_id.lstrip("0123456789"))]
        number = int(digits) if digits and len(digits) < 11 and "default" not in storage_id else 0
        if number >= len(self.locations):
            raise StorageError(f"the board has no storage location {number}, its last is {len(self.locations) - 1}")
        return self.locations[number]

    def erase(self) -> None:
        """Erase every location."""
        for location in self.locations:
            location.erase()


def storage_locations(hardware: Hardware, count: int = 1) -> list[StorageLocation]:
    """Divide a board's update storage (storage-address, storage-size) into `count` locations (storage-locations).

    The edges are those of pal_blockdevice_get_slot_addr_size, and in internal flash, whose sectors may differ in size,
    of arm_uc_pal_flashiap_get_slot_addr_size.

    Raises:
        ConfigError: a location would have no room.
    """
    area, device = hardware.layout.candidate, hardware.storage
    internal = hardware.layout.candidate_on == INTERNAL
    down = _sector_edges(hardware) if internal else _unit_edges(device.get_erase_size(area.offset))
    start, end = area.offset, down(area.end)
    if start != down(start):
        raise ConfigError(
            f"{area} does not begin at the edge of an erase unit", hint="look at update-client.storage-address"
        )
    most = (end - start) // max(count, 1)
    edges = [(at, down(at + most)) for at in (down(start + number * most) for number in range(count))]
    if count < 1 or any(stop <= at for at, stop in edges):
        raise ConfigError(f"{area} cannot be divided into {count} locations", hint="look at storage-locations")
    key = None if internal else lambda: stored_key(hardware.nvstore)
    return [StorageLocation(device, offset=at, size=stop - at, key=key) for at, stop in edges]


def stored_key(nvstore: NVStore) -> bytes:
    """Return the device key under the root of trust that the board has kept.

    Raises:
        StorageError: it has none, or it cannot be read.
    """
    return device_key(nvstore.get(SotpType.ROT))


def _unit_edges(unit: int) -> Callable[[int], int]:
    return lambda address: address - address % unit


def _sector_edges(hardware: Hardware) -> Callable[[int], int]:
    bounds = hardware.layout.geometry.bounds()
    return lambda address: max(bound for bound in bounds if bound <= address)
