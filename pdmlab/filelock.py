"""A folder's lock: one owner at a time, on every operating system, given back however its owner ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from pdmlab.errors import PortBusy


class FileLock:
    """A file that is locked from construction to `close`; it says who holds it.

    what: what the lock stands for, such as "the virtual board 'desk1'"; hint: what to do if it is taken.

    Raises:
        PortBusy: another process, or somebody else in this one, holds it.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, what: str, *, hint: str | None = None) -> None:
        self._file = _locked(path)
        if self._file is None:
            raise PortBusy(f"{what} is open in {_owner(path)}", hint=hint)
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()}\n")
        self._file.flush()

    def close(self) -> None:
        """Give it back; a second call does nothing."""
        if self._file is not None:
            self._file.close()


def _locked(path: Path) -> IO[str] | None:
    file = path.open("a+", encoding="utf-8")
    try:
        if sys.platform == "win32":
            import msvcrt

            # Far behind the text, so that others can still read who the owner is.
            file.seek(1 << 20)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _owner(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(200).strip() or "another program"
