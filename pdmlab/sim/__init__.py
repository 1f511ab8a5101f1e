"""Virtual boards: firmware wired to a medium, a link, a clock and faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdmlab.sim.board import VirtualBoard, open_board

__all__ = ["VirtualBoard", "open_board"]


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    if name in __all__:
        from pdmlab.sim import board

        return getattr(board, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
