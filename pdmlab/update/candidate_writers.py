"""The two ways in which a candidate's image goes to its slot, and how far a reset finds it written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pdmlab.errors import ImageRejected, StorageError
from pdmlab.update.pages import Pages
from pdmlab.update.region import BLANK, CHUNK, Region, round_up

RESUME_STEP = 16 * 1024  # smallest distance of resume marks (B); larger where erase units are
MARK = 32  # bytes a mark has at least (B): single bytes of 0xFF are common in images


class Writer(Protocol):
    """Writes one image of a known size behind the headers of a slot."""

    @property
    def position(self) -> int:
        """Where in the image the next write goes (B)."""
        ...

    def clear(self) -> None:
        """Make the slot blank for headers and image, and begin at 0."""
        ...

    def find(self) -> bool:
        """Find from the medium how far the image was written, make the rest ready; False if nothing can be used."""
        ...

    def write(self, data: bytes) -> None:
        """Append data; what fills no unit yet waits."""
        ...

    def flush(self) -> None:
        """Write what waits, at the image's end."""
        ...

    def read(self) -> Iterator[bytes]:
        """Read the image back."""
        ...


class AtOnce:
    """One byte of the medium for each of the image.

    Every 16 KiB (or sector) the first bytes are a mark: blank until writing has reached it. SD cards keep old data
    through an erase, so there the marks are made blank by hand.
    """

    def __init__(self, slot: Region, image_at: int, size: int) -> None:
        self._slot, self._image_at, self._size = slot, image_at, size
        self._unit = slot.device.program_size
        self._end = image_at + round_up(size, self._unit)
        self._written = 0
        self._tail = b""

    def __repr__(self) -> str:
        return f"<AtOnce, {self.position} of {self._size} B>"

    @property
    def position(self) -> int:
        """Where in the image the next write goes (B)."""
        return self._written + len(self._tail)

    def clear(self) -> None:
        """Erase up to where the image will end."""
        self._clear(0)
        self._written, self._tail = 0, b""

    def find(self) -> bool:
        """Go on at the last mark that writing has reached."""
        reached = 0
        for mark in self._marks():
            if self._blank(mark):
                break
            reached = mark
        if reached == 0:
            return False
        # What lies after the mark may be half written; it is written again from there.
        self._clear(reached)
        self._written, self._tail = reached - self._image_at, b""
        return True

    def write(self, data: bytes) -> None:
        """Append data; whole program units go to the medium."""
        self._tail += data
        whole = len(self._tail) // self._unit * self._unit
        if whole:
            self._slot.program(self._image_at + self._written, self._tail[:whole])
            self._written += whole
            self._tail = self._tail[whole:]

    def flush(self) -> None:
        """Fill the last program unit up."""
        if self._tail:
            self._slot.program(self._image_at + self._written, self._tail)
            self._written, self._tail = self._size, b""

    def read(self) -> Iterator[bytes]:
        """Read the image back."""
        return self._slot.chunks(self._image_at, self._size)

    def _marks(self) -> list[int]:
        """List where the marks lie: the first sector's edge in each stretch of RESUME_STEP, after the headers."""
        marks, last = [], 0
        for at, _ in self._slot.sectors(0, self._end):
            if at - last >= RESUME_STEP and at >= self._image_at:
                marks.append(at)
                last = at
        return marks

    def _blank(self, position: int) -> bool:
        width = round_up(MARK, self._unit)
        return self._slot.read(position, width) == BLANK * width

    def _clear(self, start: int) -> None:
        """Make the slot blank from the sector at start on, up to where the image will end."""
        self._slot.erase(start, self._end - start)
        for mark in self._marks():
            if mark >= start and not self._blank(mark):
                self._slot.program(mark, BLANK * MARK)


