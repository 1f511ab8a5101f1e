"""What happens when the process has no more descriptors: connections that wait for nothing of ours go first."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any

from pdmlab.service.http_guard import Waiting

SAID_EVERY_S = 60.0
"""How often it is said in the log: asyncio does for each connection that it cannot accept, a hundred at a time."""

_log = logging.getLogger(__name__)
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Scarcity:
    """A loop's exception handler, in front of the one that it had."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._before = loop, loop.get_exception_handler()
        self._groups: list[Waiting] = []
        self._said: float | None = None

    @classmethod
    def watch(cls, *groups: Waiting) -> Scarcity:
        """Let connections of these groups go when the running loop can accept no more."""
        loop = asyncio.get_running_loop()
        found = loop.get_exception_handler()
        if not isinstance(found, cls):
            found = cls(loop)
            loop.set_exception_handler(found)
        found._groups += groups
        return found

    def forget(self, *groups: Waiting) -> None:
        """Look at these groups no more."""
        self._groups = [each for each in self._groups if each not in groups]

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "socket" in context and isinstance(error, OSError) and error.errno in _SCARCE:
            self._make_room(error)
        elif self._before is not None:
            self._before(loop, context)
        else:
            loop.default_exception_handler(context)

    def _make_room(self, error: OSError) -> None:
        dropped = sum(group.drop_all() for group in self._groups)
        now = self._loop.time()
        if self._said is None or now - self._said >= SAID_EVERY_S:
            self._said = now
            _log.error(
                "no connection can be accepted: %s; %d that were idle, or asked nothing yet, were closed",
                error.strerror,
                dropped,
            )
