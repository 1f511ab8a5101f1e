"""Lists of enrollment identities in files as the vendor's API takes them: CSV, read as it comes and never as a whole.

The first line is a header. Of each other line the first value counts, in quotation marks or not; lines without one
are left out. Whitespace (U+0000 to U+0020) is removed, but not within quotation marks.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

LONGEST = 1024
"""Bytes of a line that are looked at: an identity has 97."""
SHOWN = 128
"""Bytes of what is no identity that are kept, for the report."""

_ENDS = re.compile(rb"[\r\n]")
_BLANK = bytes(range(0x21))


class IdentityLines:
    """Takes a file's bytes, and returns its identities as they become whole."""

    def __init__(self) -> None:
        self._rest = b""
        self._header = True

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return what they complete."""
        *lines, rest = _ENDS.split(self._rest + data)
        # What is behind the first bytes of a line is not looked at, so that it need not be kept.
        self._rest = rest[:LONGEST]
        return self._identities(lines)

    def end(self) -> list[bytes]:
        """Return what a last line has that nothing ends."""
        lines, self._rest = [self._rest], b""
        return self._identities(lines)

    def _identities(self, lines: list[bytes]) -> list[bytes]:
        if self._header and lines:
            self._header = False
            del lines[0]
        return [found for line in lines if line and (found := first_value(line)) is not None]


def first_value(line: bytes) -> bytes | None:
    """Return what a line has before its first comma, at most SHOWN bytes; None if that is nothing."""
    value = line[:LONGEST].strip(_BLANK)
    if value.startswith(b'"'):
        within, closing, behind = value[1:].partition(b'"')
        behind = behind.strip(_BLANK)
        if closing and (not behind or behind.startswith(b",")):
            return within[:SHOWN]
    return value.partition(b",")[0].strip(_BLANK)[:SHOWN] or None


def csv_lines(rows: Iterable[Sequence[object]]) -> bytes:
    """Write rows as CSV by RFC 4180, each value in quotation marks."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
