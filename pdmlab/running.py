"""The service that runs: in this process, else on this machine under the user's state folder."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from pdmlab import settings
from pdmlab.errors import PortBusy
from pdmlab.filelock import FileLock

_here: dict[str, tuple[str, str]] = {}
"""Address and administrator's key of this process's services by name, the one started last at the end."""


def announce(name: str, url: str, api_key: str) -> None:
    """Let others in this process find a service that has just started."""
    _here[name] = url, api_key


def withdraw(name: str) -> None:
    """Let nobody find a service any more."""
    _here.pop(name, None)


def nearest() -> tuple[str, str] | None:
    """Return address and administrator's key of this process's service, started last; else as `find` does."""
    return next(reversed(_here.values()), None) or find()


def find(name: str = "default") -> tuple[str, str] | None:
    """Return address and administrator's key of the running service of that name; None if none runs.

    A service that has ended may have left its port to another program, which is not to be told the key: so
    the lock decides, which ends with its process.
    """
    folder = settings.load().folder("state") / "service" / name
    try:
        FileLock(folder / "lock", name).close()
        return None
    except PortBusy:
        pass
    except OSError:
        return None
    try:
        key = (folder / "api-key").read_text(encoding="utf-8").strip()
        with closing(sqlite3.connect(f"{(folder / 'pdmlab.sqlite').as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT value FROM facts WHERE name = 'port'").fetchone()
    except (OSError, UnicodeDecodeError, sqlite3.Error):
        return None  # it is just starting
    return (f"http://127.0.0.1:{int(row[0])}", key) if row is not None else None
