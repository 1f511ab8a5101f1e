"""How a build of the client fetches firmware: decided when it is compiled, by its mbed_app.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pdmlab.client.mbed_app import setting
from pdmlab.errors import ConfigError

DownloadProtocol: TypeAlias = Literal["coap", "http"]
"""coap: GET /fw over the LwM2M connection. http: a connection of its own to the host in the manifest's URI."""

KEY = "mbed-cloud-client.update-download-protocol"
_PREFIX = "MBED_CLOUD_CLIENT_UPDATE_DOWNLOAD_PROTOCOL_"


def check(protocol: str | None) -> DownloadProtocol | None:
    """Return a protocol that somebody has named; None stands for the client's own choice, CoAP.

    Raises:
        ConfigError: there is none of that name.
    """
    if protocol == "coap":
        return "coap"
    if protocol == "http":
        return "http"
    if protocol is None:
        return None
    raise ConfigError(f"the client fetches nothing by {protocol!r}", hint="by coap or http")


def download_protocol_of(document: Mapping[str, Any], target: str) -> DownloadProtocol | None:
    """Return what an mbed_app.json says for a target; None if it says nothing.

    Raises:
        ConfigError: it says something else than MBED_CLOUD_CLIENT_UPDATE_DOWNLOAD_PROTOCOL_COAP or _HTTP.
    """
    said = setting(document, target, KEY)
    if said is None:
        return None
    if said not in (f"{_PREFIX}COAP", f"{_PREFIX}HTTP"):
        raise ConfigError(f"{KEY} is {str(said)!r} in mbed_app.json", hint=f"{_PREFIX}COAP or {_PREFIX}HTTP")
    return "http" if said.endswith("HTTP") else "coap"
