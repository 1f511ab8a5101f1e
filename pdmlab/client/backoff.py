"""How long the client waits before it tries again: longer each time, and never all devices at once."""

from __future__ import annotations

from random import Random

SPREAD = 0.1
HOUR = 3600.0


class Backoff:
    """Delays (s) that double from a first one, each 10 % more or less, up to a longest one."""

    def __init__(self, random: Random, first: tuple[float, float], longest: float) -> None:
        self._random = random
        self._first = first
        self._longest = longest
        self._next: float | None = None

    def next(self) -> float:
        """Return the next delay (s)."""
        if self._next is None:
            delay = self._random.uniform(*self._first)
        else:
            delay = self._next * self._random.uniform(1 - SPREAD, 1 + SPREAD)
        delay = min(delay, self._longest)
        self._next = 2 * delay
        return delay

    def reset(self) -> None:
        """Start from the first delay again."""
        self._next = None


def reconnection(random: Random) -> Backoff:
    """After a server that does not answer: 10 s and a round trip of 3 s, doubled up to 4 hours."""
    return Backoff(random, (13 * (1 - SPREAD), 13 * (1 + SPREAD)), 4 * HOUR)


def rebootstrapping(random: Random) -> Backoff:
    """After a server that refuses the credentials: 20 to 100 s, doubled up to 6 hours."""
    return Backoff(random, (20.0, 100.0), 6 * HOUR)
