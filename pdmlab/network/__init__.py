"""The network that a board sees: links with figures from their specifications, an in-memory fabric, Mbed's sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.lazy import lazily

if TYPE_CHECKING:
    from pdmlab.network.fabric import Fabric
    from pdmlab.network.interface import NetworkInterface
    from pdmlab.network.interfaces import (
        CellularInterface,
        EthernetInterface,
        LoWPANInterface,
        MeshInterface,
        ThreadInterface,
        WiFiInterface,
        WisunInterface,
    )
    from pdmlab.network.link import Link, bearers, bearers_frame
    from pdmlab.network.sockets import TCPSocket, UDPSocket

_HOMES = {
    "CellularInterface": "interfaces",
    "EthernetInterface": "interfaces",
    "Fabric": "fabric",
    "Link": "link",
    "LoWPANInterface": "interfaces",
    "MeshInterface": "interfaces",
    "NetworkInterface": "interface",
    "TCPSocket": "sockets",
    "ThreadInterface": "interfaces",
    "UDPSocket": "sockets",
    "WiFiInterface": "interfaces",
    "WisunInterface": "interfaces",
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

__getattr__ = lazily(__name__, _HOMES)
