"""Databases for tests: a SQLite file, or a database of its own on the PostgreSQL server that a variable names.

Debian's server serves: `apt-get install postgresql`, then, as the user postgres,
`createuser --createdb --pwprompt me`, and
`export PDMLAB_TEST_POSTGRESQL=postgresql://me:PASSWORD@127.0.0.1:5432/postgres`. `.ci/run` does all of it.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import psycopg
import sqlalchemy as sa

from pdmlab.service import schema
from pdmlab.service.engine import read_url
from pdmlab.service.store import Store
from tests.tools import unavailable

VARIABLE = "PDMLAB_TEST_POSTGRESQL"
SERVER = os.environ.get(VARIABLE, "")  # before the tests forget whatever settings there are
KINDS = ("sqlite", "postgresql")
_numbers = itertools.count(1)


class PostgreSQL:
    """Databases on the tests' server: with tables and nothing in them, used again and again, and gone in the end."""

    def __init__(self) -> None:
        if not SERVER:
            unavailable(f"{VARIABLE} names no PostgreSQL server; tests/service/databases.py says how to get one")
        self._server = read_url(SERVER)
        self._admin = self._connected(self._server)
        self._names: set[str] = set()
        self._with_tables: set[str] = set()
        self._free: list[str] = []
        self._emptying = ""

    def new(self, *, empty: bool = False, encoding: str = "UTF8") -> str:
        """Return the URL of a database for a test; empty: one that no service has seen."""
        if empty:
            return self._url(self._made(encoding))
        if not self._free:
            name = self._made(encoding)
            store = Store(self._url(name))
            store.open()
            store.close()
            self._with_tables.add(name)
            self._empty(name)
        return self._url(self._free.pop())

    def drop(self, url: str) -> None:
        """Take a database back."""
        name = sa.make_url(url).database or ""
        if name in self._with_tables:
            self._empty(name)  # which costs a tenth of making one
        else:
            self._drop(name)

    def close(self) -> None:
        for name in sorted(self._names):
            self._drop(name)
        self._admin.close()

    def _made(self, encoding: str) -> str:
        name = f"pdmlab_test_{os.getpid()}_{next(_numbers)}"
        self._admin.execute(  # type: ignore[call-overload]
            f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        )
        self._names.add(name)
        return name

    def _empty(self, name: str) -> None:
        """Leave the tables, with nothing in them: what the first start makes, each service makes for itself."""
        with self._connected(self._server.set(database=name)) as db:
            # Whoever is still there is a test's service that was killed.
            db.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            if not self._emptying:
                numbers = db.execute("SELECT sequencename FROM pg_sequences").fetchall()
                tables = [f'DELETE FROM "{table.name}"' for table in reversed(schema.metadata.sorted_tables)]
                self._emptying = "; ".join([*tables, *(f'ALTER SEQUENCE "{each}" RESTART' for (each,) in numbers)])
            db.execute(self._emptying)  # type: ignore[call-overload]
        self._free.append(name)

    def _drop(self, name: str) -> None:
        try:
            self._admin.execute(f"DROP DATABASE {name}")  # type: ignore[call-overload]
        except psycopg.errors.ObjectInUse:
            # Whoever is still there is a test's service that was killed. FORCE comes second: it may not end the
            # server's own vacuum, which the other waits for.
            self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]
        self._names.discard(name)

    def _url(self, name: str) -> str:
        return self._server.set(database=name).render_as_string(hide_password=False)

    @staticmethod
    def _connected(url: sa.URL) -> psycopg.Connection:
        where = url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(where, autocommit=True)


def sqlite_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'lab.sqlite'}"
