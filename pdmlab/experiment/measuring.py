"""One measurement: a fresh board, the measuring function, and rows that are rows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from pdmlab import frames
from pdmlab.errors import BadMeasurement, NotMeasurable
from pdmlab.experiment.points import RESERVED, Task
from pdmlab.frames import Cell
from pdmlab.storage.parts import Part

Measures = Mapping[str, Cell]


class Bench(Protocol):
    """What points are measured on."""

    def scratch(self, *, seed: int) -> Any:
        """Return a context manager of the board to measure on: on a virtual one, a fresh board with blank media."""
        ...


class Measured(Bench, Protocol):
    """What a sweep needs of a board.

    A virtual one may also have a `blueprint`: a Bench that makes such boards in other processes.
    """

    @property
    def target(self) -> str:
        """Mbed's target name."""
        ...

    @property
    def url(self) -> str:
        """What connect() opens it by."""
        ...

    @property
    def simulated(self) -> bool | None:
        """Whether the board is virtual; None if nobody knows."""
        ...


Measure = Callable[..., Measures | Iterable[Measures]]
"""measure(board, **point) -> the measures of one point, or several rows of them."""


@dataclass(frozen=True)
class WithParts:
    """A measuring function that is given the parts themselves where a point names them."""

    measure: Measure
    parts: Mapping[str, Mapping[str, Part]]
    """Factor -> name -> Part."""

    def __call__(self, board: Any, **point: Any) -> Measures | Iterable[Measures]:  # Any: as Measure has it
        """Measure a point."""
        own = {factor: parts.get(point[factor], point[factor]) for factor, parts in self.parts.items()}
        return self.measure(board, **point | own)


@dataclass(frozen=True)
class Skipped:
    """A point that could not be measured, and why."""

    why: str


Outcome: TypeAlias = list[dict[str, Cell]] | Skipped
Outcomes: TypeAlias = Generator[tuple[Task, Outcome], None, None]
"""What came of each task, as it comes; closing it ends what measures."""


@dataclass(frozen=True)
class Job:
    """What is measured at every point, on what; it can be sent to other processes."""

    measure: Measure
    bench: Bench
    seed: int

    def __call__(self, task: Task) -> Outcome:
        """Measure one point, on a board with the seed of its repeat."""
        try:
            with self.bench.scratch(seed=self.seed + task.repeat) as fresh:
                return _rows(self.measure(fresh, **task.point), task.point)
        except NotMeasurable as error:
            return Skipped(error.message)


def _rows(measured: Any, point: Mapping[str, Cell]) -> list[dict[str, Cell]]:  # Any: what a participant returned
    """Return what was measured at a point as rows of plain cells, if it is that."""
    rows = [measured] if isinstance(measured, Mapping) or not isinstance(measured, Iterable) else list(measured)
    for row in rows or [None]:
        if not isinstance(row, Mapping) or not row:
            raise BadMeasurement(
                f"the measuring function returned {row or measured!r} for {dict(point)}",
                hint='it returns its measures by name, such as {"duration_ms": 1.5}, or a list of such rows',
            )
        taken = [name for name in row if name in RESERVED or (name in point and point[name] not in (None, row[name]))]
        if taken:
            raise BadMeasurement(
                f"the measuring function returned {', '.join(taken)}: a factor, or a column of the sweep's own",
                hint="give the measure another name",
            )
    return [{str(name): frames.plain(value) for name, value in row.items()} for row in rows]
