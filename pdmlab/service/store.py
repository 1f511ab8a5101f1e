"""The service's database: one connection on one loop, transactions, and batches that many messages share.

`begin` commits when its block ends. `batch` joins a transaction with whatever else is written in the same
moment; what must not be lost is answered after `await written()`. On SQLite a commit survives the process
however it ends (WAL); it may be lost, never torn, when the machine loses power. On PostgreSQL it is as safe as
that server is told to be, and other processes see it from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RootTransaction

from pdmlab.errors import ServiceError
from pdmlab.service import engine as engines
from pdmlab.service import schema
from pdmlab.service.database import Database
from pdmlab.service.engine import run_script
from pdmlab.service.ids import Ids, timestamp
from pdmlab.service.migrating import migrate
from pdmlab.service.statements import Statement

MAX_TURNS = 64  # of the loop that a batch stays open while more comes in: a few milliseconds
_FACT = Statement(sa.select(schema.facts.c.value).where(schema.facts.c.name == sa.bindparam("fact")))

Row: TypeAlias = dict[str, Any]
"""A row as a dict. Any: a column's type is its own."""

Rows: TypeAlias = list[Row]


class Store(Database):
    """The database behind a SQLAlchemy URL; `now` returns Unix seconds and `ids` makes ids.

    All of it belongs to the loop and the thread on which `open` was called.

    before_commit   called in every transaction that wrote something, at its end
    """

    def __init__(
        self, url: str | sa.URL = "sqlite://", *, now: Callable[[], float] = time.time, seed: int | None = None
    ) -> None:
        super().__init__(url)
        self.now = now
        self.ids = Ids(now, seed)
        self.account_id = ""
        """The default account, made at the first start."""
        self.before_commit: list[Callable[[], None]] = []
        self._batch: RootTransaction | None = None
        self._done: asyncio.Future[None] | None = None
        self._writes = 0
        self.commits = 0

    def __repr__(self) -> str:
        return f"<Store {self.name}>"

    # -- opening -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, bring the schema up to date, and make the default account if there is none; once is enough.

        Raises:
            ConfigError: the database's driver is not installed.
            ServiceError: the database cannot be used, or a newer pdmlab has written it.
        """
        if self._connection is not None:
            return
        try:
            connection = self._connect()
            with self.alone():
                migrate(connection, self.name)
                self.account_id = self.fact("default_account") or self._first_account()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            self.close()
            raise ServiceError(
                f"the database {self.name} cannot be used: {engines.cause_of(error)}",
                status=503,
                hint="is PostgreSQL running there, and may this user use that database? a password belongs into"
                " PGPASSWORD or ~/.pgpass"
                if self.shared
                else "is the disk full or read-only? is it a file of this program? move it away to start anew",
            ) from error
        except BaseException:
            self.close()
            raise

    def _first_account(self) -> str:
        made = self.ids.new()
        with self.begin() as db:
            at = self.timestamp()
            db.execute(sa.insert(schema.accounts).values(id=made, display_name="pdmlab", created_at=at, updated_at=at))
            self.remember("default_account", made)
        return made

    def close(self) -> None:
        """Commit what is open and disconnect; a second call does nothing."""
        if self._connection is not None:
            with contextlib.suppress(ServiceError):
                self.flush()
            self._disconnect(self._connection)
            self._connection = None
        if hasattr(self, "engine"):
            self.engine.dispose()

    # -- writing -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run a transaction: committed when the block ends, undone if it raises. Inside another block, part of that.

        Raises:
            ServiceError: it cannot be committed (503), or a value does not fit (400).
        """
        if self._depth:
            yield self.connection
            return
        self.flush()
        with self._wrapped("written"):
            transaction = self._transaction()
            self._depth += 1
            try:
                yield self.connection
                self._commit(transaction)
            except BaseException:
                with contextlib.suppress(sa.exc.DBAPIError):
                    transaction.rollback()
                raise
            finally:
                self._depth -= 1
        self.commits += 1

    @contextlib.contextmanager
    def batch(self) -> Iterator[Connection]:
        """Write as part of a transaction that is committed within a few turns of the loop; see `written`.

        A block that raises undoes its own writes only.
        """
        if self._depth:
            yield self.connection
            return
        connection = self.connection
        if self._batch is None:
            loop = asyncio.get_running_loop()
            with self._wrapped("written"):
                self._batch, self._done = self._transaction("SAVEPOINT one"), loop.create_future()
            loop.call_soon(self._settle, self._writes, 0)
        self._writes += 1
        self._depth += 1
        try:
            with self._wrapped("written"):
                yield connection
                # From here on, whatever fails goes back to here.
                run_script(connection, "RELEASE SAVEPOINT one", "SAVEPOINT one")
        except BaseException:
            self._undo_one(connection)
            raise
        finally:
            self._depth -= 1

    def _undo_one(self, connection: Connection) -> None:
        """Undo what one has done in the batch; all of it, where the database has done that by itself."""
        if self._lost:
            self._abandon(self._away(""))
            return
        try:
            run_script(connection, "ROLLBACK TO SAVEPOINT one")
        except sa.exc.DBAPIError as error:  # SQLite ends a transaction for which there is no room
            self._abandon(self._failed(error, "written"))

    def _transaction(self, *more: str) -> RootTransaction:
        connection = self.connection
        if connection.in_transaction():
            connection.rollback()  # somebody has only read on it
        transaction = connection.begin()
        run_script(connection, "BEGIN", *more)
        return transaction

    def _commit(self, transaction: RootTransaction) -> None:
        for hook in self.before_commit:
            hook()
        if engines.is_failed(self.connection):
            raise ServiceError(
                "the database could not be written: a part of the transaction has failed",
                status=503,
                hint="nothing was changed; this is a defect: please report it",
            )
        transaction.commit()

    @property
    def writing(self) -> bool:
        """Whether a transaction is open: what is told now is told with it."""
        return self._depth > 0 or self._batch is not None

    async def written(self) -> None:
        """Wait until everything that was written in batches before is committed.

        Raises:
            ServiceError: it could not be (503).
        """
        if self._done is not None:
            await asyncio.shield(self._done)

    def _settle(self, seen: int, turns: int) -> None:
        if self._batch is None:
            return
        if self._writes != seen and turns < MAX_TURNS:
            asyncio.get_running_loop().call_soon(self._settle, self._writes, turns + 1)
            return
        with contextlib.suppress(ServiceError):  # those who wait for it hear of it
            self.flush()

    def flush(self) -> None:
        """Commit the open batch now.

        Raises:
            ServiceError: it cannot be committed (503); all of it is undone.
        """
        if self._batch is None or self._depth:
            return
        self._depth += 1  # what is told of at the end is part of it
        try:
            self._commit(self._batch)
        except (sa.exc.DBAPIError, ServiceError) as error:
            failure = error if isinstance(error, ServiceError) else self._failed(error, "written")
            self._abandon(failure)
            raise failure from error
        finally:
            self._depth -= 1
        done = self._done
        self._batch = self._done = None
        self.commits += 1
        if done is not None and not done.done():
            done.set_result(None)

    def _abandon(self, failure: ServiceError) -> None:
        batch, done = self._batch, self._done
        self._batch = self._done = None
        if batch is not None:
            with contextlib.suppress(sa.exc.DBAPIError):
                batch.rollback()
        if done is not None and not done.done():
            done.set_exception(failure)
            done.exception()  # whoever waits sees it; nobody has to

    # -- reading ---------------------------------------------------------------------------------------

    def _unread(self, error: sa.exc.DBAPIError) -> ServiceError:
        """Return what a failed read is to those who asked; a batch that is open goes on, if it can."""
        failure = self._failed(error, "read")
        if self._depth == 0 and self._batch is not None:
            if self._lost:
                self._abandon(failure)
            elif self.shared:
                self._undo_one(self.connection)
        return failure

    # -- small things ----------------------------------------------------------------------------------

    def fact(self, name: str) -> str | None:
        """Return what `remember` kept under a name."""
        value: str | None = self.scalar(_FACT, fact=name)
        return value

    def facts(self) -> dict[str, str]:
        """Return all that `remember` kept."""
        return {row["name"]: row["value"] for row in self.rows(sa.select(schema.facts))}

    def remember(self, name: str, value: str) -> None:
        """Keep a fact about the service itself."""
        with self.begin() as db:
            if db.execute(sa.update(schema.facts).where(schema.facts.c.name == name).values(value=value)).rowcount == 0:
                db.execute(sa.insert(schema.facts).values(name=name, value=value))

    def rows(self, statement: sa.Executable | Statement, **values: object) -> Rows:
        """Return what a SELECT finds, as dicts; values are those of its bindparams.

        Raises:
            ServiceError: the database cannot be read (503).
        """
        try:
            if isinstance(statement, Statement):
                found = statement.rows(self.connection, **values)
            else:
                result = self.connection.execute(statement, values or None)
                # Plain strings: whoever writes JSON pays dearly for each key that is SQLAlchemy's own kind of string.
                names = [str(name) for name in result.keys()]  # noqa: SIM118  # a result is no dict
                found = [dict(zip(names, row, strict=True)) for row in result]
                self._end_reading()
        except sa.exc.DBAPIError as error:
            raise self._unread(error) from error
        return found

    def row(self, statement: sa.Executable | Statement, **values: object) -> Row | None:
        """Return the first row that a SELECT finds, or None."""
        return next(iter(self.rows(statement, **values)), None)

    def scalar(self, statement: sa.Executable | Statement, **values: object) -> Any:  # Any: a column's type is its own
        """Return the first column of the first row that a SELECT finds, or None."""
        row = self.row(statement, **values)
        return None if row is None else next(iter(row.values()))

    def _end_reading(self) -> None:
        """End what SQLAlchemy takes for a transaction; the database has none that nobody has begun."""
        if self._depth == 0 and self._batch is None and self.connection.in_transaction():
            self.connection.rollback()

    def timestamp(self) -> str:
        """Return the time of day as rows carry it."""
        return timestamp(self.now())
