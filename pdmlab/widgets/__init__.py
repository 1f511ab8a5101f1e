"""Views in a notebook: thin ipywidgets over public calls.

Each is a `View`: it shows live in JupyterLab, and as a still picture or table where no kernel answers (an HTML
report, a repository's page). Whatever a view does can be done by a call as well; its documentation names it.

>>> explore(run.frame, x="buffer_B", y="throughput_kBps", by="bus_Hz", over=["sync_every_B"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.lazy import lazily

if TYPE_CHECKING:
    from pdmlab.widgets.cutting import power_cuts
    from pdmlab.widgets.directory import devices, events
    from pdmlab.widgets.drawing import explore, redraw
    from pdmlab.widgets.handing_out import credentials
    from pdmlab.widgets.logs import messages
    from pdmlab.widgets.management import queue, resources
    from pdmlab.widgets.serial import console
    from pdmlab.widgets.stopping import stop_button
    from pdmlab.widgets.tabs import service
    from pdmlab.widgets.updates import campaign
    from pdmlab.widgets.view import View

_HOMES = {
    "View": "view",
    "campaign": "updates",
    "console": "serial",
    "credentials": "handing_out",
    "devices": "directory",
    "events": "directory",
    "explore": "drawing",
    "messages": "logs",
    "power_cuts": "cutting",
    "queue": "management",
    "redraw": "drawing",
    "resources": "management",
    "service": "tabs",
    "stop_button": "stopping",
}
__all__ = [
    "View", "campaign", "console", "credentials", "devices", "events", "explore", "messages", "power_cuts", "queue",
    "redraw", "resources", "service", "stop_button",
]  # fmt: skip

__getattr__ = lazily(__name__, _HOMES)
