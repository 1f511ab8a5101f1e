"""A place for one image, and copying into it so that a cut anywhere is made good by going on.

Nothing is written about how far a copy has come. A sector that holds what it is to hold is done: that is read from the
medium itself, so that no torn mark can say otherwise. The header is written last, and only over an image that was
verified: until then nothing there counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pdmlab.errors import ImageRejected, StorageError
from pdmlab.update.header import MAX_HEADER_SIZE, FirmwareHeader
from pdmlab.update.region import BLANK, CHUNK, Region

PIECE = 4096
"""What is compared or programmed at once, at most (B): a microcontroller's buffer."""

Read = Callable[[int, int], bytes]
"""Reads an image: offset and size (B)."""


class SourceLost(StorageError):
    """What an image was copied from cannot be read any more."""


@dataclass(frozen=True)
class Copied:
    """What a copy found and did: sectors that held their bytes already, and those that were written."""

    kept: int
    written: int


class Forward:
    """Reads by offset what can only be read from its start, as pages can; the last bytes are kept for who goes back.

    opens: reads the image in pieces, from its start.
    """

    def __init__(self, opens: Callable[[], Iterator[bytes]]) -> None:
        self._opens = opens
        self._pieces = opens()
        self._start = 0
        self._kept = b""

    def read(self, at: int, size: int) -> bytes:
        """Read size bytes at an offset.

        Raises:
            StorageError: the image ends before them.
        """
        if at < self._start:
            self._pieces, self._start, self._kept = self._opens(), 0, b""
        while self._start + len(self._kept) < at + size:
            piece = next(self._pieces, None)
            if piece is None:
                raise StorageError(f"the image ends at {self._start + len(self._kept)} B, not at {at + size} or later")
            self._kept += piece
            gone = max(0, min(len(self._kept) - CHUNK, at - self._start))
            self._kept = self._kept[gone:]
            self._start += gone
        return self._kept[at - self._start : at - self._start + size]


class ImagePlace:
    """A stretch of a medium that holds one image behind its header.

    name: what the console calls it. image_at: where in the region the image begins (B); the header is at 0.
    """

    def __init__(self, name: str, region: Region, image_at: int) -> None:
        self.name = name
        self.region = region
        self.image_at = image_at

    @property
    def capacity(self) -> int:
        """The largest image that fits (B)."""
        return self.region.size - self.image_at

    def header(self) -> FirmwareHeader | None:
        """Return the header that lies there; None if there is none, or it claims more than fits."""
        try:
            header = FirmwareHeader.parse(self.region.read(0, min(MAX_HEADER_SIZE, self.region.size)))
        except ImageRejected:
            return None
        return header if header.size <= self.capacity else None

    def read(self, at: int, size: int) -> bytes:
        """Read of the image."""
        return self.region.read(self.image_at + at, size)

    def write_header(self, header: FirmwareHeader) -> None:
        """Write the header of a verified image: from now on the image counts."""
        self.region.program(0, header.pack())
        self.region.device.sync()

    def copy_from(self, read: Read, size: int) -> Copied:
        """Make the place hold an image of size bytes, without a header; sectors that hold their bytes stay.

        Raises:
            SourceLost: the image cannot be read to its end; what was copied stays, and a copy goes on from there.
            StorageError: the medium here refuses a program or an erase.
        """
        kept = written = 0
        for start, end in self._sectors(size):
            pieces = [*self._pieces(start, end, size)]
            if all(self._holds(at, stop, read) for at, stop in pieces):
                kept += 1
                continue
            self._rewrite(start, end, pieces, read)
            written += 1
        self.region.device.sync()
        return Copied(kept, written)

    def _sectors(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield where each stretch of erase units begins and ends (B); small units go together up to a piece."""
        first = end = 0
        for start, unit in self.region.sectors(0, self.image_at + size):
            if end > first and end - first + unit > PIECE:
                yield first, end
                first = start
            end = start + unit
        yield first, end

    def _pieces(self, start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield the pieces of a stretch that header and image take; none has bytes of both."""
        last = min(end, self.image_at + size)
        at = start
        while at < last:
            stop = min(at + PIECE, last)
            if at < self.image_at:
                stop = min(stop, self.image_at)
            yield at, stop
            at = stop

    def _wanted(self, at: int, stop: int, read: Read) -> bytes:
        if at < self.image_at:
            return BLANK * (stop - at)
        try:
            return read(at - self.image_at, stop - at)
        except StorageError as error:
            raise SourceLost(error.message, code=error.code, hint=error.hint) from error

    def _holds(self, at: int, stop: int, read: Read) -> bool:
        return self.region.read(at, stop - at) == self._wanted(at, stop, read)

    def _rewrite(self, start: int, end: int, pieces: list[tuple[int, int]], read: Read) -> None:
        # The first piece is read before anything is erased: a source that is gone then costs nothing.
        first = self._wanted(*pieces[0], read)
        self.region.erase(start, end - start)
        for at, stop in pieces:
            wanted = first if at == start else self._wanted(at, stop, read)
            # The header goes over this later, and flash with ECC takes one program between two erases.
            if at >= self.image_at or self.region.read(at, stop - at) != wanted:
                self.region.program(at, wanted)
