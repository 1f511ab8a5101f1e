"""What every run says of itself besides its rows: its name, the hour, and the versions of what measured."""

from __future__ import annotations

import datetime
import platform
import secrets
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

DECIDING = ("pdmlab", "littlefs-python", "fatfs-ng")
"""Packages whose version may change what a virtual board measures."""


def new_name() -> str:
    """Return a run's name: the hour (UTC), and chance, since two may begin in one second."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def utc_now() -> str:
    """Return the hour in ISO 8601, to the millisecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that take part."""
    found = {"python": platform.python_version(), "platform": sys.platform}
    for package in (*DECIDING, "aiocoap", "pandas"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def board_row(board: object) -> dict[str, Any]:
    """Return the board's row of the catalogue; empty for a board that has none."""
    row = getattr(getattr(board, "info", None), "row", None)
    return dict(row) if isinstance(row, Mapping) else {}
