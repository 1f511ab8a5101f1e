"""A run's rows as they stay: Parquet in batches, and a digest that a repetition has to reach."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from pdmlab.errors import ExperimentError
from pdmlab.frames.journal import write_sidecar
from pdmlab.frames.schema import Row, Schema, to_frame
from pdmlab.frames.sorting import sorted_lines

BATCH = 2_000
"""Rows that are in memory at once."""


def digest(schema: Schema, rows: Iterable[Row], folder: Path | None = None) -> str:
    """Return the SHA-256 (hex) of factors and measures in canonical order; run ids and file bytes do not count.

    folder: where lines that are too many for memory wait for their turn.
    """
    ordered = Schema(tuple(sorted((c for c in schema.columns if c.name != "run"), key=lambda column: column.name)))
    lines = (json.dumps(ordered.cells(row), ensure_ascii=False) for row in rows)
    sha256 = hashlib.sha256(json.dumps(ordered.names).encode())
    empty = True
    for line in sorted_lines(lines, folder):
        sha256.update(b"\n" + line.encode())
        empty = False
    if empty:
        sha256.update(b"\n")
    return sha256.hexdigest()


def save(folder: Path, run: str, schema: Schema | None, rows: Iterable[Row], sidecar: dict[str, Any]) -> None:
    """Write `<run>.parquet` and then its sidecar `<run>.json`, whole or not at all; without a schema the sidecar only.

    schema: None for a run that measured nothing.
    rows: in the order of the frame; each is asked for once, and forgotten when it is written.

    Raises:
        ExperimentError: the disk is full, or went away.
    """
    if schema is None:
        try:
            write_sidecar(folder, run, sidecar)
        except OSError as error:
            raise ExperimentError(
                f"run {run} could not be saved in {folder}: {error.strerror}",
                hint="is the disk full? It measured nothing",
            ) from error
        return
    parquet = folder / f"{run}.parquet"
    partial = parquet.with_suffix(".parquet.part")
    try:
        with closing(_write_parquet(partial, schema, rows, sidecar)) as written:
            found = digest(schema, written, folder)
        os.replace(partial, parquet)
        with parquet.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        write_sidecar(
            folder,
            run,
            {
                **sidecar,
                "digest": found,
                "parquet_sha256": sha256,
                "columns": [asdict(column) for column in schema.columns],
            },
        )
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ExperimentError(
            f"run {run} could not be saved in {folder}: {error.strerror}",
            hint=f"its rows are kept in {run}.jsonl; free some space and call pdmlab.load_run({run!r})",
        ) from error


def _write_parquet(
    path: Path, schema: Schema, rows: Iterable[Row], sidecar: dict[str, Any]
) -> Generator[Row, None, None]:
    """Write rows as pandas would write one frame of all of them, and pass each on."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    coming, writer = iter(rows), None
    try:
        while batch := list(islice(coming, BATCH)):
            frame = to_frame(schema, batch, sidecar)
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                # Where pandas looks for a frame's attrs.
                metadata = {**(table.schema.metadata or {}), b"PANDAS_ATTRS": json.dumps(frame.attrs).encode()}
                writer = ParquetWriter(path, table.schema.with_metadata(metadata))
            writer.write_table(table.replace_schema_metadata(writer.schema.metadata))
            yield from batch
    finally:
        if writer is not None:
            writer.close()
