"""The recorded operations of a story: what every cut is made from, without running the story again."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from pdmlab.errors import ConfigError
from pdmlab.prng import SplitMix64
from pdmlab.storage.powercuts.cuts import Cut, torn_variants
from pdmlab.storage.powercuts.image import Image, Operation
from pdmlab.storage.powercuts.story import Story


@dataclass(frozen=True)
class Trace:
    """All programs and erases of a story, in order, on the medium that it began with.

    ends: how many operations had been made when each step returned.
    syncs: how many operations each sync of the device covered.
    """

    base: bytes
    operations: Sequence[Operation]
    ends: Sequence[int]
    syncs: Sequence[int]

    @property
    def digest(self) -> str:
        """Return a short name of the operations: another trace has another."""
        sha = hashlib.sha256()
        for kind, address, _, new in self.operations:
            sha.update(f"{kind}{address} ".encode())
            sha.update(new)
        return sha.hexdigest()[:6]

    def step_of(self, index: int) -> int:
        """Return the step (from 0) that made an operation (from 0)."""
        return min(bisect_right(self.ends, index), len(self.ends) - 1)

    def held_back(self, index: int, cache: int) -> int:
        """Return the first operation that a cache of so many programs may hold when the one at index begins."""
        return held_back(self.syncs, index, cache)

    def __repr__(self) -> str:
        return f"<trace {self.digest}: {len(self.operations)} operations in {len(self.ends)} steps>"


def held_back(syncs: Sequence[int], index: int, cache: int) -> int:
    """Return the first operation that a cache of so many programs may still hold, the one at index in it."""
    before = bisect_right(syncs, index)
    return min(max(syncs[before - 1] if before else 0, index + 1 - cache), index)


def record(story: Story) -> Trace:
    """Play a story once, without a cut, and note its operations.

    Raises:
        ConfigError: it programs and erases nothing, so that there is nothing to cut.
    """
    image = Image(story.geometry)
    story.prepare(image)
    image.mark()
    base = bytes(image.data)
    ends = []
    for _ in story.play(image):
        ends.append(len(image.journal))
    if not image.journal:
        raise ConfigError(
            f"the story {story.name} neither programs nor erases: there is nothing to cut",
            hint="does it reach the block device that it was given?",
        )
    ends[-1] = len(image.journal)
    image.kept.clear()
    return Trace(base, image.journal, ends, image.syncs)


def first_cuts(trace: Trace, story: Story, *, torn: int, reorder: int, seed: int) -> list[Cut]:
    """List the cuts of a trace: before every operation, in it, out of order, and after each step's last."""
    random = SplitMix64(seed).split("first cuts")
    last = set(trace.ends)
    cuts = []
    for index, operation in enumerate(trace.operations):
        number = index + 1
        cuts.append(Cut(number, "b"))
        cuts += [Cut(number, *each) for each in torn_variants(operation, story.geometry, torn, random)]
        if reorder and trace.held_back(index, story.geometry.cache) < index:
            cuts += [Cut(number, "r", random.below(1 << 24)) for _ in range(reorder)]
        if number in last:
            cuts.append(Cut(number, "a"))
    return cuts


def second_cuts(
    operations: Sequence[Operation], story: Story, *, how_many: str | int, torn: int, random: SplitMix64
) -> list[Cut]:
    """List the cuts of a recovery's operations: all of them, at 1, 2, 4, 8 … ("log"), or so many drawn from them.

    A cut before its first operation is the first cut over again, and is left out.
    """
    total = len(operations)
    if not total or how_many == 0:
        return []
    if isinstance(how_many, int):
        return sorted({_any_cut(operations, story, torn, random) for _ in range(how_many)})
    numbers = range(1, total + 1) if how_many == "all" else [1 << power for power in range(total.bit_length())]
    cuts = []
    for number in numbers:
        if number > 1:
            cuts.append(Cut(number, "b"))
        variants = torn_variants(operations[number - 1], story.geometry, torn, random)
        cuts += [Cut(number, *each) for each in variants]
    if how_many == "all":
        cuts.append(Cut(total, "a"))
    return cuts


def _any_cut(operations: Sequence[Operation], story: Story, torn: int, random: SplitMix64) -> Cut:
    number = 1 + random.below(len(operations))
    variants = torn_variants(operations[number - 1], story.geometry, min(torn, 1), random)
    plain = ("b", 0) if number > 1 else ("a", 0)
    kind, detail = [plain, *variants][random.below(1 + len(variants))]
    return Cut(number, kind, detail)
