"""The service's database: one connection on one loop, transactions, and batches that many messages share.

`begin` commits when its block ends. `batch` joins a transaction with whatever else is written in the same
moment; what must not be lost is answered after `await written()`. On SQLite a commit survives the process
however it ends (WAL); it may be lost, never torn, when the machine loses power.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RootTransaction

from pdmlab.errors import ConfigError, ServiceError
from pdmlab.service import schema
from pdmlab.service.ids import Ids, timestamp
from pdmlab.service.statements import Statement

MIGRATIONS = Path(__file__).parent / "migrations"
MAX_TURNS = 64  # of the loop that a batch stays open while more comes in: a few milliseconds
CACHE_KiB = 16_384

# Alembic's own table, which says how far its migrations have come.
_VERSION = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))

_BEGIN = Statement(sa.text("BEGIN"))
_SAVEPOINT, _RELEASE = Statement(sa.text("SAVEPOINT one")), Statement(sa.text("RELEASE SAVEPOINT one"))
_UNDO = Statement(sa.text("ROLLBACK TO SAVEPOINT one"))

Row: TypeAlias = dict[str, Any]
"""A row as a dict. Any: a column's type is its own."""

Rows: TypeAlias = list[Row]


class Store:
    """The database behind a SQLAlchemy URL; `now` returns Unix seconds and `ids` makes ids.

    All of it belongs to the loop and the thread on which `open` was called.
    """

    def __init__(
        self, url: str | sa.URL = "sqlite://", *, now: Callable[[], float] = time.time, seed: int | None = None
    ) -> None:
        self.url = sa.make_url(url)
        self.now = now
        self.ids = Ids(now, seed)
        self.engine: Engine
        self.account_id = ""
        """The default account, made at the first start."""
        self._connection: Connection | None = None
        self._depth = 0
        self._batch: RootTransaction | None = None
        self._done: asyncio.Future[None] | None = None
        self._writes = 0
        self.commits = 0

    def __repr__(self) -> str:
        return f"<Store {self.url.render_as_string(hide_password=True)}>"

    # -- opening -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, bring the schema up to date, and make the default account if there is none; once is enough.

        Raises:
            ServiceError: the database cannot be used, or a newer pdmlab has written it.
        """
        if self._connection is not None:
            return
        self.engine = _engine(self.url)
        try:
            self._connection = self.engine.connect()
            self._migrate(self._connection)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            self.close()
            raise ServiceError(
                f"the database {self.url.render_as_string(hide_password=True)} cannot be used: {_cause(error)}",
                status=503,
                hint="is the disk full or read-only? is it a file of this program? move it away to start anew",
            ) from error
        except BaseException:
            self.close()
            raise
        found = self.fact("default_account")
        if found is None:
            found = self.ids.new()
            with self.begin() as db:
                at = self.timestamp()
                db.execute(
                    sa.insert(schema.accounts).values(id=found, display_name="pdmlab", created_at=at, updated_at=at)
                )
                self.remember("default_account", found)
        self.account_id = found

    def _migrate(self, connection: Connection) -> None:
        """Bring the tables to the version of this program; a new database gets them as they are now."""
        there = set(sa.inspect(connection).get_table_names())
        found = connection.scalar(sa.select(_VERSION.c.version_num)) if _VERSION.name in there else None
        connection.rollback()
        if found is None and there & set(schema.metadata.tables):
            raise ServiceError(
                f"the database {self.url.render_as_string(hide_password=True)} has tables of these names already",
                status=503,
                hint="they are another program's: take another database",
            )
        if found is not None and found > schema.HEAD:
            raise ServiceError(
                f"the database has version {found}, this pdmlab knows {schema.HEAD}",
                status=503,
                hint="a newer pdmlab has written it: update this one, or take another name or state folder",
            )
        if found is None:
            with self._transaction():
                schema.metadata.create_all(connection)
                _VERSION.create(connection)
                connection.execute(sa.insert(_VERSION).values(version_num=schema.HEAD))
        elif found < schema.HEAD:
            self._upgrade(connection)

    def _upgrade(self, connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.rollback()

    def close(self) -> None:
        """Commit what is open and disconnect; a second call does nothing."""
        if self._connection is not None:
            with contextlib.suppress(ServiceError):
                self.flush()
            self._connection.close()
            self._connection = None
        if hasattr(self, "engine"):
            self.engine.dispose()

    # -- writing -------------------------------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The connection; read with `rows`, `row` and `scalar`, which see what a batch has written already.

        Raises:
            ServiceError: the store is closed.
        """
        if self._connection is None:
            raise ServiceError(f"the database {self.url} is closed", status=503, hint="is the service still running?")
        return self._connection

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """Run a transaction: committed when the block ends, undone if it raises. Inside another block, part of that.

        Raises:
            ServiceError: it cannot be committed (503).
        """
        if self._depth:
            yield self.connection
            return
        self.flush()
        with _wrapped(), self._transaction():
            self._depth += 1
            try:
                yield self.connection
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
            self._batch, self._done = self._transaction(), loop.create_future()
            loop.call_soon(self._settle, self._writes, 0)
        self._writes += 1
        self._depth += 1
        try:
            with _wrapped():
                _SAVEPOINT.run(connection)
                yield connection
                _RELEASE.run(connection)
        except BaseException:
            self._undo_one(connection)
            raise
        finally:
            self._depth -= 1

    def _undo_one(self, connection: Connection) -> None:
        """Undo one writer's part of the batch; all of it, where the database has done that by itself."""
        try:
            _UNDO.run(connection)
            _RELEASE.run(connection)
        except sa.exc.DBAPIError as error:  # SQLite ends a transaction for which there is no room
            self._abandon(_unwritten(error))

    def _transaction(self) -> RootTransaction:
        connection = self.connection
        if connection.in_transaction():
            connection.rollback()  # somebody has only read on it
        transaction = connection.begin()
        if connection.dialect.name == "sqlite":
            _BEGIN.run(connection)
        return transaction

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
        try:
            self._batch.commit()
        except sa.exc.DBAPIError as error:
            failure = _unwritten(error)
            self._abandon(failure)
            raise failure from error
        done = self._done
        self._batch = self._done = None
        self.commits += 1
        if done is not None and not done.done():
            done.set_result(None)

    def _abandon(self, failure: ServiceError) -> None:
        batch, done = self._batch, self._done
        self._batch = self._done = None
        if batch is not None:
            batch.rollback()
        if done is not None and not done.done():
            done.set_exception(failure)
            done.exception()  # whoever waits sees it; nobody has to

    # -- small things ----------------------------------------------------------------------------------

    def fact(self, name: str) -> str | None:
        """Return what `remember` kept under a name."""
        value: str | None = self.scalar(sa.select(schema.facts.c.value).where(schema.facts.c.name == name))
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
        """Return what a SELECT finds, as dicts; values are those of its bindparams."""
        if isinstance(statement, Statement):
            found = statement.rows(self.connection, **values)
        else:
            found = [dict(row) for row in self.connection.execute(statement, values or None).mappings()]
        self._end_reading()
        return found

    def row(self, statement: sa.Executable | Statement, **values: object) -> Row | None:
        """Return the first row that a SELECT finds, or None."""
        return next(iter(self.rows(statement, **values)), None)

    def scalar(self, statement: sa.Executable | Statement, **values: object) -> Any:  # Any: a column's type is its own
        """Return the first column of the first row that a SELECT finds, or None."""
        row = self.row(statement, **values)
        return None if row is None else next(iter(row.values()))

    def _end_reading(self) -> None:
        """Leave no transaction open behind a read: it would keep the log of a SQLite file growing."""
        connection = self.connection
        if self._depth == 0 and self._batch is None:
            if connection.in_transaction():
                connection.rollback()
            elif connection.dialect.name != "sqlite":  # other drivers begin one by themselves
                connection.connection.rollback()

    def timestamp(self) -> str:
        """Return the time of day as rows carry it."""
        return timestamp(self.now())


@contextlib.contextmanager
def _wrapped() -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        if isinstance(error, sa.exc.IntegrityError):
            raise
        raise _unwritten(error) from error


def _unwritten(error: sa.exc.DBAPIError) -> ServiceError:
    return ServiceError(
        f"the database could not be written: {_cause(error)}", status=503, hint="is the disk full or read-only?"
    )


def _cause(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def _engine(url: sa.URL) -> Engine:
    if not url.drivername.startswith("sqlite"):
        try:
            return sa.create_engine(url, json_serializer=_json)
        except (sa.exc.ArgumentError, ImportError) as error:
            raise ConfigError(f"no database opens {url!r}: {error}", hint="install its driver") from error
    engine = sa.create_engine(
        url, json_serializer=_json, poolclass=sa.StaticPool, connect_args={"check_same_thread": False}
    )

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:  # Any: the driver's own connection
        connection.isolation_level = None  # transactions begin where the store says so, not where the driver guesses
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "busy_timeout=5000",
            "temp_store=MEMORY",
            f"cache_size=-{CACHE_KiB}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
