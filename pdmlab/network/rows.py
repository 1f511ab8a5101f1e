"""Rows of a TOML table whose figures carry their sources: read, checked, and refused by the figure's name."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from importlib.resources import files
from numbers import Real
from pathlib import Path
from typing import Any

from pdmlab.errors import ConfigError

Table = dict[str, dict[str, Any]]  # Any: TOML values, checked below
_KINDS = {"bool": bool, "str": str}
_HINTS = {"int": "it must be a whole number: times are ns, sizes B", "float": "it must be a number"}


def read_table(path: str | Path) -> Table:
    """Read a TOML file of rows: one of the package's own by its name, or the reader's by its path.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        if isinstance(path, Path):
            text = path.read_text(encoding="utf-8")
        else:
            text = files("pdmlab.network").joinpath(path).read_text(encoding="utf-8")
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}", hint="see pdmlab/network/bearers.toml") from error


def figures_of(kind: type, what: str, row: Mapping[str, Any], *, required: frozenset[str]) -> dict[str, Any]:
    """Return a row's figures by name, each checked against the dataclass that takes them.

    Raises:
        ConfigError: a figure is missing, unknown, negative or of another type; it is named.
    """
    known = {each.name: each for each in fields(kind)}
    missing = sorted(required - set(row))
    if missing:
        raise ConfigError(
            f"{what} has no {', '.join(missing)}",
            hint=f'write {missing[0]} = {{ value = …, source = "…" }}; an empty source marks an estimate',
        )
    figures = {}
    for name, cell in row.items():
        if name not in known or name in ("name", "sources", "attach"):
            names = ", ".join(sorted(set(known) - {"name", "sources"}))
            raise ConfigError(f"{what} has an unknown figure {name}", hint=f"known are {names}")
        if not isinstance(cell, Mapping) or "value" not in cell or not isinstance(cell.get("source"), str):
            raise ConfigError(
                f"{name} of {what} is {cell!r}", hint=f'write {name} = {{ value = …, source = "document, section" }}'
            )
        figures[name] = checked(what, known[name], cell["value"])
    return figures


def checked(what: str, field: Field[Any], value: Any) -> Any:  # Any: whatever a file or a caller gave
    """Return a figure as the dataclass has it; a whole number may come as 3e8 or as NumPy's.

    Raises:
        ConfigError: it is negative, not finite or of another type.
    """
    kind = str(field.type)
    wrong = ConfigError(
        f"{field.name} of {what} is {value!r}", hint=_HINTS.get(kind, f"it must be of type {kind}; times are ns")
    )
    if kind in ("int", "float"):
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise wrong
        if value < 0:
            raise ConfigError(f"{field.name} of {what} is {value}: it cannot be negative", hint="times are ns, sizes B")
        if kind == "float":
            return float(value)
        if value % 1:
            raise wrong
        return math.floor(value)
    if kind in _KINDS and not isinstance(value, _KINDS[kind]):
        raise wrong
    return value


def required_of(kind: type) -> frozenset[str]:
    """Return the names of a dataclass's fields that have no default."""
    return frozenset(
        each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING
    ) - {"name", "sources"}
