"""When the next request runs out: one timer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.service.schema import requests

if TYPE_CHECKING:
    from pdmlab.service.core import Core


class Deadline:
    """Calls `over` when the first request that waits has run out; it then asks for the next."""

    def __init__(self, core: Core, over: Callable[[], None]) -> None:
        self._core, self._over = core, over
        self._timer: asyncio.TimerHandle | None = None
        self._first = float("inf")

    def at(self, expires: float) -> None:
        """Know of one more end (Unix s)."""
        if expires < self._first:
            self._arm(expires)

    def next(self) -> None:
        """Look for the first end that is still to come."""
        first = sa.select(sa.func.min(requests.c.expires)).where(requests.c.expires > self._core.now())
        expires = self._core.store.scalar(first)
        self.close()
        if expires is not None:
            self._arm(expires)

    def _arm(self, expires: float) -> None:
        self.close()
        self._first = expires
        left = max(expires - self._core.now(), 0.001)
        self._timer = asyncio.get_running_loop().call_later(left, self._over)

    def close(self) -> None:
        """Wait for none."""
        self._first = float("inf")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
