"""Ids and times of day as the service writes them."""

from __future__ import annotations

import datetime
import random
import secrets
from collections.abc import Callable


class Ids:
    """Makes ids of 32 hex digits that sort in the order in which they were made; with a seed, the same each time."""

    def __init__(self, now: Callable[[], float], seed: int | None = None) -> None:
        self._now = now
        self._random: random.Random = secrets.SystemRandom() if seed is None else random.Random(seed)
        self._latest = 0
        self._count = 0

    def new(self) -> str:
        """Return a new id: 12 digits of Unix time (ms), 4 of a counter, 16 random ones."""
        ms = max(int(self._now() * 1000), self._latest)
        self._count = self._count + 1 if ms == self._latest else 0
        if self._count > 0xFFFF:
            ms, self._count = ms + 1, 0
        self._latest = ms
        return f"{ms & 0xFFFF_FFFF_FFFF:012x}{self._count:04x}{self._random.getrandbits(64):016x}"


def timestamp(seconds: float) -> str:
    """Return Unix seconds as RFC 3339 in UTC with microseconds, the fraction never left out."""
    # Not strftime, which writes the year 1 with one digit.
    written = datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="microseconds")
    return written.replace("+00:00", "Z")
