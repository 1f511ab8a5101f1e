"""The applications that an image can name, and where they are."""

from __future__ import annotations

from importlib import import_module

from pdmlab.errors import ImageRejected
from pdmlab.firmware.device import Application

APPLICATIONS: dict[str, str] = {
    "fs-single": "pdmlab.firmware.fs_suites:fs_single",
    "fs-multi": "pdmlab.firmware.fs_suites:fs_multi",
    "net-single": "pdmlab.firmware.net_suites:net_single",
    "net-multi": "pdmlab.firmware.net_suites:net_multi",
    "stress-net-fs": "pdmlab.firmware.net_suites:stress_net_fs",
    "connect": "pdmlab.firmware.connect:connect",
    "update": "pdmlab.firmware.update:update",
    "example": "pdmlab.firmware.example:example",
    "lwm2m": "pdmlab.firmware.lwm2m:lwm2m",
    "idle": "pdmlab.firmware.idle:idle",
}
SUITES = ("fs-single", "fs-multi", "net-single", "net-multi", "stress-net-fs", "connect", "update")

_in_process: dict[str, Application] = {}


def register(name: str, application: Application) -> None:
    """Make a function of this process available to images under a name (VirtualBoard.run does)."""
    _in_process[name] = application


def find(name: str) -> Application:
    """Return the application of that name.

    Raises:
        ImageRejected: no application of that name is known to this process.
    """
    if name in _in_process:
        return _in_process[name]
    try:
        module, function = APPLICATIONS[name].split(":")
    except KeyError:
        raise ImageRejected(
            f"the image names the application {name!r}, which this process does not know",
            hint=f"known are {', '.join(APPLICATIONS)}",
        ) from None
    application: Application = getattr(import_module(module), function)
    return application
