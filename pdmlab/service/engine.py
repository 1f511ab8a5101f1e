"""The two databases that the service knows, SQLite and PostgreSQL: how each is opened, and what its errors mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pdmlab.errors import ConfigError, ServiceError
from pdmlab.service.refusal import Refused

if TYPE_CHECKING:
    import psycopg

CACHE_KiB = 16_384
LOCK_TIMEOUT_MS = 5000
"""For how long a statement waits for rows, or a file, that another writer has."""
IDLE_TIMEOUT_MS = 20_000
"""How long PostgreSQL lets a process that has stopped in the middle of a transaction keep others waiting."""
_CONNECT = {
    "client_encoding": "utf8",
    "connect_timeout": 5,  # s; the loop waits for it
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # ms
}
_POSTGRESQL = {"postgres", "postgresql", "postgresql+psycopg"}


def read_url(text: str | sa.URL) -> sa.URL:
    """Return a database's URL: sqlite:///FILE, or postgresql://USER@HOST:PORT/NAME.

    Raises:
        ConfigError: it is neither; it is not repeated, because it may have a password.
    """
    hint = "sqlite:///lab.sqlite, or postgresql://user@host:5432/name"
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigError("what was given for the database is no URL", hint=hint) from None
    if url.drivername in _POSTGRESQL:
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite":
        raise ConfigError(f"the service knows no database of the kind {url.drivername}", hint=hint)
    return url


def is_shared(url: sa.URL) -> bool:
    """Whether several processes may use the database at once."""
    return url.get_backend_name() == "postgresql"


def shown(url: sa.URL) -> str:
    """Return a URL without its password, and without options, which may have another."""
    return url.set(query={}).render_as_string(hide_password=True)


def open_engine(url: sa.URL) -> Engine:
    """Return SQLAlchemy's engine for a database; transactions begin where they are told to, on both.

    Raises:
        ConfigError: the driver is not installed.
    """
    return _postgresql(url) if is_shared(url) else _sqlite(url)


def _sqlite(url: sa.URL) -> Engine:
    engine = sa.create_engine(
        url,
        json_serializer=_json,
        hide_parameters=True,
        poolclass=sa.StaticPool,
        connect_args={"check_same_thread": False},
    )
    sa.event.listen(engine, "handle_error", _without_values)

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:  # Any: the driver's own connection
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            f"busy_timeout={LOCK_TIMEOUT_MS}",
            "temp_store=MEMORY",
            f"cache_size=-{CACHE_KiB}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _postgresql(url: sa.URL) -> Engine:
    try:
        engine = sa.create_engine(
            url,
            json_serializer=_json,
            hide_parameters=True,
            poolclass=sa.NullPool,  # the store keeps the one it has
            isolation_level="AUTOCOMMIT",
            connect_args={name: value for name, value in _CONNECT.items() if name not in url.query},
        )
    except ImportError as error:
        raise ConfigError(
            "PostgreSQL needs its driver, psycopg", hint="python -m pip install 'pdmlab[postgresql]'"
        ) from error
    sa.event.listen(engine, "handle_error", _without_values)

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:  # Any: the driver's own connection
        # After a few runs the server keeps a statement parsed and planned, under a name.
        connection.prepared_max = 500
        connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
        connection.execute(f"SET idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS}")

    return engine


def connect_listening(url: sa.URL) -> psycopg.Connection:
    """Return another connection to a PostgreSQL database, psycopg's own.

    Raises:
        ServiceError: it cannot be reached (503).
    """
    import psycopg

    where = url.set(drivername="postgresql").render_as_string(hide_password=False)
    options = {name: str(value) for name, value in _CONNECT.items() if name not in url.query}
    try:
        return psycopg.connect(where, autocommit=True, **options)  # type: ignore[arg-type]  # its own keywords, or libpq's
    except psycopg.Error as error:
        raise ServiceError(
            f"the database {shown(url)} is away: {cause_of(error)}",
            status=503,
            hint="is PostgreSQL running? the service connects again by itself",
        ) from error


def is_missing(error: sa.exc.OperationalError, url: sa.URL) -> bool:
    """Whether PostgreSQL refused a connection because it has no such database.

    psycopg passes no SQLSTATE of such a refusal on (3D000): a server that speaks no English is not understood.
    """
    return is_shared(url) and f'database "{url.database}" does not exist' in cause_of(error)


def fault_of(connection: Connection) -> str | None:
    """Say why a database that opens is not to be used all the same; None if it is."""
    if connection.dialect.name == "postgresql":
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
        if encoding != "UTF8":
            return f"its encoding is {encoding}: createdb --encoding=UTF8 --template=template0 makes one that serves"
    return None


def run_script(connection: Connection, *statements: str) -> None:
    """Run statements without values one after the other; in one go, where the database allows that."""
    driver: Any = connection.connection.dbapi_connection  # drivers have no common type
    try:
        if connection.dialect.name == "postgresql":
            driver.execute("; ".join(statements), prepare=False)
            return
        for statement in statements:
            driver.execute(statement)
    except connection.dialect.loaded_dbapi.Error as error:
        raise wrapped(connection, statements[0], error) from error


def wrapped(connection: Connection, text: str, error: Exception) -> BaseException:
    """Return a driver's error as SQLAlchemy has it."""
    dialect = connection.dialect
    _hide_values(error)
    return sa.exc.DBAPIError.instance(text, None, error, dialect.loaded_dbapi.Error, dialect=dialect)


