"""Where a medium's bytes lie: in memory, in chunks that take their room when they are first written, or in a file."""

from __future__ import annotations

import mmap
import sys
import threading
from pathlib import Path
from typing import BinaryIO, cast

from pdmlab.errors import BoardError, StorageError

SHIFT = 16
CHUNK = 1 << SHIFT
"""Memory is taken in such pieces (B)."""
_FILL = 1 << 20


class MemoryImage:
    """Bytes in memory; what was never written is blank.

    chunks: number -> what was written, the last as long as the bytes go; memory maps, since slices of those are bytes.
    """

    path: Path | None = None

    def __init__(self, size: int, blank: int) -> None:
        self.chunks: dict[int, mmap.mmap] = {}
        self._size = size
        self._blank = bytes([blank]) * CHUNK

    def read(self, offset: int, size: int) -> bytes:
        """Return size bytes at offset, which are there."""
        pieces = []
        number, start = offset >> SHIFT, offset & (CHUNK - 1)
        while size:
            n = min(size, CHUNK - start)
            pieces.append(self.chunks.get(number, self._blank)[start : start + n])
            number, start, size = number + 1, 0, size - n
        return b"".join(pieces)

    def write(self, offset: int, data: bytes) -> None:
        """Put data at offset."""
        number, start, done = offset >> SHIFT, offset & (CHUNK - 1), 0
        while done < len(data):
            n = min(len(data) - done, CHUNK - start)
            chunk = self.chunks.get(number)
            if chunk is None:
                chunk = self.chunks.setdefault(number, self._new_chunk(min(CHUNK, self._size - number * CHUNK)))
            chunk[start : start + n] = data[done : done + n]
            number, start, done = number + 1, 0, done + n

    def close(self) -> None:
        """Keep the bytes: they last as long as the medium."""

    def _new_chunk(self, size: int) -> mmap.mmap:
        if sys.platform == "win32":
            chunk = mmap.mmap(-1, size)
        else:
            chunk = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if self._blank[0]:
            chunk[:] = self._blank[:size]
        return chunk


class FileImage:
    """Bytes in a plain file, which other programs can read; made where it is missing.

    chunks: none.
    """

    def __init__(self, path: Path, size: int, blank: int) -> None:
        self.path = path
        self.chunks: dict[int, mmap.mmap] = {}
        # The host may read while the board's thread writes.
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size != size:
            raise StorageError(
                f"{path} holds {path.stat().st_size} B, and the part {size} B",
                hint="move the file away to begin with a blank part",
            )
        if not path.exists():
            _make(path, size, blank)
        # Unbuffered: a process that is killed leaves what a power cut would.
        self._file = cast(BinaryIO, path.open("r+b", buffering=0))

    def read(self, offset: int, size: int) -> bytes:
        """Return size bytes at offset, which are there."""
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def write(self, offset: int, data: bytes) -> None:
        """Put data at offset.

        Raises:
            BoardError: the disk is full, or went away; what had room is in the file.
        """
        with self._lock:
            done = 0
            try:
                self._file.seek(offset)
                while done < len(data):  # an unbuffered write may write less than it was given
                    done += self._file.write(data[done:])
            except OSError as error:
                raise _cannot_write(self.path, error, f"; {done} of {len(data)} B at 0x{offset:x} had room") from error

    def close(self) -> None:
        """Let go of the file; what was written is in it."""
        with self._lock:
            if not self._file.closed:
                self._file.close()


def _make(path: Path, size: int, blank: int) -> None:
    """Make a blank image: with holes if blank bytes are 0, else filled; none at all where it does not fit."""
    try:
        with path.open("xb", buffering=0) as image:
            image.truncate(size)
            for start in range(0, size if blank else 0, _FILL):
                piece = bytes([blank]) * min(_FILL, size - start)
                done = 0
                while done < len(piece):
                    done += image.write(piece[done:])
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _cannot_write(path, error, f": a blank part takes {size} B") from error


def _cannot_write(path: Path, error: OSError, how_far: str) -> BoardError:
    return BoardError(
        f"{path} cannot be written: {error.strerror}{how_far}", hint="make room on that disk, or set PDMLAB_STATE"
    )
