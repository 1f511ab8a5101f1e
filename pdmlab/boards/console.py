"""A board's serial console over any pyserial URL: lines with their times, and `expect`.

>>> with Console("sim://K64F") as console:
...     console.expect("Jumping to application")
"""

from __future__ import annotations

import contextlib
import errno
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import serial

from pdmlab.boards.port import Port, carries_break, open_port
from pdmlab.boards.source import Source
from pdmlab.errors import BoardError, ConsoleLost, ConsoleTimeout

if TYPE_CHECKING:
    import pandas as pd

BAUD = 115200
"""What Mbed OS boards speak unless configured otherwise (bit/s)."""
LONGEST_LINE = 64 * 1024
"""Bytes after which a line counts as one although it has not ended: what a board sends in binary."""
_SLICE = 0.2  # seconds; waits are cut into these, so that Ctrl-C comes through on every operating system


@dataclass(frozen=True)
class Line:
    """A line of the conversation: when (seconds since the epoch, host clock), from whom, and what."""

    time: float
    direction: Literal["board", "host"]
    text: str


_Entry = tuple[float, Literal["board", "host"], str]
"""A Line while it is kept: a plain tuple of plain things, which Python's garbage collector leaves alone. A million
objects of a class would each time hold the reader up for longer than a port can wait."""


