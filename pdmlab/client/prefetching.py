"""Whether a build's client asks for the next block of an image while it writes the last: decided by its mbed_app.json.

The stock client has no such setting, and does not. It is here for what it would save.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdmlab.client.mbed_app import setting
from pdmlab.errors import ConfigError

KEY = "pdmlab.prefetch"
OPTION = "prefetch"
"""Where an image's options keep it."""


def prefetch_of(document: Mapping[str, Any], target: str) -> bool | None:
    """Return what an mbed_app.json says for a target; None if it says nothing.

    Raises:
        ConfigError: it says neither true nor false.
    """
    said = setting(document, target, KEY)
    if said is None or isinstance(said, bool):
        return said
    raise ConfigError(f"{KEY} is {said!r} in mbed_app.json", hint="true or false")
