"""A service in tabs: its devices, one of them closely, campaigns, events, messages and credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets

from pdmlab.errors import PdmlabError
from pdmlab.widgets.directory import devices, events
from pdmlab.widgets.handing_out import credentials
from pdmlab.widgets.logs import messages
from pdmlab.widgets.management import FrameView, queue, resources
from pdmlab.widgets.view import View

if TYPE_CHECKING:
    import pandas as pd

    from pdmlab.cloud.client import Cloud

MOST = 1_000
"""Devices that can be chosen from a list: the first."""
_CAMPAIGN = ("name", "phase", "device_filter", "started_at", "finished")


class DeviceView(View):
    """One device, chosen from a list: its resources, what waits for it, and its messages."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._views: list[View] = []
        self.chosen = ipywidgets.Dropdown(description="Device", layout={"width": "34em"})
        self.again = ipywidgets.Button(icon="refresh", tooltip="List the devices anew", layout={"width": "3em"})
        self.problem = ipywidgets.HTML()
        super().__init__([], still=self._table)
        self.chosen.observe(lambda _: self.show(), names="value")
        self.again.on_click(lambda _: self.list())
        self.list()

    def list(self) -> None:
        """List the registered devices."""
        try:
            found = self._cloud.devices(state="registered").frame().head(MOST)
        except PdmlabError as error:
            self.problem.value = f"<pre>{escape(str(error))}</pre>"
            return
        rows: Iterable[Any] = found.itertuples()
        names = [f"{row.endpoint_name or row.name or '(no name)'} · {row.id}" for row in rows]
        before, ids = self.chosen.value, list(found["id"])
        self.chosen.options = list(zip(names, ids, strict=True))
        self.chosen.value = before if before in ids else ids[0] if ids else None
        if not ids:
            self.show()

    def show(self) -> None:
        """Show the device that is chosen."""
        for view in self._views:
            view.close()
        self._views, self.problem.value = [], ""
        if self.chosen.value is None:
            self.problem.value = "<i>no device is registered</i>"
        else:
            try:
                device: Any = self._cloud.device(str(self.chosen.value))
                self._views = [resources(device), queue(device), messages(device)]
            except PdmlabError as error:
                self.problem.value = f"<pre>{escape(str(error))}</pre>"
        self.children = [ipywidgets.HBox([self.chosen, self.again]), self.problem, *self._views]

    def _table(self) -> str:
        names = [name for name, id in self.chosen.options if id == self.chosen.value] or ["no device"]
        return f"<div><b>{escape(names[0])}</b></div>" + "".join(each._still() for each in self._views)

    def close(self) -> None:
        """Take the view off the page, with all that it shows of the device."""
        for view in getattr(self, "_views", ()):
            view.close()
        super().close()


class ServiceView(View):
    """The tabs; `views` has what is in them by title."""

    def __init__(self, cloud: Cloud) -> None:
        made: dict[str, Callable[[], View]] = {
            "Devices": lambda: devices(cloud),
            "One device": lambda: DeviceView(cloud),
            "Campaigns": lambda: _campaigns(cloud),
            "Events": lambda: events(cloud),
            "Messages": lambda: messages(cloud),
            "Credentials": lambda: credentials(cloud),
        }
        self.views = {title: make() for title, make in made.items()}
        self.tabs = ipywidgets.Tab(children=list(self.views.values()), titles=list(self.views))
        super().__init__([self.tabs], still=self._every)

    def _every(self) -> str:
        return "".join(f"<h4>{title}</h4>{view._still()}" for title, view in self.views.items())

    def close(self) -> None:
        """Take the view off the page, with all that is in its tabs."""
        for view in getattr(self, "views", {}).values():
            view.close()
        super().close()


def _campaigns(cloud: Cloud) -> FrameView:
    def look() -> pd.DataFrame:
        return cloud.campaigns().frame()[list(_CAMPAIGN)].iloc[::-1]

    view = FrameView(look, "Campaigns", "there is no campaign")
    view.follow(view.look, every=2.0)
    return view


def service(cloud: Cloud) -> ServiceView:
    """Show a service in tabs. Outside of notebooks its page has the same: service.page().open().

    By calls: cloud.devices(), cloud.device(id), cloud.campaigns(), cloud.events(), cloud.messages().
    """
    return ServiceView(cloud)