class Console:
    r"""Both directions of a serial line. A thread drains the port all the time, so that nothing is lost in it.

    What the board printed is read once, in order, by `expect`, `read_line` and `lines`; `transcript` shows
    everything again. Lines end in \n; a \r before it is not part of them.

    Args:
        url: a port or any pyserial URL.
        name: what errors call the board; default: the url.
        baud: bit/s; virtual lines have none.
        keep: lines to remember; older ones are forgotten (see `forgotten`). None remembers all.

    Raises:
        BoardNotFound, PortBusy, ConfigError, BoardError: see open_port.
    """

    def __init__(self, url: str, *, name: str | None = None, baud: int = BAUD, keep: int | None = None) -> None:
        self.url = url
        self.name = name or url
        self.forgotten = 0
        self._keep = keep
        self._log: deque[_Entry] = deque()
        self._unread: deque[_Entry] = deque()
        self._tail = bytearray()
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._lost: str | None = None
        self._started = (time.time(), time.monotonic())
        self._closing = False
        self._port = self._open(url, baud)
        self._source = Source(self._port)
        self._reader = threading.Thread(target=self._drain, name=f"pdmlab-console {self.name}", daemon=True)
        self._reader.start()

    def _open(self, url: str, baud: int) -> Port:
        return open_port(url, baud=baud, read_timeout=_SLICE)

    # -- reading -----------------------------------------------------------------------------------------

    def expect(self, pattern: str | re.Pattern[str], timeout: float = 10.0) -> re.Match[str]:
        """Read on to the next line in which the pattern is found, and return the match.

        Raises:
            ConsoleTimeout: none came in `timeout` seconds. ConsoleLost: the line broke off.
        """
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout
        while (line := self._next(deadline)) is not None:
            if match := wanted.search(line.text):
                return match
        last = self.last
        said = f"last line: {last!r}" if last is not None else "it has sent nothing"
        raise ConsoleTimeout(
            f"no line matching {wanted.pattern!r} from {self._whom()} in {timeout:.1f} s; {said}",
            hint="try board.reset()"
            if last is not None
            else f"does it run at {self._port.baudrate} baud? try board.reset(), or another cable",
        )

    def read_line(self, timeout: float = 10.0) -> Line | None:
        """Return the next line of the board's; None if none comes in `timeout` seconds.

        Raises:
            ConsoleLost: the line broke off, and everything before that has been read.
        """
        return self._next(time.monotonic() + timeout)

    def lines(self, timeout: float = 10.0) -> Iterator[str]:
        """Yield the board's lines until it has been silent for `timeout` seconds."""
        while (line := self.read_line(timeout)) is not None:
            yield line.text

    def skip(self) -> None:
        """Leave out what the board has printed and nobody read, so that `expect` means what comes from now on."""
        with self._changed:
            self._unread.clear()
            self._tail.clear()

    def _next(self, deadline: float) -> Line | None:
        with self._changed:
            while not self._unread:
                if self._closing:
                    raise self._closed()
                if self._lost is not None:
                    raise ConsoleLost(
                        f"the line to {self._whom()} broke off: {self._lost}",
                        hint="plug it in again, and open it with pdmlab.connect()",
                    )
                self._require_more()
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(min(left, _SLICE))
            return Line(*self._unread.popleft())

    def _require_more(self) -> None:
        """Raise ConsoleLost if no line can come any more; a port can always bring one."""

    @property
    def last(self) -> str | None:
        """The board's last line so far, even if it has not ended yet; None if it has sent nothing."""
        with self._changed:
            if self._tail:
                return self._tail.decode("utf-8", "replace")
            return next((text for _, direction, text in reversed(self._log) if direction == "board"), None)

    @property
    def transcript(self) -> pd.DataFrame:
        """The conversation as a frame: time (UTC, host clock), direction (board or host), text."""
        import pandas as pd

        with self._changed:
            log = list(self._log)
        return pd.DataFrame(
            {
                "time": pd.to_datetime([time for time, _, _ in log], unit="s", utc=True),
                "direction": pd.array([direction for _, direction, _ in log], dtype="string"),
                "text": pd.array([text for _, _, text in log], dtype="string"),
            }
        )

    def save(self, path: Path | str) -> Path:
        """Write the conversation to a file and return its path; replay://FILE opens it as a board.

        Args:
            path: ends in .parquet or .csv for the transcript, as a frame; in anything else for text in htrun's form.
                A file that is there is written over.

        Raises:
            BoardError: it cannot be written.
        """
        path = Path(path)
        transcript = self.transcript
        try:
            if path.suffix == ".parquet":
                transcript.to_parquet(path, index=False)
            elif path.suffix == ".csv":
                transcript.to_csv(path, index=False, date_format="%Y-%m-%dT%H:%M:%S.%fZ")
            else:
                source = {"board": "CONN][RXD", "host": "SERI][TXD"}
                lines = zip(transcript["time"], transcript["direction"], transcript["text"], strict=True)
                text = "".join(f"[{time.timestamp():.3f}][{source[said]}] {line}\n" for time, said, line in lines)
                path.write_text(text, encoding="utf-8")
        except OSError as error:
            hint = {
                errno.ENOSPC: "the disk is full: free some space, or save it elsewhere",
                errno.EACCES: "may you write there?",
                errno.EISDIR: "it is a folder: give the name of a file",
            }.get(error.errno or errno.ENOENT, "is there such a folder?")
            raise BoardError(f"{path} cannot be written: {error.strerror or error}", hint=hint) from error
        return path

    # -- writing -----------------------------------------------------------------------------------------

    def write_line(self, text: str) -> None:
        r"""Send text and \n.

        Raises:
            ConsoleLost: the line broke off, or takes nothing for five seconds.
        """
        self.write(text + "\n")

    def write(self, text: str) -> None:
        r"""Send text as it is; see write_line."""
        self._require_open()
        with self._changed:  # noted first: the board may answer before write() returns
            for line in text.splitlines():
                self._remember((self._now(), "host", line))
        try:
            with self._writing:
                self._port.write(text.encode())
        except (serial.SerialException, OSError) as error:
            raise ConsoleLost(
                f"the line to {self._whom()} takes nothing: {error}", hint="is it still plugged in?"
            ) from error

    @property
    def carries_break(self) -> bool:
        """Whether a break reaches the board: not over a TCP socket or a pseudo-terminal."""
        return carries_break(self.url)

    def send_break(self, seconds: float = 0.25) -> None:
        """Hold the line low: DAPLink and ST-Link then reset the board."""
        self._require_open()
        try:
            self._port.send_break(seconds)
        except (serial.SerialException, OSError) as error:
            raise ConsoleLost(
                f"no break can be sent to {self._whom()}: {error}", hint="is it still plugged in?"
            ) from error

    # -- the reader's thread -----------------------------------------------------------------------------

    def _drain(self) -> None:
        try:
            while not self._closing:
                self._take(self._source.read())
        except (serial.SerialException, OSError, TypeError, ValueError) as error:
            # pyserial lets a TypeError out when a port is closed under a reader.
            if not self._closing:
                with self._changed:
                    self._lost = str(error)
        finally:
            with self._changed:
                self._changed.notify_all()

    def _take(self, data: bytes) -> None:
        if not data:
            return
        now = self._now()
        with self._changed:
            self._tail += data
            if b"\n" in data or len(self._tail) > LONGEST_LINE:
                *whole, rest = self._tail.split(b"\n")
                if len(rest) > LONGEST_LINE:
                    whole.append(rest)
                    rest = bytearray()
                self._tail = bytearray(rest)
                for raw in whole:
                    entry: _Entry = (now, "board", raw.removesuffix(b"\r").decode("utf-8", "replace"))
                    self._unread.append(entry)
                    self._remember(entry)
            self._changed.notify_all()

    def _remember(self, entry: _Entry) -> None:
        self._log.append(entry)
        if self._keep is not None:
            while len(self._log) > self._keep:
                self._log.popleft()
                self.forgotten += 1
            while len(self._unread) > self._keep:
                self._unread.popleft()

    def _now(self) -> float:
        epoch, monotonic = self._started
        return epoch + time.monotonic() - monotonic

    def _whom(self) -> str:
        return self.name if self.name == self.url else f"{self.name} on {self.url}"

    # -- the end -----------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the port has been given back, or has gone."""
        return self._closing or self._lost is not None

    def _require_open(self) -> None:
        if self._closing:
            raise self._closed()
        if self._lost is not None:
            raise ConsoleLost(f"the line to {self._whom()} broke off: {self._lost}", hint="plug it in again")

    def _closed(self) -> BoardError:
        return BoardError(f"the console of {self._whom()} is closed", hint="pdmlab.connect() opens it again")

    def close(self) -> None:
        """Give the port back; what was said stays in the transcript."""
        if self._closing:
            return
        self._closing = True
        self._source.wake()
        self._reader.join(5)
        self._source.close()
        with contextlib.suppress(serial.SerialException, OSError):
            self._port.close()

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closing else f"lost ({self._lost})" if self._lost else "open"
        return f"<console of {self._whom()}, {state}, {len(self._log)} lines, last {self.last!r}>"
