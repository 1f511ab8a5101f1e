"""Measurements as they are kept: a schema, a journal that grows row by row, and a tidy frame with its sidecar.

A run is three files in `data/<experiment>/`: `<run>.jsonl` while it grows (each row is on disk before the
next is measured), then `<run>.parquet` and the sidecar `<run>.json`. Runs are never overwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pdmlab.errors import BadMeasurement, ExperimentError, RunNotFound

if TYPE_CHECKING:
    import pandas as pd

Role = Literal["id", "factor", "measure"]
DType = Literal["str", "int", "float", "bool", "empty"]
Cell = str | int | float | bool | None
Row = Mapping[str, Cell]

_PANDAS = {"str": "string", "int": "Int64", "float": "Float64", "bool": "boolean", "empty": "string"}


@dataclass(frozen=True)
class Column:
    """A column: what it holds, its unit, and whether it identifies, was chosen, or was measured."""

    name: str
    dtype: DType
    unit: str = ""
    role: Role = "measure"
    doc: str = ""

    @property
    def label(self) -> str:
        """Return the axis label: the documentation or name, with the unit."""
        text = self.doc or self.name.replace("_", " ")
        return f"{text} ({self.unit})" if self.unit else text


ID_COLUMNS = (
    Column("run", "str", role="id", doc="run"),
    Column("board", "str", role="id", doc="Mbed target name"),
    Column("simulated", "bool", role="id", doc="whether the medium or link was simulated"),
    Column("clock", "str", role="id", doc="clock that times were read from: device or host"),
)


@dataclass(frozen=True)
class Schema:
    """The columns of an experiment's rows, in order."""

    columns: tuple[Column, ...]

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def names(self) -> list[str]:
        """Return the columns' names."""
        return [column.name for column in self.columns]

    @property
    def units(self) -> dict[str, str]:
        """Return name -> unit."""
        return {column.name: column.unit for column in self.columns if column.unit}

    def taking(self, row: Row) -> Schema:
        """Return the schema that takes this row too: of whole numbers and others, a column is float.

        Raises:
            BadMeasurement: a column is missing, unknown or of another type, or a cell is no text and no finite number.
        """
        unknown, missing = set(row) - set(self.names), set(self.names) - set(row)
        if unknown or missing:
            raise BadMeasurement(
                f"a row has the columns {sorted(row)}; unknown {sorted(unknown)}, missing {sorted(missing)}",
                hint="a measuring function returns the same columns every time; None is what was not measured",
            )
        columns = []
        for column in self.columns:
            found = _dtype(column.name, row[column.name])
            together = {column.dtype, found} - {"empty"}
            if together == {"int", "float"}:
                found = "float"
            elif len(together) > 1:
                raise BadMeasurement(f"column {column.name} takes {column.dtype}, but the row has {row[column.name]!r}")
            columns.append(column if found in ("empty", column.dtype) else replace(column, dtype=found))
        return Schema(tuple(columns))

    def cells(self, row: Row) -> list[Cell]:
        """Return a row's cells as the columns have them: a whole number is 1.0 in a column of float."""
        return [
            float(cell) if column.dtype == "float" and cell is not None else cell
            for column in self.columns
            for cell in (row[column.name],)
        ]

    @classmethod
    def from_rows(cls, factors: Sequence[str], *rows: Row) -> Schema:
        """Make the schema of some rows; names ending in a unit (_B, _Bps, _ns, _us, _ms, _s) get that unit.

        Raises:
            BadMeasurement: the rows do not go together.
        """
        known = {column.name: column for column in ID_COLUMNS}
        columns = []
        for name in rows[0]:
            role: Role = "factor" if name in factors or name == "repeat" else "measure"
            columns.append(known.get(name) or Column(name, "empty", _unit(name), role, _words(name)))
        schema = cls(tuple(columns))
        for row in rows:
            schema = schema.taking(row)
        return schema


