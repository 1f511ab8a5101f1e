"""Boards: the catalogue, the console, `connect`, `detect` and flashing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdmlab.boards.board import Board
    from pdmlab.boards.catalog import BoardRow
    from pdmlab.boards.console import Console
    from pdmlab.boards.detection import detect
    from pdmlab.boards.opening import connect

_HOMES = {
    "Board": "pdmlab.boards.board",
    "BoardRow": "pdmlab.boards.catalog",
    "Console": "pdmlab.boards.console",
    "connect": "pdmlab.boards.opening",
    "detect": "pdmlab.boards.detection",
}
__all__ = ["Board", "BoardRow", "Console", "connect", "detect"]


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
