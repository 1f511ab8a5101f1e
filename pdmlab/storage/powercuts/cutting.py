"""The cutting itself: play the trace forward, and at each cut recover, verify, cut again, and undo all of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from pdmlab.prng import SplitMix64
from pdmlab.storage.powercuts.cuts import KINDS, Cut, apply, undo
from pdmlab.storage.powercuts.image import Image, Operation
from pdmlab.storage.powercuts.story import Finding, Outcome, Story
from pdmlab.storage.powercuts.trace import Trace, held_back, second_cuts

_ORDER = {kind: place for place, kind in enumerate(KINDS)}


class Plan(NamedTuple):
    """How much is cut: torn variants of each operation, second cuts of each recovery, and what draws them."""

    torn: int
    second: str | int
    seed: int


class _Recovery(NamedTuple):
    operations: list[Operation]
    syncs: list[int]
    returned: list[int]


class Row(NamedTuple):
    """One first cut: what came of it, and of the second cuts in its recovery."""

    cut: Cut
    outcome: Outcome
    words: str
    second: int
    second_lost: tuple[tuple[Cut, str], ...]
    """Second cuts that lost something, with what."""


def cut_all(
    story: Story, trace: Trace, cuts: Sequence[Cut], plan: Plan, stopped: Callable[[], bool] = lambda: False
) -> Iterator[Row]:
    """Make cuts, in ascending order, and give a row for each; the medium is one image that is always put back."""
    image = Image(story.geometry, trace.base)
    operations, cache = trace.operations, story.geometry.cache
    position = 0
    for cut in cuts:
        if stopped():
            return
        index = cut.operation - 1
        if index > position:
            image.redo(operations[position:index])
            position = index
        taken_back = apply(image, operations, trace.held_back(index, cache), cut)
        done = trace.step_of(index)
        finding = story.recover(image, done, "before")
        recovery = _Recovery(image.journal, image.syncs, image.returned)
        image.rollback()
        found: list[tuple[Cut, Finding]] = []
        if finding.outcome != "lost" and plan.second:
            # Drawn from the cut itself, so that no other cut changes it.
            seed = plan.seed << 56 ^ cut.operation << 32 ^ _ORDER[cut.kind] << 28 ^ cut.number
            chosen = second_cuts(
                recovery.operations, story, how_many=plan.second, torn=min(plan.torn, 1), random=SplitMix64(seed)
            )
            found = list(_cut_again(story, image, recovery, chosen, done, finding.outcome))
        undo(image, taken_back)
        lost = tuple((second, each.words) for second, each in found if each.outcome == "lost")
        yield Row(cut, *finding, len(found), lost)
    image.kept.clear()


def _cut_again(
    story: Story, image: Image, recovery: _Recovery, cuts: list[Cut], done: int, seen: Outcome
) -> Iterator[tuple[Cut, Finding]]:
    operations = recovery.operations
    position = 0
    for cut in cuts:
        index = cut.operation - 1
        if index > position:
            image.redo(operations[position:index])
            position = index
        taken_back = apply(image, operations, held_back(recovery.syncs, index, story.geometry.cache), cut)
        finding = story.recover(image, done, seen, bisect_right(recovery.returned, index))
        image.rollback()
        undo(image, taken_back)
        yield cut, finding
    for _, address, old, _ in reversed(operations[:position]):
        image.put(address, old)
