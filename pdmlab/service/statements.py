"""Statements that run for every message: compiled once by SQLAlchemy, then handed to the database's driver directly.

SQLAlchemy's own way from a statement to the driver costs several times what SQLite needs to carry it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from pdmlab.service.engine import wrapped


@dataclass
class _Compiled:
    """A statement in one database's words; `order` of its values is None where they go by name."""

    text: str
    order: Sequence[str] | None
    constants: Mapping[str, Any]  # a value is of its column's type
    shapes: Sequence[tuple[str, Callable[[Any], Any]]]
    names: tuple[str, ...] = ()


class Statement:
    """A statement with bindparams; of an INSERT the columns are named, or it would take all of them.

    It is part of the connection's transaction. Rows are as SQLAlchemy has them: a boolean is one, JSON is read. What
    is written is as the driver takes it: JSON is text. What fails raises as in SQLAlchemy.
    """

    def __init__(self, statement: sa.ClauseElement, columns: Sequence[str] | None = None) -> None:
        # No key is asked for that the database has made, such as the number of a row.
        self._statement = statement.inline() if isinstance(statement, sa.Insert) else statement
        self._columns = columns
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, **values: object) -> int:
        """Run it; return how many rows it has changed."""
        count: int = self._execute(connection, self._on(connection.dialect), values).rowcount
        return count

    def run_many(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
        """Run it for each row, in one go."""
        compiled = self._on(connection.dialect)
        order = compiled.order
        bound = rows if order is None else [tuple(row[name] for name in order) for row in rows]
        cursor = _driver(connection).cursor()
        try:
            cursor.executemany(compiled.text, bound)
        except connection.dialect.loaded_dbapi.Error as error:
            raise wrapped(connection, compiled.text, error) from error
        finally:
            cursor.close()

    def rows(self, connection: Connection, **values: object) -> list[dict[str, Any]]:  # Any: a column's type is its own
        """Run it, and return what it finds."""
        compiled = self._on(connection.dialect)
        cursor = self._execute(connection, compiled, values)
        found = cursor.fetchall()
        if not found:
            return []
        if not compiled.names:
            compiled.names = tuple(column[0] for column in cursor.description)
        rows = [dict(zip(compiled.names, row, strict=True)) for row in found]
        for name, shaped in compiled.shapes:
            for row in rows:
                row[name] = shaped(row[name])
        return rows

    def _execute(self, connection: Connection, compiled: _Compiled, values: dict[str, object]) -> Any:
        """Return the driver's cursor (Any: drivers have no common type)."""
        order, constants = compiled.order, compiled.constants
        if order is None:
            bound: object = {**constants, **values}
        else:
            bound = tuple(values[name] if name in values else constants[name] for name in order)
        cursor = _driver(connection).cursor()
        try:
            cursor.execute(compiled.text, bound)
        except connection.dialect.loaded_dbapi.Error as error:
            raise wrapped(connection, compiled.text, error) from error
        return cursor

    def _on(self, dialect: Dialect) -> _Compiled:
        known = self._compiled.get(dialect.name)
        if known is None:
            compiled = self._statement.compile(dialect=dialect, column_keys=self._columns)
            assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
            assert not compiled.post_compile_params, "IN is compiled anew each time that it runs: write OR"
            order = (compiled.positiontup or []) if compiled.positional else None
            # Constants of the statement are parameters too, and have their values.
            known = _Compiled(compiled.string, order, dict(compiled.params), _shapes(self._statement, dialect))
            self._compiled[dialect.name] = known
        return known


def _shapes(statement: sa.ClauseElement, dialect: Dialect) -> Sequence[tuple[str, Callable[[Any], Any]]]:
    """Return how the columns are read that the database has not as what they are: booleans and JSON in SQLite."""
    found: list[tuple[str, Callable[[Any], Any]]] = []
    for column in statement.selected_columns if isinstance(statement, sa.Select) else ():
        if isinstance(column.type, sa.Boolean | sa.JSON):
            shaped = column.type.dialect_impl(dialect).result_processor(dialect, None)
            if shaped is not None:
                found.append((str(column.key), shaped))
    return found


def _driver(connection: Connection) -> Any:  # Any: drivers have no common type
    return connection.connection.dbapi_connection
