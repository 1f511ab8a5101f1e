"""A log's rows on disk, soon after they came: what a killed process had seen is not lost, but for its last moment.

Whoever passes messages does not wait for the disk: a thread decodes and writes them, in batches.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from pdmlab.capture.dialect import Dialect
from pdmlab.capture.files import MOST_B, opened, set_aside
from pdmlab.capture.kept import Kept, KeptEvent
from pdmlab.capture.reading import FOLLOWING, Reader
from pdmlab.capture.rows import LoggedMessage

EVERY = 0.1
"""Between two batches (s): what is lost at most when the process is killed."""
MOST_WAITING = 20_000
"""Messages that wait for the disk. Beyond, whoever adds one writes two: memory is bounded, and nothing is lost."""
_AT_ONCE = 50  # rows that are written before somebody else may


def as_json(row: LoggedMessage) -> str:
    """Write a row as a line of JSON."""
    return json.dumps(asdict(row), ensure_ascii=False)


class Journal:
    """Writes each message that a log keeps as a line, with what is known of it by then.

    A row's file is appended to; at `most_B` it is set aside as `.1`, and begun anew. `error` says why it ended early: a
    full disk silences no endpoint.
    """

    def __init__(
        self,
        path: Path,
        dialect: Dialect,
        line: Callable[[LoggedMessage], str] = as_json,
        *,
        own: bool = False,
        most_B: int = MOST_B,
    ) -> None:
        self.path = path
        self.error: OSError | None = None
        self._line = line
        self._most_B = most_B
        self._reader = Reader(dialect, own=own, most=FOLLOWING)
        self._waiting: deque[Kept | KeptEvent] = deque()
        self._told = False  # the thread, that something waits
        self._wake, self._end = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._file: TextIO | None = self._opened()
        self._thread = threading.Thread(target=self._write_on, name=f"journal {path.name}", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __repr__(self) -> str:
        state = "closed" if self._file is None else "open"
        return f"<Journal {self.path}, {state if self.error is None else f'ended: {self.error}'}>"

    def __call__(self, kept: Kept | KeptEvent) -> None:
        if self._file is None:
            return
        self._waiting.append(kept)
        if not self._told:
            self._told = True
            self._wake.set()
        if len(self._waiting) > MOST_WAITING:
            self._write(2)

    def close(self) -> None:
        """Write what waits, and end it; a second time does nothing."""
        self._end.set()
        self._wake.set()
        self._thread.join()
        while self._write(_AT_ONCE):
            pass
        with self._lock:
            self._ended()
        atexit.unregister(self.close)

    def _opened(self) -> TextIO:
        return os.fdopen(opened(self.path), "a", encoding="utf-8")

    def _write_on(self) -> None:
        while not self._end.is_set() and self._file is not None:
            self._wake.wait()
            self._end.wait(EVERY)
            self._wake.clear()
            self._told = False
            while self._write(_AT_ONCE):
                pass
            self._flush()

    def _write(self, most: int) -> bool:
        """Write the next of what waits; return whether there is more."""
        with self._lock:
            try:
                for _ in range(min(most, len(self._waiting))):
                    row = self._reader.row(self._reader.feed(self._waiting.popleft()))
                    if self._file is not None:
                        self._file.write(self._line(row) + "\n")
                if self._file is not None and os.fstat(self._file.fileno()).st_size >= self._most_B:
                    self._file.close()
                    set_aside(self.path)
                    self._file = self._opened()
            except OSError as error:
                self._broken(error)
            return bool(self._waiting)

    def _flush(self) -> None:
        with self._lock:
            try:
                if self._file is not None:
                    self._file.flush()
            except OSError as error:
                self._broken(error)

    def _broken(self, error: OSError) -> None:
        self.error = error
        self._ended()

    def _ended(self) -> None:
        file, self._file = self._file, None
        self._waiting.clear()
        if file is None:
            return
        try:
            file.close()
        except OSError as error:  # what was not written yet
            self.error = self.error or error
