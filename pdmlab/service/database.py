"""A database's connection: it is made again when it has ended, and its errors say what they are to those who ask."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pdmlab.errors import ServiceError
from pdmlab.service import engine as engines
from pdmlab.service.engine import run_script

RETRY_S = 1.0
"""Between two attempts to reach a database that is away: the loop waits for each."""
_ALONE = int.from_bytes(b"pdmlab")  # the number of PostgreSQL's advisory lock
_ALONE_S = 60


class Database:
    """The one connection to the database behind a URL.

    shared          whether other processes may use the same database
    on_reconnect    called after a connection that had ended is there again
    """

    def __init__(self, url: str | sa.URL) -> None:
        self.url = engines.read_url(url)
        self.shared = engines.is_shared(self.url)
        self.name = engines.shown(self.url)
        """The URL without its password."""
        self.engine: Engine
        self.on_reconnect: list[Callable[[], None]] = []
        self._connection: Connection | None = None
        self._lost = False
        self._retry_at = 0.0
        self._depth = 0  # of blocks in which a transaction is open

    @property
    def connection(self) -> Connection:
        """The connection; read with `rows`, `row` and `scalar`, which see what a batch has written already.

        Raises:
            ServiceError: the store is closed, or the database cannot be reached (503).
        """
        if self._connection is None:
            raise ServiceError(f"the database {self.name} is closed", status=503, hint="is the service still running?")
        return self._reconnected(self._connection) if self._lost else self._connection

    def _reconnected(self, old: Connection) -> Connection:
        """Connect once more; not in the middle of something, and not all the time."""
        if self._depth or time.monotonic() < self._retry_at:
            raise self._away("")
        self._retry_at = time.monotonic() + RETRY_S
        self._disconnect(old)
        try:
            self._connection = self.engine.connect()
        except sa.exc.SQLAlchemyError as error:
            raise self._away(f": {engines.cause_of(error)}") from error
        self._lost = False
        for hear in self.on_reconnect:
            hear()
        return self._connection

    def _away(self, why: str) -> ServiceError:
        return ServiceError(
            f"the database {self.name} is away{why}",
            status=503,
            hint="is PostgreSQL running? the service connects again by itself",
        )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only process in such a block: for what is made once for all of them, at the first start."""
        if not self.shared:
            yield
            return
        connection = self.connection
        run_script(connection, f"SET lock_timeout = '{_ALONE_S}s'", f"SELECT pg_advisory_lock({_ALONE})")
        try:
            yield
        finally:
            # Where the connection has ended, the lock has too.
            with contextlib.suppress(sa.exc.DBAPIError):
                run_script(
                    connection,
                    f"SELECT pg_advisory_unlock({_ALONE})",
                    f"SET lock_timeout = {engines.LOCK_TIMEOUT_MS}",
                )

    def _connect(self) -> Connection:
        """Connect for the first time.

        Raises:
            ServiceError: the database is not to be used (503); so for SQLAlchemy's own errors, where it cannot be.
        """
        self.engine = engines.open_engine(self.url)
        try:
            self._connection = self.engine.connect()
        except sa.exc.OperationalError as error:
            if not engines.is_missing(error, self.url):
                raise
            raise ServiceError(
                f"there is no database {self.url.database!r} at {self.name}",
                status=503,
                hint=f"createdb {self.url.database} makes it",
            ) from error
        fault = engines.fault_of(self._connection)
        if fault is not None:
            raise ServiceError(f"the database {self.name} cannot be used", status=503, hint=fault)
        return self._connection

    def _disconnect(self, connection: Connection) -> None:
        with contextlib.suppress(sa.exc.DBAPIError):
            if self._lost and not connection.closed:
                connection.invalidate()
            connection.close()

    @contextlib.contextmanager
    def _wrapped(self, what: str) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            if isinstance(error, sa.exc.IntegrityError):
                raise
            raise self._failed(error, what) from error
        except sa.exc.PendingRollbackError as error:
            raise self._away("") from error

    def _failed(self, error: sa.exc.DBAPIError, what: str) -> ServiceError:
        """Return what an error is to those who asked, and note that the connection has ended, if it has."""
        failure = engines.failure(error, what)
        if self._connection is not None and engines.is_lost(self._connection):
            self._lost = True
        return failure
