"""A saved log as the host's side of a board's UART, so that a bridge can carry it to other programs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from pdmlab.boards.logs import read_log
from pdmlab.boards.playback import Playback
from pdmlab.boards.replay import pace_of, split

_SLICE = 0.2  # seconds; waits are cut into these, so that a close is noticed


def open_line(url: str) -> ReplayLine:
    """Open the log of a URL for a bridge; at a suite's handshake it waits until some program syncs, however long.

    Raises:
        ConfigError, BoardNotFound: see open_board.
    """
    playback = Playback(read_log(split(url)[0]), pace=pace_of(url), patience=math.inf)
    if playback.has_handshake:
        playback.restart()
    return ReplayLine(playback)


class ReplayLine:
    """A playback as the host's side of a UART, so that a bridge can carry it to other programs.

    listener: called, on a thread of its own, when there is something to read.
    """

    def __init__(self, playback: Playback) -> None:
        self.playback = playback
        self.listener: Callable[[], None] | None = None
        self._output = bytearray()
        self._lock = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._play, name="pdmlab-replay", daemon=True)
        self._thread.start()

    def _play(self) -> None:
        while not self._closing:
            played = self.playback.next(_SLICE)
            if played is None:
                continue
            with self._lock:
                if played.start == self.playback.starts:
                    self._output += f"{played.text}\r\n".encode()
            if self.listener is not None:
                self.listener()

    @property
    def host_waiting(self) -> int:
        """Bytes that were played and not read."""
        return len(self._output)

    def host_read(self, size: int, timeout_s: float | None) -> bytes:
        """Return up to size bytes of what was played; never waits."""
        del timeout_s
        with self._lock:
            data = bytes(self._output[:size])
            del self._output[: len(data)]
        return data

    def host_write(self, data: bytes) -> None:
        """Take what the host says."""
        self.playback.hear(data.decode("utf-8", "replace"))

    def restart(self) -> None:
        """Begin the playback anew; what was played and not read is gone."""
        with self._lock:
            self.playback.restart()
            self._output.clear()

    def close(self) -> None:
        """End the playback."""
        self._closing = True
        self.playback.close()
        self._thread.join(5)

    def __enter__(self) -> ReplayLine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<line of {self.playback!r}>"
