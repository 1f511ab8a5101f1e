"""A cut, replayed: what lies on the medium at that instant, and what verification says."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

from pdmlab.errors import ConfigError
from pdmlab.storage.powercuts.causes import cause_of
from pdmlab.storage.powercuts.cuts import TORN as TORN_KINDS
from pdmlab.storage.powercuts.cuts import Cut, apply, as_code, parse, require_possible
from pdmlab.storage.powercuts.image import Image, Operation
from pdmlab.storage.powercuts.story import Finding, Outcome, Story
from pdmlab.storage.powercuts.trace import Trace, held_back, record

if TYPE_CHECKING:
    import pandas as pd

MOST_CELLS = 1024
ERASED, OLD, LIVE = "erased", "not needed", "live"
WRITTEN, OVERWRITTEN = "just written", "changed in place"
TORN, TORN_LIVE = "torn", "torn, and live"
STATES = (ERASED, OLD, LIVE, WRITTEN, OVERWRITTEN, TORN, TORN_LIVE)
"""What a stretch of the medium may hold. Live: a reader needed it before the interrupted step began."""
_WHEN = {"b": "before", "p": "in", "x": "in", "r": "with programs held back, at", "a": "after"}


@dataclass(frozen=True)
class Instant:
    """The medium when the power had gone.

    code: replays it.
    step, operation: what was under way.
    finding: what verification says after recovery.
    image: the bytes.
    """

    code: str
    step: str
    operation: str
    place: str
    cut: str
    finding: Finding
    cause: str
    image: bytes = field(repr=False)
    cells: list[str] = field(repr=False)
    """What each stretch of `cell_B` holds: one of STATES."""
    cell_B: int
    unit_B: int
    """The medium's erase unit, the largest where they differ."""
    recovery: int
    """Programs and erases that recovery made, the operation tried again among them."""

    @property
    def verdict(self) -> str:
        """Return in words what verification says."""
        outcome, words = self.finding
        if outcome == "lost":
            return f"LOST: {words}"
        flaw = f"; but {words}" if words else ""
        there = {"before": "is not there", "between": "is there, empty", "after": "is there"}[outcome]
        return f"nothing is lost: '{self.step}' {there}, and succeeds when tried again{flaw}"

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each cell: offset_B and what it holds."""
        import pandas as pd

        offsets = range(0, len(self.image), self.cell_B)
        frame = pd.DataFrame({"offset_B": list(offsets), "holds": self.cells})
        frame["simulated"], frame["clock"] = True, "none"
        return frame

    def __repr__(self) -> str:
        where = f" ({self.place})" if self.place else ""
        how = f"the power goes {self.cut} {self.operation}{where}, in '{self.step}'"
        return f"SIMULATED {self.code}: {how}: {self.verdict}"

    def _repr_html_(self) -> str:
        colour = "#a84a00" if self.finding.outcome == "lost" else "#00694d"
        where = f", {self.place}" if self.place else ""
        return (
            f"<div><b>SIMULATED</b> <code>{escape(self.code)}</code>: the power goes {escape(self.cut)} "
            f"{escape(self.operation)}{escape(where)}, in <code>{escape(self.step)}</code><br>"
            f"<b style='color:{colour}'>{escape(self.verdict)}</b><br>{escape(self.cause)}</div>"
        )


class Player:
    """Replays any cut of one story, from its recorded trace."""

    def __init__(self, story: Story, trace: Trace | None = None) -> None:
        self.story = story
        self.trace = trace if trace is not None else record(story)

    @property
    def operations(self) -> int:
        """How many operations there are to cut at."""
        return len(self.trace.operations)

    @cached_property
    def prefix(self) -> str:
        """What a code of this story begins with."""
        return f"{self.story.name}#{self.trace.digest}:"

    def at(self, code: str) -> Instant:
        """Return the medium at the instant of a cut: a whole code, or only its cuts, such as 212p40+3b.

        Raises:
            ConfigError: it is no code, of another story, or its trace has changed.
        """
        cuts = parse(self._own(code))
        image, story, trace = Image(self.story.geometry, self.trace.base), self.story, self.trace
        if cuts[0].operation > len(trace.operations):
            raise ConfigError(
                f"there is no operation {cuts[0].operation}", hint=f"{story.name} has {len(trace.operations)}"
            )
        index = cuts[0].operation - 1
        require_possible(cuts[0], trace.operations[index], story.geometry)
        done = trace.step_of(index)
        cache = story.geometry.cache
        begin = trace.ends[done - 1] if done else 0
        image.redo(trace.operations[:begin])
        before = bytes(image.data)
        live = _looked_at(story, image)
        image.redo(trace.operations[begin:index])
        apply(image, trace.operations, trace.held_back(index, cache), cuts[0])
        cut, operation = cuts[0], trace.operations[index]
        seen: Outcome = "before"
        returned: int | None = None
        operations, first = trace.operations, begin
        if len(cuts) == 2:
            finding = story.recover(image, done, "before")
            recovery, syncs, finished = image.journal, image.syncs, image.returned
            image.rollback()
            cut, seen = cuts[1], finding.outcome
            if cut.operation > len(recovery):
                raise ConfigError(
                    f"the recovery from {cuts[0]} has no operation {cut.operation}", hint=f"it has {len(recovery)}"
                )
            require_possible(cut, recovery[cut.operation - 1], story.geometry)
            image.redo(recovery[: cut.operation - 1])
            held = held_back(syncs, cut.operation - 1, cache)
            apply(image, recovery, held, cut)
            returned = bisect_right(finished, cut.operation - 1)
            operations, operation, first = recovery, recovery[cut.operation - 1], 0
        state = bytes(image.data)
        cells, size = _cells(image, before, live, operations[first : cut.operation - 1], operation, cut)
        finding = story.recover(image, done, seen, returned)
        recovered = len(image.journal)
        places = story.places(Image(story.geometry, trace.base))
        image.kept.clear()
        return Instant(
            self.prefix + "+".join(map(str, cuts)),
            str(story.steps[done]),
            operation.words,
            places(operation),
            _WHEN[cut.kind],
            finding,
            cause_of(trace, cuts[0], places, story.geometry),
            state,
            cells,
            size,
            story.geometry.erase,
            recovered,
        )

    def _own(self, code: str) -> str:
        head, mark, cuts = as_code(code).rpartition(":")
        if mark and f"{head}:" != self.prefix:
            name, _, digest = head.rpartition("#")
            if name == self.story.name:
                raise ConfigError(
                    f"the operations of {name} are not those that {code!r} was printed for",
                    hint=f"its trace was {digest}, and is {self.trace.digest} now: another version, or other steps",
                )
            raise ConfigError(
                f"{code!r} is of another story than {self.story.name}",
                hint="replay it with the story whose report shows it",
            )
        return cuts

    def __repr__(self) -> str:
        return f"<replays {self.prefix}… over {self.operations} operations>"


def _looked_at(story: Story, image: Image) -> list[tuple[int, int]]:
    """Return the stretches (address, size) that reading everything needs; leaves the medium as it was."""
    data = bytes(image.data)
    story.look(image)
    looked, image.looked = image.looked, None
    image.mark()
    image.put(0, data)
    return looked or []


def _cells(
    image: Image,
    before: bytes,
    live: Iterable[tuple[int, int]],
    written: Iterable[Operation],
    operation: Operation,
    cut: Cut,
) -> tuple[list[str], int]:
    """Say what each stretch of the medium holds, and how large a stretch is (B); what was read may be blank."""
    size, unit = image.geometry.size, image.geometry.program
    cell = max(unit, 1 << max((size // MOST_CELLS - 1).bit_length(), 0))
    cell = min(cell + -cell % unit, size)
    blank = bytes([0xFF if image.geometry.erase_value < 0 else image.geometry.erase_value])
    states = [OLD if image.data[at : at + cell].strip(blank) else ERASED for at in range(0, size, cell)]
    for address, length in live:
        for at in _touched(address, length, cell):
            if states[at] == OLD and before[at * cell : (at + 1) * cell].strip(blank):
                states[at] = LIVE
    for each in written:
        _mark(states, each, cell, {OLD: WRITTEN, LIVE: OVERWRITTEN})
    if cut.kind in TORN_KINDS:
        whole = {ERASED: TORN, OLD: TORN, WRITTEN: TORN, LIVE: TORN_LIVE, OVERWRITTEN: TORN_LIVE}
        _mark(states, operation, cell, whole)
    elif cut.kind == "a":
        _mark(states, operation, cell, {OLD: WRITTEN, LIVE: OVERWRITTEN})
    return states, cell


def _mark(states: list[str], operation: Operation, cell: int, becomes: dict[str, str]) -> None:
    for at in _touched(operation.address, len(operation.new), cell):
        states[at] = becomes.get(states[at], states[at])


def _touched(address: int, length: int, cell: int) -> range:
    return range(address // cell, -(-(address + length) // cell))
