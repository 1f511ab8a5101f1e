"""Which lines of this machine lead to virtual boards: what `pdmlab board` notes, and who opens such a line reads.

A bridge carries a board's bytes as they are, and adds none: stock firmware's output stays what it is. So the line
itself does not say what is behind it. A file in the state folder does, locked for as long as the bridge is there; what
a killed bridge left behind is no longer locked, and says nothing. Over a network, or with another state folder, nobody
can tell.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

from pdmlab import settings
from pdmlab.errors import PortBusy
from pdmlab.filelock import FileLock


@contextlib.contextmanager
def announced(line: str, target: str) -> Iterator[None]:
    """Note that a line (a pty's name, or host:port) leads to a virtual board, until the `with` block ends.

    Where the state folder cannot be written it is not noted: the bridge is of use without that.
    """
    lock = None
    path = _place(line)
    with contextlib.suppress(OSError, PortBusy):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, f"the bridge on {line}")
        path.with_suffix(".target").write_text(target, encoding="utf-8")
    try:
        yield
    finally:
        if lock is not None:
            lock.close()
            for left in (path.with_suffix(".target"), path):
                with contextlib.suppress(OSError):
                    left.unlink(missing_ok=True)


def find(url: str) -> str | None:
    """Return the target of the virtual board that a port or socket:// URL of this machine leads to; else None."""
    line = _line(url)
    if line is None:
        return None
    path = _place(line)
    try:
        if not path.is_file():
            return None
        FileLock(path, line).close()
        return None  # its bridge has ended
    except PortBusy:
        pass
    except OSError:
        return None
    try:
        return path.with_suffix(".target").read_text(encoding="utf-8").strip() or "unknown"
    except OSError:
        return "unknown"  # it is just being noted


def leads_anywhere(url: str) -> bool:
    """Whether what is behind a line cannot be told from its name: a pseudo-terminal, or any URL."""
    return "://" in url or os.path.realpath(url).startswith(("/dev/pts/", "/dev/ttys"))


def _line(url: str) -> str | None:
    """Return what a bridge calls the line that a URL names; None if no bridge can be there."""
    if "://" not in url:
        return os.path.realpath(url)
    parts = urlsplit(url)
    try:
        if parts.scheme != "socket" or not parts.hostname or not parts.port:
            return None
        host = parts.hostname if parts.hostname != "localhost" else "127.0.0.1"
        socket.inet_aton(host)
        return f"{host}:{parts.port}"
    except (ValueError, OSError):
        return None


def _place(line: str) -> Path:
    return settings.load().folder("state") / "bridges" / f"{quote(line, safe='')}.lock"
