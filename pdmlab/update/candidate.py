"""The candidate slot: where a downloaded image waits for the bootloader, written so that it survives cuts.

Layout (mbed-bootloader of the 4.x clients): ready header, firmware header, image, each filled up to the
device's program size. The ready header goes in last: until then nothing in the slot counts.

    slot = CandidateSlot(sd, offset=64 << 20, size=2 << 20)
    slot.begin(manifest)
    while slot.position < manifest.payload_size:
        slot.write(slot.position, fetch(slot.position))
    slot.finish()
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pdmlab.errors import ConfigError, ImageRejected, UpdateError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.update.header import (
    HEADER_SIZE,
    MAX_HEADER_SIZE,
    NO_PRECURSOR,
    READY_SIZE,
    FirmwareHeader,
    pack_ready,
    parse_ready,
)
from pdmlab.update.manifest import Manifest
from pdmlab.update.region import BLANK, Region, round_up
from pdmlab.update.version import Version

RESUME_STEP = 16 * 1024  # smallest distance of resume marks (B); larger where erase units are

MARK = 32  # bytes a mark has at least (B): single bytes of 0xFF are common in images


@dataclass(frozen=True)
class Candidate:
    """A whole candidate in a slot: the component it is for, and its header."""

    component: str
    header: FirmwareHeader


class CandidateSlot:
    """A slot on any block device: SD (erase does nothing), SPI NOR flash, the microcontroller's own flash.

    After a reset the position to go on from is found from the medium alone. Every 16 KiB (or sector)
    the first bytes are a mark: blank until writing has reached it. SD cards keep old data through
    an erase, so there the marks are made blank by hand.
    """

    def __init__(self, device: BlockDevice, *, offset: int = 0, size: int | None = None) -> None:
        self.region = Region(device, offset, device.size - offset if size is None else size)
        if not device.is_valid_erase(self.region.offset, self.region.size):
            raise ConfigError(
                f"a candidate slot of 0x{self.region.size:x} B at 0x{offset:x} does not lie on erase units"
                f" of {device.get_erase_size(offset)} B",
                hint="look at update-client.storage-address and storage-size in mbed_app.json",
            )
        unit = device.program_size
        self._header_at = round_up(READY_SIZE, unit)
        self._image_at = self._header_at + round_up(HEADER_SIZE, unit)
        self._header: FirmwareHeader | None = None
        self._component = "MAIN"
        self._position = 0
        self._tail = b""
        self._verified = False

    @property
    def capacity(self) -> int:
        """Return the largest image that fits (B)."""
        unit = self.region.device.program_size
        return max(0, (self.region.size - self._image_at) // unit * unit)

    @property
    def position(self) -> int:
        """Return where in the image the next write goes (B)."""
        return self._position + len(self._tail)

    def begin(self, manifest: Manifest, *, precursor: bytes = NO_PRECURSOR) -> None:
        """Empty the slot and write the header of the image to come; precursor is the running image's SHA-256."""
        self._open(manifest, precursor)
        self._clear(0)
        assert self._header is not None
        self.region.program(self._header_at, self._header.pack())

    def resume(self, manifest: Manifest, *, precursor: bytes = NO_PRECURSOR) -> int:
        """Go on with a download that was cut off; return the position (B) to fetch from next.

        The slot is begun again, from 0, if it holds no header of this very image.
        """
        self._open(manifest, precursor)
        assert self._header is not None
        try:
            same = FirmwareHeader.parse(self.region.read(self._header_at, MAX_HEADER_SIZE)) == self._header
        except ImageRejected:
            same = False
        reached = 0
        # A torn ready header is no mark of a whole candidate, but flash cannot take another one over it.
        if same and self._blank(0, READY_SIZE):
            for mark in self._marks():
                if self._blank(mark):
                    break
                reached = mark
        if reached == 0:
            self.begin(manifest, precursor=precursor)
        else:
            # What lies after the mark may be half written; it is written again from there.
            self._clear(reached)
            self._position = reached - self._image_at
        return self.position

    def write(self, position: int, data: bytes) -> None:
        """Append data at position, which must be `self.position`; whole program units go to the medium."""
        header = self._begun()
        if position != self.position:
            raise UpdateError(f"the candidate goes on at {self.position} B, not at {position}")
        if position + len(data) > header.size:
            raise UpdateError(f"{position + len(data)} B are more than the image's {header.size}")
        self._tail += data
        unit = self.region.device.program_size
        whole = len(self._tail) // unit * unit
        if whole:
            self.region.program(self._image_at + self._position, self._tail[:whole])
            self._position += whole
            self._tail = self._tail[whole:]

    def verify(self) -> None:
        """Write the last bytes, read the image back, and raise ImageRejected unless its SHA-256 is the manifest's."""
        header = self._begun()
        if self.position != header.size:
            raise ImageRejected(f"the candidate has {self.position} of {header.size} B")
        if self._tail:
            self.region.program(self._image_at + self._position, self._tail)
            self._position, self._tail = header.size, b""
        self.region.device.sync()
        found = self.digest(header)
        if found != header.digest:
            raise ImageRejected(
                f"the candidate's SHA-256 is {found.hex()}, the manifest's {header.digest.hex()}",
                hint="the file under the manifest's URI is another one, or the medium does not keep what is written",
            )
        self._verified = True

    def finish(self) -> None:
        """Mark the candidate as whole, for the bootloader to install; verify it first if that was not done."""
        if not self._verified:
            self.verify()
        self.region.program(0, pack_ready(self._component))
        self.region.device.sync()

    def read(self) -> Candidate | None:
        """Return the whole candidate in the slot; None if there is none."""
        component = parse_ready(self.region.read(0, READY_SIZE))
        if component is None:
            return None
        try:
            header = FirmwareHeader.parse(self.region.read(self._header_at, MAX_HEADER_SIZE))
        except ImageRejected:
            return None
        return Candidate(component, header)

    def header(self) -> FirmwareHeader | None:
        """Return the header in the slot, whether its image is whole or not; None if there is none."""
        try:
            return FirmwareHeader.parse(self.region.read(self._header_at, MAX_HEADER_SIZE))
        except ImageRejected:
            return None

    def image_region(self, header: FirmwareHeader) -> Region:
        """Return the stretch of the device that holds the image; raise ImageRejected if it cannot."""
        if header.size > self.capacity:
            raise ImageRejected(f"an image of {header.size} B in a slot for {self.capacity} B")
        return Region(self.region.device, self.region.offset + self._image_at, header.size)

    def digest(self, header: FirmwareHeader) -> bytes:
        """Read the image back and return its SHA-256."""
        digest = hashlib.sha256()
        for chunk in self.image_region(header).chunks(0, header.size):
            digest.update(chunk)
        return digest.digest()

    def erase(self) -> None:
        """Take the mark away, and erase the slot."""
        self._unmark()
        self.region.erase(0, self.region.size)
        self._header, self._position, self._tail, self._verified = None, 0, b"", False

    def _open(self, manifest: Manifest, precursor: bytes) -> None:
        if manifest.payload_size > self.capacity:
            raise ImageRejected(f"an image of {manifest.payload_size} B does not fit the slot's {self.capacity} B")
        version = Version.parse(manifest.version)
        self._header = FirmwareHeader(manifest.payload_size, version, manifest.payload_digest, precursor)
        self._component = manifest.component
        self._position, self._tail, self._verified = 0, b"", False

    def _begun(self) -> FirmwareHeader:
        if self._header is None:
            raise UpdateError("nothing was begun in this slot", hint="call begin() or resume() first")
        return self._header

    def _end(self) -> int:
        return self._image_at + round_up(self._begun().size, self.region.device.program_size)

    def _marks(self) -> list[int]:
        """List where the marks lie: the first sector's edge in each stretch of RESUME_STEP, after the headers."""
        marks, last = [], 0
        for at, _ in self.region.sectors(0, self._end()):
            if at - last >= RESUME_STEP and at >= self._image_at:
                marks.append(at)
                last = at
        return marks

    def _blank(self, position: int, size: int = MARK) -> bool:
        width = round_up(size, self.region.device.program_size)
        return self.region.read(position, width) == BLANK * width

    def _clear(self, start: int) -> None:
        """Make the slot blank from the sector at start on, up to where the image will end."""
        if start == 0:
            self._unmark()
        self.region.erase(start, self._end() - start)
        for mark in self._marks():
            if mark >= start and not self._blank(mark):
                self.region.program(mark, BLANK * MARK)

    def _unmark(self) -> None:
        """Let nothing in the slot count as whole any more."""
        if self._blank(0, READY_SIZE):
            return
        self.region.device.erase(self.region.offset, self.region.device.get_erase_size(self.region.offset))
        if not self._blank(0, READY_SIZE):
            self.region.program(0, BLANK * READY_SIZE)