class InPages:
    """Pages that say whether they are whole. A torn one stays where it is, and the image goes on in the next.

    For such pages twice the room is erased, as far as the slot goes. Media that keep old data through an erase are
    made blank by hand.
    """

    def __init__(self, slot: Region, image_at: int, size: int, pages: Pages) -> None:
        self._slot, self._image_at, self._size, self._pages = slot, image_at, size, pages
        self._width = round_up(pages.page_size, slot.device.program_size)
        self._at = image_at  # where on the medium the next page goes
        self._index = 0
        self._tail = b""

    def __repr__(self) -> str:
        return f"<InPages, {self.position} of {self._size} B in {self._pages!r}>"

    @property
    def position(self) -> int:
        """Where in the image the next write goes (B)."""
        return min(self._index * self._pages.room, self._size) + len(self._tail)

    def clear(self) -> None:
        """Erase twice what headers and image take, as far as there is room."""
        needed = self._image_at + -(-self._size // self._pages.room) * self._width
        size = min(2 * needed, self._slot.size)
        self._slot.erase(0, size)
        for at in range(0, size, CHUNK):
            width = min(CHUNK, size - at)
            if self._slot.read(at, width) != BLANK * width:
                self._slot.program(at, BLANK * width)
        self._at, self._index, self._tail = self._image_at, 0, b""

    def find(self) -> bool:
        """Go on behind the last page that was begun; what is whole before it counts."""
        left = -(-self._size // self._pages.room)
        self._at, self._index, self._tail = self._image_at, 0, b""
        while left:
            if self._at + left * self._width > self._slot.size:
                return False
            page = self._slot.read(self._at, self._width)
            if page == BLANK * self._width:
                return True
            if _open(self._pages, self._index, page, self._size) is not None:
                self._index += 1
                left -= 1
            self._at += self._width
        return True

    def write(self, data: bytes) -> None:
        """Append data; whole pages go to the medium."""
        self._tail += data
        while len(self._tail) >= self._pages.room:
            self._program(self._tail[: self._pages.room])
            self._tail = self._tail[self._pages.room :]

    def flush(self) -> None:
        """Fill the last page up."""
        if self._tail:
            self._program(self._tail)
            self._tail = b""

    def read(self) -> Iterator[bytes]:
        """Read the image back, torn pages left out."""
        return whole_pages(self._slot, self._image_at, self._pages, self._size)

    def _program(self, data: bytes) -> None:
        if self._at + self._width > self._slot.size:
            raise StorageError(
                f"torn pages have used up the slot's {self._slot.size} B (BD_ERROR_DEVICE_ERROR, -4001)", code=-4001
            )
        page = self._pages.seal(self._index, data)
        self._slot.program(self._at, page.ljust(self._width, b"\0"))
        self._at += self._width
        self._index += 1


def whole_pages(slot: Region, image_at: int, pages: Pages, size: int) -> Iterator[bytes]:
    """Read an image of size B that lies in pages from image_at on; torn pages are left out.

    Raises:
        StorageError: the slot ends before the image does.
    """
    width = round_up(pages.page_size, slot.device.program_size)
    index, at = 0, image_at
    while index * pages.room < size:
        if at + width > slot.size:
            torn = (at - image_at) // width - index
            raise StorageError(f"{torn} pages of the candidate are not whole: the image ends in them", code=-4001)
        data = _open(pages, index, slot.read(at, width), size)
        at += width
        if data is not None:
            yield data
            index += 1


class PageReader:
    """Reads any bytes of an image of size B that lies in pages from image_at on: position, size (B)."""

    def __init__(self, slot: Region, image_at: int, pages: Pages, size: int) -> None:
        self._slot, self._pages, self._size = slot, pages, size
        self._next = image_at
        self._places: list[int] = []  # where the whole pages found so far lie; torn ones lie between them
        self._last: tuple[int, bytes] = (-1, b"")

    def __call__(self, position: int, size: int) -> bytes:
        """Return the bytes, fewer at the image's end."""
        end, found = min(position + size, self._size), bytearray()
        while position < end:
            index, skip = divmod(position, self._pages.room)
            part = self._page(index)[skip : skip + end - position]
            found += part
            position += len(part)
        return bytes(found)

    def _page(self, index: int) -> bytes:
        if self._last[0] == index:
            return self._last[1]
        width = round_up(self._pages.page_size, self._slot.device.program_size)
        while index >= len(self._places):
            if self._next + width > self._slot.size:
                raise StorageError(f"the slot of {self._slot.size} B ends before the image does", code=-4001)
            if _open(self._pages, len(self._places), self._slot.read(self._next, width), self._size) is not None:
                self._places.append(self._next)
            self._next += width
        data = _open(self._pages, index, self._slot.read(self._places[index], width), self._size)
        if data is None:
            raise StorageError(f"page {index} of the candidate reads differently each time", code=-4001)
        self._last = index, data
        return data


def _open(pages: Pages, index: int, page: bytes, size: int) -> bytes | None:
    """Return what page number `index` of an image of size B holds, or None if it is torn."""
    data = min(pages.room, size - index * pages.room)
    try:
        return pages.open(index, page[: pages.page_size - pages.room + data])
    except ImageRejected:
        return None
