"""Files of what was said: readable by their owner alone, and set aside as `.1` when they are large."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG

MOST_B = 256 << 20
"""Of a file that grows as messages pass (B); with the one that was set aside, twice as much."""


def opened(path: Path, *, anew: bool = False) -> int:
    """Open a file for its owner alone (0600), one that was there before too; return its handle.

    anew: what was in it goes; else what is written is added to it.

    Raises:
        OSError: it cannot be written.
    """
    handle = os.open(
        path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0) | (os.O_TRUNC if anew else os.O_APPEND), 0o600
    )
    try:
        if S_ISREG(os.fstat(handle).st_mode):  # not /dev/stdout, which is everybody's
            os.chmod(path, 0o600)
    except OSError:
        os.close(handle)
        raise
    return handle


def set_aside(path: Path) -> None:
    """Rename a file to its name and `.1`, in place of an older one.

    Raises:
        OSError: it cannot be renamed.
    """
    path.replace(path.with_name(f"{path.name}.1"))
