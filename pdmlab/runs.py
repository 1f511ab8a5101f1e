"""Runs that have been measured: what they are, where they are, and their rows.

>>> list_runs("storage")
>>> load_run("20261125T193426-01cca7")
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdmlab import frames, settings
from pdmlab.errors import ExperimentError, RunNotFound
from pdmlab.frames import Schema

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A finished or interrupted run: its rows and their provenance."""

    folder: Path
    name: str
    sidecar: Mapping[str, Any]

    @property
    def frame(self) -> pd.DataFrame:
        """Return the rows as a tidy frame; units are in `attrs["units"]`."""
        return _read_frame(self.folder, self.name, self.sidecar)

    @property
    def skipped(self) -> pd.DataFrame:
        """Return the points that could not be measured: their factors, and `why`."""
        import pandas as pd

        path = self.folder / f"{self.name}.skipped.jsonl"
        rows = list(frames.journal_in_order(path)) if path.is_file() else []
        return pd.DataFrame(rows, columns=[*self.sidecar["factors"], "why"])

    @property
    def digest(self) -> str:
        """Return the SHA-256 of factors and measures: equal when a repetition measured the same."""
        return str(self.sidecar.get("digest", ""))

    def __repr__(self) -> str:
        skipped = f"skipped={self.sidecar['skipped']}, " if self.sidecar.get("skipped") else ""
        return (
            f"Run({self.name!r}, experiment={self.sidecar['experiment']!r}, rows={self.sidecar.get('rows')}, {skipped}"
            f"state={self.sidecar['state']!r}, digest={self.digest[:12]})"
        )

    def _repr_html_(self) -> str:
        shown = {
            "run": self.name,
            "experiment": self.sidecar["experiment"],
            "board": self.sidecar["board"] + (" (SIMULATED)" if self.sidecar["simulated"] else ""),
            "state": self.sidecar["state"],
            "rows": self.sidecar.get("rows"),
            "skipped": f"{self.sidecar.get('skipped')} points, see run.skipped" if self.sidecar.get("skipped") else "",
            "digest": self.digest[:16],
            "file": f"{self.sidecar['experiment']}/{self.name}.parquet",
        }
        rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in shown.items() if v != "")
        return f"<table>{rows}</table>"


def list_runs(experiment: str | None = None, *, data: Path | str | None = None) -> pd.DataFrame:
    """Return all runs, newest first: name, experiment, board, state, rows, when, digest."""
    import pandas as pd

    columns = ["run", "experiment", "board", "simulated", "state", "rows", "started", "seed", "digest"]
    found = [sidecar for _, sidecar in _sidecars(data) if experiment in (None, sidecar.get("experiment"))]
    frame = pd.DataFrame([{name: sidecar.get(name) for name in columns} for sidecar in found], columns=columns)
    return frame.sort_values("started", ascending=False, ignore_index=True)


def load_run(run: str | Run, *, data: Path | str | None = None) -> pd.DataFrame:
    """Return a run's rows, also of one that was interrupted or killed.

    Raises:
        RunNotFound: there is no such run, or it has no rows.
        ExperimentError: its file is not what was saved.
    """
    if isinstance(run, Run):
        return run.frame
    folder, sidecar = find_run(run, data)
    return _read_frame(folder, run, sidecar)


def _read_frame(folder: Path, name: str, sidecar: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    parquet, journal = folder / f"{name}.parquet", folder / f"{name}.jsonl"
    if parquet.is_file():
        frame = pd.read_parquet(io.BytesIO(_undamaged(parquet, sidecar)))
        frame.attrs = {"units": {}, "labels": {}, **frame.attrs, "run": name}
        return frame
    rows = list(frames.journal_in_order(journal)) if journal.is_file() else []
    if rows:
        return frames.to_frame(Schema.from_rows(list(sidecar["factors"]), *rows), rows, sidecar)
    if sidecar.get("rows"):
        raise RunNotFound(f"run {name} is there, but {parquet} is not", hint=_AGAIN.format(name))
    raise RunNotFound(f"run {name} has no rows", hint="it was ended before its first point was measured")


_AGAIN = "fetch the file from a copy, or measure it again: pdmlab.rerun({!r})"


def _undamaged(parquet: Path, sidecar: Mapping[str, Any]) -> bytes:
    """Return a Parquet file's bytes if they are those that its sidecar tells of."""
    data = parquet.read_bytes()
    saved = sidecar.get("parquet_sha256")
    if saved is not None and hashlib.sha256(data).hexdigest() != saved:
        raise ExperimentError(
            f"{parquet} is damaged: its SHA-256 is not the one in its sidecar", hint=_AGAIN.format(parquet.stem)
        )
    return data


def find_run(name: str, data: Path | str | None) -> tuple[Path, dict[str, Any]]:
    """Return a run's folder and sidecar; raise RunNotFound if there is none of that name."""
    for folder, sidecar in _sidecars(data):
        if sidecar.get("run") == name:
            return folder, sidecar
    raise RunNotFound(f"there is no run {name!r}", hint="pdmlab.list_runs() shows what there is")


def _sidecars(data: Path | str | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    root = settings.load(data=str(data) if data is not None else None).folder("data")
    for path in sorted(root.glob("*/*.json")):
        try:
            sidecar = frames.read_sidecar(path)
        except RunNotFound:
            continue  # a file that is no sidecar does not hide the others
        if isinstance(sidecar, dict) and "run" in sidecar:
            if sidecar.get("state") == "running":
                sidecar |= {"state": "unfinished", "rows": frames.count_rows(path.with_suffix(".jsonl"))}
            yield path.parent, sidecar
