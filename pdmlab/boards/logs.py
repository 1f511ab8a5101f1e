"""Saved console logs, however they were saved: who said what, and when.

>>> read_log("fs-single.log")
<log fs-single.log, htrun's, 312 lines of the board in 41.2 s>

Known are the transcripts of `Console.save`, the logs of mbedgt and htrun (and of `pdmlab test -v`), captures of
terminals that put a time before each line (Arduino, tio, minicom, PlatformIO, `ts`, grabserial), and plain text.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pdmlab.boards.console import Line
from pdmlab.errors import BoardNotFound, ConfigError

Format = Literal["transcript", "htrun", "timed", "plain"]
_NAMES = {
    "transcript": "a transcript", "htrun": "htrun's", "timed": "with a time before each line", "plain": "plain text",
}  # fmt: skip
LARGEST = 512 * 1024 * 1024
"""What a log may have (B): it is held in memory."""

_HTRUN = re.compile(r"^\s*(?:\d+: )?\s*\[\+?(\d+(?:\.\d+)?)(ms)?\]\[(\w{4})\]\[(\w{3})\] ?(.*)$")
_FOUND = re.compile(r"^found (?:SYNC|KV pair) in stream: (\{\{.*\}\})(?: it is #\d+ sent)?, queued\.\.\.")
_CLOCK = r"(?P<h>\d{1,2}):(?P<m>\d\d):(?P<s>\d\d(?:[.,]\d{1,6})?)"
_DAY = r"(?P<Y>\d{4})[-/](?P<M>\d\d)[-/](?P<D>\d\d)"
_TIMED = (
    re.compile(rf"^{_CLOCK} (?:->|>) ?"),  # Arduino's serial monitor, PlatformIO's `time` filter
    re.compile(rf"^\[(?:{_DAY}[ T])?{_CLOCK}(?:Z|[+-]\d\d:?\d\d)?\]:? ?"),  # tio, minicom, picocom through a filter
    re.compile(rf"^{_DAY}[ T]{_CLOCK}(?:Z|[+-]\d\d:?\d\d)? "),
    re.compile(rf"^[A-Z][a-z]{{2}} [ \d]\d {_CLOCK} "),  # moreutils' ts
    re.compile(r"^\[\s*(?P<seconds>\d+\.\d+)(?: +\d+\.\d+)?\] "),  # grabserial, and what counts from the start
)
_MOST = 0.8  # of the lines have a time before them, if a log is one of those; others go on from the line before
_BOARD_NAMED = (
    re.compile(r"mbedhtrun\b.*?-m[\s',\"]+(\w+)"),
    re.compile(r"^pdmlab: \S+ on (?:SIMULATED )?(\w+) "),
    re.compile(r"processing target '(\w+)'"),
)
_SIMULATED = re.compile(r"\{\{pdmlab_row;[^}]*\bsimulated=([01])\b|^pdmlab: \S+ on (SIMULATED )")


@dataclass(frozen=True)
class Log:
    """What a saved log holds. Times are s since the epoch, or since its start where it says no more; host clock.

    timed: whether the log says times at all. target: the board that it names; "" if it names none.
    simulated: whether its board was, by the log's own word; None if it does not say.
    """

    path: Path
    format: Format
    lines: list[Line] = field(repr=False)
    timed: bool
    target: str = ""
    simulated: bool | None = None

    @property
    def seconds(self) -> float:
        """From the first line to the last (s); 0 where the log says no times."""
        return self.lines[-1].time - self.lines[0].time if self.timed and self.lines else 0.0

    def __repr__(self) -> str:
        said = sum(line.direction == "board" for line in self.lines)
        took = f" in {self.seconds:.1f} s" if self.timed else ""
        return f"<log {self.path.name}, {_NAMES[self.format]}, {said} lines of the board{took}>"


def read_log(path: Path | str) -> Log:
    """Read a saved console log of whatever form it is.

    Raises:
        BoardNotFound: there is no such file. ConfigError: it cannot be read, or holds no line of a board's.
    """
    path = Path(path)
    if path.suffix in (".parquet", ".csv") and path.is_file():
        lines = _transcript(path)
        found = (
            _read_text(path)
            if lines is None
            else Log(path, "transcript", lines, True, simulated=_simulated(line.text for line in lines))
        )
    else:
        found = _read_text(path)
    if not any(line.direction == "board" for line in found.lines):
        raise ConfigError(f"{path} holds no line that a board printed", hint="is it a console's log?")
    return found


def _read_text(path: Path) -> Log:
    raw = [line.rstrip("\r") for line in _text(path).split("\n")]  # terminals make \r\r\n of a board's \r\n
    raw = raw[:-1] if not raw[-1] else raw
    htrun = [match for line in raw if (match := _HTRUN.match(line))]
    format: Format = "htrun"
    if any(match[3] == "CONN" and match[4] == "RXD" for match in htrun):
        lines, timed = list(_of_htrun(htrun)), True
    elif (timed_lines := _of_times(raw)) is not None:
        format, lines, timed = "timed", timed_lines, True
    else:
        format, lines, timed = "plain", [Line(0.0, "board", line) for line in raw], False
    named = next((match[1] for line in raw for pattern in _BOARD_NAMED if (match := pattern.search(line))), "")
    return Log(path, format, lines, timed, _target(named), _simulated(raw))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path} has more than {LARGEST >> 20} MiB", hint="cut out the part that you want to see")
        data = path.read_bytes()
    except FileNotFoundError:
        raise BoardNotFound(f"there is no log {path}", hint="replay://FILE, from the folder that you are in") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="replay:// takes one file") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # what `>` of a Windows PowerShell writes
        return data.decode("utf-16", "replace")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")


def _of_htrun(matches: Iterable[re.Match[str]]) -> Iterable[Line]:
    """Yield what board and host said in a log of htrun, whose newer versions show key-values apart."""
    matches = list(matches)
    whole = any(match[3] == "CONN" and match[4] == "RXD" and "{{" in match[5] for match in matches)
    for match in matches:
        number, unit, source, kind, text = match.groups()
        time = float(number) / (1000 if unit else 1)
        if source == "CONN" and kind == "RXD":
            yield Line(time, "board", text)
        elif kind == "TXD":
            yield Line(time, "host", text)
        elif source == "CONN" and kind == "INF" and not whole and (found := _FOUND.match(text)):
            yield Line(time, "board", found[1])


def _of_times(raw: list[str]) -> list[Line] | None:
    """Return lines that each have a time before them; None if they have not."""
    said = [line for line in raw if line.strip()]
    for pattern in _TIMED:
        if said and sum(pattern.match(line) is not None for line in said) >= _MOST * len(said):
            return list(_without_times(raw, pattern))
    return None


def _without_times(raw: list[str], pattern: re.Pattern[str]) -> Iterable[Line]:
    before, midnight = 0.0, 0.0
    for line in raw:
        match = pattern.match(line)
        if match is None:
            yield Line(before, "board", line)
            continue
        time = _seconds(match) + midnight
        if "seconds" not in match.re.groupindex and not match.groupdict().get("Y") and time < before - 43_200:
            midnight += 86_400
            time += 86_400
        before = time
        yield Line(time, "board", line[match.end() :])


def _seconds(match: re.Match[str]) -> float:
    found = match.groupdict()
    if "seconds" in found:
        return float(found["seconds"])
    seconds = int(found["h"]) * 3600 + int(found["m"]) * 60 + float(found["s"].replace(",", "."))
    if found.get("Y"):
        try:
            day = datetime.datetime(int(found["Y"]), int(found["M"]), int(found["D"]), tzinfo=datetime.UTC)
        except ValueError:  # a line of the board's own that looks like a date
            return seconds
        return day.timestamp() + seconds
    return seconds


def _transcript(path: Path) -> list[Line] | None:
    """Return the lines of a transcript that Console.save wrote; None if a CSV is none."""
    import pandas as pd

    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas' and pyarrow's errors are these
        if path.suffix == ".csv":
            return None
        raise ConfigError(f"{path} is no Parquet file: {error}", hint="Console.save() writes transcripts") from error
    if not {"time", "direction", "text"} <= set(frame.columns):
        if path.suffix == ".csv":
            return None
        raise ConfigError(
            f"{path} is no transcript: its columns are {', '.join(map(str, frame.columns))}",
            hint="Console.save() writes transcripts; a run is opened by pdmlab.load_run",
        )
    times = pd.to_datetime(frame["time"], utc=True, format="ISO8601" if path.suffix == ".csv" else None)
    return [
        Line(time.timestamp(), "host" if direction == "host" else "board", str(text))
        for time, direction, text in zip(times, frame["direction"], frame["text"], strict=True)
    ]


def _target(name: str) -> str:
    from pdmlab.boards import catalog

    try:
        return catalog.find(name).target if name else ""
    except BoardNotFound:
        return ""


def _simulated(raw: Iterable[str]) -> bool | None:
    said = None
    for line in raw:
        if found := _SIMULATED.search(line):
            if found[1] != "0":
                return True
            said = False
    return said
