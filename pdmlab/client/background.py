"""The client's own thread beside the application: tasks, and device code that they may wait for."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pdmlab.clock import DeviceClock, PowerLost

T = TypeVar("T")


class Background:
    """What runs beside the application on a board's clock, until `cancel` or until the board is reset.

    Make it in device code: whatever it runs later, on whoever's behalf, runs on that board.
    """

    def __init__(self, clock: DeviceClock) -> None:
        self.clock = clock
        self.loop = clock.loop
        self._context = contextvars.copy_context()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._turn = asyncio.Lock()

    def spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Start a task; call it from the clock's OS thread. The loop reports what it raises."""
        task: asyncio.Task[object] = self.loop.create_task(work, context=self._context.copy())
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.loop.call_exception_handler({"message": "the client's own thread failed", "exception": error})

    def defer(self, work: Callable[..., object], *args: object) -> None:
        """Call work on the clock's loop, soon; from any OS thread, device thread or callback ("interrupt context")."""
        if self.loop.is_closed():  # the board is gone, and with it all who could hear
            return
        schedule = self.loop.call_soon if self.clock.inside else self.loop.call_soon_threadsafe
        schedule(work, *args, context=self._context.copy())

    async def blocking(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking device code; it ends with the board's power, as the caller does."""
        try:
            return await self.clock.blocking(work, *args)
        except PowerLost:
            raise asyncio.CancelledError from None

    async def call(self, work: Callable[..., T], *args: object) -> T:
        """Call the application back. Callbacks run one after the other, and each may block."""
        async with self._turn:
            return await self.blocking(work, *args)

    def post(self, work: Callable[..., object], *args: object) -> None:
        """Call the application back in its turn, and do not wait for it."""
        self.spawn(self.call(work, *args))

    def cancel(self) -> None:
        """End all tasks but the calling one."""
        current = asyncio.current_task(self.loop) if self.clock.inside else None
        for task in list(self._tasks):
            if task is not current:
                task.cancel()
