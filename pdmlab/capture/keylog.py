"""The keys of TLS and DTLS sessions in a file, so that Wireshark can read a real capture of them.

Give it to `Security(keylog=...)`. Whoever has this file and a capture can read all that was said: it is for its owner
only (0600), and nothing writes one unless it is asked to.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from pdmlab.capture.files import opened
from pdmlab.errors import ConfigError


class KeyLog:
    """An NSS key log: Wireshark's setting is tls.keylog_file (Preferences, Protocols, TLS: (Pre)-Master-Secret log)."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.lines = 0
        self._lock = threading.Lock()
        try:
            handle = opened(self.path)
        except OSError as error:
            raise ConfigError(
                f"the key log {self.path} cannot be written: {error.strerror}", hint="name a file in a folder of yours"
            ) from error
        self._file: TextIO | None = os.fdopen(handle, "a", encoding="ascii")

    def __repr__(self) -> str:
        return f"<KeyLog {self.path}, {self.lines} lines, {'closed' if self._file is None else 'open'}>"

    def __call__(self, line: str) -> None:
        """Take a line, such as "CLIENT_RANDOM …"; what cannot be written is lost, and the connection goes on."""
        with self._lock:
            if self._file is None:
                return
            try:
                self._file.write(line.strip() + "\n")
                self._file.flush()
                self.lines += 1
            except OSError:
                self._file = None

    def close(self) -> None:
        """End it; a second time does nothing."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
