"""How often something may be done for others: so many times a second, and as many at once after a pause."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

_MAX_KEYS = 1024


class Allowance:
    """A number of times a second, saved up for one second at most; time is the running loop's."""

    __slots__ = ("_a_second", "_left", "_loop", "_when")

    def __init__(self, a_second: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._a_second = a_second
        self._left = a_second
        self._when = self._loop.time()

    def __repr__(self) -> str:
        return f"<Allowance of {self._a_second:g} a second, {self._left:g} left>"

    def take(self, count: float = 1) -> bool:
        """Return whether it may be done that often now, and count it if so."""
        now = self._loop.time()
        self._left = min(self._a_second, self._left + (now - self._when) * self._a_second)
        self._when = now
        if self._left < count:
            return False
        self._left -= count
        return True


class Allowances:
    """One allowance for each key, such as a host; those not asked for longest are forgotten."""

    def __init__(self, a_second: float) -> None:
        self._a_second = a_second
        self._of: OrderedDict[str, Allowance] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Allowances of {self._a_second:g} a second for {len(self._of)}>"

    def of(self, key: str) -> Allowance:
        """Return the allowance of one."""
        if (known := self._of.get(key)) is not None:
            self._of.move_to_end(key)
            return known
        if len(self._of) >= _MAX_KEYS:
            self._of.popitem(last=False)
        return self._of.setdefault(key, Allowance(self._a_second))
