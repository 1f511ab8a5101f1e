"""What a sidecar says of a run's making: its name, board, measuring function and versions."""

from __future__ import annotations

import datetime
import platform
import secrets
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdmlab.experiment.measuring import Measure, Measured

DECIDING = ("pdmlab", "littlefs-python", "fatfs-ng")
"""Packages whose version may change what a virtual board measures."""


def new_name() -> str:
    """Return a run's name: when it began (UTC), and three random bytes."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def utc_now() -> str:
    """Return the time of day in UTC, to the millisecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def name_of(measure: Measure) -> str:
    """Return module:name, by which rerun finds a function; objects that are called have no such name."""
    kind = type(measure)
    name = getattr(measure, "__qualname__", f"{kind.__qualname__}(...)")
    return f"{getattr(measure, '__module__', kind.__module__)}:{name}"


def board_row(board: Measured) -> dict[str, Any]:
    """Return the board's row of the catalogue; empty for a board that has none."""
    row = getattr(getattr(board, "info", None), "row", None)
    return dict(row) if isinstance(row, Mapping) else {}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that take part."""
    found = {"python": platform.python_version(), "platform": sys.platform}
    for package in (*DECIDING, "aiocoap", "pandas"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found
