"""The largest block of a build's client: decided when it is compiled, by its mbed_app.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdmlab.client.mbed_app import setting
from pdmlab.errors import ConfigError

KEY = "mbed-client.sn-coap-max-blockwise-payload-size"
OPTION = "block_size"
"""Where an image's options keep it."""
DEFAULT = 512
"""SN_COAP_MAX_BLOCKWISE_PAYLOAD_SIZE of the stock client (B)."""
SIZES = (16, 32, 64, 128, 256, 512, 1024)
"""What CoAP's block options can say (B): RFC 7959, 2.2."""


def block_size(options: Mapping[str, Any]) -> int:
    """Return the largest block that an image's client asks for (B).

    Raises:
        ConfigError: it is none of SIZES.
    """
    return check(options.get(OPTION, DEFAULT))


def check(size: Any) -> int:
    """Return a size of a block that somebody has named (B).

    Raises:
        ConfigError: it is none of SIZES.
    """
    if type(size) is not int or size not in SIZES:
        raise ConfigError(f"the client's largest block is {size!r}", hint=f"one of {', '.join(map(str, SIZES))} B")
    return size


def block_size_of(document: Mapping[str, Any], target: str) -> int | None:
    """Return what an mbed_app.json says for a target (B); None if it says nothing.

    Raises:
        ConfigError: it says something that a block cannot have.
    """
    said = setting(document, target, KEY)
    if said is None:
        return None
    try:
        return check(said)
    except ConfigError as error:
        raise ConfigError(f"{KEY} in mbed_app.json: {error.message}", hint=error.hint) from error
