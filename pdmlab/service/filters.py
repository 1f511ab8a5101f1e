"""Filters as the vendor's clients spell them: three spellings, one meaning.

    ?filter=state%3Dregistered%26custom_attributes__site__neq%3Dlab   a query inside the query (SDK)
    ?state__eq=registered&id__in=a,b                                  parameters of the call (Foundation SDK)
    "id__eq=0161…&device_class=3a…"                                   a campaign's device_filter (all of them)

A filter that names an unknown field is refused: ignored, it would match more than was meant.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any, Literal, cast
from urllib.parse import parse_qsl

import sqlalchemy as sa

from pdmlab.errors import ConfigError
from pdmlab.service.schema import device_group_members

Kind = Literal["text", "number", "time", "flag", "group"]
"""What is compared: a group is one of those that a device is in."""

Operator = Literal["eq", "neq", "gte", "lte", "gt", "lt", "in", "nin", "like"]
Value = str | int | bool | datetime.datetime

OPERATORS = ("eq", "neq", "gte", "lte", "gt", "lt", "in", "nin", "like")
ORDERED: dict[str, Callable[[Any, Any], Any]] = {"gte": ge, "lte": le, "gt": gt, "lt": lt}  # Any: columns too
ATTRIBUTES = "custom_attributes__"
MAX_CONDITIONS = 100
MAX_LISTED = 1000  # values of one __in
MAX_VALUES = 10_000  # of all conditions together: a database takes a limited number of parameters
MAX_PART = 1000  # characters of a __like: SQLite refuses patterns of some 50,000 B

_DAY = 10  # characters of 2026-11-30: the columns that hold no more
_ATTRIBUTE = re.compile(ATTRIBUTES + r"[^\x00-\x1f\"\\]{1,128}")

_VALUE = re.compile("'([^']*)'")
_PYTHONS = re.compile(r"\['[^']*'(, '[^']*')*\]")

_TEXTS = """account_id ca_id deployed_state deployment description device_class device_key endpoint_name endpoint_type
    firmware_checksum host_gateway id issuer_fingerprint lifecycle_status manifest mechanism mechanism_url name
    serial_number state vendor_id"""
_TIMES = """bootstrap_expiration_date bootstrapped_timestamp connector_expiration_date created_at
    enrolment_list_timestamp etag manifest_timestamp updated_at"""

DEVICE_FIELDS: dict[str, Kind] = {
    **dict.fromkeys(_TEXTS.split(), "text"),
    **dict.fromkeys(_TIMES.split(), "time"),
    "auto_update": "flag",
    "device_execution_mode": "number",
    "groups": "group",
    ATTRIBUTES: "text",
}
"""What a directory query may name, beside custom_attributes__<name>."""


@dataclass(frozen=True)
class Condition:
    """One condition: a field, an operator, and the values it is held against (several for in and nin)."""

    field: str
    operator: Operator
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.field}__{self.operator}={','.join(map(str, self.values))}"

    @property
    def attribute(self) -> str | None:
        """Return the name of the custom attribute meant, None for any other field."""
        return self.field.removeprefix(ATTRIBUTES) if self.field.startswith(ATTRIBUTES) else None

    def holds(self, record: Mapping[str, object]) -> bool:
        """Tell whether a row meets the condition; nothing is never equal to something, and "" is nothing too.

        A device is equal to a group that it is in.
        """
        found = record.get("updated_at" if self.field == "etag" and "etag" not in record else self.field)
        if self.attribute is not None:
            attributes = record.get(ATTRIBUTES.removesuffix("__"))
            found = attributes.get(self.attribute) if isinstance(attributes, Mapping) else None
        values = self.values
        if isinstance(values[0], datetime.datetime) and isinstance(found, str):
            days = len(found) == _DAY
            values = tuple(_midnight(each) if days else each for each in values)
            found = parse_time(found)
        if isinstance(found, list):
            same = any(each in found for each in values) or (not found and values == ("",))
        else:
            same = found in values or (found is None and values == ("",))
        if self.operator in ("eq", "in"):
            return same
        if self.operator in ("neq", "nin"):
            return not same
        if found is None:
            return False
        wanted: Any = values[0]  # of the found value's type, or text
        if self.operator == "like":
            return str(wanted).lower() in str(found).lower()
        return bool(ORDERED[self.operator](found, wanted))


def _midnight(value: Value) -> Value:
    if not isinstance(value, datetime.datetime):
        return value
    return value.replace(hour=0, minute=0, second=0, microsecond=0)


Filter = tuple[Condition, ...]
"""Conditions that must all hold."""


def matches(conditions: Iterable[Condition], record: Mapping[str, object]) -> bool:
    """Tell whether a row meets all conditions."""
    return all(condition.holds(record) for condition in conditions)


def where(conditions: Iterable[Condition], table: sa.FromClause) -> list[sa.ColumnElement[bool]]:
    """Return the conditions as clauses over a table, or what looks like one; they mean what `matches` does."""
    return [
        _member(condition, table) if condition.field == "groups" else _clause(condition, _column(condition, table))
        for condition in conditions
    ]


def _member(condition: Condition, table: sa.FromClause) -> sa.ColumnElement[bool]:
    member = sa.exists().where(device_group_members.c.device_id == table.c.id)
    if condition.values == ("",):
        within: sa.ColumnElement[bool] = ~member
    else:
        within = member.where(device_group_members.c.group_id.in_(condition.values))
    return ~within if condition.operator in ("neq", "nin") else within


def _column(condition: Condition, table: sa.FromClause) -> sa.ColumnElement[Any]:
    if condition.attribute is not None:
        attribute: sa.ColumnElement[Any] = table.c[ATTRIBUTES.removesuffix("__")][condition.attribute].as_string()
        return attribute
    return table.c["updated_at" if condition.field == "etag" and "etag" not in table.c else condition.field]


def _clause(condition: Condition, column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    values = [_stored(value, column) for value in condition.values]
    if condition.operator in ("neq", "nin"):
        return sa.or_(column.not_in(values), column.is_(None)) if values != [""] else sa.func.coalesce(column, "") != ""
    if condition.operator in ("eq", "in"):
        return column.in_(values) if values != [""] else sa.func.coalesce(column, "") == ""
    if condition.operator == "like":
        return sa.func.lower(column).contains(str(values[0]).lower(), autoescape=True)
    ordered: sa.ColumnElement[bool] = ORDERED[condition.operator](column, values[0])
    return ordered


def _stored(value: Value, column: sa.ColumnElement[Any]) -> object:
    """Return a value as the column has it: times are text, some of them days."""
    if not isinstance(value, datetime.datetime):
        return value
    days = isinstance(column.type, sa.String) and column.type.length == _DAY
    return value.date().isoformat() if days else value.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse(text: str, fields: Mapping[str, Kind] = DEVICE_FIELDS) -> Filter:
    """Read a query string of conditions, its values encoded or not; no operator means eq.

    Raises:
        ConfigError: it is no query string, or names what `fields` does not have.
    """
    text = text.removeprefix("?").strip()
    if not text:
        return ()
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=MAX_CONDITIONS)
    except ValueError as error:
        raise ConfigError(
            f"the filter {text[:80]!r} cannot be read: {str(error)[:80]}",
            hint="write it as state=registered&name__neq=desk1",
        ) from error
    return _bounded([_condition(name, value, fields) for name, value in pairs])


def _bounded(conditions: list[Condition]) -> Filter:
    """Return conditions that a database takes all at once."""
    values = sum(len(each.values) for each in conditions)
    if len(conditions) > MAX_CONDITIONS or values > MAX_VALUES:
        raise ConfigError(
            f"the filter has {len(conditions)} conditions with {values} values; at most {MAX_CONDITIONS} and"
            f" {MAX_VALUES} are taken"
        )
    return tuple(conditions)


def from_parameters(parameters: Iterable[tuple[str, str]], fields: Mapping[str, Kind] = DEVICE_FIELDS) -> Filter:
    """Read the conditions among a call's parameters: `filter`, and every known field or name with an operator.

    Raises:
        ConfigError: a condition names an unknown field, or its value cannot be one of that field.
    """
    conditions: list[Condition] = []
    for name, value in parameters:
        if name == "filter":
            conditions += parse(value, fields)
        elif name in fields or name.rpartition("__")[2] in OPERATORS or name.startswith(ATTRIBUTES):
            conditions.append(_condition(name, value, fields))
    return _bounded(conditions)


def _condition(name: str, text: str, fields: Mapping[str, Kind]) -> Condition:
    field, operator = _split(name)
    kind = fields.get(field) if field != ATTRIBUTES else None
    if kind is None and _ATTRIBUTE.fullmatch(field) and ATTRIBUTES in fields:
        kind = "text"
    if kind is None:
        raise ConfigError(
            f"there is no field {field[:80]!r} to filter by", hint=f"known are {', '.join(sorted(fields))}"
        )
    # Texts have no order here: each database would have its own.
    if (operator in ORDERED and kind not in ("number", "time")) or (operator == "like" and kind != "text"):
        raise ConfigError(
            f"{field} cannot be compared with __{operator}", hint="__eq, __neq, __in and __nin are always there"
        )
    if operator == "like" and len(text) > MAX_PART:
        raise ConfigError(f"{name} has {len(text)} characters; at most {MAX_PART} are taken")
    listed = _listed(text) if operator in ("in", "nin") else [text]
    if len(listed) > MAX_LISTED:
        raise ConfigError(f"{name} lists {len(listed)} values; at most {MAX_LISTED} are taken")
    return Condition(field, operator, tuple(_value(field, each, kind) for each in listed))


def _listed(text: str) -> list[str]:
    """Return the values of a list: a,b or, as the older SDK writes a list of Python's, ['a', 'b']."""
    if _PYTHONS.fullmatch(text):
        return _VALUE.findall(text)
    return text.split(",")


