"""What came on a key's channel for one who waits: left there by the channel's thread, taken by whoever waits."""

from __future__ import annotations

import asyncio
import queue
import time
from typing import Any, Protocol, TypeAlias

from pdmlab.errors import PdmlabError

Event: TypeAlias = dict[str, Any]
"""An async-response or a notification, as the service's JSON has it."""

_SLICE_S = 0.2  # Ctrl-C gets through between two of them, on Windows too


class Mailbox(Protocol):
    """Events for one who waits, oldest first."""

    def put(self, event: Event | PdmlabError) -> None:
        """Leave an event, or the reason why none will come; from any thread."""
        ...

    async def get(self, timeout: float) -> Event | None:
        """Return the next event; None if there is none within timeout (s). Raise what was left as the reason."""
        ...


class BlockingMailbox:
    """Its `get` blocks the thread."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event | PdmlabError] = queue.SimpleQueue()

    def put(self, event: Event | PdmlabError) -> None:
        self._events.put(event)

    async def get(self, timeout: float) -> Event | None:
        end = time.monotonic() + timeout
        while True:
            try:
                return _taken(self._events.get(timeout=max(0.0, min(_SLICE_S, end - time.monotonic()))))
            except queue.Empty:
                if time.monotonic() >= end:
                    return None


class AwaitedMailbox:
    """Its `get` is awaited on the loop that it was made on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | PdmlabError] = asyncio.Queue()

    def put(self, event: Event | PdmlabError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:
            pass  # the loop has ended, and with it whoever waited

    async def get(self, timeout: float) -> Event | None:
        try:
            return _taken(await asyncio.wait_for(self._events.get(), timeout))
        except TimeoutError:
            return None


def _taken(event: Event | PdmlabError) -> Event:
    if isinstance(event, PdmlabError):
        raise event
    return event
