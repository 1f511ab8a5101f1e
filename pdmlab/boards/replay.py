"""`replay://FILE`: a saved console log as a board, for whatever reads a board's console.

>>> board = connect("replay://fs-single.log?pace=0&board=K64F")
>>> run_suite(board, "fs-single").rows
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import parse_qsl, unquote

import serial

from pdmlab.boards import catalog
from pdmlab.boards.board import OPENED_UP, BoardInfo, UnknownBoard
from pdmlab.boards.card import card
from pdmlab.boards.console import BAUD, Console
from pdmlab.boards.logs import Log, read_log
from pdmlab.boards.playback import Playback
from pdmlab.boards.port import Port
from pdmlab.errors import BoardError, ConfigError, ConsoleLost, FlashFailed

SCHEME = "replay://"
_EXAMPLE = "such as replay://fs-single.log?pace=0&board=K64F"
_SLICE = 0.2  # seconds; waits are cut into these, so that Ctrl-C comes through on every operating system


class ReplayBoard:
    """A board whose console is a saved log: it can be read and reset, and nothing else.

    Its lines come with the times at which they were recorded, if the log says them. `reset` plays the log again from
    its start. `simulated` is what the log says of its board, None if it says nothing.

    Args:
        path: the log; see pdmlab/boards/logs.py for what can be read.
        pace: 1 for the log's own times, 10 for ten times as fast, 0 for at once.
        target: Mbed's name of the board, where the log does not name it.

    Raises:
        BoardNotFound: there is no such file, or no such target. ConfigError: the file is no console log.
    """

    recorded = True
    """What a host could answer has been answered: Greentea's host tests stay silent."""

    def __init__(self, path: Path | str, *, pace: float = 1.0, target: str | None = None) -> None:
        self.log: Log = read_log(path)
        self.simulated = self.log.simulated
        named = target or self.log.target
        self.info: BoardInfo = catalog.find(named) if named else UnknownBoard(self.log.path.name, _UNNAMED)
        self.target = self.info.target
        self.pace = pace
        query = f"?pace={pace:g}" + (f"&board={self.target}" if target else "")
        self.url = f"{SCHEME}{self.log.path}{query}"
        self.playback = Playback(self.log, pace=pace)
        self._closed = False
        self.console: Console = ReplayConsole(self.playback, self.url, self.label)

    @property
    def label(self) -> str:
        """What errors call the board."""
        return self.target if self.target != "unknown" else self.info.name

    def flash(self, image: bytes | Path | str) -> NoReturn:
        """Refuse: a log cannot be flashed."""
        del image
        raise FlashFailed(
            f"{self.log.path} is the log of a board, and cannot be flashed",
            hint="connect to the board itself, or to a virtual one: sim://K64F",
        )

    def reset(self) -> None:
        """Play the log again from its start. At a suite's handshake it waits a while for the host's sync."""
        if self._closed:
            raise BoardError(f"{self.label} on {self.url} is closed", hint=f"pdmlab.connect({self.url!r}) opens it")
        assert isinstance(self.console, ReplayConsole)
        self.console.restart()

    @contextlib.contextmanager
    def scratch(self, *, seed: int) -> Iterator[ReplayBoard]:
        """Give this board itself: what was recorded is what there is."""
        del seed
        yield self

    if not TYPE_CHECKING:  # a type checker knows what is there

        def __getattr__(self, name: str) -> object:
            if name not in OPENED_UP:
                raise AttributeError(f"'ReplayBoard' object has no attribute {name!r}", name=name, obj=self)
            target = self.target if self.target != "unknown" else "K64F"
            raise AttributeError(
                f"{self.label}, recorded in {self.log.path}, has no {name!r}: only a virtual board can be opened up, "
                f"such as sim://{target}"
            )

    def close(self) -> None:
        """End the playback; the transcript stays readable."""
        self._closed = True
        self.console.close()

    def __enter__(self) -> ReplayBoard:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        simulated = "SIMULATED " if self.simulated else ""
        return f"<board {simulated}{self.target}, recorded in {self.log!r}{', closed' if self._closed else ''}>"

    def _repr_html_(self) -> str:
        said = {True: "yes, by the log's own word", False: "no, by the log's own word", None: "the log does not say"}
        rows = {
            "board": self.info.name,
            "recorded in": repr(self.log).strip("<>").removeprefix("log "),
            "played": f"{self.pace:g} times as fast" if self.playback.pace else "at once",
            "simulated": said[self.simulated],
        }
        if isinstance(self.info, UnknownBoard):
            rows["not recognised"] = self.info.reason
        return card(self.label, rows, simulated=bool(self.simulated))


