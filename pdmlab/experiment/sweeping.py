"""Sweeps: every combination of the factors, each row on disk before it counts, and a digest at the end."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from pdmlab import frames, settings
from pdmlab.errors import ConfigError, ExperimentError
from pdmlab.experiment.measuring import Job, Measure, Measured, Outcome, Outcomes, Skipped, WithParts
from pdmlab.experiment.points import Points, Task
from pdmlab.experiment.provenance import board_row, name_of, new_name, utc_now, versions
from pdmlab.frames import Cell, Journal, Row, Schema
from pdmlab.runs import Run, find_run
from pdmlab.storage.parts import Part, part_from

SIDECAR_VERSION = 1
_NEEDED = ("measure", "factors", "experiment", "board_url", "repeats", "seed")
"""What a sidecar has to say so that its sweep can be repeated."""


def sweep(
    measure: Measure,
    factors: Mapping[str, Sequence[Cell | Part]],
    *,
    experiment: str,
    board: Measured | str | None = None,
    repeats: int = 1,
    seed: int | None = None,
    workers: int | str = 1,
    progress: bool = True,
    stop: Event | None = None,
    data: Path | str | None = None,
) -> Run:
    """Measure every combination of the factors, `repeats` times, and keep each row as soon as it is measured.

    On a virtual board every point starts from a fresh board with blank media and the seed `seed + repeat`,
    so that a point's figures do not hang on the points before it, nor on who measures them: the digest is the same
    with any number of workers.

    Args:
        measure: called as measure(board, **point); returns a mapping of measures, or several of them. Points at which
            it raises NotMeasurable are left out and listed, with why, in `Run.skipped`.
        factors: name -> values; the names become columns, so end them in their unit (buffer_B). None is for a default:
            measure may return what it stood for under the factor's name. A Part (storage.load_parts, part.with_) may
            be a value: rows have its name, the sidecar its figures.
        experiment: the folder below data/ that the run goes to.
        workers: how many processes of this machine measure; or the address of a dask scheduler,
            "tcp://10.0.0.5:8786", whose workers do.
        stop: set it, from a widget say, to end after the points in hand.

    Raises:
        ConfigError: factors, repeats, workers or an experiment's name that nothing can be measured with, or none of
            the points can be measured.
        BadMeasurement: measure returned something that is no row, or a column that is a factor or the sweep's own.
        ExperimentError: the rows cannot be written, or a worker died.
    """
    if not callable(measure):
        raise ConfigError(f"{measure!r} cannot be called", hint="hand in a function of the board and the factors")
    points = Points(factors, repeats)
    if not experiment.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"experiment {experiment!r} is no folder name", hint="use letters, digits, - and _")
    if not isinstance(workers, str) and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
        raise ConfigError(f"workers is {workers!r}", hint="a number of processes, or a dask scheduler's address")
    if isinstance(workers, str):
        from pdmlab.experiment.cluster import require_address

        require_address(workers)
    chosen = settings.load(seed=seed, data=str(data) if data is not None else None)
    with _opened(board) as bench:
        if workers != 1 and not bench.simulated:
            raise ConfigError(
                f"{bench.target} is a real board: it is measured by one at a time", hint="leave workers out"
            )
        sidecar: dict[str, Any] = {
            "version": SIDECAR_VERSION,
            "run": new_name(),
            "experiment": experiment,
            "state": "running",
            "measure": name_of(measure),
            "factors": points.factors,
            "repeats": repeats,
            "seed": chosen.number("seed"),
            "workers": workers if isinstance(workers, int) else "cluster",
            "board": bench.target,
            "board_url": bench.url,
            "board_row": board_row(bench),
            "simulated": bench.simulated,
            "settings": chosen.provenance(),
            "versions": versions(),
            "started": utc_now(),
        }
        if points.parts:
            sidecar["parts"] = {
                factor: {name: part.row for name, part in parts.items()} for factor, parts in points.parts.items()
            }
        folder = chosen.folder("data") / experiment
        with _measurer(workers) as measured, _Keeping(folder, points, sidecar) as keeping:
            job = Job(WithParts(measure, points.parts) if points.parts else measure, bench, sidecar["seed"])
            with contextlib.closing(measured(job, _until(stop, points))) as outcomes:
                for task, outcome in _with_progress(outcomes, len(points), experiment, progress):
                    keeping.take(task, outcome)
    return keeping.run


@contextlib.contextmanager
def _measurer(workers: int | str) -> Iterator[Callable[[Job, Iterator[Task]], Outcomes]]:
    """Give what measures: here, in other processes, or on a cluster, which has to be there before a run begins."""
    if workers == 1:
        yield _measured_here
    elif isinstance(workers, int):
        from pdmlab.experiment.processes import measured_by_processes

        yield partial(measured_by_processes, count=workers)
    else:
        from pdmlab.experiment.cluster import Cluster

        with contextlib.closing(Cluster(workers)) as cluster:
            yield cluster.measured


def _measured_here(job: Job, tasks: Iterator[Task]) -> Outcomes:
    for task in tasks:
        yield task, job(task)


class _Keeping:
    """The files of a run while it grows; whatever ends it, what was measured is a run too, and says so."""

    def __init__(self, folder: Path, points: Points, sidecar: dict[str, Any]) -> None:
        self._folder, self._points, self._sidecar = folder, points, sidecar
        self._name: str = sidecar["run"]
        self._same: Row = {
            "run": self._name,
            "board": sidecar["board"],
            "simulated": sidecar["simulated"],
            "clock": "device" if sidecar["simulated"] else "host",
        }
        self._journal = frames.start(folder, self._name, sidecar)
        self._skips: Journal | None = None
        self._schema: Schema | None = None
        self._done = self._rows = self._skipped = 0
        self._reason = ""

    def take(self, task: Task, outcome: Outcome) -> None:
        """Write down what came of a task."""
        if isinstance(outcome, Skipped):
            self._skip(task, outcome)
        else:
            for measures in outcome:
                row: Row = {**self._same, **task.point, "repeat": task.repeat, **measures}
                self._schema = self._schema.taking(row) if self._schema else Schema.from_rows(list(task.point), row)
                self._journal.append(row, place=task.place)
                self._rows += 1
        self._done += 1

    def _skip(self, task: Task, outcome: Skipped) -> None:
        if task.repeat:
            return  # its first time has said why
        if self._skips is None:
            self._skips = Journal(self._folder / f"{self._name}.skipped.jsonl")
        self._skips.append({**task.point, "why": outcome.why}, place=task.place)
        self._skipped += 1
        self._reason = self._reason or outcome.why

    def __enter__(self) -> _Keeping:
        return self

    def __exit__(self, *exc: object) -> None:
        self._journal.close()
        if self._skips is not None:
            self._skips.close()
        self._sidecar |= {
            "state": "finished" if self._done == len(self._points) else "interrupted",
            "ended": utc_now(),
            "rows": self._rows,
        }
        if self._skipped:
            self._sidecar["skipped"] = self._skipped
        rows = frames.journal_in_order(self._journal.path)
        frames.save(self._folder, self._name, self._schema, rows, self._sidecar)
        self._journal.path.unlink()
        if exc == (None, None, None) and self._schema is None and self._skipped:
            raise ConfigError(
                f"none of the points can be measured; the first, since {self._reason}", hint="see the run's .skipped"
            )

    @property
    def run(self) -> Run:
        """The run, as it was saved."""
        return Run(self._folder, self._name, frames.read_sidecar(self._folder / f"{self._name}.json"))


def rerun(
    run: str | Run,
    *,
    measure: Measure | None = None,
    workers: int | str = 1,
    progress: bool = True,
    data: Path | str | None = None,
) -> Run:
    """Repeat a run from its sidecar; a simulated one gives the same digest.

    Raises:
        ExperimentError: its measuring function lives in a notebook: hand it in as `measure`. Or it is no sweep's.
    """
    sidecar = run.sidecar if isinstance(run, Run) else find_run(run, data)[1]
    if "suite" in sidecar:
        suite = sidecar["suite"]
        raise ExperimentError(
            f"run {sidecar['run']} is of the suite {suite}, which runs on the board",
            hint=f"pdmlab.greentea.run(board, {suite!r}, save=True), or pdmlab test -n {suite} --save",
        )
    if lacking := [name for name in _NEEDED if name not in sidecar]:
        made_by = sidecar.get("measure") or "something else"
        raise ExperimentError(
            f"run {sidecar['run']} is of no sweep (its sidecar has no {', '.join(lacking)}), but of {made_by}",
            hint=f"call {made_by.rpartition(':')[2]} again, with what its sidecar says"
            if sidecar.get("measure") else "sweep() makes runs that can be repeated",
        )  # fmt: skip
    if measure is None:
        module, _, qualname = sidecar["measure"].partition(":")
        try:
            measure = getattr(importlib.import_module(module), qualname)
        except (ImportError, AttributeError):
            raise ExperimentError(
                f"run {sidecar['run']} was measured by {qualname} of {module}, which cannot be imported here",
                hint="define it again and call rerun(run, measure=...)",
            ) from None
    assert measure is not None
    own = sidecar.get("parts", {})
    return sweep(
        measure,
        {factor: _as_given(values, own.get(factor, {})) for factor, values in sidecar["factors"].items()},
        experiment=sidecar["experiment"],
        board=sidecar["board_url"],
        repeats=sidecar["repeats"],
        seed=sidecar["seed"],
        workers=workers,
        progress=progress,
        data=data,
    )


def _as_given(values: Sequence[Cell], own: Mapping[str, Mapping[str, Any]]) -> list[Cell | Part]:
    """Return a factor's values with the parts that it was given, by name -> row of figures."""
    return [part_from(own[value], value) if isinstance(value, str) and value in own else value for value in values]


@contextlib.contextmanager
def _opened(board: Measured | str | None) -> Iterator[Measured]:
    """Give the board; one that is named by its URL is opened for as long, unless this process has it open."""
    if board is not None and not isinstance(board, str):
        yield board
        return
    from pdmlab.boards import connect
    from pdmlab.sim.board import opened

    url = board or settings.load().text("board")
    already = opened(url) if url.startswith("sim://") else None
    if already is not None:
        yield already
        return
    with connect(board) as connected:
        yield connected


def _until(stop: Event | None, points: Points) -> Iterator[Task]:
    for task in points:
        if stop is not None and stop.is_set():
            return
        yield task


def _with_progress(
    outcomes: Iterator[tuple[Task, Outcome]], total: int, title: str, shown: bool
) -> Iterable[tuple[Task, Outcome]]:
    if not shown:
        return outcomes
    from tqdm import auto

    bar: Any = auto.tqdm  # ships no types
    progress: Iterable[tuple[Task, Outcome]] = bar(outcomes, total=total, desc=title, unit="point")
    return progress
