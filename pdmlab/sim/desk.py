"""The network that a virtual board finds on its desk: its own interface, and a host that serves the corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.firmware.corpus import corpus
from pdmlab.network.fabric import Fabric
from pdmlab.network.fileserver import serve_files
from pdmlab.network.interface import NetworkInterface
from pdmlab.network.interfaces import INTERFACES, WiFiInterface
from pdmlab.network.nsapi import Security

if TYPE_CHECKING:
    from pdmlab.clock import DeviceClock

DOWNLOADS_HOST = "downloads.pdmlab"
"""The host on every virtual board's own network that serves the corpus, on port 80."""
COMPILED_IN_WIFI = ("desk", "long enough", Security.WPA2)
"""What a build compiles in as nsapi.default-wifi-ssid, -password and -security."""


def make_fabric(clock: DeviceClock, seed: int) -> Fabric:
    """Make a network with nothing on it but the host that serves the corpus."""
    fabric = Fabric(clock, seed)
    serve_files(fabric.host(DOWNLOADS_HOST), {"/corpus.txt": corpus()})
    return fabric


def make_interface(kind: str, clock: DeviceClock, fabric: Fabric, *, name: str, seed: int) -> NetworkInterface:
    """Make a board's interface, with the credentials that a build compiles in."""
    interface = INTERFACES[kind](clock, fabric=fabric, name=name, seed=seed)
    if isinstance(interface, WiFiInterface):
        interface.set_credentials(*COMPILED_IN_WIFI)
    return interface
