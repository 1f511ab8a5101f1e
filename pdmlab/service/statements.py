"""Statements that run for every message: compiled once by SQLAlchemy, then handed to the database's driver directly.

SQLAlchemy's own way from a statement to the driver costs several times what SQLite needs to carry it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect


class Statement:
    """A statement with bindparams; of an INSERT the columns are named, or it would take all of them.

    It is part of the connection's transaction. Values are the driver's: JSON is text, a boolean comes back as 0
    or 1. What fails raises as in SQLAlchemy.
    """

    def __init__(self, statement: sa.ClauseElement, columns: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, tuple[str, Sequence[str] | None, dict[str, Any]]] = {}
        self._names: tuple[str, ...] = ()

    def run(self, connection: Connection, **values: object) -> int:
        """Run it; return how many rows it has changed."""
        count: int = self._execute(connection, values).rowcount
        return count

    def run_many(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Run it for each row, in one go."""
        text, order, _ = self._on(connection.dialect)
        bound = rows if order is None else [tuple(row[name] for name in order) for row in rows]
        cursor = _driver(connection).cursor()
        try:
            cursor.executemany(text, bound)
        except connection.dialect.loaded_dbapi.Error as error:
            raise _wrapped(connection, text, error) from error
        finally:
            cursor.close()

    def rows(self, connection: Connection, **values: object) -> list[dict[str, Any]]:  # Any: a column's type is its own
        """Run it, and return what it finds."""
        cursor = self._execute(connection, values)
        found = cursor.fetchall()
        if not found:
            return []
        if not self._names:
            self._names = tuple(column[0] for column in cursor.description)
        return [dict(zip(self._names, row, strict=True)) for row in found]

    def _execute(self, connection: Connection, values: dict[str, object]) -> Any:  # Any: a driver's cursor
        text, order, constants = self._on(connection.dialect)
        if order is None:
            bound: object = {**constants, **values}
        else:
            bound = tuple(values[name] if name in values else constants[name] for name in order)
        cursor = _driver(connection).cursor()
        try:
            cursor.execute(text, bound)
        except connection.dialect.loaded_dbapi.Error as error:
            raise _wrapped(connection, text, error) from error
        return cursor

    def _on(self, dialect: Dialect) -> tuple[str, Sequence[str] | None, dict[str, Any]]:
        known = self._compiled.get(dialect.name)
        if known is None:
            compiled = self._statement.compile(dialect=dialect, column_keys=self._columns)
            assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
            order = (compiled.positiontup or []) if compiled.positional else None
            # Constants of the statement are parameters too, and have their values.
            known = self._compiled[dialect.name] = (compiled.string, order, dict(compiled.params))
        return known


def _driver(connection: Connection) -> Any:  # Any: drivers have no common type
    return connection.connection.dbapi_connection


def _wrapped(connection: Connection, text: str, error: Exception) -> BaseException:
    dialect = connection.dialect
    return sa.exc.DBAPIError.instance(text, None, error, dialect.loaded_dbapi.Error, dialect=dialect)
