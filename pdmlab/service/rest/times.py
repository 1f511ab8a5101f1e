"""Times of day as the API writes them, from how rows have them (RFC 3339 in UTC with microseconds)."""

from __future__ import annotations

import datetime


def whole_seconds(text: str | None) -> str | None:
    """Return a time as accounts, keys and certificates show it: 2018-02-13T09:35:20Z."""
    return None if text is None else f"{text[:19]}Z"


def milliseconds(text: str | None) -> int | None:
    """Return a time in ms since 1970."""
    return None if text is None else int(datetime.datetime.fromisoformat(text).timestamp() * 1000)
