"""What other processes tell (PostgreSQL's NOTIFY), heard on a connection of its own, which the loop watches.

The same connection holds the process's name (an advisory lock): it is free again as soon as the process has ended,
however it ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.errors import PortBusy, ServiceError
from pdmlab.service.bus import CHANNEL
from pdmlab.service.engine import connect_listening, shown

if TYPE_CHECKING:
    import psycopg

_log = logging.getLogger(__name__)

RETRY_S = 2.0
"""Between two attempts to reach a database that is away."""
_TRIES = 40  # for a name that a killed process had: its connection ends within moments
_PAUSE_S = 0.05


class Listener:
    """Hears news for `heard`; after a time without, which may have had some, calls `back`."""

    def __init__(self, url: sa.URL, name: str, heard: Callable[[str], None], back: Callable[[], None]) -> None:
        self._url, self._name = url, name
        self._heard, self._back = heard, back
        self._connection: psycopg.Connection | None = None
        self._watched = -1
        self._retry: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Listener of {self._name!r} at {shown(self._url)}, {'connected' if self._connection else 'away'}>"

    async def open(self) -> None:
        """Connect, take the name and listen.

        Raises:
            PortBusy: another process has the name.
            ServiceError: the database cannot be reached (503).
        """
        for _ in range(_TRIES):
            if self._open():
                return
            await asyncio.sleep(_PAUSE_S)
        raise PortBusy(
            f"a service {self._name!r} uses the database {shown(self._url)} already",
            hint="take another name for this one: serve(name='second'), or pdmlab service --name second",
        )

    def _open(self) -> bool:
        """Do so once; False if another process has the name."""
        connection = connect_listening(self._url)
        if connection.execute("SELECT pg_try_advisory_lock(%s)", (_number(self._name),)).fetchone() != (True,):
            connection.close()
            return False
        connection.execute(f"LISTEN {CHANNEL}")
        self._connection, self._watched = connection, connection.fileno()
        asyncio.get_running_loop().add_reader(self._watched, self.look)
        return True

    def look(self) -> None:
        """Hear what has come."""
        if self._connection is None:
            return
        import psycopg

        told: list[str] = []
        try:
            driver = self._connection.pgconn
            driver.consume_input()
            while (notify := driver.notifies()) is not None:
                told.append(notify.extra.decode())
        except psycopg.Error as error:
            _log.warning("the connection on which other processes are heard has ended: %s", str(error).strip())
            self._close()
            self._again()
        for payload in told:
            try:
                self._heard(payload)
            except ServiceError as error:
                _log.error("what another process told could not be looked at: %s", error)

    def _again(self) -> None:
        try:
            if self._open():
                self._back()  # whatever was told meanwhile, nobody has heard
                return
            _log.error("another process has taken the name %r: this one hears nothing", self._name)
        except ServiceError as error:
            _log.info("%s", error)
        self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._again)

    def close(self) -> None:
        """Hear nothing any more; a second call does nothing."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._connection.close()
            self._connection = None


def _number(name: str) -> int:
    """Return the number of the advisory lock that a name is."""
    return int.from_bytes(hashlib.sha256(f"pdmlab node {name}".encode()).digest()[:8], signed=True)
