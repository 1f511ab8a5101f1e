"""SplitMix64: the generator behind jitter and loss, so that a seed means the same on every Python."""

from __future__ import annotations

_MASK = (1 << 64) - 1


class SplitMix64:
    """Steele, Lea and Flood's SplitMix64 (OOPSLA 2014, "Fast splittable pseudorandom number generators").

    >>> SplitMix64(1234567).next()
    6457827717110365317
    """

    def __init__(self, seed: int = 0) -> None:
        self._state = seed & _MASK

    def next(self) -> int:
        """Return the next 64 random bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
        return z ^ (z >> 31)

    def random(self) -> float:
        """Return a number in [0, 1)."""
        return (self.next() >> 11) / (1 << 53)

    def below(self, n: int) -> int:
        """Return an integer in [0, n); n > 0."""
        return self.next() * n >> 64

    def split(self, name: str) -> SplitMix64:
        """Make an independent generator for a named part, which draws nothing from this one."""
        state = self._state
        for byte in name.encode():
            state = SplitMix64(state ^ byte).next()
        return SplitMix64(state)
