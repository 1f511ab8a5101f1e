"""What storage and other blocking device code needs of time, and host time for code that runs on no board."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Literal, Protocol

ClockName = Literal["device", "host"]

MS = 1_000_000
SECOND = 1_000_000_000


class Mutex(Protocol):
    """A recursive lock between the threads of one clock, held by `with`; where speed counts, taken and given back."""

    def acquire(self) -> object:
        """Take it; wait while another thread has it."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...

    def acquire_and_charge(self, ns: int) -> None:
        """Take it, then account for ns of device time."""
        ...

    def charge_alone(self, ns: int) -> bool:
        """Account for ns without taking it, if nobody could come between; return whether."""
        ...

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


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
        return _ThreadMutex(self)


class _ThreadMutex:
    """A lock between OS threads, between which anything may come at any time."""

    def __init__(self, clock: WallClock) -> None:
        lock = threading.RLock()
        self.acquire, self.release = lock.acquire, lock.release
        self._clock = clock

    def acquire_and_charge(self, ns: int) -> None:
        self.acquire()
        self._clock.charge(ns)

    def charge_alone(self, ns: int) -> bool:
        return False

    def __enter__(self) -> object:
        return self.acquire()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.release()
