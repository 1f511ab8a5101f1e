"""Threads of device code, which are greenlets on one loop, and the locks between them."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import greenlet
from greenlet import getcurrent

from pdmlab.clock.power import PowerLost, power_domain
from pdmlab.clock.time import SECOND

if TYPE_CHECKING:
    from pdmlab.clock.device import DeviceClock

T = TypeVar("T")

# When a thread ends, greenlet looks in the collector's lists for whoever still holds the thread's main greenlet, and
# gives one reference away if it finds nobody. A clock that is just being collected is in no list: what it holds would
# be freed twice. Nothing is lost without it: a clock ends its greenlets itself.
greenlet.enable_optional_cleanup(False)  # type: ignore[attr-defined]  # its stubs lack it


class DeviceThread(Generic[T]):
    """A thread of device code: a greenlet on its clock."""

    def __init__(self, clock: DeviceClock, work: Callable[[], T], name: str) -> None:
        self.name = name
        self._clock = clock
        self._done: asyncio.Future[T] = clock.loop.create_future()
        self._greenlet = greenlet.greenlet(self._main, parent=clock._hub)
        self._greenlet.gr_context = contextvars.copy_context()
        self._work = work
        self._killed = False
        self.domain = power_domain.get()
        clock._threads[self] = None
        clock.loop.call_soon(self._start)

    def _start(self) -> None:
        if not self._killed:
            self._greenlet.switch()

    def _main(self) -> None:
        try:
            result = self._work()
        except BaseException as error:
            if not self._done.done():
                # StopIteration cannot be set on a future; PowerLost is delivered as it is.
                self._done.set_exception(
                    RuntimeError(f"{self.name} ended in {error!r}") if isinstance(error, StopIteration) else error
                )
                self._done.exception()  # whoever joins sees it; nobody has to
        else:
            if not self._done.done():
                self._done.set_result(result)
        finally:
            self._clock._threads.pop(self, None)

    @property
    def alive(self) -> bool:
        """Whether the thread is still running."""
        return not self._done.done()

    def join(self) -> T:
        """Block the calling device thread until this one ends; return or raise what it did."""
        return self._clock.run(self.wait())

    async def wait(self) -> T:
        """Wait for the thread's end from a coroutine on the same loop."""
        return await asyncio.shield(self._done)

    @property
    def started(self) -> bool:
        """Whether it has begun, and not ended."""
        return bool(self._greenlet)

    def fail(self, error: Exception) -> None:
        """Throw an error into the thread where it waits; call from the loop itself."""
        if self._greenlet:
            self._greenlet.throw(error)

    def kill(self) -> None:
        """Throw PowerLost into the thread until it has ended; call from the loop itself."""
        if self.alive and not self._greenlet and not self._greenlet.dead:  # never started, and never will be
            self._killed = True
            self._clock._threads.pop(self, None)
            self._done.set_exception(PowerLost())
            self._done.exception()
        for _ in range(100):  # a `finally:` of the thread may wait for something once more
            if not self._greenlet:
                return
            self._greenlet.throw(PowerLost())


class DeviceMutex:
    """A recursive lock between greenlets: an RLock does not exclude greenlets of one OS thread.

    Who gives it back hands it to the one that has waited longest, as Mbed's RTX does (rtx_mutex.c): a thread that
    takes it again at once waits its turn, so that none is kept from it.
    """

    __slots__ = ("_clock", "_depth", "_owner", "_waiting")

    def __init__(self, clock: DeviceClock) -> None:
        self._clock = clock
        self._owner: greenlet.greenlet | None = None
        self._depth = 0
        self._waiting: deque[tuple[asyncio.Future[None], greenlet.greenlet]] = deque()

    def acquire(self) -> bool:
        """Take the lock, once more if it is the caller's already; wait for it while it is another's."""
        me = getcurrent()
        if self._owner is None:
            self._owner = me
        elif self._owner is not me:
            self._wait(me)
        self._depth += 1
        return True

    def release(self) -> None:
        """Give the lock back, once for each time that it was taken."""
        self._depth -= 1
        if not self._depth:
            if self._waiting:
                self._hand_over()
            else:
                self._owner = None

    def acquire_and_charge(self, ns: int) -> None:
        """Take the lock, then account for ns; in one step, since every call of a file begins so."""
        me = getcurrent()
        if self._owner is None:
            self._owner = me
        elif self._owner is not me:
            self._wait(me)
        self._depth += 1
        clock = self._clock
        target, loop = clock._base + ns, clock.loop
        due = loop._ready or (loop._scheduled and loop._scheduled[0].when() <= target / SECOND)
        if not due and clock._virtual:
            clock._base = target
            return
        try:
            clock.charge(ns)
        except BaseException:
            self.release()
            raise

    def charge_alone(self, ns: int) -> bool:
        """Account for ns if the lock is free and nothing else would run meanwhile; return whether.

        Then nobody can come between until the caller waits for something: it needs no lock.
        """
        clock = self._clock
        if self._owner is None and clock._virtual:
            loop, target = clock.loop, clock._base + ns
            if not loop._ready and not (loop._scheduled and loop._scheduled[0].when() <= target / SECOND):
                clock._base = target
                return True
        return False

    __enter__ = acquire

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.release()

    def _wait(self, me: greenlet.greenlet) -> None:
        turn: asyncio.Future[None] = self._clock.loop.create_future()
        self._waiting.append((turn, me))
        try:
            self._clock.run(turn)
        except BaseException:
            if self._owner is me:  # ended when its turn had come
                self._hand_over()
            raise

    def _hand_over(self) -> None:
        while self._waiting:
            turn, thread = self._waiting.popleft()
            if not turn.done():
                self._owner = thread
                turn.set_result(None)
                return
        self._owner = None
