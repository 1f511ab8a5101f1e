"""A log's rows on disk, as they come: what a killed process had seen is not lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from pdmlab.capture.dialect import Dialect
from pdmlab.capture.kept import Kept, KeptEvent
from pdmlab.capture.reading import FOLLOWING, Reader
from pdmlab.capture.rows import LoggedMessage


def as_json(row: LoggedMessage) -> str:
    """Write a row as a line of JSON."""
    return json.dumps(asdict(row), ensure_ascii=False)


class Journal:
    """Writes each message that a log keeps as a line, with what is known of it when it passes.

    A row's file is appended to, and flushed after each line. `error` says why it ended early: a full disk silences
    no endpoint.
    """

    def __init__(
        self, path: Path, dialect: Dialect, line: Callable[[LoggedMessage], str] = as_json, *, own: bool = False
    ) -> None:
        self.path = path
        self.error: OSError | None = None
        self._line = line
        self._reader = Reader(dialect, own=own, most=FOLLOWING)
        self._lock = threading.Lock()
        self._file: TextIO | None = path.open("a", encoding="utf-8")

    def __repr__(self) -> str:
        state = "closed" if self._file is None else "open"
        return f"<Journal {self.path}, {state if self.error is None else f'ended: {self.error}'}>"

    def __call__(self, kept: Kept | KeptEvent) -> None:
        with self._lock:
            if self._file is None:
                return
            row = self._reader.row(self._reader.feed(kept))
            try:
                self._file.write(self._line(row) + "\n")
                self._file.flush()
            except OSError as error:
                self.error = error
                self._end()

    def close(self) -> None:
        """End it; a second time does nothing."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError as error:  # what was not written yet
            self.error = self.error or error
