"""What device code is powered by, and what ends it when that goes."""

from __future__ import annotations

import contextvars

power_domain: contextvars.ContextVar[object] = contextvars.ContextVar("power_domain", default=None)
"""What the running code is powered by; threads and tasks inherit it, and `halt` can end one domain only."""


class PowerLost(BaseException):
    """The supply went away, or the board was reset, under running device code.

    Not an Exception: no handler in an application may carry on after it.
    """
