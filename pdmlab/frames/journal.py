"""What is on disk while a run grows: its journal, one JSON line a row, and its sidecar."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pdmlab.errors import ExperimentError, RunNotFound
from pdmlab.frames.schema import Cell, Row
from pdmlab.frames.sorting import sorted_lines

PLACE = "#"


class Journal:
    """Rows on disk as they come: one JSON line each, flushed before `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("x", encoding="utf-8", newline="\n")
        except FileExistsError:
            raise ExperimentError(
                f"{path} is there already", hint="runs are never overwritten: take another name"
            ) from None

    def append(self, row: Row, *, place: int | None = None) -> None:
        """Write one row and flush it to the operating system; place: where it belongs, if it comes out of turn."""
        placed = row if place is None else {PLACE: place, **row}
        try:
            self._file.write(json.dumps(placed, ensure_ascii=False) + "\n")
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


def iter_journal(path: Path) -> Iterator[dict[str, Cell]]:
    """Give the rows of a journal as they came; a last line that was cut off in mid-write is left out."""
    for row in _rows(path):
        row.pop(PLACE, None)
        yield row


def journal_in_order(path: Path) -> Iterator[dict[str, Cell]]:
    """Give the rows of a journal by their places, and as they came where these are the same."""
    placed = (
        f"{row.pop(PLACE, 0):016d} {turn:016d} {json.dumps(row, ensure_ascii=False)}"
        for turn, row in enumerate(_rows(path))
    )
    for line in sorted_lines(placed, path.parent):
        yield json.loads(line[34:])


def _rows(path: Path) -> Iterator[dict[str, Any]]:  # Any: its place, too
    with path.open(encoding="utf-8", newline="\n", errors="replace") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return


def read_journal(path: Path) -> list[dict[str, Cell]]:
    """Return the rows of a journal."""
    return list(iter_journal(path))


def count_rows(path: Path) -> int:
    """Return how many whole rows a journal has; none if there is no such file."""
    return sum(1 for _ in iter_journal(path)) if path.is_file() else 0


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
