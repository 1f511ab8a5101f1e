"""Experiments: measure a function over all combinations of its factors, and keep every row.

>>> run = sweep(measure, {"buffer_B": [64, 1024]}, experiment="storage", board="sim://K64F")
>>> run.frame           # tidy: one row an observation
>>> load_run(run.name)  # the same frame, tomorrow
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import itertools
import platform
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from pdmlab import frames, settings
from pdmlab.errors import ConfigError, ExperimentError
from pdmlab.frames import Cell, Journal, Row, Schema
from pdmlab.runs import Run, find_run, list_runs, load_run

__all__ = ["Measured", "Run", "list_runs", "load_run", "rerun", "sweep"]

SIDECAR_VERSION = 1

Measures = Mapping[str, Cell]


class Measured(Protocol):
    """What a sweep needs of a board."""

    @property
    def target(self) -> str:
        """Mbed's target name."""
        ...

    @property
    def url(self) -> str:
        """What connect() opens it by."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether the board is virtual."""
        ...

    def scratch(self, *, seed: int) -> Any:
        """Return a context manager of the board to measure on: on a virtual one, a fresh board with blank media."""
        ...


Measure = Callable[..., Measures | Iterable[Measures]]
"""measure(board, **point) -> the measures of one point, or several rows of them."""


def sweep(
    measure: Measure,
    factors: Mapping[str, Sequence[Cell]],
    *,
    experiment: str,
    board: Measured | str | None = None,
    repeats: int = 1,
    seed: int | None = None,
    progress: bool = True,
    stop: Event | None = None,
    data: Path | str | None = None,
) -> Run:
    """Measure every combination of the factors, `repeats` times, and keep each row before the next is measured.

    On a virtual board every point starts from a fresh board with blank media and the seed `seed + repeat`,
    so that a point's figures do not hang on the points before it.

    Args:
        measure: called as measure(board, **point); returns a mapping of measures, or several of them.
        factors: name -> values; the names become columns, so end them in their unit (buffer_B).
        experiment: the folder below data/ that the run goes to.
        stop: set it, from a widget say, to end after the current point.

    Raises:
        ConfigError: no factors, or an experiment that is no folder name.
        BadMeasurement: measure returned something that is no row.
    """
    if not factors or any(not list(values) for values in factors.values()):
        raise ConfigError("a sweep needs at least one factor with one value", hint='such as {"buffer_B": [64, 1024]}')
    if not experiment.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"experiment {experiment!r} is no folder name", hint="use letters, digits, - and _")
    chosen = settings.load(seed=seed, data=str(data) if data is not None else None)
    with _opened(board) as bench:
        return _sweep(measure, factors, bench, experiment, repeats, chosen, progress=progress, stop=stop)


def _sweep(
    measure: Measure,
    factors: Mapping[str, Sequence[Cell]],
    board: Measured,
    experiment: str,
    repeats: int,
    chosen: settings.Settings,
    *,
    progress: bool,
    stop: Event | None,
) -> Run:
    name = _new_name()
    folder = chosen.folder("data") / experiment
    sidecar: dict[str, Any] = {
        "version": SIDECAR_VERSION,
        "run": name,
        "experiment": experiment,
        "state": "running",
        "measure": f"{measure.__module__}:{measure.__qualname__}",
        "factors": {key: list(values) for key, values in factors.items()},
        "repeats": repeats,
        "seed": chosen.number("seed"),
        "board": board.target,
        "board_url": board.url,
        "board_row": _board_row(board),
        "simulated": board.simulated,
        "settings": chosen.provenance(),
        "versions": _versions(),
        "started": _utc_now(),
    }
    points = [dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values())]
    work = [(point, repeat) for point in points for repeat in range(repeats)]
    return _measure_all(measure, board, work, folder, name, sidecar, progress=progress, stop=stop)


def _measure_all(
    measure: Measure,
    board: Measured,
    work: list[tuple[dict[str, Cell], int]],
    folder: Path,
    name: str,
    sidecar: dict[str, Any],
    *,
    progress: bool,
    stop: Event | None,
) -> Run:
    journal = Journal(folder / f"{name}.jsonl")
    frames.write_sidecar(folder, name, sidecar)
    rows: list[Row] = []
    schema: Schema | None = None
    state = "interrupted"
    try:
        for point, repeat in _with_progress(work, sidecar["experiment"], progress):
            if stop is not None and stop.is_set():
                break
            with board.scratch(seed=sidecar["seed"] + repeat) as fresh:
                measured = measure(fresh, **point)
            for measures in [measured] if isinstance(measured, Mapping) else measured:
                row: Row = {
                    "run": name,
                    "board": board.target,
                    "simulated": board.simulated,
                    "clock": "device" if board.simulated else "host",
                    **point,
                    "repeat": repeat,
                    **measures,
                }
                schema = schema or Schema.from_rows(list(point), row)
                schema.check(row)
                journal.append(row)
                rows.append(row)
        else:
            state = "finished"
    finally:
        # Ctrl-C, an error or a stop: what was measured is a run too, and says so.
        journal.close()
        sidecar |= {"state": state, "ended": _utc_now(), "rows": len(rows)}
        if schema is None:
            frames.write_sidecar(folder, name, sidecar)
        else:
            frames.save(folder, name, schema, rows, sidecar)
            journal.path.unlink()
    return Run(folder, name, frames.read_sidecar(folder / f"{name}.json"))


def rerun(
    run: str | Run, *, measure: Measure | None = None, progress: bool = True, data: Path | str | None = None
) -> Run:
    """Repeat a run from its sidecar; a simulated one gives the same digest.

    Raises:
        ExperimentError: its measuring function lives in a notebook: hand it in as `measure`.
    """
    sidecar = run.sidecar if isinstance(run, Run) else find_run(run, data)[1]
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
    return sweep(
        measure,
        sidecar["factors"],
        experiment=sidecar["experiment"],
        board=sidecar["board_url"],
        repeats=sidecar["repeats"],
        seed=sidecar["seed"],
        progress=progress,
        data=data,
    )


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


def _board_row(board: Measured) -> dict[str, Any]:
    row = getattr(getattr(board, "info", None), "row", None)
    return dict(row) if isinstance(row, Mapping) else {}


def _with_progress(
    work: list[tuple[dict[str, Cell], int]], title: str, shown: bool
) -> Iterable[tuple[dict[str, Cell], int]]:
    if not shown:
        return work
    from tqdm import auto

    bar: Any = auto.tqdm  # ships no types
    progress: Iterable[tuple[dict[str, Cell], int]] = bar(work, desc=title, unit="point")
    return progress


def _new_name() -> str:
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def _utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "platform": sys.platform}
    for package in ("pdmlab", "littlefs-python", "fatfs-ng", "aiocoap", "pandas"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions
