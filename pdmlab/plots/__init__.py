"""Figures: a frame goes in, Axes come out; labels and units come from the frame.

Every figure says which clock its times were read from and whether they are simulated.
"""

from pdmlab.plots.cells import cells
from pdmlab.plots.curves import lines, notifications, points
from pdmlab.plots.diagrams import lanes, regions, strips, timeline
from pdmlab.plots.layouts import flash_layout
from pdmlab.plots.matrices import matrix
from pdmlab.plots.overlays import overlay
from pdmlab.plots.sequences import sequence
from pdmlab.plots.words import COLOURS, label, plain, shown

__all__ = [
    "COLOURS",
    "cells",
    "flash_layout",
    "label",
    "lanes",
    "lines",
    "matrix",
    "notifications",
    "overlay",
    "plain",
    "points",
    "regions",
    "sequence",
    "shown",
    "strips",
    "timeline",
]
