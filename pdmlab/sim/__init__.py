"""Virtual boards: firmware wired to a medium, a link, a clock and faults."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdmlab.sim.board import VirtualBoard
    from pdmlab.sim.opening import open_board

_HOMES = {"VirtualBoard": "pdmlab.sim.board", "open_board": "pdmlab.sim.opening"}
__all__ = ["VirtualBoard", "open_board"]


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
