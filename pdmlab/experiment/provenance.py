"""What a sidecar says of a sweep's making: its board and measuring function, besides what every run says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.frames.provenance import DECIDING, board_row, new_name, utc_now, versions

if TYPE_CHECKING:
    from pdmlab.experiment.measuring import Measure

__all__ = ["DECIDING", "board_row", "name_of", "new_name", "utc_now", "versions"]


def name_of(measure: Measure) -> str:
    """Return module:name, by which rerun finds a function; objects that are called have no such name."""
    kind = type(measure)
    name = getattr(measure, "__qualname__", f"{kind.__qualname__}(...)")
    return f"{getattr(measure, '__module__', kind.__module__)}:{name}"
