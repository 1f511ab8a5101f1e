"""What a reset or a power cut does to a clock's code: its device threads and tasks end, and then something happens."""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

import greenlet

from pdmlab.clock.power import PowerLost, power_domain
from pdmlab.clock.threads import DeviceThread
from pdmlab.errors import BoardError

if TYPE_CHECKING:
    from pdmlab.clock.device import DeviceClock

HOGGED = 2.0
"""Seconds (host) that device code may run without waiting for anything before a halt interrupts it."""

PATIENCE = 5
"""How many times HOGGED a halt lasts before it says that it cannot; the loop's own code is interrupted once, late."""


class Halting:
    """Ends the code of one clock, or of one power domain on it; `DeviceClock.halt` and `halt_then` say how."""

    def __init__(self, clock: DeviceClock) -> None:
        self._clock = clock

    def halt(self, domain: object, proceed: Callable[[], object]) -> None:
        """End it, and return when `proceed` has been called on the loop."""
        clock = self._clock
        if clock.inside:
            self._halt_inside(domain, proceed)
            return
        done: Future[None] = Future()
        clock.loop.call_soon_threadsafe(self.halt_then, telling(done, proceed), domain)
        for turn in range(1, PATIENCE + 1):
            if wait([done], timeout=HOGGED).done:
                return done.result()
            # A loop that has not had its turn on a busy machine gets it yet; one whose callback never returns, never.
            if turn < PATIENCE and (self.device_code_runs() or turn == PATIENCE - 1):
                self._interrupt()
        raise BoardError(
            f"the code of {clock._thread.name} has not given up its thread after {PATIENCE * HOGGED:g} s (host clock)",
            hint="it is in a call that does not return; restart the kernel",
        )

    def halt_then(self, proceed: Callable[[], object], domain: object) -> None:
        """End it from the loop, or from the device code that it is, and call `proceed` on the loop."""
        clock = self._clock

        def halt() -> None:
            self._kill(domain)
            # One more turn of the loop, so that cancelled tasks have ended.
            clock.loop.call_soon(clock.loop.call_soon, proceed)

        # Only the hub may kill: a killed greenlet returns to its parent, not to its killer.
        if greenlet.getcurrent() is clock._hub:
            halt()
            return
        clock.loop.call_soon(halt)
        while True:
            clock._hub.switch()

    def _halt_inside(self, domain: object, proceed: Callable[[], object]) -> None:
        clock = self._clock
        if clock.on_hub or domain is None or power_domain.get() is domain:
            self.halt_then(proceed, domain)
            return
        done: asyncio.Future[None] = clock.loop.create_future()

        def finish() -> None:
            proceed()
            done.set_result(None)

        clock.loop.call_soon(self.halt_then, finish, domain)
        clock.run(done)

    def _kill(self, domain: object) -> None:
        loop = self._clock.loop
        for thread in list(self._clock._threads):
            if domain is None or thread.domain is domain:
                thread.kill()
        for task in asyncio.all_tasks(loop):
            if domain is None or loop.domains.get(task) is domain:
                task.cancel()
        if domain is None:
            loop.abort_transports()

    def device_code_runs(self) -> bool:
        """Whether a device thread has the clock's OS thread right now, and not the loop."""
        frame = sys._current_frames().get(self._clock._thread.ident or 0)
        while frame is not None and frame.f_code is not DeviceThread._main.__code__:
            frame = frame.f_back
        return frame is not None

    def _interrupt(self) -> None:
        """Throw PowerLost into code that loops without ever waiting, and so keeps the loop from its turn.

        What is thrown can be lost where it arrives, in a callback of the collector say: who needs it throws again.
        """
        ident = self._clock._thread.ident
        assert ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(PowerLost))


def telling(done: Future[None], work: Callable[[], object]) -> Callable[[], None]:
    """Return work that tells another OS thread how it ended."""

    def work_and_tell() -> None:
        try:
            work()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    return work_and_tell
