"""The vendor's description of its REST API, as facts: operations, what they take, what they answer.

description.json has a line for each operation and for each type. A name that ends in "!" is required; a shape is a
type's name after "@", a list of one shape, or words: the type, its format after ":", and bounds. Operations of
branding and identity providers have their names alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("description.json")
_DATA = json.loads(_FILE.read_text(encoding="utf-8"))
TYPES: dict[str, dict[str, Any]] = _DATA["types"]
INTS = {"int32": 2**31, "int64": 2**63}


@dataclass(frozen=True)
class Operation:
    """One operation: `name` is method and path, as "GET /v3/devices/{id}"."""

    name: str
    query: dict[str, Any] = field(default_factory=dict)
    form: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    body: Any = None
    answers: dict[str, Any] = field(default_factory=dict)
    produces: tuple[str, ...] = ("application/json",)

    @property
    def method(self) -> str:
        return self.name.split()[0]

    @property
    def path(self) -> str:
        return self.name.split()[1]


def _operation(row: dict[str, Any]) -> Operation:
    method, path = row["operation"].split()
    rest = {name: value for name, value in row.items() if name not in ("operation", "produces")}
    produces = tuple(row.get("produces", ("application/json",)))
    return Operation(f"{method} {path.rstrip('/')}", produces=produces, **rest)


OPERATIONS: dict[str, Operation] = {each.name: each for each in map(_operation, _DATA["operations"])}


def _pattern(operation: Operation) -> re.Pattern[str]:
    text = re.sub(r"\{resourcePath\}", "(?:.+)", operation.path)
    return re.compile(re.sub(r"\{[^}]+\}", "[^/]+", text))


# What is spelled out comes before what a parameter stands for.
_PATTERNS = sorted(
    ((_pattern(each), each) for each in OPERATIONS.values()),
    key=lambda found: [part.startswith("{") for part in found[1].path.split("/")],
)


def find(method: str, path: str) -> Operation | None:
    """Return the operation that a call is one of."""
    path = re.sub("/{2,}", "/", path).rstrip("/")
    for pattern, operation in _PATTERNS:
        if operation.method == method and pattern.fullmatch(path):
            return operation
    return None


def problems(value: Any, shape: Any, where: str = "") -> list[str]:
    """Return what is not as the shape has it; null stands for nothing, except for what is required in every object."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{where} is no list"]
        return [each for number, item in enumerate(value) for each in problems(item, shape[0], f"{where}[{number}]")]
    if shape.startswith("@"):
        return _of_type(value, TYPES[shape[1:]], where)
    return _of_word(value, shape, where)


def _of_type(value: Any, fields: dict[str, Any], where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where} is no object"]
    found = []
    for name, shape in fields.items():
        key = name.removesuffix("!")
        if key not in value:
            found += [f"{where}.{key} is required"] if name.endswith("!") else []
        elif value[key] is not None:
            found += problems(value[key], shape, f"{where}.{key}")
    return found


def _of_word(value: Any, word: str, where: str) -> list[str]:
    if word.startswith("enum:"):
        allowed = word[5:].split("|")
        return [] if str(value) in allowed else [f"{where} is {value!r}, none of {', '.join(allowed)}"]
    kind, *bounds = word.split(" ", 1)
    kind, _, format_ = kind.partition(":")
    if kind in ("any", "object", "file"):
        return [f"{where} is no object"] if kind == "object" and not isinstance(value, dict) else []
    wanted: dict[str, Any] = {"string": str, "integer": int, "boolean": bool, "number": (int, float)}
    if not isinstance(value, wanted[kind]) or (kind != "boolean" and isinstance(value, bool)):
        return [f"{where} is {value!r}, no {kind}"]
    if format_ in ("date", "date-time"):
        return _of_time(value, format_, where)
    if format_ in INTS and not -INTS[format_] <= value < INTS[format_]:
        return [f"{where} is {value}, no {format_}"]
    text = bounds[0] if bounds else ""
    most = re.search(r"<=(\d+)", text)
    size = len(value) if isinstance(value, str) else value
    if most and size > int(most[1]):
        return [f"{where} is {size} long or large, {most[1]} at most"]
    if "~[a-f0-9]{32}" in text and not re.fullmatch("[a-f0-9]{32}", value):
        return [f"{where} is {value!r}, no id of 32 hex digits"]
    return []


def _of_time(value: str, kind: str, where: str) -> list[str]:
    try:
        date.fromisoformat(value) if kind == "date" else datetime.fromisoformat(value)
    except ValueError:
        return [f"{where} is {value!r}, no {kind}"]
    return [] if kind == "date" or value.endswith("Z") else [f"{where} is {value!r}, not in UTC"]
