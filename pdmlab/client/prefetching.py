"""How many blocks of an image a build's client asks for while it writes one: decided by its mbed_app.json.

The stock client has no such setting, and asks for none. It is here for what it would save.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdmlab.client.mbed_app import setting
from pdmlab.errors import ConfigError
from pdmlab.update.prefetch import MOST_AHEAD

KEY = "pdmlab.prefetch"
OPTION = "prefetch"
"""Where an image's options keep it."""


def prefetch(options: Mapping[str, Any]) -> int:
    """Return how many blocks an image's client asks for ahead, 0 to MOST_AHEAD.

    Raises:
        ConfigError: it is no such number.
    """
    return _check(options.get(OPTION, 0), "an image's option 'prefetch'")


def prefetch_of(document: Mapping[str, Any], target: str) -> int | None:
    """Return what an mbed_app.json says for a target; None if it says nothing.

    Raises:
        ConfigError: it says no such number.
    """
    said = setting(document, target, KEY)
    return None if said is None else _check(said, f"{KEY} in mbed_app.json")


def _check(said: Any, where: str) -> int:
    if type(said) is int and 0 <= said <= MOST_AHEAD:
        return said
    raise ConfigError(f"{where} is {said!r}", hint=f"a number of blocks, 0 to {MOST_AHEAD}")
