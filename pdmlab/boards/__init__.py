"""Boards: the catalogue, the console, `connect`, `detect` and flashing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.lazy import lazily

if TYPE_CHECKING:
    from pdmlab.boards.board import Board
    from pdmlab.boards.catalog import BoardRow
    from pdmlab.boards.console import Console
    from pdmlab.boards.detection import detect
    from pdmlab.boards.opening import connect

_HOMES = {
    "Board": "board",
    "BoardRow": "catalog",
    "Console": "console",
    "connect": "opening",
    "detect": "detection",
}
__all__ = ["Board", "BoardRow", "Console", "connect", "detect"]

__getattr__ = lazily(__name__, _HOMES)
