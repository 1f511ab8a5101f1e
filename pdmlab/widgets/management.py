"""Views of devices at the service: their resources, and what waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets

from pdmlab.errors import PdmlabError, TimedOut
from pdmlab.widgets.view import View

if TYPE_CHECKING:
    import pandas as pd

    from pdmlab.cloud.device import Device

_NARROW = {"width": "4em"}


class ResourcesView(View):
    """A row a resource: path, name, value, and Obs, R, W and Exe; `rows` has the widgets by path."""

    def __init__(self, device: Device, paths: Sequence[str] | None) -> None:
        self._device = device
        listed = device.resources()
        if paths is not None:
            listed = listed[listed["path"].isin(list(paths))]
        rows: list[Any] = list(listed.itertuples())
        self.rows = {str(row.path): _ResourceRow(self, device, str(row.path), str(row.name)) for row in rows}
        self.problem = ipywidgets.HTML()
        super().__init__([*(row.box for row in self.rows.values()), self.problem], still=self._table)

    def _table(self) -> str:
        rows = "".join(
            f"<tr style='text-align:left'><td><code>{escape(path)}</code></td><td>{escape(row.name)}</td>"
            f"<td>{escape(row.value.value)}</td></tr>"
            for path, row in self.rows.items()
        )
        return f"<table><tr><th>path</th><th>name</th><th>value</th></tr>{rows}</table>"

    def read(self) -> None:
        """Read every resource of the view, one after the other, and show the values."""
        for row in self.rows.values():
            row._try(row._read)

    def close(self) -> None:
        """Take the view off the page, and end its observations."""
        for row in self.rows.values():
            row.observing.value = False
        super().close()


class _ResourceRow:
    def __init__(self, view: ResourcesView, device: Device, path: str, name: str) -> None:
        self.name = name
        self._view = view
        self._device = device
        self._path = path
        self.value = ipywidgets.Text(layout={"width": "16em"})
        self.observing = ipywidgets.ToggleButton(description="Obs", tooltip="device.observe(path)", layout=_NARROW)
        self.observing.observe(self._toggle, names="value")
        self.read = self._button("R", "device.read(path)", self._read)
        self.write = self._button("W", "device.write(path, value)", lambda: device.write(path, self.value.value))
        self.execute = self._button("Exe", "device.execute(path)", lambda: device.execute(path))
        label = ipywidgets.HTML(f"<code>{escape(path)}</code> {escape(name)}", layout={"width": "28em"})
        self.box = ipywidgets.HBox([label, self.observing, self.read, self.write, self.execute, self.value])

    def _button(self, text: str, tooltip: str, work: Callable[[], object]) -> Any:  # ipywidgets ships no types
        button = ipywidgets.Button(description=text, tooltip=tooltip, layout=_NARROW)
        button.on_click(lambda _: self._start(work))
        return button

    def _start(self, work: Callable[[], object]) -> None:
        """Do it in a thread: a device may take half a minute, and a handler that waits holds up all others."""
        threading.Thread(target=self._try, args=(work,), name="pdmlab-view", daemon=True).start()

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
            self._view.problem.value = ""
        except PdmlabError as error:
            self._view.problem.value = f"<pre>{escape(str(error))}</pre>"

    def _read(self) -> None:
        self.value.value = str(self._device.read(self._path))

    def _toggle(self, change: Mapping[str, object]) -> None:
        if change["new"]:
            self._start(self._observe)

    def _observe(self) -> None:
        try:
            with self._device.observe(self._path) as observation:
                self._show(observation)
                while self.observing.value:
                    try:
                        observation.next(0.3)
                    except TimedOut:
                        continue
                    self._show(observation)
        finally:
            self.observing.value = False

    def _show(self, observation: Any) -> None:
        if observation.seen:
            self.value.value = str(observation.seen[-1].value)


def resources(device: Device, paths: Sequence[str] | None = None) -> ResourcesView:
    """Show a device's resources with Obs, R, W and Exe; all of them, or those of `paths`.

    By calls: device.resources(), .observe(path), .read(path), .write(path, value), .execute(path).
    """
    return ResourcesView(device, paths)


class FrameView(View):
    """A frame that is looked at again and again; `problem` says why no more, if the service does not answer."""

    def __init__(self, look: Callable[[], pd.DataFrame], caption: str, empty: str) -> None:
        self._look = look
        self._caption = caption
        self._empty = empty
        self.table = ipywidgets.HTML()
        self.problem = ipywidgets.HTML()
        super().__init__([self.table, self.problem], still=lambda: str(self.table.value))
        self.look()

    def look(self) -> bool:
        """Show the frame as it is now; say whether it can be looked at again."""
        try:
            frame = self._look()
        except PdmlabError as error:
            self.problem.value = f"<small>{escape(error.message)}</small>"
            return False
        body = frame.to_html(index=False) if len(frame) else f"<i>{escape(self._empty)}</i>"
        text = f"<div><b>{escape(self._caption)}</b></div>{body}"
        if text != self.table.value:
            self.table.value = text
        return True


def queue(device: Device) -> FrameView:
    """Show what waits for a device, and why, as it changes. By a call: device.queue()."""

    def look() -> pd.DataFrame:
        waiting = device.queue()
        return waiting[["request", "state", "why", "since", "until"]] if len(waiting) else waiting

    view = FrameView(look, f"Queue of device {device.id}", "nothing waits for the device")
    view.follow(view.look, every=0.5)
    return view
