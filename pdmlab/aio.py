"""The one bridge from blocking code to asyncio: an event loop in a thread of its own.

>>> loop = LoopThread("example")
>>> loop.run(asyncio.sleep(0, "slept"))
'slept'
>>> loop.close()
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from pdmlab.errors import ConfigError, TimedOut

T = TypeVar("T")

_SLICE = 0.2  # s: how soon Ctrl-C reaches a waiting thread on every operating system
_ENDING = 5.0  # s that cancelled tasks may take


class LoopThread:
    """An event loop that runs in a daemon thread until `close`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=f"pdmlab-{name}", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def __repr__(self) -> str:
        return f"<LoopThread {self.name}, {'running' if self.running else 'closed'}>"

    def __enter__(self) -> LoopThread:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Whether coroutines can be run."""
        return self._thread.is_alive() and not self.loop.is_closed()

    @property
    def inside(self) -> bool:
        """Whether the caller is on the loop's own thread, where `run` would wait for itself."""
        return threading.current_thread() is self._thread

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine on the loop and wait for what it returns or raises; Ctrl-C cancels it.

        Raises:
            TimedOut: timeout (s) is over; the coroutine is cancelled.
            ConfigError: the loop is closed, or the caller is on it.
        """
        if self.inside or not self.running:
            coroutine.close()
            why = "cannot wait for itself" if self.inside else "is closed"
            raise ConfigError(f"the loop {self.name!r} {why}", hint="await the coroutine there, or open another loop")
        job, left = _Job(coroutine), timeout
        try:
            self.loop.call_soon_threadsafe(job.start)
            while not concurrent.futures.wait([job.done], _SLICE if left is None else min(left, _SLICE)).done:
                if left is not None:
                    left -= _SLICE
                    if left <= 0:
                        raise TimedOut(f"no result from the loop {self.name!r} in {timeout:g} s")
                if not self._thread.is_alive():
                    raise ConfigError(f"the loop {self.name!r} was closed meanwhile")
        except BaseException:
            self.call_soon(job.cancel)
            raise
        return job.done.result()

    def call_soon(self, work: Callable[..., object], *args: object) -> None:
        """Call work on the loop, from any thread, and do not wait for it; does nothing on a closed loop."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(work, *args)

    def close(self) -> None:
        """Cancel what still runs, stop the loop and end its thread; a second call does nothing."""
        if not self.running:
            return
        if self.inside:
            raise ConfigError(f"the loop {self.name!r} cannot end its own thread", hint="close it from another one")
        with contextlib.suppress(TimedOut):
            self.run(_cancel_all(), timeout=_ENDING)
        self.call_soon(self.loop.stop)
        self._thread.join(_ENDING)


class _Job(Generic[T]):
    """A coroutine on its way to a loop: however early its caller is interrupted, it is cancelled."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self.done: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._coroutine = coroutine
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        """Begin, on the loop."""
        self._task = asyncio.get_running_loop().create_task(self._coroutine)
        self._task.add_done_callback(self._finished)

    def cancel(self) -> None:
        """End it, on the loop; one that has not begun never does."""
        if self._task is None:
            self._coroutine.close()
        else:
            self._task.cancel()

    def _finished(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.done.set_exception(concurrent.futures.CancelledError())
        elif (error := task.exception()) is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(task.result())


async def _cancel_all() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