def _split(name: str) -> tuple[str, Operator]:
    field, separator, last = name.rpartition("__")
    if separator and last in OPERATORS and field != ATTRIBUTES.removesuffix("__"):
        return field, cast(Operator, last)
    return name, "eq"


def _value(field: str, text: str, kind: Kind) -> Value:
    if "\0" in text:  # which a database may not take
        raise ConfigError(f"{field} cannot be compared with text that has a NUL in it")
    if kind in ("text", "group"):
        return text
    if kind == "time":
        when = parse_time(text)
        if when is not None:
            return when
    elif kind == "number":
        if text.isascii() and text.isdigit() and len(text) < 16:
            return int(text)
    elif text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise ConfigError(
        f"{field} cannot be compared with {text[:40]!r}",
        hint={"time": "write times as 2026-11-30T16:25:12Z", "number": "write a number", "flag": "write true or false"}[
            kind
        ],
    )


def parse_time(text: str) -> datetime.datetime | None:
    """Read RFC 3339 with or without a fraction, a date, or 20161130T162512Z; None for anything else.

    An offset before a Z, as one SDK writes it, is taken too; a + that a query turned into a space is a + again.
    """
    text = text.strip().replace(" ", "+")
    if text.endswith("Z") and (text[:-1].endswith("+00:00") or "+" in text):
        text = text[:-1]
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        return (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except (OverflowError, ValueError):
        return None
