"""One thing of the service, with an id, and the collection that it comes from."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from html import escape
from typing import Any, ClassVar, Generic, Self, TypeVar, overload
from urllib.parse import quote

from pdmlab.cloud.answers import Object
from pdmlab.cloud.both import M, Noun, T, asked, both, now
from pdmlab.cloud.listing import Condition, HasId, Listing, filter_of
from pdmlab.errors import PdmlabError

F = TypeVar("F")


class Field(Generic[F]):
    """A field of an item, as it was when the item was last asked for."""

    def __init__(self, read: Callable[[Any], F], doc: str = "") -> None:  # Any: what JSON holds
        self._read = read
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, item: None, kind: object = None) -> Self: ...
    @overload
    def __get__(self, item: Item[Any], kind: object = None) -> F: ...
    def __get__(self, item: Item[Any] | None, kind: object = None) -> Any:
        return self if item is None else self._read(item.fields.get(self._name))


def text(doc: str = "") -> Field[str]:
    """Return a field of text, empty if there is none."""
    return Field(lambda value: "" if value is None else str(value), doc)


def number(doc: str = "") -> Field[int]:
    """Return a field of a number, 0 if there is none."""
    return Field(lambda value: int(value or 0), doc)


def flag(doc: str = "") -> Field[bool]:
    """Return a field that is true or not."""
    return Field(bool, doc)


def texts(doc: str = "") -> Field[list[str]]:
    """Return a field with several texts."""
    return Field(lambda value: list(value or ()), doc)


def moment(doc: str = "") -> Field[datetime.datetime | None]:
    """Return a field with a time (UTC); None if there is none."""
    return Field(lambda value: datetime.datetime.fromisoformat(value) if value else None, doc)


class Item(Noun[M]):
    """Something with an id; its fields are as they were when it was last asked for, `info` asks again."""

    PATH: ClassVar[str]
    """Of the collection; the item's own is below it."""
    SHOWN: ClassVar[tuple[str, ...]] = ("name", "description", "created_at")
    """Fields that a notebook's cell shows."""

    name = text("What people call it.")
    created_at = moment("When it was made (UTC).")

    def __init__(self, rest: M, fields: Object) -> None:
        super().__init__(rest)
        self.fields: Object = {}
        """Every field, as the API's JSON has it."""
        self._learn(fields)
        self.id = str(self.fields["id"])

    def _learn(self, fields: Object) -> None:
        """Take what the service said of it."""
        self.fields = dict(fields)

    @property
    def _path(self) -> str:
        return f"{self.PATH}/{quote(self.id, safe='')}"

    def __getitem__(self, name: str) -> Any:  # what JSON holds
        """Return a field as the API's JSON has it."""
        return self.fields[name]

    async def _info(self) -> Object:
        self._learn(await self._rest.get(self._path))
        return self.fields

    @asked
    async def info(self) -> Object:
        """What the service says of it, field by field; asked anew each time."""
        return await self._info()

    async def _change(self, changes: Mapping[str, Any]) -> None:
        self._learn(await self._rest.put(self._path, dict(changes)))

    @both
    async def update(self, /, **changes: Any) -> None:  # what JSON can hold
        """Change fields by name; what is not named stays."""
        await self._change(changes)

    @both
    async def delete(self) -> None:
        """Delete it."""
        await self._rest.call("DELETE", self._path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Item) and (type(self), self.id) == (type(other), other.id)

    def __hash__(self) -> int:
        return hash((type(self), self.id))

    def __repr__(self) -> str:
        name = f" {self.fields['name']!r}" if self.fields.get("name") else ""
        return f"<{type(self).__name__} {self.id}{name} of {self._rest.host}>"

    def _repr_html_(self) -> str:
        return card(f"{type(self).__name__} {self.id}", self._latest(), self.SHOWN)

    def _latest(self) -> Object:
        """Return the fields as they are now, as far as that can be had without waiting."""
        if self._rest.blocks and not self._rest.closed:
            try:
                now(self._info())
            except PdmlabError:
                pass  # what was known is shown
        return self.fields


def card(title: str, fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return a small table of fields; those without a value are left out."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name.replace('_', ' '))}</th>"
        f"<td style='text-align:left'>{escape(str(fields[name]))}</td></tr>"
        for name in names
        if fields.get(name) not in (None, "", [], {})
    )
    return f"<table><caption>{escape(title)}</caption>{rows}</table>"


class Collection(Noun[M], Generic[T, M]):
    """All things of a kind in the account: call it for those that meet conditions, `get` one by its id."""

    ITEM: ClassVar[Any]  # the class of its items, which have the same way to the service
    COLUMNS: ClassVar[tuple[str, ...]]
    """Of its frames."""

    def __call__(self, *, order: str = "ASC", limit: int | None = None, **conditions: Condition) -> Listing[T, M]:
        """Return what meets all conditions, oldest first, or latest first with order="DESC"; at most limit.

        state="registered", name__neq="desk", created_at__gte=datetime, id__in=[…]: see `Condition`.
        """
        parameters = filter_of(conditions) | ({"order": order} if order != "ASC" else {})
        return Listing(self._rest, self.ITEM.PATH, self.ITEM, self.COLUMNS, parameters=parameters, limit=limit)

    async def _get(self, id: str | HasId) -> T:
        path = f"{self.ITEM.PATH}/{quote(id_of(id), safe='')}"
        made: T = self.ITEM(self._rest, await self._rest.get(path))
        return made

    async def _create(self, body: Mapping[str, Any]) -> T:
        named = {name: value for name, value in body.items() if value is not None}
        made: T = self.ITEM(self._rest, await self._rest.post(self.ITEM.PATH, named))
        return made

    @both
    async def get(self, id: str | HasId) -> T:
        """Return one by its id; raise ServiceError (404) if there is none."""
        return await self._get(id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._rest.host}>"

    def _repr_html_(self) -> str:
        return Listing(self._rest, self.ITEM.PATH, self.ITEM, self.COLUMNS)._repr_html_()


def id_of(thing: str | HasId) -> str:
    """Return an id, given as such or as the thing that has it."""
    return thing if isinstance(thing, str) else thing.id
