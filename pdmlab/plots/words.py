"""What figures call things: columns with their units, values as an engineer writes them, and one palette."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pdmlab.frames.schema import words

if TYPE_CHECKING:
    import pandas as pd

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's palette: told apart by colour-blind readers, and in grey."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def human_size(n: float) -> str:
    """Return a size in bytes as an engineer writes it: 64 B, 2144 B, 4 KiB, 2 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if abs(n) < 1024 or unit == "MiB" or (abs(n) < 65536 and n % 256 and unit == "B"):
            return f"{n:g} {unit}"
        n /= 1024
    raise AssertionError("unreachable")


def human_frequency(n: float) -> str:
    """Return a frequency in Hz as an engineer writes it: 100 kHz, 4 MHz."""
    for factor, unit in ((1_000_000, "MHz"), (1_000, "kHz")):
        if n >= factor:
            return f"{n / factor:g} {unit}"
    return f"{n:g} Hz"


def label(frame: pd.DataFrame, column: str, *, short: bool = False) -> str:
    """Return a column's axis label with its unit; without it if `short`."""
    labels: Mapping[str, str] = frame.attrs.get("labels", {})
    text = labels.get(column, column.replace("_", " "))
    return text.split(" (")[0] if short else text


def plain(column: str) -> str:
    """Return a column's name without its unit, as a slider shows it: buffer_B is a buffer."""
    return words(column)


def shown(column: str, value: Any) -> str:  # Any: a cell of a frame
    """Return a factor's value with its unit, as a legend or a slider shows it."""
    if isinstance(value, str | bool):
        return str(value)
    if column.endswith("_B"):
        return human_size(value)
    if column.endswith("_Hz"):
        return human_frequency(value)
    unit = column.rsplit("_", 1)[-1] if "_" in column else ""
    return f"{value:g} {unit}" if unit in ("ns", "us", "ms", "s") else f"{value:g}"


def common_unit(frame: pd.DataFrame, columns: Sequence[str]) -> str:
    units = {frame.attrs.get("units", {}).get(column, "") for column in columns}
    return units.pop() if len(units) == 1 else ""


def groups(frame: pd.DataFrame, by: str) -> list[tuple[str, pd.DataFrame]]:
    """Return name and rows of each value of a column: numbers in order, words as they first appear."""
    words = frame[by].dtype == "string"
    name = "" if words else f"{label(frame, by, short=True)} "
    return [(name + shown(by, key), part) for key, part in frame.groupby(by, sort=not words)]


def whose(frame: pd.DataFrame) -> str:
    """Return whether a frame's rows are simulated, as a note says it; "" where all are measured."""
    column = frame["simulated"]
    if column.eq(True).any():
        return "SIMULATED"
    return "not known whether simulated" if column.isna().any() else ""


def estimates(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return the figures without a source that a frame's rows hang on, by part and microcontroller."""
    found: dict[str, list[str]] = {}
    cells = frame["estimates"].dropna().unique() if "estimates" in frame.columns else ()
    for part in (part for cell in cells for part in str(cell).split("; ") if part):
        name, _, figures = part.partition(": ")
        known = found.setdefault(name, [])
        known += [figure for figure in figures.split(", ") if figure not in known]
    return found


def rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
