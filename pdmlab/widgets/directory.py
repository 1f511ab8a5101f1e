"""Views of what a service has: its devices, found by part of a name, and what has happened to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from pdmlab.widgets.management import FrameView

if TYPE_CHECKING:
    import pandas as pd

    from pdmlab.cloud.client import Cloud
    from pdmlab.cloud.device import Device

SHOWN = 200
"""Rows that a view shows: the latest events, the first devices."""
_DEVICE = ("endpoint_name", "id", "state", "name", "created_at", "updated_at")
_EVENT = ("date_time", "device_id", "event_type", "description")


class DevicesView(FrameView):
    """The directory; `search` is part of an endpoint name, a name or an id, and `state` one of the states."""

    def __init__(self, cloud: Cloud) -> None:
        self.search = ipywidgets.Text(placeholder="endpoint name, name or id", continuous_update=False)
        self.state = ipywidgets.Dropdown(options=["any state"], layout={"width": "11em"})
        self._cloud = cloud
        super().__init__(self._found, "Devices", "no device is like that: has a board registered?")
        self.children: list[Any] = [ipywidgets.HBox([self.search, self.state]), self.table, self.problem]
        for control in (self.search, self.state):
            control.observe(lambda _: self.look(), names="value")

    def _found(self) -> pd.DataFrame:
        found = self._cloud.devices().frame()[list(_DEVICE)]
        states = ["any state", *sorted(set(found["state"]))]
        if states != list(self.state.options) and self.state.value in states:
            self.state.options = states
        if self.state.value != "any state":
            found = found[found["state"] == self.state.value]
        part = str(self.search.value).strip().lower()
        if part:
            names = found[["endpoint_name", "name", "id"]].fillna("").astype(str)
            found = found[names.apply(lambda column: column.str.lower().str.contains(part, regex=False)).any(axis=1)]
        return found.head(SHOWN)


def devices(cloud: Cloud) -> DevicesView:
    """Show the devices of a service as they come and go. By a call: cloud.devices().frame()."""
    view = DevicesView(cloud)
    view.follow(view.look, every=2.0)
    return view


def events(of: Cloud | Device[Any]) -> FrameView:
    """Show what has happened to a device, or to all of a service, the latest first. By a call: of.events().frame()."""

    def look() -> pd.DataFrame:
        listed: Any = of.events()  # a Cloud's are made for both its kinds
        frame: pd.DataFrame = listed.frame()[list(_EVENT)].iloc[::-1].head(SHOWN)
        return frame

    view = FrameView(look, "Events", "nothing has happened yet")
    view.follow(view.look, every=2.0)
    return view
