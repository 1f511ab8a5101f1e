"""What an exploration found: operations, cuts, second cuts, and each loss with the code that replays it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

from pdmlab.errors import ExperimentError
from pdmlab.storage.powercuts.causes import cause_of
from pdmlab.storage.powercuts.cuts import KINDS, Cut, parse
from pdmlab.storage.powercuts.cutting import Plan, Row
from pdmlab.storage.powercuts.image import Image
from pdmlab.storage.powercuts.replaying import Instant, Player
from pdmlab.storage.powercuts.story import Places, Story
from pdmlab.storage.powercuts.trace import Trace

if TYPE_CHECKING:
    import pandas as pd


OUTCOMES = {"before": "as before it", "after": "as after it", "between": "made, and empty", "lost": "lost"}
FLAWED = "flawed"
_BADNESS = ("as after it", "as before it", "made, and empty", FLAWED, "lost")


@dataclass(frozen=True)
class Loss:
    """A cut, or a pair of cuts, after which something is not as it must be.

    code: replays it: `replay(code)` for a ready story, `report.replay(code)` for any.
    what: what verification found.
    cause: what of the interrupted step had reached the medium, and what not.
    """

    code: str
    step: str
    what: str
    cause: str

    def __repr__(self) -> str:
        return f"{self.code}: {self.what}. {self.cause}"


@dataclass(frozen=True)
class Report:
    """The result of explore(); `losses` is empty where the invariant holds."""

    story: Story = field(repr=False)
    trace: Trace
    plan: Plan
    rows: list[Row] = field(repr=False)
    planned: int
    """First cuts that there are; fewer rows mean that it was interrupted."""
    seconds: float
    """Host time of the cuts, with the start of processes."""
    processor_seconds: float
    """Processor time of the cuts, over all processes."""
    workers: int = 1

    @property
    def operations(self) -> int:
        """Programs and erases of the story."""
        return len(self.trace.operations)

    @property
    def cuts(self) -> int:
        """First cuts that were made and verified."""
        return len(self.rows)

    @cached_property
    def second_cuts(self) -> int:
        """Cuts made and verified in the recovery from a first one."""
        return sum(row.second for row in self.rows)

    @property
    def interrupted(self) -> bool:
        """Whether it ended before all cuts were made."""
        return self.cuts < self.planned

    @property
    def per_second(self) -> float:
        """Verified cuts, first and second, a second (host clock)."""
        return (self.cuts + self.second_cuts) / self.seconds if self.seconds else 0.0

    @property
    def per_processor_second(self) -> float:
        """Verified cuts a second of processor time: what one core makes that has nothing else to do."""
        return (self.cuts + self.second_cuts) / self.processor_seconds if self.processor_seconds else 0.0

    @cached_property
    def lost(self) -> int:
        """How many cuts lose something."""
        return sum((row.outcome == "lost") + len(row.second_lost) for row in self.rows)

    @cached_property
    def flawed(self) -> int:
        """How many first cuts lose nothing but leave something wrong: lost clusters, files hidden for a while."""
        return sum(row.outcome != "lost" and bool(row.words) for row in self.rows)

    @property
    def flaws(self) -> list[tuple[str, int]]:
        """Flaws that are alike: (in words, how many first cuts), the most frequent first."""
        alike = Counter(_without_numbers(row.words) for row in self.rows if row.outcome != "lost" and row.words)
        return alike.most_common()

    @cached_property
    def losses(self) -> list[Loss]:
        """Every loss, with its cause and the code that replays it; those of one plain cut first."""
        image = Image(self.story.geometry, self.trace.base)
        places = self.story.places(image)
        found = []
        for row in self.rows:
            if row.outcome == "lost":
                found.append(self._loss(row.cut, "", row.words, places))
            found += [self._loss(row.cut, f"+{second}", words, places) for second, words in row.second_lost]
        return sorted(found, key=_plainness)

    @property
    def holds(self) -> bool:
        """Whether all cuts and second cuts were made and nothing was lost."""
        return not self.problem

    @property
    def problem(self) -> str:
        """What keeps the report from saying that the invariant holds; empty if nothing does."""
        if self.lost:
            return f"{self.lost} of {self.cuts + self.second_cuts} cuts lose something"
        if self.interrupted:
            return f"interrupted: {self.cuts} of {self.planned} cuts were made"
        if not self.second_cuts:
            why = "none was asked for" if self.plan.second == 0 else "recovery programs and erases nothing"
            return f"no second cut was made ({why}), so recovery itself is untested"
        return ""

    def require(self) -> Report:
        """Return the report if the invariant holds, for a test of yours.

        Raises:
            ExperimentError: something was lost, the exploration was interrupted, or no second cut was made.
        """
        if self.problem:
            first = self.losses[0] if self.losses else None
            raise ExperimentError(
                f"{self.story.name}: {self.problem}" + (f"; the first: {first!r}" if first else ""),
                hint=f"report.replay({first.code!r}) shows the medium at that instant" if first else None,
            )
        return self

    def replay(self, code: str) -> Instant:
        """Return the medium at the instant of a cut of this story, and what verification says of it."""
        return self.player.at(code)

    @cached_property
    def player(self) -> Player:
        """What replays any cut of this story."""
        return Player(self.story, self.trace)

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each first cut: step, operation, how it was cut, what came of it, and its second cuts."""
        import pandas as pd

        image = Image(self.story.geometry, self.trace.base)
        places = self.story.places(image)
        frame = pd.DataFrame(
            [self._cells(row, places) for row in self.rows],
            columns=["code", "step", "operation", "number", "kind", "address_B", "size_B", "place", "cut",
                     "outcome", "what", "second_cuts", "second_losses"],
        )  # fmt: skip
        frame["simulated"], frame["clock"] = True, "none"
        frame.attrs["units"] = {"address_B": "B", "size_B": "B"}
        frame.attrs["labels"] = {"number": "operation"}
        return frame

    @property
    def counts(self) -> dict[str, str | int | float | bool]:
        """The report as a row of a table."""
        return {
            "story": self.story.name,
            "operations": self.operations,
            "cuts": self.cuts,
            "second_cuts": self.second_cuts,
            "losses": self.lost,
            "flaws": self.flawed,
            "simulated": True,
            "clock": "none",
        }

    @property
    def outcomes(self) -> pd.DataFrame:
        """A row for each operation, with the worst that came of cutting it in each way, in words."""
        import pandas as pd

        worst: dict[int, dict[str, str]] = {}
        for row in self.rows:
            word = FLAWED if row.words and row.outcome != "lost" else OUTCOMES[row.outcome]
            cells = worst.setdefault(row.cut.operation, {})
            kind = KINDS[row.cut.kind]
            cells[kind] = max(cells.get(kind, word), word, key=_BADNESS.index)
        frame = pd.DataFrame({"number": list(worst)})
        for kind in KINDS.values():
            frame[kind] = [cells.get(kind, "") for cells in worst.values()]
        frame["simulated"], frame["clock"] = True, "none"
        return frame

    def _cells(self, row: Row, places: Places) -> tuple[object, ...]:
        index = row.cut.operation - 1
        operation = self.trace.operations[index]
        step = self.trace.step_of(index)
        return (
            self._code(row.cut), str(self.story.steps[step]), operation.words, row.cut.operation, operation.kind,
            operation.address, len(operation.new), places(operation), KINDS[row.cut.kind],
            row.outcome, row.words, row.second, len(row.second_lost),
        )  # fmt: skip

    def _code(self, cut: Cut, more: str = "") -> str:
        return f"{self.story.name}#{self.trace.digest}:{cut}{more}"

    def _loss(self, cut: Cut, more: str, words: str, places: Places) -> Loss:
        step = self.trace.step_of(cut.operation - 1)
        cause = cause_of(self.trace, cut, places, self.story.geometry)
        if more:
            cause = f"The power went again in the recovery. At the first cut: {cause}"
        return Loss(self._code(cut, more), str(self.story.steps[step]), words, cause)

    @property
    def summary(self) -> str:
        """Return operations x cuts, second cuts, losses and rate in a line."""
        pairs = {"all": "all pairs", "log": "at operations 1, 2, 4 … of each recovery"}
        how = pairs.get(str(self.plan.second), f"sampled, {self.plan.second} a recovery, seed {self.plan.seed}")
        processes = "1 process" if self.workers == 1 else f"{self.workers} processes"
        flawed = f", {self.flawed:,} flaws" if self.flawed else ""
        return (
            f"{self.operations:,} operations, {self.cuts:,} cuts (of {self.planned:,}), "
            f"{self.second_cuts:,} second cuts ({how}), {self.lost:,} losses{flawed}; "
            f"{self.per_second:,.0f} verified cuts a second (host clock, {processes}), "
            f"{self.per_processor_second:,.0f} a second of processor time"
        )

    @property
    def groups(self) -> list[tuple[str, str, int]]:
        """Losses that are alike: (what, cause, how many), the most frequent first."""
        alike = Counter((_without_numbers(loss.what), _without_counts(loss.cause)) for loss in self.losses)
        return [(*key, count) for key, count in alike.most_common()]

    def __repr__(self) -> str:
        lines = [
            f"SIMULATED power cuts: {self.story.name}, {self.story.geometry.units} B read/program/erase: {self.summary}"
        ]
        lines.append(f"invariant: {self.story.invariant}")
        lines.append(f"verdict: {self.problem or 'it holds'}")
        if self.lost and self.story.weakness:
            lines.append(f"cause: {self.story.weakness}")
        lines += [f"  flaw: {words} ({count} cuts)" for words, count in self.flaws[:3]]
        lines += [f"  {loss!r}" for loss in self.losses[:5]]
        if len(self.losses) > 5:
            lines.append(f"  … and {len(self.losses) - 5} more: report.losses, report.frame")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colour = "#00694d" if self.holds else "#a84a00"
        left = " style='text-align:left'"
        rows = "".join(
            f"<tr>{''.join(f'<td{left}>{cell}</td>' for cell in _html_cells(loss))}</tr>" for loss in self.losses[:8]
        )
        more = f"<p>… and {len(self.losses) - 8} more in <code>report.losses</code></p>" if len(self.losses) > 8 else ""
        table = (
            f"<table><tr>{''.join(f'<th{left}>{each}</th>' for each in _HEADINGS)}</tr>{rows}</table>" if rows else ""
        )
        why = f"<br>Cause: {escape(self.story.weakness)}." if self.lost and self.story.weakness else ""
        return (
            f"<div><b>SIMULATED: {escape(self.story.name)}</b>, {escape(self.story.geometry.units)} B "
            f"read/program/erase<br>{escape(self.summary)}<br><i>{escape(self.story.invariant)}</i><br>"
            f"<b style='color:{colour}'>{escape(self.problem or 'The invariant holds.')}</b>{why}</div>{table}{more}"
        )


_HEADINGS = ("replay code", "in the step", "what is lost", "cause")


def _plainness(loss: Loss) -> tuple[int, int]:
    """Order losses: of one cut before pairs, between operations before torn ones, garbage last."""
    cuts = parse(loss.code.rpartition(":")[2])
    return len(cuts), "bapxr".index(cuts[0].kind)


def _html_cells(loss: Loss) -> tuple[str, ...]:
    return f"<code>{escape(loss.code)}</code>", escape(loss.step), escape(loss.what), escape(loss.cause)


def _without_numbers(words: str) -> str:
    return re.sub(r"\d+", "n", words)


def _without_counts(cause: str) -> str:
    return re.sub(r" x \d+| \([^)]*\)|0x[0-9a-f]+", "", cause).replace(" at ,", ",")
