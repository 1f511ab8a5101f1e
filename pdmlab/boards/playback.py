"""A saved log played again: each line when it is due, and Greentea's handshake with whoever listens now.

In its handshake a board echoes a sync that the host has just made up. The one in a log is an old one. So a playback
that was restarted waits at the echo until the host has sent its sync, and gives that back instead; what host and board
said after it goes as it went. A host that does not sync gets the old echo after `PATIENCE`. A log without an echo
gives one before its first line.
"""

from __future__ import annotations

import re
import threading
import time
from typing import NamedTuple

from pdmlab.boards.logs import Log

PATIENCE = 10.0
"""Seconds (host clock) that a playback waits for a sync."""
_SYNC = re.compile(r"\{\{__sync;([^{}]+)\}\}")
_KEPT = 256  # characters of what the host has said: a sync may come in pieces


class Played(NamedTuple):
    """A line of the log; time: when it was recorded (s), None if the log does not say."""

    text: str
    time: float | None
    start: int
    """Which start of the playback it belongs to."""


class Playback:
    """What a log's board printed, line by line; call it from any thread.

    Args:
        pace: 1 for the log's own times, 10 for ten times as fast, 0 for at once. A log without times is played at once.
        patience: seconds (host clock) to wait for a sync after a restart.
    """

    def __init__(self, log: Log, *, pace: float, patience: float = PATIENCE) -> None:
        self.log = log
        self.patience = patience
        self.pace = pace if log.timed else 0.0
        self.starts = 0
        self._lines = [line for line in log.lines if line.direction == "board"]
        self._echo = next((i for i, line in enumerate(self._lines) if _SYNC.search(line.text)), None)
        self._changed = threading.Condition()
        self._closed = False
        self._begin(waits=False)

    def _begin(self, *, waits: bool) -> None:
        self._at = 0
        self._begun = time.monotonic()
        self._ended = False
        self._heard = ""
        self._sync: str | None = None
        self._waits_until = self._begun + self.patience if waits else None

    @property
    def has_handshake(self) -> bool:
        """Whether the log has the echo of a sync."""
        return self._echo is not None

    @property
    def ended(self) -> bool:
        """Whether `next` has given the last line, and was asked for another."""
        return self._ended

    def restart(self) -> None:
        """Begin anew, as a board after a reset: it waits for a sync where the log has its echo."""
        with self._changed:
            self.starts += 1
            self._begin(waits=True)
            self._changed.notify_all()

    def next(self, timeout: float) -> Played | None:
        """Return the next line when it is due; None after `timeout` seconds, and at the end of the log."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                due = self._due(now)
                if due <= now:
                    return self._take()
                if now >= deadline:
                    break
                if self._at == len(self._lines):
                    self._ended = True
                self._changed.wait(min(due, deadline) - now)
        return None

    def hear(self, text: str) -> None:
        """Take what the host says: a sync starts a suite, the rest was answered long ago."""
        with self._changed:
            self._heard = (self._heard + text)[-_KEPT:]
            if (found := _SYNC.findall(self._heard)) and self._waits_until is not None:
                self._sync = found[-1]
                self._waits_until = None
                self._begun = min(self._begun, time.monotonic() - self._offset(self._echo or 0))
                self._changed.notify_all()

    def close(self) -> None:
        """End every wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _due(self, now: float) -> float:
        """Return when the next line is due (monotonic, s)."""
        if self._waits_until is not None and self._at >= (self._echo or 0):
            if now < self._waits_until:
                return self._waits_until
            self._begun = max(self._begun, now - self._offset(self._at))
            self._waits_until = None
        if self._at == len(self._lines):
            return float("inf") if self._sync is None or self._echo is not None else now
        return self._begun + self._offset(self._at)

    def _offset(self, place: int) -> float:
        """Return how long after the first line one is due (s)."""
        if not self.pace or place >= len(self._lines):
            return 0.0
        return (self._lines[place].time - self._lines[0].time) / self.pace

    def _take(self) -> Played:
        time = self._lines[min(self._at, len(self._lines) - 1)].time if self.log.timed else None
        if self._sync is not None and self._echo is None:
            sync, self._sync = self._sync, None
            return Played(f"{{{{__sync;{sync}}}}}", time, self.starts)
        line = self._lines[self._at]
        text = line.text
        if self._sync is not None and self._at == self._echo:
            text = _SYNC.sub(f"{{{{__sync;{self._sync}}}}}", text)
            self._sync = None
        self._at += 1
        return Played(text, time, self.starts)

    def __len__(self) -> int:
        return len(self._lines)

    def __repr__(self) -> str:
        pace = f"{self.pace:g} times its pace" if self.pace else "at once"
        return f"<playback of {self.log!r}, {pace}, line {self._at} of {len(self._lines)}>"
