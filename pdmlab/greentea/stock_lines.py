"""The lines with which stock firmware says what it measured, also where threads have torn them: text in, numbers out.

A line gives a size in KB (of 1024 B), a speed in KB/s and a time in s, each rounded to two decimals. The time alone
is coarse; the size over the speed says it again, and finer. So a line tells the stretch of time that fits all three
numbers: its middle, and half its width.

>>> StockLines().take('[FS] Wrote: "mbed-file-test-0.txt" 128.00KB (42.00KB/s, 3.05 secs)')
[Transfer(operation='write', thread=0, bytes=131072, seconds=3.04..., half_s=0.0004...)]
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Operation = Literal["write", "read", "download", "firmware"]

KIB = 1024
PATIENCE = 8
"""Lines after which the rest of a torn one is no longer waited for."""
APART_S = 0.001
"""What may pass between the two readings of a timer that still runs, for the speed and for the time (s)."""

_ANSI = re.compile(r"\x1b\[[0-9;]*[mHJK]")  # mbed_trace's colours, and what clears a line; "\x1b[F" begins no "S]"
_N = r"(\d+(?:\.\d+)?|inf|nan)"
_SPEED = rf"\({_N}KB/s, {_N} secs\)"
_ETA = r"ETA: (\d+):(\d\d):(\d\d)\)"
_FILE = re.compile(rf'\[FS\] (Wrote|Read) ?: "([^"\[\]{{}}]*)" {_N}KB {_SPEED}')
_DOWNLOADED = re.compile(rf"\[NET-(\d+)\] Downloaded: {_N}KB {_SPEED}")
_RECEIVED = re.compile(rf"\[NET-(\d+)\] Received bytes: (\d+), \({_N}%, {_N}KB/s, {_ETA}")
_FIRMWARE_START = re.compile(rf"\[INFO\] Firmware download started\. Size: {_N}KB")
_FIRMWARE = re.compile(rf"\[INFO\] Downloading: {_N}% \({_N}KB/s, {_ETA}")
_FIRMWARE_DONE = re.compile(rf"\[INFO\] Firmware download completed\. {_N}KB in {_N} seconds \({_N}KB/s\)")
_PATTERNS = (_FILE, _DOWNLOADED, _RECEIVED, _FIRMWARE_START, _FIRMWARE, _FIRMWARE_DONE)

_BEGINNING = re.compile(r"\[FS\] (?:Wr|Re)|\[FS\] ?[WR]?$|\[NET-\d+\] (?:Rec|D)|\[NET-\d+\] ?[DR]?$")
_END = re.compile(r"KB/s, [\d.]+ secs\)|%, [\d.]+KB/s, ETA: ")
_WHOLE = re.compile(
    r'\[FS\] (?:Wrote|Read) ?: "[^"\[\]{}]*" [^\[\]{}"]*KB/s, [^\[\]{}"]* secs\)'
    r"|\[NET-\d+\] Downloaded: [^\[\]{}]*KB/s, [^\[\]{}]* secs\)"
)
_WITHOUT_NUMBERS = re.compile(r"\[(?:FS|NET-\d+)\] (?:Wrote|Read ?|Downloaded|Received bytes):.*(?:%\.2f| KB \(KB/s)")

NO_FLOATS = (
    "its printf has no numbers with a point: build with target.printf_lib std, or for Mbed's own printf with "
    "platform.minimal-printf-enable-floating-point true"
)
CONTRADICTION = "size, speed and time do not fit each other: a character was lost or changed"
TORN = "a piece of a line, whose other piece did not come"
MISSHAPEN = "its numbers are not written as stock firmware writes them: 128.00KB (42.00KB/s, 3.05 secs)"


@dataclass(frozen=True)
class Transfer:
    """A whole transfer: bytes, and seconds to half_s either way; the printed size is right to half a step of 10 B."""

    operation: Operation
    thread: int
    bytes: int
    seconds: float
    half_s: float


@dataclass(frozen=True)
class Progress:
    """A step of a download: bytes so far, their share (percent), speed (B/s), and the time that is left (s)."""

    thread: int | None
    received: int | None
    percent: float
    speed: float | None
    eta_s: int


Found: TypeAlias = Transfer | Progress


@dataclass(frozen=True)
class Unread:
    """Text that looks like a measurement, and why it is not taken for one."""

    text: str
    why: str


class StockLines:
    """Takes a console's lines one after the other; what threads have torn apart is put together again.

    unread: what looks like a measurement and is none that could be read.
    """

    def __init__(self) -> None:
        self.unread: list[Unread] = []
        self._torn = ""
        self._waited = 0
        self._firmware_kib: float | None = None

    def take(self, line: str) -> list[Found]:
        """Return what a line says of measurements, in order; nothing for any other line."""
        if "[" not in line and not self._torn and not _END.search(line):
            return []  # most lines
        found: list[Found] = []
        rest = self._take_whole(_ANSI.sub("", line).rstrip(), found)
        if self._torn:
            rest = self._join(rest, found)
        self._keep(rest)
        return found

    def end(self) -> None:
        """Give up a piece of a line whose rest has not come."""
        if self._torn:
            self.unread.append(Unread(self._torn, MISSHAPEN if _WHOLE.match(self._torn) else TORN))
            self._torn = ""

    def _join(self, rest: str, found: list[Found]) -> str:
        """Try whether a line's text ends a torn one, and return what is left of it."""
        count = len(found)
        for between in ("", " "):  # a space at the end of a line may have been stripped
            left = self._take_whole(f"{self._torn}{between}{rest}", found)
            if len(found) > count:
                self._torn = ""
                return left
        self._waited += 1
        if self._waited > PATIENCE:
            self.end()
        return rest

    def _keep(self, rest: str) -> None:
        """Note what is left of a line, if it looks like a measurement or like a piece of one."""
        if _WITHOUT_NUMBERS.search(rest):
            self.unread.append(Unread(rest, NO_FLOATS))
        elif begins := _BEGINNING.search(rest):
            self.end()
            self._torn, self._waited = rest[begins.start() :], 0
        elif _END.search(rest):
            self.unread.append(Unread(rest, TORN))

    def _take_whole(self, text: str, found: list[Found]) -> str:
        """Take whole messages out of a text, and those that close up when they are gone; return what is left."""
        while match := next((match for pattern in _PATTERNS if (match := pattern.search(text))), None):
            text = text[: match.start()] + text[match.end() :]
            try:
                found += self._read(match)
            except (ValueError, OverflowError):
                self.unread.append(Unread(match[0], CONTRADICTION))
        return text

    def _read(self, match: re.Match[str]) -> list[Found]:
        """Return what a whole message says; raise ValueError if it cannot be true."""
        given = match.groups()
        if match.re is _FILE:
            done, name, *numbers = given
            thread = int(number[1]) if (number := re.search(r"(\d+)\.txt$", name)) else 0
            return [_transfer("write" if done == "Wrote" else "read", thread, *numbers)]
        if match.re is _DOWNLOADED:
            return [_transfer("download", int(given[0]), *given[1:])]
        if match.re is _FIRMWARE_DONE:
            kib, seconds, speed = given
            return [_transfer("firmware", 0, kib, speed, seconds)]
        if match.re is _RECEIVED:
            return [_progress(int(given[0]), int(given[1]), *given[2:])]
        if match.re is _FIRMWARE:
            size = self._firmware_kib
            received = round(float(given[0]) / 100 * size * KIB) if size is not None else None
            return [_progress(None, received, *given)]
        self._firmware_kib = float(given[0])
        return []


