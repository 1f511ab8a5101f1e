"""The clock of one board: blocking device code and asyncio code on one loop, in virtual time or with the wall."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from typing import Any, Literal, TypeVar

import greenlet

from pdmlab.clock.halting import Halting, telling
from pdmlab.clock.loop import DeviceLoop
from pdmlab.clock.power import PowerLost
from pdmlab.clock.threads import DeviceMutex, DeviceThread
from pdmlab.clock.time import SECOND, ClockName, Mutex

T = TypeVar("T")
Pace = Literal["virtual", "live"]


def _nothing() -> None:
    return None


class DeviceClock:
    """The clock of one board: an event loop in an OS thread of its own, and greenlets on it.

    >>> with DeviceClock() as clock:
    ...     clock.call(lambda: (clock.sleep(5 * SECOND), clock.now())[1])
    5000000000

    The constructor starts the thread; `close` (or the `with` block) ends it.
    """

    def __init__(self, pace: Pace = "virtual", *, name: str = "board") -> None:
        self._pace: Pace = pace
        self._virtual = pace == "virtual"
        self._base = 0  # virtual: now; live: now when the wall was last read as `_wall`
        self._wall = time.monotonic_ns()
        self._charged = 0  # live only: device time added without waiting
        self._outside = 0  # how many parties outside the simulation are being waited for
        self._threads: dict[DeviceThread[Any], None] = {}
        self.loop = DeviceLoop(self)
        self.loop.set_exception_handler(self._failed)
        self._hub: greenlet.greenlet
        self._halting = Halting(self)
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), name=f"pdmlab-{name}", daemon=True)
        self._thread.start()
        started.wait()

    def _serve(self, started: threading.Event) -> None:
        self._hub = greenlet.getcurrent()
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(started.set)
        try:
            while True:
                try:
                    self.loop.run_forever()
                    break
                except PowerLost:  # meant for device code that kept the thread; it had just given it back
                    continue
            # What began between the halt and the stop, for a datagram that was under way, say, ends here.
            for timer in self.loop._scheduled:
                timer.cancel()
            for _ in range(2):
                for task in asyncio.all_tasks(self.loop):
                    task.cancel()
                self.loop.stop()
                self.loop.run_forever()  # one turn
        finally:
            self.loop.close()

    def __enter__(self) -> DeviceClock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- reading it ------------------------------------------------------------------------------

    @property
    def pace(self) -> Pace:
        """How time passes: `virtual` (jumps) or `live` (with the wall)."""
        return self._pace

    @pace.setter
    def pace(self, pace: Pace) -> None:
        self._base, self._charged, self._wall = self.now(), 0, time.monotonic_ns()
        self._pace, self._virtual = pace, pace == "virtual"

    @property
    def name(self) -> ClockName:
        """`device` when time is simulated; `host` when it passes with the wall."""
        return "device" if self._pace == "virtual" else "host"

    def now(self) -> int:
        """Return device time since the clock was made (ns)."""
        return self._base if self._virtual else self._loop_ns() + self._charged

    def _loop_ns(self) -> int:
        if self._pace == "virtual":
            return self._base
        return self._base + time.monotonic_ns() - self._wall

    # -- spending it, from device code -------------------------------------------------------------

    def charge(self, ns: int) -> None:
        """Account for ns (>= 0) of device time.

        Virtual: other threads and timers due in that time run first. Live: added to `now()` at
        once, since a peer on a real socket has not lived through it.
        """
        if not self._virtual:
            self._charged += ns
            if greenlet.getcurrent() is not self._hub and self.loop.has_ready():
                self._park(0)
            return
        target, loop = self._base + ns, self.loop
        due = loop._ready or (loop._scheduled and loop._scheduled[0].when() <= target / SECOND)
        if not due or greenlet.getcurrent() is self._hub:
            self._base = target  # nobody else would have run: no need to switch
        else:
            self._park(ns)

    def sleep(self, ns: int) -> None:
        """Block the calling device thread for ns."""
        self._park(ns)

    def _park(self, ns: int) -> None:
        me = self._here("sleep")
        target = self._base + ns if self._pace == "virtual" else 0
        handle = self.loop.call_later(ns / SECOND, me.switch) if ns else self.loop.call_soon(me.switch)
        try:
            self._hub.switch()
        finally:
            handle.cancel()
        if self._pace == "virtual" and target:
            self._base = max(self._base, target)  # the loop's float seconds may fall a ns short

    def run(self, awaitable: Awaitable[T]) -> T:
        """Wait, from device code, for a coroutine or future on this clock's loop."""
        me = self._here("wait for a coroutine")
        task: asyncio.Future[T] = asyncio.ensure_future(awaitable, loop=self.loop)
        if not task.done():
            wake: Callable[[object], object] = lambda _: me.switch()
            task.add_done_callback(wake)
            try:
                while not task.done():
                    self._hub.switch()
            except BaseException:
                task.remove_done_callback(wake)
                task.cancel()
                raise
        return task.result()

    def mutex(self) -> Mutex:
        """Make a recursive lock between this clock's device threads."""
        return DeviceMutex(self)

    def spawn(self, work: Callable[..., T], *args: object, name: str = "thread") -> DeviceThread[T]:
        """Start a device thread; call it from device code or from the loop."""
        return DeviceThread(self, functools.partial(work, *args), name)

    def call_soon(self, work: Callable[..., object], *args: object) -> None:
        """Call work on the loop, from any OS thread, and do not wait for it."""
        self.loop.call_soon_threadsafe(work, *args)

    def on_loop(self, work: Callable[..., object], *args: object) -> None:
        """Call work on the loop, and wait until it has returned; from any OS thread, or from the loop's own."""
        if self.inside:
            work(*args)
            return
        done: Future[None] = Future()
        self.loop.call_soon_threadsafe(telling(done, functools.partial(work, *args)))
        done.result()

    async def blocking(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking device code from a coroutine, as a device thread of its own."""
        return await self.spawn(work, *args).wait()

    def _here(self, what: str) -> greenlet.greenlet:
        me = greenlet.getcurrent()
        if me is self._hub:
            raise RuntimeError(f"a coroutine cannot {what} in blocking style: use `await clock.blocking(...)`")
        if threading.current_thread() is not self._thread:
            raise RuntimeError(f"only the board's own code can {what}: use board.run(...) or clock.call(...)")
        return me

    # -- from other OS threads ---------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the clock still runs: close() ends it."""
        return self._thread.is_alive()

    @property
    def on_hub(self) -> bool:
        """Whether the caller is a callback of the loop, which must not block, and no device thread."""
        return self.inside and greenlet.getcurrent() is self._hub

    @property
    def inside(self) -> bool:
        """Whether the caller already runs on this clock's OS thread."""
        return threading.current_thread() is self._thread

    def call(self, work: Callable[..., T], *args: object) -> T:
        """Run device code and wait for it, from any OS thread (or from device code itself).

        Ctrl-C in the waiting thread stops the wait and kills the work.
        """
        if self.inside:
            self._here("call device code")
            return work(*args)
        context = contextvars.copy_context()
        done: Future[T] = Future()
        started: list[DeviceThread[None]] = []

        def work_and_tell() -> None:
            try:
                done.set_result(work(*args))
            except BaseException as error:
                if not done.done():
                    done.set_exception(error)
                if isinstance(error, PowerLost):
                    raise

        self.loop.call_soon_threadsafe(
            lambda: started.append(context.run(self.spawn, work_and_tell, name=getattr(work, "__name__", "call")))
        )

        def abandon() -> None:
            for thread in started:
                thread.kill()

        # Killed before it had begun, a thread cannot tell.
        return self._await(done, abandon, lambda: any(not thread.alive for thread in started))

    def call_async(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the clock's loop and wait for it, from another OS thread."""
        done = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        return self._await(done, done.cancel)

    def _await(self, done: Future[T], abandon: Callable[[], object], lost: Callable[[], bool] = lambda: False) -> T:
        try:
            # In slices, so that Ctrl-C reaches a waiting notebook on every operating system.
            while not wait([done], timeout=0.2).done:
                if not self._thread.is_alive() or (lost() and not done.done()):
                    raise PowerLost
        except BaseException:
            if self._thread.is_alive():
                self.loop.call_soon_threadsafe(abandon)
            raise
        return done.result()

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Keep pace with the wall while somebody outside the simulation is being waited for."""
        self._outside += 1
        try:
            yield
        finally:
            self._outside -= 1

    # -- ending ------------------------------------------------------------------------------------

    def halt(self, domain: object = None, proceed: Callable[[], object] = _nothing) -> None:
        """Kill device threads and tasks (of one power domain, or all), as a reset or a power cut does.

        From any OS thread; returns when they have ended and `proceed` has been called on the loop. Device code
        that halts itself does not return; device code of another domain on the same clock does.

        Raises:
            BoardError: device code is in a call that does not return.
        """
        self._halting.halt(domain, proceed)

    def halt_then(self, proceed: Callable[[], object], domain: object = None) -> None:
        """Halt, then call `proceed` on the loop; call it from the loop, or from device code, which it ends."""
        self._halting.halt_then(proceed, domain)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End device code with the error of a callback: whoever waits for what it would have done waits for ever."""
        error, handle = context.get("exception"), context.get("handle")
        waiting = [thread for thread in self._threads if thread.started]
        if handle is None or not isinstance(error, Exception) or not waiting or not self.on_hub:
            loop.default_exception_handler(context)
            return
        for thread in waiting:
            thread.fail(error)

    def close(self) -> None:
        """Halt, stop the loop and end the clock's OS thread."""
        if not self._thread.is_alive():
            return
        self.halt()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=10)
