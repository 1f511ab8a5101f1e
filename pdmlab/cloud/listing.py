"""Lists of the API: asked for page by page as they are walked through, or whole as frames."""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlencode

from pdmlab.cloud.answers import Object
from pdmlab.cloud.both import M, T, both, now
from pdmlab.cloud.flow import Flow
from pdmlab.cloud.frames import frame_of
from pdmlab.errors import PdmlabError

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 20
"""Rows of a list that a notebook's cell shows."""

OPERATORS = ("eq", "neq", "gte", "lte", "in", "nin", "like")


@runtime_checkable
class HasId(Protocol):
    """What stands for its id in a condition: a device, a campaign …"""

    id: str


One: TypeAlias = "str | int | float | bool | datetime.datetime | HasId"
Condition: TypeAlias = "One | Iterable[One]"
"""What a field is compared with: field=, field__neq=, __gte=, __lte=, __like=; of several __in= and __nin=."""


def filter_of(conditions: Mapping[str, Condition]) -> dict[str, str]:
    """Return conditions as the API writes them: {"state": "registered"} is {"state__eq": "registered"}."""
    wanted = {}
    for name, value in conditions.items():
        single = isinstance(value, str | HasId) or not isinstance(value, Iterable)
        if name.rpartition("__")[2] not in OPERATORS:
            name += "__eq" if single else "__in"
        wanted[name] = _text(value) if single else ",".join(map(_text, value))  # type: ignore[arg-type]  # single
    return wanted


def _text(value: One) -> str:
    if isinstance(value, HasId):
        return value.id
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    return str(value)


class Listing(Flow[T, M], Generic[T, M]):
    """A list at the service, which has not been asked for yet: for each in it, or its frame().

    >>> for device in cloud.devices(state="registered"):      # doctest: +SKIP
    ...     print(device.name)
    >>> cloud.devices(created_at__gte=yesterday).frame()      # doctest: +SKIP
    """

    def __init__(
        self,
        rest: M,
        path: str,
        make: Callable[[M, Object], T],
        columns: Sequence[str],
        *,
        parameters: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(rest)
        self._path, self._make, self._columns = path, make, columns
        self._parameters, self._limit = dict(parameters or {}), limit

    async def _rows(self, limit: int | None) -> list[Object]:
        return [row async for page in self._rest.pages(self._path, self._parameters, limit) for row in page["data"]]

    async def _flow(self) -> AsyncGenerator[T, None]:
        async for page in self._rest.pages(self._path, self._parameters, self._limit):
            for row in page["data"]:
                yield self._make(self._rest, row)

    @both
    async def frame(self) -> pd.DataFrame:
        """Return the list as a frame: a row an item, times as times (UTC)."""
        return frame_of(await self._rows(self._limit), self._columns)

    @both
    async def first(self) -> T | None:
        """Return the first item; None if there is none."""
        rows = await self._rows(2 if self._limit is None else min(2, self._limit))
        return self._make(self._rest, rows[0]) if rows else None

    @both
    async def count(self) -> int:
        """Return how many items there are at the service, without asking for them."""
        page = await self._rest.get(self._path, **{**self._parameters, "limit": "2", "include": "total_count"})
        return int(page.get("total_count") or 0)

    def __repr__(self) -> str:
        query = f"?{urlencode(self._parameters)}" if self._parameters else ""
        return f"<Listing of {self._path}{query} of {self._rest.host}>"

    def _repr_html_(self) -> str:
        title = f"<b>{escape(self._path)}</b> {escape(', '.join(map('='.join, self._parameters.items())))}"
        if not self._rest.blocks:
            return f"{title}<br>async for each in it, or await its frame()"
        try:
            rows = now(self._rows(SHOWN + 1 if self._limit is None else min(SHOWN + 1, self._limit)))
        except PdmlabError as error:
            return f"{title}<br>{escape(error.message)}"
        more = f"<br>the first {SHOWN}; frame() has all" if len(rows) > SHOWN else ""
        frame: Any = frame_of(rows[:SHOWN], self._columns).dropna(axis="columns", how="all")
        return f"{title}{frame.to_html(index=False)}{more}" if rows else f"{title}<br>there is none"
