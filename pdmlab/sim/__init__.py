"""Virtual boards: firmware wired to a medium, a link, a clock and faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.lazy import lazily

if TYPE_CHECKING:
    from pdmlab.sim.board import VirtualBoard
    from pdmlab.sim.opening import open_board

_HOMES = {"VirtualBoard": "board", "open_board": "opening"}
__all__ = ["VirtualBoard", "open_board"]

__getattr__ = lazily(__name__, _HOMES)
