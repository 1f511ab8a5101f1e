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
from pdmlab.errors import BadMeasurement, ConfigError, ExperimentError
from pdmlab.frames import ID_COLUMNS, Cell, Row, Schema
from pdmlab.runs import Run, find_run, list_runs, load_run

__all__ = ["Measured", "Run", "list_runs", "load_run", "rerun", "sweep"]

SIDECAR_VERSION = 1
RESERVED = (*(column.name for column in ID_COLUMNS), "repeat")
"""Columns that a sweep fills in itself."""

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
        ConfigError: factors, repeats or an experiment's name that nothing can be measured with.
        BadMeasurement: measure returned something that is no row, or a column that is a factor or the sweep's own.
        ExperimentError: the rows cannot be written.
    """
    if not callable(measure):
        raise ConfigError(f"{measure!r} cannot be called", hint="hand in a function of the board and the factors")
    if not isinstance(repeats, int) or repeats < 1:
        raise ConfigError(f"repeats is {repeats!r}", hint="every point is measured once or more")
    chosen_factors = _checked(factors)
    if not experiment.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"experiment {experiment!r} is no folder name", hint="use letters, digits, - and _")
    chosen = settings.load(seed=seed, data=str(data) if data is not None else None)
    with _opened(board) as bench:
        return _sweep(measure, chosen_factors, bench, experiment, repeats, chosen, progress=progress, stop=stop)


def _sweep(
    measure: Measure,
    factors: dict[str, list[Cell]],
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
        "measure": _name_of(measure),
        "factors": factors,
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
    work = [(point, repeat) for point in _points(factors) for repeat in range(repeats)]
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
    journal = frames.start(folder, name, sidecar)
    rows: list[Row] = []
    schema: Schema | None = None
    state = "interrupted"
    try:
        for point, repeat in _with_progress(work, sidecar["experiment"], progress):
            if stop is not None and stop.is_set():
                break
            with board.scratch(seed=sidecar["seed"] + repeat) as fresh:
                measured = _rows(measure(fresh, **point), point)
            for measures in measured:
                row: Row = {
                    "run": name,
                    "board": board.target,
                    "simulated": board.simulated,
                    "clock": "device" if board.simulated else "host",
                    **point,
                    "repeat": repeat,
                    **measures,
                }
                schema = schema.taking(row) if schema else Schema.from_rows(list(point), row)
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


def _checked(factors: Mapping[str, Iterable[Cell]]) -> dict[str, list[Cell]]:
    """Return the factors as lists of plain values, if there is something to measure."""
    chosen: dict[str, list[Cell]] = {}
    for name, values in factors.items():
        if name in RESERVED:
            raise ConfigError(f"a factor cannot be called {name!r}", hint=f"a sweep fills in {', '.join(RESERVED)}")
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise ConfigError(f"the factor {name} is {values!r}", hint=f'give a list of values: {{"{name}": [...]}}')
        chosen[name] = [frames.plain(value) for value in values]
    if not chosen or not all(chosen.values()):
        raise ConfigError("a sweep needs at least one factor with one value", hint='such as {"buffer_B": [64, 1024]}')
    try:
        Schema.from_rows(list(chosen), *_points(chosen))
    except BadMeasurement as error:
        raise ConfigError(f"the factors do not go together: {error.message}") from None
    return chosen


def _points(factors: Mapping[str, Sequence[Cell]]) -> list[dict[str, Cell]]:
    return [dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values())]


def _rows(measured: Any, point: Mapping[str, Cell]) -> list[dict[str, Cell]]:  # Any: what a participant returned
    """Return what was measured at a point as rows of plain cells, if it is that."""
    rows = [measured] if isinstance(measured, Mapping) or not isinstance(measured, Iterable) else list(measured)
    for row in rows or [None]:
        if not isinstance(row, Mapping) or not row:
            raise BadMeasurement(
                f"the measuring function returned {row or measured!r} for {dict(point)}",
                hint='it returns its measures by name, such as {"duration_ms": 1.5}, or a list of such rows',
            )
        taken = [name for name in row if name in RESERVED or name in point]
        if taken:
            raise BadMeasurement(
                f"the measuring function returned {', '.join(taken)}: a factor, or a column of the sweep's own",
                hint="give the measure another name",
            )
    return [{str(name): frames.plain(value) for name, value in row.items()} for row in rows]


def _name_of(measure: Measure) -> str:
    """Return module:name, by which rerun finds a function; objects that are called have no such name."""
    kind = type(measure)
    name = getattr(measure, "__qualname__", f"{kind.__qualname__}(...)")
    return f"{getattr(measure, '__module__', kind.__module__)}:{name}"


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
