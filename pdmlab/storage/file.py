"""An open file of a board's file system, whichever it is."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from pdmlab.clock import PowerLost
from pdmlab.errors import StorageError

if TYPE_CHECKING:
    from pdmlab.storage.filesystem import FileSystem

T = TypeVar("T")

BAD_FILE = -errno.EBADF


class File(ABC):
    """An open file of bytes; closes itself at the end of a `with`, unless the power went."""

    def __init__(self, fs: FileSystem, path: str) -> None:
        self._fs = fs
        self.path = path
        self.now: Callable[[], int] = fs.clock.now
        """Gives device time (ns)."""
        self._generation = fs.generation
        self._closed = False

    @abstractmethod
    def _read(self, size: int) -> bytes: ...

    @abstractmethod
    def _write(self, data: bytes) -> int: ...

    @abstractmethod
    def _seek(self, offset: int, whence: int) -> int: ...

    @abstractmethod
    def _tell(self) -> int: ...

    @abstractmethod
    def _size(self) -> int: ...

    @abstractmethod
    def _sync(self) -> None: ...

    @abstractmethod
    def _truncate(self, size: int) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    # read and write do what FileSystem.run does, without its closures: they are most of what a benchmark does.

    def read(self, size: int = -1) -> bytes:
        """Read at most size bytes, all that remain if negative; empty at the end."""
        fs = self._fs
        mutex = fs.mutex
        mutex.acquire_and_charge(fs.call_ns)
        try:
            if self._generation != fs.generation:
                fs.begin("read", self.path, self)
            data = self._read(size if size >= 0 else max(self._size() - self._tell(), 0))
        except Exception as error:
            fs.fail(error, "read", self.path)
        else:
            if fs.kept.error is not None:
                raise fs.give_up()
            return data
        finally:
            mutex.release()

    def write(self, data: bytes) -> int:
        """Write data and return its length.

        Raises:
            NoSpace: the volume is full.
        """
        fs = self._fs
        mutex = fs.mutex
        mutex.acquire_and_charge(fs.call_ns)
        try:
            if self._generation != fs.generation:
                fs.begin("write", self.path, self)
            written = self._write(data if type(data) is bytes else bytes(data))
        except Exception as error:
            fs.fail(error, "write", self.path)
        else:
            if fs.kept.error is not None:
                raise fs.give_up()
            return written
        finally:
            mutex.release()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to offset from the start (0), from here (1) or from the end (2); return the new position."""
        return self._call(lambda: self._seek(offset, whence), "seek in")

    def tell(self) -> int:
        """Return the position (B)."""
        return self._call(self._tell, "tell")

    def size(self) -> int:
        """Return the file's size (B)."""
        return self._call(self._size, "size")

    def sync(self) -> None:
        """Write everything to the device."""
        self._call(self._sync, "sync")

    flush = sync

    def truncate(self, size: int) -> None:
        """Cut the file off at size, or lengthen it with zeros."""
        self._call(lambda: self._truncate(size), "truncate")

    def close(self) -> None:
        """Write everything to the device and give the file up; a second close does nothing."""
        if self._closed:
            return
        try:
            self._call(self._close, "close")
        finally:
            self._closed, self._generation = True, -1

    def _call(self, work: Callable[[], T], verb: str) -> T:
        return self._fs.run(work, verb, self.path, self)

    def require_open(self, verb: str) -> None:
        """Raise StorageError (EBADF) if the file is closed, or its volume was unmounted or failed."""
        if self._closed or self._generation != self._fs.generation:
            raise StorageError(
                f"cannot {verb} {self.path}: it is not open any more (EBADF, {BAD_FILE})",
                code=BAD_FILE,
                hint="it was closed, or its volume was unmounted or failed; open it again",
            )

    def __enter__(self) -> File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Nothing writes buffers out when the supply goes.
        if not isinstance(error, PowerLost) and self._generation == self._fs.generation:
            self.close()
