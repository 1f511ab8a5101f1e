"""explore(): cut the power at every program and erase of a story, verify, and cut again in each recovery."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from pdmlab.errors import ConfigError, ExperimentError
from pdmlab.processes import ProcessEnded, called, packed
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.parts import Part
from pdmlab.storage.powercuts.cuts import Cut
from pdmlab.storage.powercuts.cutting import Plan, Row, cut_all
from pdmlab.storage.powercuts.functions import FunctionStory
from pdmlab.storage.powercuts.geometries import Geometry, geometry
from pdmlab.storage.powercuts.report import Report
from pdmlab.storage.powercuts.story import Story
from pdmlab.storage.powercuts.trace import Trace, first_cuts, record

SMALL = 100
"""Operations up to which every pair of cuts is made, if nothing else is asked for."""
_CHUNK = 128
Chunk = tuple[list[Row], float]
"""Rows, and the processor time that they took (s)."""


def explore(
    story: Story | Callable[[Any], Any],  # Any: a function's device is whatever block device it was written for
    check: Callable[..., object] | None = None,
    *,
    geometry: str | Geometry | Part | BlockDevice | None = None,
    size: int | None = None,
    second: str | int = "auto",
    torn: bool | int = True,
    reorder: bool | int = True,
    prepare: Callable[[Any], object] | None = None,
    again: bool = True,
    seed: int = 1,
    workers: int = 1,
    progress: bool = True,
    stop: threading.Event | None = None,
) -> Report:
    """Cut the power at every program and erase of a story, or of a function of yours, and verify each time.

    Ctrl-C, or setting `stop`, ends it after the current cut and keeps what was found.

    Args:
        story: a ready one (`stories.littlefs()`), or a function of a block device that does everything.
        check: with a function: verifies what it left (see FunctionStory); prepare and again belong to it too.
        geometry, size: with a function: the medium; a name of GEOMETRIES, a part, a device or a Geometry, "nor" if
            None; and B.
        second: cuts in each recovery: "all", "log" (at operations 1, 2, 4 …), a number drawn by the seed, or 0;
            "auto" is all for traces of up to 100 operations and one, drawn, for longer ones.
        torn: whether operations are also torn, or how many prefixes, and units in between, of each.
        reorder: whether, or how often at each operation, unsynced programs reach the medium in another order;
            only on a geometry with a cache.
        workers: processes that share the cuts, each with an interpreter of its own; functions are sent along.

    Raises:
        ConfigError: nothing is programmed or erased, the story does not do the same each time, or the arguments make
            no sense together.

    >>> explore(stories.littlefs("nor", size=65536), workers=2)
    >>> explore(write_settings, check_settings, geometry="K64F")
    """
    told = as_story(story, check, geometry=geometry, size=size, prepare=prepare, again=again)
    _require(second, torn=torn, reorder=reorder, workers=workers, seed=seed)
    trace = record(told)
    _require_the_same(told, trace)
    cuts = first_cuts(trace, told, torn=int(torn), reorder=int(reorder), seed=seed)
    if second == "auto":
        second = "all" if len(trace.operations) <= SMALL else 1
    plan = Plan(int(torn), second, seed)
    start = time.perf_counter()
    rows: list[Row] = []
    busy = 0.0
    with _interruptible(stop) as stopped, _bar(len(cuts), told.name, progress) as advance:
        for some, processor in _rows(told, trace, cuts, plan, workers, stopped):
            rows += some
            busy += processor
            advance(len(some))
    return Report(told, trace, plan, sorted(rows), len(cuts), time.perf_counter() - start, busy, workers)


def as_story(
    story: Story | Callable[[Any], Any],
    check: Callable[..., object] | None = None,
    *,
    geometry: str | Geometry | Part | BlockDevice | None = None,
    size: int | None = None,
    prepare: Callable[[Any], object] | None = None,
    again: bool = True,
) -> Story:
    """Return a story as it is, or the story of a function and its check.

    Raises:
        ConfigError: a check, or a medium, for a story that has its own; or no check for a function.
    """
    if isinstance(story, Story):
        others = {"check": check, "geometry": geometry, "size": size, "prepare": prepare, "again": None if again else 0}
        given = [name for name, value in others.items() if value is not None]
        if given:
            raise ConfigError(
                f"{', '.join(given)}: the story {story.name} has its own",
                hint='these belong to a function; a story is made for its medium: stories.littlefs("nor", size=65536)',
            )
        return story
    if check is None:
        raise ConfigError(
            "a function needs a check of what it leaves", hint="explore(function, check), where check(device) raises"
        )
    return FunctionStory(
        story, check, _geometry("nor" if geometry is None else geometry, size=size), prepare=prepare, again=again
    )


_geometry = geometry


def _require(second: object, **numbers: object) -> None:
    if isinstance(second, str) and second not in ("auto", "all", "log"):
        raise ConfigError(f"second={second!r} says nothing", hint='"auto", "all", "log" or a number')
    if not isinstance(second, str):
        numbers["second"] = second
    least = {"workers": 1, "torn": 0, "reorder": 0, "second": 0}
    for name, value in numbers.items():
        truth = isinstance(value, bool) and name not in ("torn", "reorder")
        if not isinstance(value, int) or truth or value < least.get(name, value):
            wanted = f", {least[name]} or more" if name in least else ""
            raise ConfigError(f"{name} is {value!r}", hint=f"a whole number{wanted}")


def _require_the_same(story: Story, trace: Trace) -> None:
    """Play a story once more: one that does something else each time is not cut where its code says."""
    again = record(story)
    if (again.digest, again.base, again.ends, again.syncs) == (trace.digest, trace.base, trace.ends, trace.syncs):
        return
    pairs = enumerate(zip(trace.operations, again.operations, strict=False), 1)
    first = next((number for number, (one, other) in pairs if one != other), None)
    where = f"operation {first} is another" if first else "its steps end elsewhere"
    if again.base != trace.base:
        where = "what is there beforehand is another"
    raise ConfigError(
        f"{story.name} does not do the same each time: {where} when it is played again",
        hint="no clock, no random numbers but seeded ones, and nothing kept from one run to the next",
    )


def _rows(
    story: Story, trace: Trace, cuts: Sequence[Cut], plan: Plan, workers: int, stopped: Callable[[], bool]
) -> Iterator[Chunk]:
    chunks = [cuts[start : start + _CHUNK] for start in range(0, len(cuts), _CHUNK)]
    if workers == 1:
        before = time.process_time()
        for row in cut_all(story, trace, cuts, plan, stopped):
            now = time.process_time()
            yield [row], now - before
            before = now
        return
    wanted = takewhile(lambda chunk: not stopped(), chunks)
    shared = called(packed(_Share(story, trace, plan), f"the story {story.name}"), wanted, workers)
    with contextlib.closing(shared) as answers:
        try:
            for _, rows in answers:
                yield rows
        except ProcessEnded as error:
            raise ExperimentError(
                f"a process that cut the power of {story.name} ended with exit code {error.code}",
                hint="was it killed, for want of memory say?",
            ) from None


@dataclass(frozen=True)
class _Share:
    """What all chunks share; called with one in a process of its own."""

    story: Story
    trace: Trace
    plan: Plan

    def __call__(self, cuts: Sequence[Cut]) -> Chunk:
        before = time.process_time()
        rows = list(cut_all(self.story, self.trace, cuts, self.plan))
        return rows, time.process_time() - before


@contextlib.contextmanager
def _interruptible(stop: threading.Event | None) -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C set a flag: raised in the middle, it would be lost in a callback of C and counted as success."""
    asked = threading.Event()
    stopped = lambda: asked.is_set() or (stop is not None and stop.is_set())
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _bar(total: int, title: str, shown: bool) -> Iterator[Callable[[int], object]]:
    if not shown:
        yield lambda n: None
        return
    from tqdm import auto

    make: Any = auto.tqdm  # ships no types
    with make(total=total, desc=title, unit="cut") as bar:
        yield bar.update
