"""How firmware gets onto a device: a way for each kind of update client."""

from __future__ import annotations

from typing import Protocol

from pdmlab.service.store import Row

UPDATES = ("/10252/0/", "/5/0/")
"""Where devices tell how their updates go."""
MAX_TRIES = 3
"""Attempts at a device that loses what it is sent."""


class Way(Protocol):
    """One way; each of its steps is a row's `step`, kept before anything depends on it.

    hears        the paths whose values it follows
    looks_often  whether a device is looked at whenever it updates its registration: it may tell nothing by itself
    """

    @property
    def hears(self) -> frozenset[str]: ...

    @property
    def looks_often(self) -> bool: ...

    async def send(self, row: Row) -> bool:
        """Send a device what it is to install; return whether to look at its row again.

        Raises:
            NetworkError: it does not answer.
        """
        ...

    async def look(self, row: Row) -> bool:
        """Find out where a device is that the service has not listened to for a while; return and raise as `send`."""
        ...

    def told(self, row: Row, path: str, number: int) -> None:
        """Follow a number that a device says by itself."""
        ...


def number_of(value: bytes | str | None) -> int | None:
    """Return the whole number that a value is as text; None if it is none."""
    text = (value.decode("utf-8", "replace") if isinstance(value, bytes) else value or "").strip()
    return int(text) if text.lstrip("-").isdecimal() and text.isascii() and len(text) < 8 else None
