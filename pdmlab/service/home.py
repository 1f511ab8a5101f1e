"""The service's folder on disk: its database, its administrator's key and its CA's certificate; one owner at a time."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from pdmlab import settings
from pdmlab.errors import ConfigError, ServiceError
from pdmlab.filelock import FileLock
from pdmlab.service.core import Core
from pdmlab.service.engine import is_shared, read_url

_log = logging.getLogger(__name__)

DATABASE, KEY_FILE, CA_FILE, DEVELOPER_FOLDER = "pdmlab.sqlite", "api-key", "ca.pem", "developer"
PORT_FILE = "port"
_SECRET, _PUBLIC = 0o600, 0o644


class Home:
    """The folder of a service, by its name, under the setting `state`; its database may be elsewhere.

    database: a URL; without one, that of the setting `database`, else a file in the folder.

    Raises:
        ConfigError: the name is none for a folder, or the URL none of a database.
    """

    def __init__(self, name: str, database: str | None = None) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise ConfigError(
                f"{name!r} is no name for a service", hint="use letters, digits, '.', '_' and '-', at most 64"
            )
        self.name = name
        known = settings.load(database=database)
        self.folder = known.folder("state") / "service" / name
        own = sa.URL.create("sqlite", database=str(self.folder / DATABASE))
        self.database = read_url(known.text("database")) if known["database"] else own
        """Where the database is."""

    def __repr__(self) -> str:
        return f"<Home {self.folder}>"

    def lock(self) -> FileLock:
        """Take the folder, made if it is not there, and close it to everyone else on this machine.

        Raises:
            PortBusy: another process has it.
            ServiceError: it cannot be used (503).
        """
        with self._usable():
            # Keys and credentials are in the database: for its owner only. SQLite's other files take its mode.
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            if not is_shared(self.database) and self.database.database not in (None, "", ":memory:"):
                self._close_to_others(Path(self.database.database))
            lock = FileLock(
                self.folder / "lock",
                f"the service {self.name!r}",
                hint=f"use that one through Cloud(url, key), its key is in {self.folder / KEY_FILE}; or take another"
                " name: serve(name='mine')",
            )
            (self.folder / PORT_FILE).unlink(missing_ok=True)  # whose it is by now, nobody knows
            return lock

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ServiceError(
                f"the state folder {self.folder} cannot be used: {Path(error.filename or self.folder).name}:"
                f" {error.strerror}",
                status=503,
                hint="set PDMLAB_STATE to a folder with room that you may write to; what is in it must be yours",
            ) from error

    def _close_to_others(self, file: Path) -> None:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, _SECRET))
        if os.name == "posix" and file.stat().st_mode & 0o077:
            file.chmod(_SECRET)
            _log.warning("%s, which holds private keys, could be read by others; it is closed to them now", file)

    def api_key(self, core: Core) -> str:
        """Return the administrator's key in the file if it is good, else a new one that is written there.

        Raises:
            ServiceError: the file cannot be read or written (503). So with `ca_file`.
        """
        file = self.folder / KEY_FILE
        with self._usable():
            # What is no text is no key either.
            kept = file.read_text(encoding="utf-8", errors="replace").strip() if file.exists() else None
        key = core.accounts.administrator(kept)
        self._keep(file, f"{key}\n".encode(), _SECRET)
        return key

    def ca_file(self, certificate: bytes) -> Path:
        """Have the CA's certificate (PEM) in a file, for programs that are to trust it; return the file."""
        file = self.folder / CA_FILE
        self._keep(file, certificate, _PUBLIC)
        return file

    def keep_port(self, port: int) -> None:
        """Let other programs of this user find the REST API on loopback."""
        self._keep(self.folder / PORT_FILE, f"{port}\n".encode(), _PUBLIC)

    def _keep(self, file: Path, content: bytes, mode: int) -> None:
        """Have a file say this, whole or not at all."""
        with self._usable():
            if file.exists() and file.read_bytes() == content:
                return
            temporary = file.with_suffix(".new")
            temporary.unlink(missing_ok=True)
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
                out.write(content)
            os.replace(temporary, file)
