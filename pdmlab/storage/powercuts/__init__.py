"""Power cuts at every program and erase: of the stores that boards have, and of any function of a block device.

>>> from pdmlab.storage import powercuts
>>> report = powercuts.explore(powercuts.stories.littlefs("nor", size=65536))
>>> powercuts.replay(report.losses[0].code)
"""

from __future__ import annotations

from pdmlab.storage.powercuts import stories
from pdmlab.storage.powercuts.exploring import as_story, explore
from pdmlab.storage.powercuts.functions import FunctionStory
from pdmlab.storage.powercuts.geometry import GEOMETRIES, Geometry, geometry
from pdmlab.storage.powercuts.image import Image, Operation
from pdmlab.storage.powercuts.replaying import STATES, Instant, Player
from pdmlab.storage.powercuts.report import Loss, Report
from pdmlab.storage.powercuts.steps import Step
from pdmlab.storage.powercuts.story import Finding, StoreStory, Story

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


def replay(code: str, story: Story | None = None) -> Instant:
    """Return the medium at the instant of a cut, and what verification says; a ready story is found by its name.

    Raises:
        ConfigError: it is no code, or of a story that must be handed in.

    >>> replay("fat(sd)#5f0c1e:12p100")
    """
    head, _, _ = code.strip().rpartition(":")
    return Player(story if story is not None else stories.ready(head.rpartition("#")[0])).at(code)
