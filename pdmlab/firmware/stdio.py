"""The C library between an application and its files: `FILE *` with newlib's buffer, as stock suites use it.

What newlib does (stdio/fvwrite.c, stdio/fread.c): a write is gathered in a buffer of BUFSIZ bytes; when that is
empty, a write of BUFSIZ or more passes by it in whole multiples of BUFSIZ. Reading refills the buffer
BUFSIZ bytes at a time, however much is asked for.
"""

from __future__ import annotations

from types import TracebackType

from pdmlab.clock import Clock, PowerLost
from pdmlab.storage.file import File
from pdmlab.storage.filesystem import FileSystem
from pdmlab.storage.mcu import processor_of

BUFSIZ = 1024
"""newlib's BUFSIZ (stdio.h), which Mbed OS does not change (B)."""
QUANTUM = 100_000
"""Calls that stay in the buffer are charged to the clock together, when they make so much (ns)."""


class CFile:
    """A file opened with fopen(); call it from device code."""

    def __init__(self, fs: FileSystem, path: str, mode: str, clock: Clock) -> None:
        self._file: File = fs.open(path, mode)
        self._clock = clock
        processor = processor_of(fs.device)
        self._call_ns, self._copy_ns = processor.ns("stdio"), processor.ns("copy")
        self._written = bytearray()
        self._ahead = b""
        self._at = 0
        self._owed = 0

    def now(self) -> int:
        """Return device time (ns) with what calls have cost that is yet to be charged."""
        return self._clock.now() + self._owed

    def write(self, data: bytes) -> int:
        """Write data, as fwrite(), and return its length (B)."""
        self._spend(self._call_ns + self._copy_ns * min(len(data), BUFSIZ))
        buffer = self._written
        if len(buffer) + len(data) < BUFSIZ:
            buffer += data
            return len(data)
        start = 0
        while start < len(data):
            left = len(data) - start
            if not buffer and left >= BUFSIZ:
                n = left // BUFSIZ * BUFSIZ
                self._settle()
                self._file.write(data[start : start + n])
            else:
                n = min(left, BUFSIZ - len(buffer))
                buffer += data[start : start + n]
                if len(buffer) == BUFSIZ:
                    self.flush()
            start += n
        return len(data)

    def read(self, size: int) -> bytes:
        """Read size bytes, as fread(); fewer at the end of the file."""
        self._spend(self._call_ns + self._copy_ns * size)
        at = self._at
        if at + size <= len(self._ahead):
            self._at = at + size
            return self._ahead[at : at + size]
        out = bytearray(self._ahead[at:])
        self._settle()
        while len(out) < size:
            self._ahead = self._file.read(BUFSIZ)
            if not self._ahead:
                break
            self._at = min(size - len(out), len(self._ahead))
            out += self._ahead[: self._at]
        else:
            return bytes(out)
        self._at = 0
        return bytes(out)

    def flush(self) -> None:
        """Hand what is gathered to the file, as fflush(); it syncs nothing."""
        self._settle()
        if self._written:
            data = bytes(self._written)
            self._written.clear()
            self._file.write(data)

    def sync(self) -> None:
        """Flush, and write everything to the device, as fflush() and fsync()."""
        self.flush()
        self._file.sync()

    def close(self) -> None:
        """Flush and close, as fclose()."""
        self.flush()
        self._file.close()

    def _spend(self, ns: int) -> None:
        self._owed += ns
        if self._owed >= QUANTUM:
            self._settle()

    def _settle(self) -> None:
        owed, self._owed = self._owed, 0
        self._clock.charge(owed)

    def __enter__(self) -> CFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, PowerLost):  # nothing writes buffers out when the supply goes
            self.close()
