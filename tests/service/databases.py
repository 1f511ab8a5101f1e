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
    """Databases on the tests' server: each is a copy of one that has the tables already, and is gone in the end."""

    def __init__(self) -> None:
        if not SERVER:
            unavailable(f"{VARIABLE} names no PostgreSQL server; tests/service/databases.py says how to get one")
        self._server = read_url(SERVER)
        self._admin = psycopg.connect(
            self._server.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True
        )
        self._names: set[str] = set()
        self._template = ""

    def new(self, *, empty: bool = False, encoding: str = "UTF8") -> str:
        """Return the URL of a new database; empty: one that no service has seen."""
        if empty:
            return self._url(self._made("template0", encoding))
        if not self._template:
            self._template = self._made("template0")
            store = Store(self._url(self._template))
            store.open()
            with store.begin() as db:  # what the first start makes, each makes for itself
                db.execute(sa.delete(schema.facts))
                db.execute(sa.delete(schema.accounts))
            store.close()
        return self._url(self._made(self._template))

    def _made(self, template: str, encoding: str = "UTF8") -> str:
        name = f"pdmlab_test_{os.getpid()}_{next(_numbers)}"
        how = f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE {template}"
        self._admin.execute(f"CREATE DATABASE {name} {how}")  # type: ignore[arg-type]
        self._names.add(name)
        return name

    def _url(self, name: str) -> str:
        return self._server.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        name = sa.make_url(url).database or ""
        try:
            self._admin.execute(f"DROP DATABASE {name}")  # type: ignore[arg-type]
        except psycopg.errors.ObjectInUse:
            # Whoever is still there is a test's service that was killed. FORCE comes second: it may not end the
            # server's own vacuum, which the other waits for.
            self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]
        self._names.discard(name)

    def close(self) -> None:
        for name in sorted(self._names):
            self.drop(self._url(name))
        self._admin.close()


def sqlite_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'lab.sqlite'}"
