"""A candidate as the 4.x bootloader reads it from its slot: ready header, firmware header, then the image.

Layout and order as mbed-bootloader's fota_candidate.c has them; everything begins at the edge of a program unit. Of
an image in pages (pdmlab/update/pages.py) one that is not whole is what a cut download has left, and is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pdmlab.errors import ConfigError, ImageRejected, StorageError
from pdmlab.update.header import (
    ACTIVE_SIZE,
    FLAG_ENCRYPTED,
    FLAG_RESUME,
    MAX_HEADER_SIZE,
    READY_SIZE,
    HeaderFields,
    parse_ready,
)
from pdmlab.update.pages import CHECKSUM_SIZE, Pages, pages_of
from pdmlab.update.payloads.blocks import TAG_SIZE
from pdmlab.update.region import Region, round_up
from pdmlab.update.results import FotaResult

FRAGMENT = 128
"""What is read at once of an image without pages (B): MIN_FRAG_SIZE of fota_candidate.c."""


@dataclass(frozen=True)
class Refusal:
    """Why a candidate is not installed: the client's number, the stock console's words, and what more is known."""

    status: FotaResult
    words: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.words}: {self.detail}" if self.detail else self.words


@dataclass(frozen=True)
class Found:
    """A candidate that is marked as whole: its component and header, and where in the slot its image begins (B).

    first_part: of the header, as it lies there; it becomes the active header.
    """

    component: str
    header: HeaderFields
    image_at: int
    first_part: bytes


class CandidateReader:
    """The slot of one board; encrypted: whether the bootloader takes encrypted candidates, and then no others.

    root_of_trust: returns the board's, 16 B, under which candidates' keys lie.
    """

    def __init__(self, region: Region, *, encrypted: bool, root_of_trust: Callable[[], bytes]) -> None:
        self._region = region
        self._encrypted = encrypted
        self._root_of_trust = root_of_trust

    def header(self) -> Found | None:
        """Return whatever header lies in the slot, be the candidate marked or not; None if there is none."""
        unit = self._region.device.program_size
        at = round_up(READY_SIZE, unit)
        size = min(MAX_HEADER_SIZE, self._region.size - at)
        try:
            data = self._region.read(at, size)
            fields = HeaderFields.parse(data)
        except ImageRejected:
            return None
        component = parse_ready(self._region.read(0, READY_SIZE)) or ""
        return Found(component, fields, at + round_up(fields.length, unit), data[:ACTIVE_SIZE])

    def look(self, component: str) -> Found | Refusal | None:
        """Return the candidate, or why it cannot be one; None if the slot has no ready header.

        Raises:
            StorageError: the medium cannot be read.
        """
        marked = parse_ready(self._region.read(0, READY_SIZE))
        if marked is None:
            return None
        if marked != component:
            return Refusal(
                FotaResult.UNKNOWN_COMPONENT, "Unexpected component candidate found", f"it is for {marked!r}"
            )
        found = self.header()
        if found is None:
            return Refusal(FotaResult.INTERNAL, f"Header parsing failed. ret {-FotaResult.INTERNAL}")
        if found.header.signature:
            words = f"Header parsing failed. ret {-FotaResult.INTERNAL}"
            return Refusal(FotaResult.INTERNAL, words, "it is that of a build with image signatures")
        return self._unreadable(found.header) or found

    def _unreadable(self, header: HeaderFields) -> Refusal | None:
        encrypted = bool(header.flags & FLAG_ENCRYPTED)
        if encrypted and not self._encrypted:
            return Refusal(FotaResult.FORMAT_UNSUPPORTED, "Encrypted candidate image - not supported")
        if self._encrypted and not encrypted:
            words = "Non-encrypted image found, but this is not allowed for this candidate type."
            return Refusal(FotaResult.FORMAT_UNSUPPORTED, words)
        overhead = TAG_SIZE if encrypted else CHECKSUM_SIZE
        if header.flags & (FLAG_ENCRYPTED | FLAG_RESUME) and header.block_size <= overhead:
            words = f"Header parsing failed. ret {-FotaResult.INTERNAL}"
            return Refusal(FotaResult.INTERNAL, words, f"pages of {header.block_size} B")
        if header.size > self._region.size:
            words = "Storage end address exceeded"
            return Refusal(FotaResult.STORAGE_READ, words, f"{header.size} B in a slot of {self._region.size} B")
        return None

    def image(self, found: Found) -> Iterator[bytes]:
        """Yield the image as it will run, piece by piece.

        Raises:
            StorageError: the medium cannot be read, or the slot ends before the image.
            ImageRejected: an encrypted candidate does not open under the board's keys.
        """
        header, at, done, whole = found.header, found.image_at, 0, 0
        pages, unit = self._pages(header), self._region.device.read_size
        overhead = 0 if pages is None else pages.page_size - pages.room
        room = round_up(FRAGMENT, unit) if pages is None else round_up(pages.page_size, unit) - overhead
        while done < header.size:
            size = min(header.size - done, room)
            length = round_up(overhead + size, unit)
            if at + length > self._region.size:
                raise StorageError("Storage end address exceeded", code=-4001)
            data = self._region.read(at, overhead + size)
            at += length
            if pages is not None:
                try:
                    data = pages.open(whole, data)
                except ImageRejected:
                    if not header.flags & FLAG_RESUME:
                        raise
                    continue
            done, whole = done + size, whole + 1
            yield data

    def _pages(self, header: HeaderFields) -> Pages | None:
        try:
            return pages_of(header, self._root_of_trust() if header.flags & FLAG_ENCRYPTED else None)
        except ConfigError as error:
            raise ImageRejected(f"the board has no key for encrypted candidates: {error.message}") from error