def _transfer(operation: Operation, thread: int, kib: str, speed: str, seconds: str) -> Transfer:
    low, high = _duration(kib, speed, seconds)
    return Transfer(operation, thread, round(float(kib) * KIB), (low + high) / 2, (high - low) / 2)


def _progress(
    thread: int | None, received: int | None, percent: str, speed: str, hours: str, minutes: str, seconds: str
) -> Progress:
    Bps = round(float(speed) * KIB, 3) if math.isfinite(float(speed)) else None
    return Progress(thread, received, float(percent), Bps, int(hours) * 3600 + int(minutes) * 60 + int(seconds))


def _duration(kib: str, speed: str, seconds: str) -> tuple[float, float]:
    """Return the shortest and the longest time (s) that fit a size, a speed and a time as they were rounded."""
    if not (math.isfinite(float(kib)) and math.isfinite(float(seconds))):
        raise ValueError
    low, high = _stretch(seconds)
    small, large = _stretch(kib)
    if not math.isfinite(float(speed)):  # a size divided by no time at all, or nothing by nothing
        if low > 0 or (speed == "nan" and small > 0):
            raise ValueError
        return low, high
    least, most = _stretch(speed)
    shortest, longest = small / most, large / least if least else math.inf
    if shortest > high + APART_S or longest < low - APART_S:
        raise ValueError
    if shortest > high or longest < low:
        return shortest, longest if least else high + APART_S
    return max(low, shortest), min(high, longest)


def _stretch(text: str) -> tuple[float, float]:
    """Return the least and the greatest number that is printed so, where that is not negative."""
    number, half = float(text), 0.5 * 10.0 ** -len(text.partition(".")[2])
    return max(number - half, 0.0), number + half