def plain(value: Any) -> Any:  # Any: whatever a measuring function or a table of factors holds
    """Return a numpy scalar as Python's own number, and anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


_UNITS = {
    "B": "B",
    "Bps": "B/s",
    "kBps": "kB/s",
    "ns": "ns",
    "us": "µs",
    "ms": "ms",
    "s": "s",
    "Hz": "Hz",
    "bps": "bit/s",
}


def _unit(name: str) -> str:
    return _UNITS.get(name.rsplit("_", 1)[-1], "") if "_" in name else ""


def _words(name: str) -> str:
    stem = name.rsplit("_", 1)[0] if _unit(name) else name
    return stem.replace("_", " ")


def _dtype(name: str, value: Cell) -> DType:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, str):
        return "str"
    if isinstance(value, float) and math.isfinite(value):
        return "float"
    raise BadMeasurement(
        f"column {name} has {value!r}, which is no text, truth value or finite number",
        hint="give None for what was not measured",
    )


def digest(schema: Schema, rows: Iterable[Row]) -> str:
    """Return the SHA-256 (hex) of factors and measures in canonical order; run ids and file bytes do not count."""
    ordered = Schema(tuple(sorted((c for c in schema.columns if c.name != "run"), key=lambda column: column.name)))
    lines = sorted(json.dumps(ordered.cells(row), ensure_ascii=False) for row in rows)
    text = json.dumps(ordered.names) + "\n" + "\n".join(lines)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """A run's rows on disk as they come: one JSON line each, flushed before `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("x", encoding="utf-8")
        except FileExistsError:
            raise ExperimentError(
                f"{path} is there already", hint="runs are never overwritten: take another name"
            ) from None

    def append(self, row: Row) -> None:
        """Write one row and flush it to the operating system."""
        try:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise ExperimentError(
                f"a row could not be written to {self.path}: {error.strerror}",
                hint="is the disk full? The rows before it are kept",
            ) from error

    def close(self) -> None:
        """Close the file; its rows stay. A row that found no room finds none now either: append has said so."""
        with contextlib.suppress(OSError):
            self._file.close()


def read_journal(path: Path) -> list[dict[str, Cell]]:
    """Return the rows of a journal; a last line that was cut off in mid-write is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def to_frame(schema: Schema, rows: Sequence[Row], sidecar: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Return a tidy frame: one row an observation, typed columns, units in `attrs["units"]`."""
    import pandas as pd

    columns: dict[str, Any] = {  # pandas' stubs know no nullable dtype by a name from a table
        column.name: pd.Series([row[column.name] for row in rows], dtype=cast("Any", _PANDAS[column.dtype]))
        for column in schema.columns
    }
    frame = pd.DataFrame(columns)
    frame.attrs = {"units": schema.units, "labels": {c.name: c.label for c in schema.columns}}
    if sidecar:
        frame.attrs["run"] = str(sidecar.get("run", ""))
    return frame


def save(folder: Path, run: str, schema: Schema, rows: Sequence[Row], sidecar: dict[str, Any]) -> Path:
    """Write `<run>.parquet` and then its sidecar `<run>.json`, whole or not at all; return the Parquet file's path."""
    parquet = folder / f"{run}.parquet"
    frame = to_frame(schema, rows, sidecar)
    partial = parquet.with_suffix(".parquet.part")
    try:
        frame.to_parquet(partial, index=False)
        os.replace(partial, parquet)
        write_sidecar(
            folder,
            run,
            {
                **sidecar,
                "rows": len(rows),
                "digest": digest(schema, rows),
                "parquet_sha256": hashlib.sha256(parquet.read_bytes()).hexdigest(),
                "columns": [asdict(column) for column in schema.columns],
            },
        )
    except OSError as error:
        raise ExperimentError(
            f"run {run} could not be saved in {folder}: {error.strerror}",
            hint=f"its rows are kept in {run}.jsonl; free some space and call pdmlab.load_run({run!r})",
        ) from error
    return parquet


def start(folder: Path, run: str, sidecar: Mapping[str, Any]) -> Journal:
    """Make a run's folder, sidecar and journal, before its first point is measured.

    Raises:
        ExperimentError: they cannot be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_sidecar(folder, run, sidecar)
        return Journal(folder / f"{run}.jsonl")
    except OSError as error:
        raise ExperimentError(
            f"nothing can be kept in {folder}: {error.strerror}",
            hint="is the disk full, may you write there? Another folder: sweep(data=...), or PDMLAB_DATA",
        ) from error


def write_sidecar(folder: Path, run: str, sidecar: Mapping[str, Any]) -> None:
    """Write `<run>.json` whole or not at all."""
    partial = folder / f"{run}.json.part"
    try:
        partial.write_text(json.dumps(sidecar, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(partial, folder / f"{run}.json")
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def read_sidecar(path: Path) -> dict[str, Any]:
    """Return a sidecar's contents.

    Raises:
        RunNotFound: there is none, or it cannot be read.
    """
    try:
        sidecar: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return sidecar
    except (OSError, ValueError) as error:
        raise RunNotFound(f"no sidecar at {path}: {error}", hint="pdmlab.list_runs() shows what there is") from error
