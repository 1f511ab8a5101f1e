"""Power cuts at every program and erase: of the stores that boards have, and of any function of a block device.

>>> from pdmlab.storage import powercuts
>>> report = powercuts.explore(powercuts.stories.littlefs("nor", size=65536))
>>> powercuts.replay(report.losses[0].code)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    if name == "stories":
        return import_module("pdmlab.storage.powercuts.stories")
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'pdmlab.storage.powercuts' has no attribute {name!r}") from None
    value = getattr(import_module(f"pdmlab.storage.powercuts.{home}"), name)
    globals()[name] = value
    return value
