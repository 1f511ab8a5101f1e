"""Device management for Mbed OS boards on one desk: boards, a client, a service, and notebooks that measure them.

>>> import pdmlab
>>> board = pdmlab.connect("sim://K64F?id=desk1")
>>> service = pdmlab.serve()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import serial

from pdmlab.lazy import lazily

if TYPE_CHECKING:
    from pdmlab.boards import connect, detect
    from pdmlab.client import M2MMethod, SimpleMbedCloudClient
    from pdmlab.cloud import AsyncCloud, Cloud
    from pdmlab.codes import explain
    from pdmlab.experiment import rerun, sweep
    from pdmlab.measurements import calibrate, recommend
    from pdmlab.network import NetworkInterface
    from pdmlab.runs import list_runs, load_run
    from pdmlab.service import serve
    from pdmlab.storage import BlockDevice, FATFileSystem, LittleFileSystem2

# So that pyserial, and any program of this process that uses it, opens sim://K64F.
serial.protocol_handler_packages.append("pdmlab.sim.serial_handlers")

# Loaded where they are first used: `import pdmlab` itself stays light.
_HOMES = {
    "AsyncCloud": "pdmlab.cloud",
    "BlockDevice": "pdmlab.storage",
    "Cloud": "pdmlab.cloud",
    "FATFileSystem": "pdmlab.storage",
    "LittleFileSystem2": "pdmlab.storage",
    "M2MMethod": "pdmlab.client",
    "NetworkInterface": "pdmlab.network",
    "SimpleMbedCloudClient": "pdmlab.client",
    "calibrate": "pdmlab.measurements",
    "connect": "pdmlab.boards",
    "detect": "pdmlab.boards",
    "explain": "pdmlab.codes",
    "list_runs": "pdmlab.runs",
    "load_run": "pdmlab.runs",
    "recommend": "pdmlab.measurements",
    "rerun": "pdmlab.experiment",
    "serve": "pdmlab.service",
    "sweep": "pdmlab.experiment",
}

__all__ = [
    "AsyncCloud",
    "BlockDevice",
    "Cloud",
    "FATFileSystem",
    "LittleFileSystem2",
    "M2MMethod",
    "NetworkInterface",
    "SimpleMbedCloudClient",
    "calibrate",
    "connect",
    "detect",
    "explain",
    "list_runs",
    "load_run",
    "recommend",
    "rerun",
    "serve",
    "sweep",
]


_load = lazily(__name__, _HOMES)


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    if name == "__version__":
        from importlib.metadata import version

        return version("pdmlab")
    return _load(name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
