"""Schemas: what the columns of a measurement hold, in which unit, and the tidy frame that they make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from pdmlab.errors import BadMeasurement

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
            columns.append(known.get(name) or Column(name, "empty", _unit(name), role, words(name)))
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


def words(name: str) -> str:
    """Return a column's name without its unit: buffer_B is a buffer."""
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
