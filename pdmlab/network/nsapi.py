"""Mbed's network (NSAPI) codes and states, and the errors that carry them."""

from __future__ import annotations

import tomllib
from enum import IntEnum
from functools import cache
from importlib.resources import files

from pdmlab.errors import NetworkError, TimedOut, Unreachable, WouldBlock


class NsapiError(IntEnum):
    """nsapi_size_or_error_t of Mbed OS 5 and 6; what each means stands in codes.toml."""

    WOULD_BLOCK = -3001
    UNSUPPORTED = -3002
    PARAMETER = -3003
    NO_CONNECTION = -3004
    NO_SOCKET = -3005
    NO_ADDRESS = -3006
    NO_MEMORY = -3007
    NO_SSID = -3008
    DNS_FAILURE = -3009
    DHCP_FAILURE = -3010
    AUTH_FAILURE = -3011
    DEVICE_ERROR = -3012
    IN_PROGRESS = -3013
    ALREADY = -3014
    IS_CONNECTED = -3015
    CONNECTION_LOST = -3016
    CONNECTION_TIMEOUT = -3017
    ADDRESS_IN_USE = -3018
    TIMEOUT = -3019
    BUSY = -3020


class ConnectionStatus(IntEnum):
    """nsapi_connection_status: what get_connection_status() returns."""

    NSAPI_STATUS_LOCAL_UP = 0
    NSAPI_STATUS_GLOBAL_UP = 1
    NSAPI_STATUS_DISCONNECTED = 2
    NSAPI_STATUS_CONNECTING = 3


class Security(IntEnum):
    """nsapi_security: how a Wi-Fi network is protected."""

    NONE = 0
    WEP = 1
    WPA = 2
    WPA2 = 3
    WPA_WPA2 = 4


_CLASSES: dict[NsapiError, type[NetworkError]] = {
    NsapiError.WOULD_BLOCK: WouldBlock,
    NsapiError.NO_CONNECTION: Unreachable,
    NsapiError.NO_ADDRESS: Unreachable,
    NsapiError.NO_SSID: Unreachable,
    NsapiError.DNS_FAILURE: Unreachable,
    NsapiError.CONNECTION_LOST: Unreachable,
    NsapiError.CONNECTION_TIMEOUT: TimedOut,
    NsapiError.TIMEOUT: TimedOut,
}


def nsapi_error(code: NsapiError, what: str, *, hint: str | None = None) -> NetworkError:
    """Make the error for a code: `what` happened, to what, after how long; the code's advice unless hint is given."""
    error = _CLASSES.get(code, NetworkError)
    return error(f"{what} (NSAPI_ERROR_{code.name}, {code.value})", code=code.value, hint=hint or _advice()[code])


@cache
def _advice() -> dict[int, str]:
    with files("pdmlab.network").joinpath("codes.toml").open("rb") as file:
        table: dict[str, dict[str, str]] = tomllib.load(file)
    return {int(code): row["do"] for code, row in table.items()}
