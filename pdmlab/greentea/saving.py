"""A suite's rows as a run: journaled as they come, and found by `pdmlab.list_runs` and `pdmlab.load_run`.

The journal has the same columns in each row, so that the rows of a suite that was killed can be read. Measures that
are not in `COLUMNS` stand there in one text, `other`; the finished run has a column for each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdmlab import frames, settings
from pdmlab.frames import Cell, Schema, provenance
from pdmlab.greentea.rows import COLUMNS, FACTORS, Row, whole_rows

if TYPE_CHECKING:
    from pdmlab.greentea.board import Board
    from pdmlab.greentea.result import Result


SIDECAR_VERSION = 1


class SuiteRun:
    """The run of one suite while it goes.

    Args:
        about: what is known of the board, from `about_board`.
        data: the folder of the runs; default: the setting.

    Raises:
        ExperimentError: nothing can be written there.
    """

    def __init__(self, suite: str, about: Mapping[str, Any], *, data: Path | str | None = None) -> None:
        chosen = settings.load(data=str(data) if data is not None else None)
        self.name = provenance.new_name()
        experiment = re.sub(r"[^A-Za-z0-9_-]", "-", suite) or "suite"
        self.folder = chosen.folder("data") / experiment
        self._sidecar: dict[str, Any] = {
            "version": SIDECAR_VERSION,
            "run": self.name,
            "experiment": experiment,
            "state": "running",
            "suite": suite,
            "measure": "",  # no function of this process: the board's firmware
            "factors": {name: [] for name in FACTORS},
            "repeats": 1,
            **about,
            "settings": chosen.provenance(),
            "versions": provenance.versions(),
            "started": provenance.utc_now(),
        }
        self._journal = frames.start(self.folder, self.name, self._sidecar)

    def keep(self, row: Row) -> None:
        """Write a row before the next is measured."""
        other = ", ".join(f"{name}={cell}" for name, cell in row.items() if name not in COLUMNS)
        self._journal.append({"run": self.name, **{name: row.get(name) for name in COLUMNS}, "other": other})

    def finish(self, result: Result, state: str) -> str:
        """Write the run with what came of the suite, and return its name; the journal goes."""
        self._journal.close()
        rows: list[dict[str, Cell]] = [{"run": self.name, **row} for row in whole_rows(result.measured.cells())]
        self._sidecar |= {
            "state": state, "ended": provenance.utc_now(), "rows": len(rows), "simulated": result.simulated,
            "result": result.result, "reason": result.reason, "host_test": result.host_test, "notes": result.notes,
            "cases": {case.name: case.result for case in result.case_records},
            "unread": [str(text) for text in result.unread["text"]] if len(result.unread) else [],
        }  # fmt: skip
        if rows:
            self._sidecar["factors"] = {
                name: list(dict.fromkeys(row[name] for row in rows)) for name in rows[0] if name in FACTORS
            }
        schema = Schema.from_rows(FACTORS, *rows) if rows else None
        frames.save(self.folder, self.name, schema, rows, self._sidecar)
        self._journal.path.unlink()
        return self.name

    def __enter__(self) -> SuiteRun:
        return self

    def __exit__(self, *exc: object) -> None:
        self._journal.close()


def about_board(board: Board, target: str) -> dict[str, Any]:
    """Return what a sidecar says of the board."""
    return {
        "seed": getattr(board, "seed", None),
        "board": target,
        "board_url": str(getattr(board, "url", "")),
        "board_row": provenance.board_row(board),
        "simulated": getattr(board, "simulated", None),
    }
