"""Filters of lists: read from a call's parameters, and described for /openapi.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request

from pdmlab.service.filters import ATTRIBUTES, Filter, Kind, from_parameters

_COMPARED: dict[Kind, tuple[str, ...]] = {
    "text": ("eq", "neq", "in", "nin", "like"),
    "group": ("eq", "neq", "in", "nin"),
    "flag": ("eq", "neq", "in", "nin"),
    "number": ("eq", "neq", "in", "nin", "gte", "lte", "gt", "lt"),
    "time": ("eq", "neq", "in", "nin", "gte", "lte", "gt", "lt"),
}
_TYPES: dict[Kind, dict[str, str]] = {
    "text": {"type": "string"},
    "group": {"type": "string"},
    "flag": {"type": "boolean"},
    "number": {"type": "integer"},
    "time": {"type": "string", "format": "date-time"},
}
_ABOUT = (
    "Conditions as a query string, encoded once more: `state%3Dregistered`. Each may be a parameter of its own as well."
)


def conditions(request: Request, fields: Mapping[str, Kind]) -> Filter:
    """Return the conditions that a call's parameters are, in each of the three spellings.

    Raises:
        ConfigError: one names an unknown field, or its value cannot be one of that field; the caller is told (400).
    """
    return from_parameters(request.query_params.multi_items(), fields)


def described(fields: Mapping[str, Kind]) -> dict[str, Any]:  # Any: what JSON holds
    """Return what a route that takes such filters says of them: its openapi_extra."""
    found = [_parameter("filter", {"type": "string"}, _ABOUT)]
    for field, kind in fields.items():
        if field == ATTRIBUTES:
            continue  # names that nobody knows before
        for operator in _COMPARED[kind]:
            listed = operator in ("in", "nin")
            what = {"type": "string"} if listed else _TYPES[kind]
            found.append(_parameter(f"{field}__{operator}", what, "Separated by commas." if listed else ""))
    return {"parameters": found}


def _parameter(name: str, schema: Mapping[str, str], about: str) -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": name, "in": "query", "required": False, "schema": dict(schema)}
    return parameter | {"description": about} if about else parameter
