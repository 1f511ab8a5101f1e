"""The bytes of a storage part: what stays when the power goes.

A medium without a path lives in memory, in pages that take their room when they are first written; with a
path it is a plain image file, which other programs can read. An erase value of 0xFF is NOR flash: programming
only clears bits. Any other value is a card, which overwrites.
"""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import BinaryIO, cast

from pdmlab.clock import PowerLost
from pdmlab.errors import StorageError

PAGE = 4096
_FILL = 1 << 20


class Medium:
    """A part's `size` bytes; `program` and `erase` need power, `peek` and `poke` (a programmer's view) do not.

    powered: without it, program and erase raise PowerLost before they touch anything.
    seated: whether a card is in its holder; soldered parts always are.
    write_protected: the lock on the side of a card.
    erase_block: size (B) of the blocks that wear; the driver sets it.
    """

    def __init__(self, size: int, *, erase_value: int = 0xFF, path: Path | None = None) -> None:
        self.size = size
        self.erase_value = erase_value
        self.path = path
        self.powered = True
        self.seated = True
        self.write_protected = False
        self.erase_block = PAGE
        self.wear: Counter[int] = Counter()
        self._worn: set[int] = set()
        self._blank = bytes([erase_value]) * PAGE
        self._pages: dict[int, bytearray] = {}
        # The host may peek while the board's thread programs.
        self._lock = threading.RLock()
        self._file = _open(path, size, erase_value) if path is not None else None

    def peek(self, offset: int, size: int) -> bytes:
        """Return what lies there."""
        self._check(offset, size)
        with self._lock:
            if self._file is not None:
                self._file.seek(offset)
                return self._file.read(size)
            out = bytearray()
            while size:
                number, start = divmod(offset, PAGE)
                n = min(size, PAGE - start)
                out += self._pages.get(number, self._blank)[start : start + n]
                offset, size = offset + n, size - n
            return bytes(out)

    def poke(self, offset: int, data: bytes) -> None:
        """Put data there, as a programmer or a host's card reader does."""
        self._check(offset, len(data))
        with self._lock:
            if self._file is not None:
                self._file.seek(offset)
                self._file.write(data)
                return
            view = memoryview(data)
            while view:
                number, start = divmod(offset, PAGE)
                n = min(len(view), PAGE - start)
                page = self._pages.get(number)
                if page is None:
                    page = self._pages[number] = bytearray(self._blank)
                page[start : start + n] = view[:n]
                offset, view = offset + n, view[n:]

    def read(self, offset: int, size: int) -> bytes:
        """Return what lies there, to the running driver."""
        self._need_power()
        return self.peek(offset, size)

    def program(self, offset: int, data: bytes) -> None:
        """Program data: NOR flash keeps the bits that are already 0."""
        self._need_power()
        with self._lock:
            if self.erase_value == 0xFF:
                there = self.peek(offset, len(data))
                if there.count(0xFF) != len(there):
                    kept = int.from_bytes(there, "little") & int.from_bytes(data, "little")
                    data = kept.to_bytes(len(data), "little")
            self.poke(offset, data)

    def erase(self, offset: int, size: int) -> None:
        """Erase a block and count its wear."""
        self._need_power()
        with self._lock:
            self.wear[offset] += 1
            end = offset + size
            while offset < end:
                n = min(end - offset, _FILL)
                self.poke(offset, bytes([self.erase_value]) * n)
                offset += n

    def wear_out(self, address: int) -> None:
        """Wear out the erase block at address: the driver's programs and erases of it fail from now on."""
        self._check(address, 1)
        self._worn.add(address)

    def is_worn(self, offset: int, size: int) -> bool:
        """Whether one of the erase blocks of this stretch is worn out."""
        block = self.erase_block
        return any(
            address // block * block < offset + size and offset < (address // block + 1) * block
            for address in self._worn
        )

    def close(self) -> None:
        """Let go of the file; what was programmed is in it."""
        with self._lock:
            if self._file is not None and not self._file.closed:
                self._file.close()

    def _need_power(self) -> None:
        if not self.powered:
            raise PowerLost

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise StorageError(f"{size} B at 0x{offset:x} are not on a medium of 0x{self.size:x} B")

    def __repr__(self) -> str:
        where = self.path.name if self.path is not None else "memory"
        return f"<medium of {self.size} B in {where}{'' if self.seated else ', not seated'}>"


def _open(path: Path, size: int, erase_value: int) -> BinaryIO:
    """Open the image, making it where it is missing: with holes if blank bytes are 0, else filled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size != size:
        raise StorageError(
            f"{path} holds {path.stat().st_size} B, and the part {size} B",
            hint="move the file away to begin with a blank part",
        )
    if not path.exists():
        with path.open("xb") as image:
            image.truncate(size)
            if erase_value:
                image.seek(0)
                for start in range(0, size, _FILL):
                    image.write(bytes([erase_value]) * min(_FILL, size - start))
    # Unbuffered: a process that is killed leaves what a power cut would.
    return cast(BinaryIO, path.open("r+b", buffering=0))
