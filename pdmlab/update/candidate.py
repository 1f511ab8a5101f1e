"""The candidate slot: where a downloaded image waits for the bootloader, written so that it survives cuts.

Layout (the 4.x clients' fota_candidate.c): ready header, firmware header, image, each filled up to the
device's program size. The ready header goes in last: until then nothing in the slot counts. The image lies at
once, or in pages (pdmlab/update/pages.py), each of which says whether it is whole.

    slot = CandidateSlot(sd, offset=64 << 20, size=2 << 20)
    slot.begin(manifest)
    while slot.position < manifest.installed_size:
        slot.write(slot.position, fetch(slot.position))
    slot.finish()
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pdmlab.errors import ConfigError, ImageRejected, UpdateError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.update.candidate_writers import AtOnce, InPages, PageReader, Writer, whole_pages
from pdmlab.update.header import (
    MAX_HEADER_SIZE,
    NO_PRECURSOR,
    READY_SIZE,
    FirmwareHeader,
    header_size,
    pack_ready,
    parse_ready,
)
from pdmlab.update.manifest import Manifest
from pdmlab.update.pages import PAGE_SIZE, Pages, pages_of
from pdmlab.update.region import BLANK, Region, in_chunks, round_up
from pdmlab.update.version import Version


@dataclass(frozen=True)
class Candidate:
    """A whole candidate in a slot: the component it is for, and its header."""

    component: str
    header: FirmwareHeader


class CandidateSlot:
    """A slot on any block device: SD (erase does nothing), SPI NOR flash, the microcontroller's own flash.

    After a reset the position to go on from is found from the medium alone.
    """

    def __init__(self, device: BlockDevice, *, offset: int = 0, size: int | None = None) -> None:
        self.region = Region(device, offset, device.size - offset if size is None else size)
        if not device.is_valid_erase(self.region.offset, self.region.size):
            raise ConfigError(
                f"a candidate slot of 0x{self.region.size:x} B at 0x{offset:x} does not lie on erase units"
                f" of {device.get_erase_size(offset)} B",
                hint="look at update-client.storage-address and storage-size in mbed_app.json",
            )
        self._header_at = round_up(READY_SIZE, device.program_size)
        self._header: FirmwareHeader | None = None
        self._writer: Writer | None = None
        self._component = "MAIN"
        self._verified = False

    def __repr__(self) -> str:
        return f"<candidate slot of {self.region.size} B at 0x{self.region.offset:x} of {self.region.device!r}>"

    @property
    def capacity(self) -> int:
        """Return the largest image that fits at once (B)."""
        return self.capacity_for()

    def capacity_for(self, pages: Pages | None = None, *, signed: bool = False) -> int:
        """Return the largest image that fits in such pages, under a header with or without a signature (B)."""
        wrapped = pages is not None and pages.wrapped_key is not None
        left = self.region.size - self._image_at(header_size(signed=signed, wrapped_key=wrapped))
        if pages is None:
            unit = self.region.device.program_size
            return max(0, left // unit * unit)
        return max(0, left // round_up(pages.page_size, self.region.device.program_size) * pages.room)

    @property
    def position(self) -> int:
        """Return where in the image the next write goes (B)."""
        return 0 if self._writer is None else self._writer.position

    def begin(self, manifest: Manifest, *, precursor: bytes = NO_PRECURSOR, pages: Pages | None = None,
              signed: bool = False) -> None:  # fmt: skip
        """Empty the slot and write the header of the image to come.

        precursor  the running image's SHA-256
        pages      how the image is to lie; None: at once
        signed     whether the header has the image's signature, which the manifest must have then

        Raises:
            ImageRejected: it does not fit, or has no signature.
            StorageError: the medium fails.
        """
        header, writer = self._open(manifest, precursor, pages, signed)
        self._unmark()
        writer.clear()
        self.region.program(self._header_at, header.pack())

    def resume(self, manifest: Manifest, *, precursor: bytes = NO_PRECURSOR, pages: Pages | None = None,
               signed: bool = False) -> int:  # fmt: skip
        """Go on with a download that was cut off; return the position (B) to fetch from next.

        The slot is begun again, from 0, if it holds no header of this very image in these very pages.
        """
        header, writer = self._open(manifest, precursor, pages, signed)
        # A torn ready header is no mark of a whole candidate, but flash cannot take another one over it.
        if self.header() != header or not self._blank(0, READY_SIZE) or not writer.find():
            self.begin(manifest, precursor=precursor, pages=pages, signed=signed)
        return self.position

    def write(self, position: int, data: bytes) -> None:
        """Append data at position, which must be `self.position`; whole units of the medium go to it at once."""
        writer, header = self._begun()
        if position != writer.position:
            raise UpdateError(f"the candidate goes on at {writer.position} B, not at {position}")
        if position + len(data) > header.size:
            raise UpdateError(f"{position + len(data)} B are more than the image's {header.size}")
        writer.write(data)

    def flush(self) -> None:
        """Write the last bytes, which fill no unit of the medium, once the image is whole."""
        writer, header = self._begun()
        if writer.position != header.size:
            raise ImageRejected(f"the candidate has {writer.position} of {header.size} B")
        writer.flush()

    def verify(self) -> None:
        """Write the last bytes, read the image back, and raise ImageRejected unless its SHA-256 is the manifest's."""
        self.flush()
        writer, header = self._begun()
        self.region.device.sync()
        digest = hashlib.sha256()
        for piece in writer.read():
            digest.update(piece)
        if digest.digest() != header.digest:
            raise ImageRejected(
                f"the candidate's SHA-256 is {digest.hexdigest()}, the manifest's {header.digest.hex()}",
                hint="the file under the manifest's URI is another one, or the medium does not keep what is written",
            )
        self._verified = True

    def finish(self) -> None:
        """Mark the candidate as whole, for the bootloader to install; verify it first if that was not done."""
        if not self._verified:
            self.verify()
        self.region.program(0, pack_ready(self._component))
        self.region.device.sync()

    def is_finished(self, manifest: Manifest) -> bool:
        """Say whether the slot holds the whole candidate that a manifest asks for."""
        found = self.read()
        return found is not None and (
            found.component,
            found.header.digest,
            found.header.size,
            found.header.version,
        ) == (
            manifest.component,
            manifest.installed_digest,
            manifest.installed_size,
            Version.parse(manifest.version),
        )

    def read(self) -> Candidate | None:
        """Return the whole candidate in the slot; None if there is none."""
        component = parse_ready(self.region.read(0, READY_SIZE))
        header = None if component is None else self.header()
        return None if component is None or header is None else Candidate(component, header)

    def header(self) -> FirmwareHeader | None:
        """Return the header in the slot, whether its image is whole or not; None if there is none."""
        size = min(MAX_HEADER_SIZE, self.region.size - self._header_at)
        try:
            return FirmwareHeader.parse(self.region.read(self._header_at, size))
        except ImageRejected:
            return None

    def image(self, header: FirmwareHeader, device_key: bytes | None = None) -> Iterator[bytes]:
        """Read the image under a header in pieces of 16 KiB, however it lies; device_key opens encrypted ones (16 B).

        Raises:
            ImageRejected: it cannot be in this slot, or is encrypted and cannot be opened.
        """
        pages = pages_of(header, device_key)
        if pages is None:
            return self.image_region(header).chunks(0, header.size)
        return in_chunks(whole_pages(self.region, self._image_at(header.length), pages, header.size))

    def reader(self, header: FirmwareHeader, device_key: bytes | None = None) -> Callable[[int, int], bytes]:
        """Return what reads any bytes of the image under a header: position, size (B); see `image`."""
        pages = pages_of(header, device_key)
        if pages is not None:
            return PageReader(self.region, self._image_at(header.length), pages, header.size)
        region = self.image_region(header)
        return lambda position, size: region.read(position, max(0, min(size, header.size - position)))

    def image_region(self, header: FirmwareHeader) -> Region:
        """Return the stretch of the device that holds the image at once; raise ImageRejected if it cannot."""
        capacity = self.capacity_for(signed=bool(header.signature))
        if header.size > capacity:
            raise ImageRejected(f"an image of {header.size} B in a slot for {capacity} B")
        return Region(self.region.device, self.region.offset + self._image_at(header.length), header.size)

    def digest(self, header: FirmwareHeader, device_key: bytes | None = None) -> bytes:
        """Read the image back and return its SHA-256."""
        digest = hashlib.sha256()
        for piece in self.image(header, device_key):
            digest.update(piece)
        return digest.digest()

    def erase(self) -> None:
        """Take the mark away, and erase the slot."""
        self._unmark()
        self.region.erase(0, self.region.size)
        self._header, self._writer, self._verified = None, None, False

    def forget(self) -> None:
        """Take the mark away by erasing the slot's first unit, as the stock client does after an installation."""
        self._unmark()
        self._header, self._writer, self._verified = None, None, False

    def _open(
        self, manifest: Manifest, precursor: bytes, pages: Pages | None, signed: bool
    ) -> tuple[FirmwareHeader, Writer]:
        signature = manifest.installed_signature or b""
        if signed and not signature:
            raise ImageRejected("the manifest has no signature of the image", hint="sign it with --sign-image")
        header = FirmwareHeader(
            manifest.installed_size,
            Version.parse(manifest.version),
            manifest.installed_digest,
            precursor,
            0 if pages is None else pages.flags,
            PAGE_SIZE if pages is None else pages.page_size,
            signature if signed else b"",
            None if pages is None else pages.wrapped_key,
        )
        capacity = self.capacity_for(pages, signed=signed)
        if header.size > capacity:
            raise ImageRejected(f"an image of {header.size} B does not fit the slot's {capacity} B")
        self._header, self._component, self._verified = header, manifest.component, False
        place = self.region, self._image_at(header.length), header.size
        writer: Writer = AtOnce(*place) if pages is None else InPages(*place, pages)
        self._writer = writer
        return header, writer

    def _begun(self) -> tuple[Writer, FirmwareHeader]:
        if self._header is None or self._writer is None:
            raise UpdateError("nothing was begun in this slot", hint="call begin() or resume() first")
        return self._writer, self._header

    def _image_at(self, length: int) -> int:
        return self._header_at + round_up(length, self.region.device.program_size)

    def _blank(self, position: int, size: int) -> bool:
        width = round_up(size, self.region.device.program_size)
        return self.region.read(position, width) == BLANK * width

    def _unmark(self) -> None:
        """Let nothing in the slot count as whole any more."""
        if self._blank(0, READY_SIZE):
            return
        self.region.device.erase(self.region.offset, self.region.device.get_erase_size(self.region.offset))
        if not self._blank(0, READY_SIZE):
            self.region.program(0, BLANK * READY_SIZE)
