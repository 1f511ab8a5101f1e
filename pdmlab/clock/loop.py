"""An event loop whose time is its clock's: on a virtual clock it jumps to its next timer."""

from __future__ import annotations

import asyncio
import selectors
import socket
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from pdmlab.clock.power import power_domain
from pdmlab.clock.time import SECOND

if TYPE_CHECKING:
    from pdmlab.clock.device import DeviceClock

T = TypeVar("T")


class DeviceLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is its clock's."""

    # The four below are asyncio's own; every supported interpreter has them, and
    # tests/test_clock.py would fail on one that had not.
    _ready: deque[object]
    _scheduled: list[asyncio.TimerHandle]
    _transports: Mapping[int, asyncio.WriteTransport]
    _selector: selectors.BaseSelector

    def __init__(self, clock: DeviceClock) -> None:
        self._clock = clock
        super().__init__(JumpingSelector(clock))
        self.domains: weakref.WeakKeyDictionary[asyncio.Task[Any], object] = weakref.WeakKeyDictionary()
        self.set_task_factory(self._new_task)

    def _new_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        # The options are asyncio's own, and grow with its versions.
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
        context = options.get("context")
        self.domains[task] = context.get(power_domain) if context is not None else power_domain.get()
        return task

    def time(self) -> float:
        return self._clock._loop_ns() / SECOND

    def has_ready(self) -> bool:
        """Whether a callback waits for its turn."""
        return bool(self._ready)

    def abort_transports(self) -> None:
        """Drop every open socket without a word to its peer, as a device without power does."""
        for transport in list(self._transports.values()):
            transport.abort()
        for key in list(self._selector.get_map().values()):
            real = key.fileobj  # a number where it is a transport's, or asyncio's own
            if isinstance(real, socket.socket):
                self.remove_reader(real)
                self.remove_writer(real)
                real.close()

    def run_in_executor(  # type: ignore[override]
        self, executor: ThreadPoolExecutor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        # Work in a thread passes in wall time: the clock must not jump over it.
        self._clock._outside += 1
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)

        def finished(_: object) -> None:
            self._clock._outside -= 1

        future.add_done_callback(finished)
        return future


class JumpingSelector(selectors.DefaultSelector):
    """A selector that, on a virtual clock, makes time jump instead of waiting for it."""

    def __init__(self, clock: DeviceClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        clock = self._clock
        if clock._pace == "live" or timeout is None or timeout <= 0:
            return super().select(timeout)
        if clock._outside:
            before = time.monotonic_ns()
            events = super().select(timeout)
            clock._base += min(time.monotonic_ns() - before, round(timeout * SECOND))
            return events
        events = super().select(0)
        if not events:
            clock._base += max(round(timeout * SECOND), 1)
        return events
