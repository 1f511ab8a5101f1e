"""Measurements as they are kept: a schema, a journal that grows row by row, and a tidy frame with its sidecar.

A run is three files in `data/<experiment>/`: `<run>.jsonl` while it grows (each row is on disk before the
next is measured), then `<run>.parquet` and the sidecar `<run>.json`; points that cannot be measured are in
`<run>.skipped.jsonl`, with why. Runs are never overwritten. However long a run is, keeping it takes the same memory.
"""

from pdmlab.frames.journal import (
    Journal,
    count_rows,
    iter_journal,
    journal_in_order,
    read_journal,
    read_sidecar,
    start,
)
from pdmlab.frames.saving import digest, save
from pdmlab.frames.schema import ID_COLUMNS, Cell, Column, Row, Schema, plain, to_frame

__all__ = [
    "ID_COLUMNS",
    "Cell",
    "Column",
    "Journal",
    "Row",
    "Schema",
    "count_rows",
    "digest",
    "iter_journal",
    "journal_in_order",
    "plain",
    "read_journal",
    "read_sidecar",
    "save",
    "start",
    "to_frame",
]
