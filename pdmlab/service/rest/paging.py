"""Lists as pages: which part of a table is wanted, and the envelope that it goes out in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Depends, Query

from pdmlab.service.rest.errors import Invalid
from pdmlab.service.store import Row, Store

LEAST, MOST, USUAL = 2, 1000, 50
"""Items on a page."""

Json = dict[str, Any]  # Any: what JSON holds


@dataclass(frozen=True)
class Paging:
    """Which page: at most limit items (clamped to what is allowed), those after an id, by time of creation."""

    limit: int
    after: str | None
    descending: bool

    def select(
        self,
        store: Store,
        table: sa.Table,
        where: Sequence[sa.ColumnElement[bool]],
        shape: Callable[[Row], Mapping[str, Any]],
        columns: Sequence[sa.ColumnElement[Any]] | None = None,
    ) -> Json:
        """Return a page of a table; its ids sort by creation, so that `after` may name what is gone by now."""
        found = sa.select(*(columns or table.c)).where(*where)
        if self.after is not None:
            found = found.where(table.c.id < self.after if self.descending else table.c.id > self.after)
        found = found.order_by(table.c.id.desc() if self.descending else table.c.id).limit(self.limit + 1)
        rows = store.rows(found)
        counted = store.rows(sa.select(sa.func.count().label("total")).select_from(table).where(*where))
        return self._envelope([shape(row) for row in rows[: self.limit]], len(rows) > self.limit, counted[0]["total"])

    def cut(self, items: Sequence[Mapping[str, Any]]) -> Json:
        """Return a page of items that are all here, each with an id, in their order."""
        ordered = list(reversed(items)) if self.descending else list(items)
        ids = [item["id"] for item in ordered]
        start = ids.index(self.after) + 1 if self.after in ids else 0
        page = ordered[start : start + self.limit]
        return self._envelope(page, start + len(page) < len(ordered), len(ordered))

    def _envelope(self, data: Sequence[Mapping[str, Any]], more: bool, total: int) -> Json:
        return {
            "object": "list",
            "data": data,
            "has_more": more,
            "limit": self.limit,
            "after": self.after,
            "order": "DESC" if self.descending else "ASC",
            "total_count": total,  # asked for by include=total_count, and harmless otherwise
        }


async def _paging(
    limit: Annotated[str, Query(description="Items on a page: 2 to 1000; other numbers are brought into it.")] = "",
    after: Annotated[str, Query(description="The id of the last item of the page before.")] = "",
    order: Annotated[str, Query(description="ASC or DESC, by time of creation.")] = "ASC",
) -> Paging:
    number = USUAL
    if limit:
        digits = limit.strip().removeprefix("-")
        if not (digits.isascii() and digits.isdigit()):
            raise Invalid(("limit", f"{limit[:40]!r} is no number"))
        number = LEAST if limit.strip().startswith("-") else min(max(int(digits[:9]), LEAST), MOST)
    if order.upper() not in ("ASC", "DESC"):
        raise Invalid(("order", f"{order[:40]!r} is neither ASC nor DESC"))
    return Paging(number, after or None, order.upper() == "DESC")


Page = Annotated[Paging, Depends(_paging)]
"""A call's paging parameters."""
