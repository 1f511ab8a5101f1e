"""The service that runs on this machine under the user's state folder, whichever process runs it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from pdmlab import settings
from pdmlab.errors import PortBusy
from pdmlab.filelock import FileLock


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
    except (OSError, sqlite3.Error):
        return None  # it is just starting
    return (f"http://127.0.0.1:{int(row[0])}", key) if row is not None else None
