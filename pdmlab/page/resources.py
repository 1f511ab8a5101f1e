"""A device's resources, object by object: name, value, format, and Obs, R, W and Exe, as LwM2M servers have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.registry import core_objects
from pdmlab.page import words
from pdmlab.page.frame import Frame, button, panel
from pdmlab.page.resource import Row
from pdmlab.page.seat import Sample

UNIT, MEASURED = "5701", ("5700", "5601", "5602", "5603", "5604")
"""The resource of a sensor that has its unit, and those that are measured in it (OMA's reusable resources)."""
_CLOSED = ("/0/", "/1/", "/2/")
"""Objects of the management itself: closed until somebody opens them."""


class Resources:
    """The resources of a device, as one tab sees them."""

    def __init__(self, frame: Frame, device_id: str) -> None:
        self._frame, self._id = frame, device_id
        self._rows: dict[str, Row] = {}
        self._boxes: dict[str, ui.element] = {}
        self._found: dict[str, set[int]] = {}
        """What reads of whole instances have brought, beside what is listed and what the registry has."""
        self._filter = ""

    def show(self, seen: Callable[[], bool]) -> None:
        """Draw them, and keep them fresh while they are seen."""
        with panel("Resources") as end:
            with end:
                search = ui.input(placeholder="Path or name", on_change=self._searched)
                search.classes("find").props('outlined dense clearable debounce=200 aria-label="Search resources"')
                self._all = button("Read all", label="Read every resource")
                self._all.on_click(self._frame.does(self._read_all, self._all))
            self._body = ui.element("div")
            self._empty = ui.label("The device has listed no resources: it is not registered.").classes("empty")
        self._empty.set_visibility(False)

        async def look() -> None:
            if seen():
                await self.look()

        self._frame.every(1.0, look)

        async def follow() -> None:
            for row in self._rows.values():
                row.follow()

        self._frame.every(0.25, follow)

    async def look(self) -> None:
        """Show what the device lists now, and what the service knows of it."""
        listed = await self._frame.seat.api.get(f"/lab/devices/{self._id}/values")
        every = self._every(listed)
        if [row["path"] for row in every] != list(self._rows):
            self._draw(every)
        for row in every:
            self._rows[row["path"]].known(row)

    def _every(self, listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return a row for each resource: of an instance that was listed as a whole, those of the registry as well."""
        every = []
        for row in listed:
            every.append(row)
            path = Path.parse(row["path"])
            if path.instance is not None and path.resource is None:
                known = core_objects().objects.get(path.object)
                ids = set(known.resources if known is not None else ()) | self._found.get(row["path"], set())
                inside = {"rt": "", "observable": True, "payload": None, "ct": None, "observation": None, "why": ""}
                every += [{**inside, "path": f"{row['path']}/{id}"} for id in sorted(ids)]
        return every

    def came(self, path: str, sample: Sample) -> None:
        """Show the values of a whole instance where they belong, and units beside the values that they are of."""
        instance, _, id_ = path.rpartition("/")
        if id_ == UNIT and isinstance(sample.value, str):
            for measured in MEASURED:
                if (row := self._rows.get(f"{instance}/{measured}")) is not None:
                    row.set_unit(sample.value)
        if not isinstance(sample.value, dict) or path.count("/") != 2:
            return
        for id, value in sample.value.items():
            row = self._rows.get(f"{path}/{id}")
            if row is None:
                self._found.setdefault(path, set()).add(id)
            else:
                row.show(sample._replace(value=value))

    def _draw(self, listed: list[dict[str, Any]]) -> None:
        self._body.clear()
        self._rows.clear()
        self._boxes.clear()
        self._empty.set_visibility(not listed)
        objects: dict[str, list[dict[str, Any]]] = {}
        for row in listed:
            objects.setdefault("/".join(row["path"].split("/")[:3]), []).append(row)
        with self._body:
            for instance, rows in objects.items():
                box = self._boxes[instance] = ui.element("details").classes("object")
                if not instance.startswith(_CLOSED):
                    box.props("open")
                with box:
                    with ui.element("summary"):
                        name = core_objects().name(Path.parse(instance))
                        name = words.safe(name if name != instance else "Object")
                        ui.html(f'{name} <span class="quiet mono">{instance}</span>', sanitize=False)
                    for row in rows:
                        self._rows[row["path"]] = Row(self._frame, self._id, row, self.came)
        self._hide()

    def _searched(self, event: Any) -> None:  # NiceGUI's own event
        self._filter = str(event.value or "").lower()
        self._hide()

    def _hide(self) -> None:
        shown = set()
        for path, row in self._rows.items():
            row.box.set_visibility(self._filter in path or self._filter in row.name.lower())
            if row.box.visible:
                shown.add("/".join(path.split("/")[:3]))
        for instance, box in self._boxes.items():
            box.set_visibility(instance in shown)

    async def _read_all(self) -> str:
        whole = tuple(f"{path}/" for path in self._rows if path.count("/") == 2)  # these bring what is in them
        rows = [row for row in self._rows.values() if row.readable and row.box.visible]
        rows = [row for row in rows if not row.path.startswith(whole)]
        failed = 0
        for row in rows:
            failed += not await row.read()
        return f"{len(rows) - failed} of {len(rows)} resources read"
