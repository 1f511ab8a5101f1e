"""The network that a board sees: links with figures from their specifications, an in-memory fabric, Mbed's sockets."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdmlab.network.fabric import Fabric
    from pdmlab.network.interface import (
        CellularInterface,
        EthernetInterface,
        LoWPANInterface,
        MeshInterface,
        NetworkInterface,
        ThreadInterface,
        WiFiInterface,
        WisunInterface,
    )
    from pdmlab.network.link import Link, bearers, bearers_frame
    from pdmlab.network.sockets import TCPSocket, UDPSocket

_HOMES = {
    "CellularInterface": "interface",
    "EthernetInterface": "interface",
    "Fabric": "fabric",
    "Link": "link",
    "LoWPANInterface": "interface",
    "MeshInterface": "interface",
    "NetworkInterface": "interface",
    "TCPSocket": "sockets",
    "ThreadInterface": "interface",
    "UDPSocket": "sockets",
    "WiFiInterface": "interface",
    "WisunInterface": "interface",
    "bearers": "link",
    "bearers_frame": "link",
}

__all__ = [
    "CellularInterface",
    "EthernetInterface",
    "Fabric",
    "Link",
    "LoWPANInterface",
    "MeshInterface",
    "NetworkInterface",
    "TCPSocket",
    "ThreadInterface",
    "UDPSocket",
    "WiFiInterface",
    "WisunInterface",
    "bearers",
    "bearers_frame",
]


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'pdmlab.network' has no attribute {name!r}") from None
    value = getattr(import_module(f"pdmlab.network.{home}"), name)
    globals()[name] = value
    return value
