"""Schemas of the API's description in words: types, limits, and fields with what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]  # Any: what JSON holds

_DEEP = 4  # levels of fields that are shown
_FEW = 4  # values that are a type by themselves
_NO_NUL = r"^[^\x00]*$"
"""A pattern that nobody meets in practice: it is not worth a reader's time."""

_LIMITS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "from {}",
    "maximum": "to {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "maxProperties": "at most {} entries",
    "pattern": "as {}",
    "default": "{} if not given",
}


@dataclass(frozen=True)
class Fields:
    """Where references lead."""

    description: Object

    def resolved(self, schema: Object) -> Object:
        """Return a schema itself, where there is only a reference to it."""
        while "$ref" in schema:
            found: Any = self.description
            for step in schema["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            schema = {**found, **{name: value for name, value in schema.items() if name != "$ref"}}
        return schema


@dataclass(frozen=True)
class Row:
    """A field of a body."""

    name: str
    kind: str
    required: bool
    description: str
    limits: str


def fields_of(schema: Object, fields: Fields, above: str = "", deep: int = 0) -> Iterator[Row]:
    """Yield the fields of a schema, those within others after them, with where they are."""
    schema = _plain(fields.resolved(schema), fields)
    if schema.get("type") == "array" and "items" in schema:
        inner = _plain(fields.resolved(schema["items"]), fields)
        if "properties" not in inner and not above:
            yield Row("[]", kind_of(inner), False, schema.get("description", ""), limits_of(inner))
        yield from fields_of(inner, fields, f"{above}[]." if not above else f"{above[:-1]}[].", deep)
        return
    required = schema.get("required", ())
    for name, given in schema.get("properties", {}).items():
        each = _plain(fields.resolved(given), fields)
        description = given.get("description") or each.get("description", "")
        yield Row(f"{above}{name}", kind_of(each), name in required, description, limits_of(each))
        if deep < _DEEP:
            yield from fields_of(each, fields, f"{above}{name}.", deep + 1)


def _plain(schema: Object, fields: Fields) -> Object:
    """Return a schema without its being null as an alternative, which types say with a ?."""
    for names in ("anyOf", "oneOf"):
        others = [each for each in schema.get(names, ()) if each.get("type") != "null"]
        if len(others) == 1:
            rest = {name: value for name, value in schema.items() if name != names}
            return {**fields.resolved(others[0]), **rest, "x-nullable": len(schema[names]) > 1}
    return schema


def kind_of(schema: Object) -> str:
    """Return a schema's type in a word or two."""
    kinds = schema.get("anyOf") or schema.get("oneOf")
    if kinds:
        return " or ".join(dict.fromkeys(kind_of(each) for each in kinds))
    if "$ref" in schema:
        return "object"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema and len(schema["enum"]) <= _FEW:
        return " ".join(f"`{each}`" for each in schema["enum"])
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        kind = " or ".join(kind)
    if kind == "array":
        kind = f"list of {kind_of(schema.get('items', {}))}"
    elif schema.get("format") in ("binary", "date-time", "date") or "contentMediaType" in schema:
        kind = {"date-time": "time", "date": "date"}.get(schema.get("format", ""), "file")
    return f"{kind} or null" if schema.get("x-nullable") else str(kind)


def limits_of(schema: Object) -> str:
    """Return what a schema allows, in words."""
    for alternative in schema.get("anyOf") or ():
        if alternative.get("type") != "null" and (found := limits_of({**alternative, **_own(schema)})):
            return found
    said = [
        words.format(schema[name])
        for name, words in _LIMITS.items()
        if name in schema and schema[name] != _NO_NUL and not (name == "default" and not schema[name])
    ]
    if len(schema.get("enum", ())) > _FEW:
        said.insert(0, f"one of {', '.join(map(str, schema['enum']))}")
    return ", ".join(said)


def _own(schema: Object) -> Object:
    return {"default": schema["default"]} if "default" in schema else {}
