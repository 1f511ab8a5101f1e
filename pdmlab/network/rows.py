"""Rows of a TOML table whose figures carry their sources: read, checked, and refused by the figure's name."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from pdmlab.errors import ConfigError

Table = dict[str, dict[str, Any]]  # Any: TOML values, checked below
_KINDS = {"int": int, "float": (int, float), "bool": bool, "str": str}


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
            raise ConfigError(f"{what} has an unknown figure {name}", hint=f"known are {', '.join(sorted(known))}")
        if not isinstance(cell, Mapping) or "value" not in cell or not isinstance(cell.get("source"), str):
            raise ConfigError(
                f"{name} of {what} is {cell!r}", hint=f'write {name} = {{ value = …, source = "document, section" }}'
            )
        figures[name] = _checked(what, known[name], cell["value"])
    return figures


def _checked(what: str, field: Field[Any], value: Any) -> Any:  # Any: a TOML value
    kind = _KINDS.get(str(field.type), object)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool and kind is not object):  # type: ignore[arg-type]
        raise ConfigError(f"{field.name} of {what} is {value!r}", hint=f"it must be of type {field.type}")
    if isinstance(value, int | float) and value < 0:
        raise ConfigError(f"{field.name} of {what} is {value}: it cannot be negative", hint="times are ns, sizes B")
    return value


def required_of(kind: type) -> frozenset[str]:
    """Return the names of a dataclass's fields that have no default."""
    return frozenset(
        each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING
    ) - {"name", "sources"}
