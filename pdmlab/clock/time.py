"""What storage and other blocking device code needs of time, and host time for code that runs on no board."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Literal, Protocol, TypeAlias

ClockName = Literal["device", "host"]

MS = 1_000_000
SECOND = 1_000_000_000

Mutex: TypeAlias = contextlib.AbstractContextManager[object, None]
"""A recursive lock between the threads of one clock, held by `with`."""


class Clock(Protocol):
    """What storage and other blocking device code needs of time."""

    @property
    def name(self) -> ClockName:
        """Which clock a row read from it must name: device (simulated) or host."""
        ...

    def now(self) -> int:
        """Return the time since the clock was made (ns)."""
        ...

    def charge(self, ns: int) -> None:
        """Account for ns of device time: on a virtual clock other threads run meanwhile."""
        ...

    def sleep(self, ns: int) -> None:
        """Block the calling device thread for ns."""
        ...

    def mutex(self) -> Mutex:
        """Make a recursive lock between this clock's threads."""
        ...


class WallClock:
    """Host time, for storage code outside any board; `charge` adds to it without waiting."""

    name: ClockName = "host"

    def __init__(self) -> None:
        self._start = time.monotonic_ns()
        self._charged = 0

    def now(self) -> int:
        """Return host time since the clock was made, plus all that was charged (ns)."""
        return time.monotonic_ns() - self._start + self._charged

    def charge(self, ns: int) -> None:
        """Add ns to `now()`; returns at once."""
        self._charged += ns

    def sleep(self, ns: int) -> None:
        """Block the calling thread for ns of host time."""
        time.sleep(ns / SECOND)

    def mutex(self) -> Mutex:
        """Make a recursive lock between OS threads."""
        return threading.RLock()
