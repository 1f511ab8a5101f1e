"""Device queries: filters of the directory that are kept under a name, as they were written."""

from __future__ import annotations

import sqlalchemy as sa

from pdmlab.service import filters
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import device_queries as table
from pdmlab.service.store import Row, Store

MAX_QUERIES = 1_000
"""Queries of an account."""


class Queries:
    """The device queries of all accounts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, account_id: str, id: str) -> Row:
        """Return a query's row.

        Raises:
            Refused: the account has no such query (404).
        """
        row = self._store.row(sa.select(table).where(table.c.account_id == account_id, table.c.id == id))
        if row is None:
            raise not_found("device query", id)
        return row

    def add(self, account_id: str, name: str, query: str) -> Row:
        """Keep a query.

        Raises:
            ConfigError: it cannot be read (filters.parse).
            Refused: the account has MAX_QUERIES of them (403).
        """
        filters.parse(query)
        mine = sa.select(sa.func.count()).select_from(table).where(table.c.account_id == account_id)
        if self._store.scalar(mine) >= MAX_QUERIES:
            raise Refused(403, f"an account has at most {MAX_QUERIES} device queries", type="account_limit_exceeded")
        at = self._store.timestamp()
        row = {"id": self._store.ids.new(), "account_id": account_id, "created_at": at, "updated_at": at}
        with self._store.begin() as db:
            db.execute(sa.insert(table).values(**row, name=name, query=query))
        return self.find(account_id, row["id"])

    def change(self, account_id: str, id: str, **fields: str) -> Row:
        """Set name or query; return the row. Raises as `find` and `add` do."""
        self.find(account_id, id)
        if "query" in fields:
            filters.parse(fields["query"])
        with self._store.begin() as db:
            mine = sa.update(table).where(table.c.account_id == account_id, table.c.id == id)
            db.execute(mine.values(**fields, updated_at=self._store.timestamp()))
        return self.find(account_id, id)

    def remove(self, account_id: str, id: str) -> None:
        """Delete a query. Raises as `find` does."""
        self.find(account_id, id)
        with self._store.begin() as db:
            db.execute(sa.delete(table).where(table.c.id == id))