def _without_values(context: sa.engine.ExceptionContext) -> None:
    error, said = context.sqlalchemy_exception, context.original_exception
    if isinstance(error, sa.exc.DBAPIError):
        _hide_values(said)
        error.args = (f"({type(said).__module__}.{type(said).__name__}) {cause_of(said)}",)


def _hide_values(error: BaseException) -> None:
    """Leave of what a driver says the first line: PostgreSQL's others have the row's values, which may be secret."""
    error.args = (cause_of(error),)


def conflict(error: sa.exc.IntegrityError) -> Refused | None:
    """Return what it is to those who asked that a row is there already, or that one is gone; None for anything else.

    So it is when another process, or another call, has changed something between a look and what is written by it.
    """
    said, state = cause_of(error), getattr(error.orig, "sqlstate", None) or ""
    if state == "23505" or said.startswith("UNIQUE constraint"):
        return Refused(409, "something of that name or id was made in this moment", type="duplicate", hint="look again")
    if state == "23503" or said.startswith("FOREIGN KEY constraint"):
        name = str(getattr(getattr(error.orig, "diag", None), "constraint_name", None) or "")
        if name.endswith("_api_key_id"):
            return Refused(401, "the API key was revoked in this moment", type="invalid_apikey")
        what = "device" if name.endswith("_device_id") else "thing"
        return Refused(404, f"the {what} that it is about was deleted in this moment", type="not_found")
    return None


def is_failed(connection: Connection) -> bool:
    """Whether the open transaction can only be undone: PostgreSQL would not say so at its commit."""
    if connection.dialect.name != "postgresql":
        return False
    if connection.invalidated:
        return True
    driver: Any = connection.connection.dbapi_connection  # drivers have no common type
    return bool(driver.info.transaction_status.name != "INTRANS")


def is_lost(connection: Connection) -> bool:
    """Whether the connection has ended."""
    if connection.dialect.name != "postgresql":
        return False
    if connection.invalidated:
        return True
    driver: Any = connection.connection.dbapi_connection  # drivers have no common type
    return bool(driver.closed or driver.broken)


def failure(error: sa.exc.DBAPIError, what: str = "written") -> ServiceError:
    """Return what a database's error is to those who asked: 503, or 400 for a value that no column takes."""
    cause, state = cause_of(error), getattr(error.orig, "sqlstate", None) or ""
    if isinstance(error, sa.exc.DataError):
        return Refused(400, f"a value does not fit: {cause}", type="validation_error")
    if state in ("40001", "40P01", "55P03"):
        # Serialization failure, deadlock, lock timeout: two processes were in each other's way.
        return ServiceError(
            f"the database could not be {what}, another process was at the same rows: {cause}",
            status=503,
            hint="nothing was changed; try again",
        )
    driver = type(error.orig).__module__.partition(".")[0]
    if state.startswith(("08", "57P", "25P03")) or (driver == "psycopg" and not state):
        return ServiceError(
            f"the connection to the database has ended: {cause}",
            status=503,
            hint="nothing was changed; is PostgreSQL running? the service connects again by itself",
        )
    return ServiceError(f"the database could not be {what}: {cause}", status=503, hint="is the disk full or read-only?")


def cause_of(error: BaseException) -> str:
    """Return what a driver says, in one line."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
