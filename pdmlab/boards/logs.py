"""Saved console logs, however they were saved: who said what, and when.

>>> read_log("fs-single.log")
<log fs-single.log, htrun's, 312 lines of the board in 41.2 s>

Known are the transcripts of `Console.save`, the logs of mbedgt and htrun (and of `pdmlab test -v`), captures of
terminals that put a time before each line (Arduino, tio, minicom, PlatformIO, `ts`, grabserial), and plain text.
"""

from __future__ import annotations

import datetime
import re
import stat
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
LEAST_READABLE = 0.7
"""Share of a log's characters that can be read; of random bytes, or bytes at another baud rate, fewer than half can."""

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
    re.compile(r"\bpdmlab \S.* on (\w+)\. Type 'help'\."),  # the greeting of a virtual board's first application
)
_SIMULATED = re.compile(
    r"\{\{pdmlab_row;[^}]*\bsimulated=([01])\b|^pdmlab: \S+ on (?:SIMULATED )|\bpdmlab \S.* on \w+\. Type 'help'\."
)
_DOCUMENT = re.compile(r"\s*<(?:\?xml|!doctype|svg|html)\b", re.IGNORECASE)
LOOKED_AT = 1024 * 1024
"""Characters by which a log is judged to be text."""
_READABLE = "\t\r\n\x07\x08\x1b"  # besides what can be printed


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
    _require_file(path)
    lines = _transcript(path) if path.suffix in (".parquet", ".csv") else None
    if lines is None:
        found = _read_text(path)
    else:
        texts = [line.text for line in lines]
        found = Log(path, "transcript", lines, True, _named(texts), _simulated(texts))
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
    return Log(path, format, lines, timed, _named(raw), _simulated(raw))


def _require_file(path: Path) -> None:
    """Refuse what is no file of a size that can be held: a device or a pipe may never end."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise BoardNotFound(f"there is no log {path}", hint="replay://FILE, from the folder that you are in") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise _unreadable(path, "it is no file, but a folder, device or pipe")
    if found.st_size > LARGEST:
        raise _too_large(path)


def _unreadable(path: Path, why: Exception | str) -> ConfigError:
    return ConfigError(
        f"{path} cannot be read: {getattr(why, 'strerror', None) or why}", hint="replay:// takes one file"
    )


def _too_large(path: Path) -> ConfigError:
    return ConfigError(f"{path} has more than {LARGEST >> 20} MiB", hint="cut out the part that you want to see")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)  # it may grow, or say that it is smaller than it is
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > LARGEST:
        raise _too_large(path)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # what `>` of a Windows PowerShell writes
        text = data.decode("utf-16", "replace")
    else:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    if _DOCUMENT.match(text):
        raise ConfigError(f"{path} is an XML or HTML document, no log", hint="is it a console's log?")
    said = text[:LOOKED_AT].replace("\0", "")  # zeros are what a file is filled up with when the host's power fails
    odd = sum(not letter.isprintable() or letter == "\ufffd" for letter in said) - sum(map(said.count, _READABLE))
    if text and odd >= (1 - LEAST_READABLE) * len(said):
        raise ConfigError(
            f"{path} is hardly text: {odd} of its {len(said)} characters cannot be read" if said
            else f"{path} holds zeros and no text",
            hint="is it a console's log, captured at the board's baud rate?",
        )  # fmt: skip
    return text


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
    try:
        times = pd.to_datetime(frame["time"], utc=True, format="ISO8601" if path.suffix == ".csv" else None)
    except (ValueError, TypeError) as error:
        why = str(error).split(". ")[0]  # pandas goes on with what its caller might try
        raise ConfigError(f"{path} is no transcript: {why}", hint=_TIMES) from error
    if times.isna().any():
        raise ConfigError(f"{path} is no transcript: line {int(times.isna().argmax()) + 1} has no time", hint=_TIMES)
    return [
        Line(time.timestamp(), "host" if direction == "host" else "board", str(text))
        for time, direction, text in zip(times, frame["direction"], frame["text"], strict=True)
    ]


_TIMES = "its column `time` is as Console.save() writes it: 2026-01-02T12:34:56.789Z"


def _named(raw: Iterable[str]) -> str:
    """Return the target of the board that a log names; "" if it names none."""
    return _target(next((match[1] for line in raw for pattern in _BOARD_NAMED if (match := pattern.search(line))), ""))


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
