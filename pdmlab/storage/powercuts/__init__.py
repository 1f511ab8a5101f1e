"""Power cuts at every program and erase: of the stores that boards have, and of any function of a block device.

>>> from pdmlab.storage import powercuts
>>> report = powercuts.explore(powercuts.stories.littlefs("nor", size=65536))
>>> powercuts.replay(report.losses[0].code)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.lazy import lazily

if TYPE_CHECKING:
    from pdmlab.storage.powercuts import stories
    from pdmlab.storage.powercuts.exploring import as_story, explore
    from pdmlab.storage.powercuts.functions import FunctionStory
    from pdmlab.storage.powercuts.geometries import GEOMETRIES, Geometry, geometry
    from pdmlab.storage.powercuts.image import Image, Operation
    from pdmlab.storage.powercuts.replaying import STATES, Instant, Player
    from pdmlab.storage.powercuts.report import Loss, Report
    from pdmlab.storage.powercuts.steps import Step
    from pdmlab.storage.powercuts.stories import replay
    from pdmlab.storage.powercuts.story import Finding, StoreStory, Story

# Loaded where they are first used: a process that shares the cuts begins with no more than its story needs.
_HOMES = {
    "stories": "",
    "GEOMETRIES": "geometries",
    "STATES": "replaying",
    "Finding": "story",
    "FunctionStory": "functions",
    "Geometry": "geometries",
    "Image": "image",
    "Instant": "replaying",
    "Loss": "report",
    "Operation": "image",
    "Player": "replaying",
    "Report": "report",
    "Step": "steps",
    "StoreStory": "story",
    "Story": "story",
    "as_story": "exploring",
    "explore": "exploring",
    "geometry": "geometries",
    "replay": "stories",
}

__all__ = [
    "GEOMETRIES",
    "STATES",
    "Finding",
    "FunctionStory",
    "Geometry",
    "Image",
    "Instant",
    "Loss",
    "Operation",
    "Player",
    "Report",
    "Step",
    "StoreStory",
    "Story",
    "as_story",
    "explore",
    "geometry",
    "replay",
    "stories",
]

__getattr__ = lazily(__name__, _HOMES)