_UNNAMED = "the log does not name its board: add ?board=K64F to the URL, say"


class ReplayConsole(Console):
    """A console whose lines come from a playback, with the times of their recording."""

    def __init__(self, playback: Playback, url: str, name: str) -> None:
        self._playback = playback
        self._recorded: float | None = None
        self._over = False
        super().__init__(url, name=name)

    def restart(self) -> None:
        """Begin the playback anew; what was played and not read is gone."""
        with self._changed:
            self._playback.restart()
            self._over = False
            self._unread.clear()

    def lines(self, timeout: float = 10.0) -> Iterator[str]:
        """Yield the board's lines to the end of the log, or until it has been silent for `timeout` seconds."""
        with contextlib.suppress(ConsoleLost):
            yield from super().lines(timeout)

    def _open(self, url: str, baud: int) -> Port:
        return _Line(self._playback)

    def _drain(self) -> None:
        while not self._closing:
            played = self._playback.next(_SLICE)
            with self._changed:
                if played is not None and played.start == self._playback.starts:
                    self._recorded = played.time
                    self._unread.append((self._now(), "board", played.text))
                    self._remember(self._unread[-1])
                self._over = self._playback.ended
                self._changed.notify_all()

    def _require_more(self) -> None:
        if self._over:
            path = self._playback.log.path
            of = f" of {self.name}" if self.name != path.name else ""
            raise ConsoleLost(
                f"the log {path}{of} ends here, after {len(self._playback)} lines",
                hint="board.reset() plays it again",
            )

    def _now(self) -> float:
        return super()._now() if self._recorded is None else self._recorded


class _Line:
    """What a console needs of a port, before a playback: it takes what the host says, and has nothing to read."""

    baudrate = BAUD
    timeout: float | None = None
    in_waiting = 0

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    def fileno(self) -> int:
        raise io.UnsupportedOperation("a playback has no descriptor")

    def read(self, size: int = 1, /) -> bytes:
        return b""

    def write(self, data: bytes, /) -> int:
        self._playback.hear(data.decode("utf-8", "replace"))
        return len(data)

    def send_break(self, duration: float = 0.25) -> None:
        raise serial.SerialException("a log has no reset line: use board.reset()")

    def cancel_read(self) -> None:
        self._playback.close()

    def close(self) -> None:
        self._playback.close()


def open_board(url: str) -> ReplayBoard:
    """Open the log of a URL.

    Raises:
        ConfigError: the URL says something that a replay has not. BoardNotFound, ConfigError: see ReplayBoard.
    """
    path, query = split(url)
    return ReplayBoard(path, pace=pace_of(url), target=query.get("board"))


def split(url: str) -> tuple[Path, dict[str, str]]:
    """Return file and options of a replay:// URL; the file's name may be relative, absolute, or begin with ~.

    Raises:
        ConfigError: it names no file, or has other options than `pace` and `board`.
    """
    name, _, text = url.removeprefix(SCHEME).partition("?")
    name = unquote(name)
    if re.match(r"^/[A-Za-z]:", name):  # replay:///C:/log.txt
        name = name[1:]
    pairs = parse_qsl(text, keep_blank_values=True)
    query = dict(pairs)
    if not name or not url.startswith(SCHEME):
        raise ConfigError(f"{url!r} names no log", hint=_EXAMPLE)
    if unknown := sorted(set(query) - {"pace", "board"}):
        raise ConfigError(f"a replay has no {', '.join(unknown)} ({url})", hint=f"{_EXAMPLE}; a ? in a name is %3F")
    if len(query) < len(pairs):
        raise ConfigError(f"{url!r} says something twice", hint=_EXAMPLE)
    return Path(name).expanduser(), query


def pace_of(url: str) -> float:
    """Return how much faster than recorded a URL wants its log; 0 for at once.

    Raises:
        ConfigError: it is no such number.
    """
    text = split(url)[1].get("pace", "1")
    try:
        pace = float(text)
    except ValueError:
        pace = math.nan
    if not (math.isfinite(pace) and pace >= 0):
        raise ConfigError(f"pace in {url!r} is {text!r}", hint="1 as recorded, 10 ten times as fast, 0 at once")
    return pace
