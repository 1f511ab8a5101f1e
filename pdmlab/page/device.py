"""A device: what it is, and its resources, messages, queue, events and bootstrap, in tabs that look while seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from pdmlab.errors import ServiceError
from pdmlab.page import words
from pdmlab.page.frame import Frame, button, heading, panel
from pdmlab.page.messages import Messages
from pdmlab.page.resources import Resources
from pdmlab.page.seat import READ_ONLY

_FACTS = ("State", "Registered since (UTC)", "Last update (UTC)", "Lifetime", "Expires in", "Queue mode", "Security",
          "Address", "LwM2M", "Binding", "Type", "Created (UTC)")  # fmt: skip
_QUEUE = (("What", "request"), ("State", "state"), ("Why it waits", "why"), ("Since (UTC)", "since"),
          ("Until (UTC)", "until"))  # fmt: skip
_EVENTS = (("At (UTC)", "date_time"), ("Event", "event_type"), ("What", "description"))
_STEPS = (("At (UTC)", "at"), ("Step", "step"), ("Answer", "answer"), ("Payload", "payload_B"), ("Took", "seconds"))
EVENTS = 100
"""Events that are shown: the latest."""


class Device:
    """A device, as one tab sees it."""

    def __init__(self, frame: Frame, device_id: str) -> None:
        self._frame, self._id = frame, device_id
        self._api = frame.seat.api
        self._there = True

    def show(self) -> None:
        """Draw it, and keep it fresh."""
        with ui.element("div").classes("headline"):
            ui.link("Devices", "/").classes("crumb")
            ui.label("/").classes("crumb")
            self._title = heading(1, "…")
            self._state = ui.label("").classes("state quiet")
            ui.label(self._id).classes("mono quiet")
            with ui.element("div").classes("end"):
                self._delete = button("Delete …", why_not="" if self._frame.seat.may_write else READ_ONLY)
                self._delete.on_click(self._ask_to_delete)
        self._missing = ui.element("div").classes("panel empty")
        self._missing.set_visibility(False)
        self._obstacle = ui.label("").classes("panel wait").style("padding: 8px 12px")
        self._obstacle.set_visibility(False)
        self._body = ui.element("div").style("display: contents")
        with self._body:
            with panel(), ui.element("dl").classes("facts"):
                self._facts = {name: self._fact(name) for name in _FACTS}
            with ui.tabs().props('align="left" dense no-caps inline-label') as tabs:
                for name in ("Resources", "Messages", "Queue", "Events", "Bootstrap"):
                    ui.tab(name)
            self._tabs = tabs
            with ui.tab_panels(tabs, value="Resources", animated=False).props("keep-alive"):
                with ui.tab_panel("Resources"):
                    Resources(self._frame, self._id).show(self._seen("Resources"))
                with ui.tab_panel("Messages"):
                    Messages(self._frame, self._id).show(tabs)
                with ui.tab_panel("Queue"):
                    self._table("Queue", _QUEUE, self._queue, "Nothing waits for the device.")
                with ui.tab_panel("Events"):
                    self._table("Events", _EVENTS, self._events, "Nothing has happened to the device yet.")
                with ui.tab_panel("Bootstrap"):
                    self._table("Bootstrap", _STEPS, self._steps, "The device has not bootstrapped here.")
        self._frame.every(1.0, self.look)

    def _fact(self, name: str) -> ui.label:
        with ui.element("div"):
            ui.label(name).classes("term")
            return ui.label("–").style("min-height: 19px; overflow-wrap: anywhere")

    def _seen(self, tab: str) -> Callable[[], bool]:
        return lambda: self._there and self._tabs.value == tab

    async def look(self) -> None:
        """Show what the service says of the device now."""
        if not self._there:
            return
        try:
            found = await self._api.get(f"/lab/devices/{self._id}")
        except ServiceError as error:
            if error.status == 404:
                self._gone()
                return
            raise
        name = found["endpoint_name"] or found["name"] or "(no name)"
        self._title.set_content(f"<h1>{words.safe(name)}</h1>")
        self._state.set_text(found["state"])
        self._state.classes(replace=words.state(found["state"]))
        queue_mode, lifetime, left = found["queue_mode"], found["lifetime"], found["expires_in"]
        for fact, text in {
            "State": found["state"],
            "Registered since (UTC)": words.time_of(found["registered_at"]),
            "Last update (UTC)": words.time_of(found["last_update"]),
            "Lifetime": "" if lifetime is None else f"{lifetime:,} s",
            "Expires in": "" if left is None else words.duration(left),
            "Queue mode": "" if queue_mode is None else "yes: it sleeps between messages" if queue_mode else "no",
            "Security": found["security"],
            "Address": found["address"],
            "LwM2M": found["lwm2m_version"],
            "Binding": found["binding"],
            "Type": found["endpoint_type"],
            "Created (UTC)": words.time_of(found["created_at"]),
        }.items():
            self._facts[fact].set_text(text or "–")
        obstacle = found["obstacle"]
        self._obstacle.set_text(f"It cannot be asked just now: {obstacle}." if obstacle else "")
        self._obstacle.set_visibility(bool(obstacle))

    def _gone(self) -> None:
        self._there = False
        self._body.set_visibility(False)
        self._delete.set_visibility(False)
        self._obstacle.set_visibility(False)
        self._title.set_content("<h1>No such device</h1>")
        self._missing.set_visibility(True)
        with self._missing:
            ui.html("<b>The account has no device of this id</b>", sanitize=False)
            ui.label("It may have been deleted. The list shows what there is.")

    # -- tables ----------------------------------------------------------------------------------------------

    def _table(
        self,
        tab: str,
        columns: tuple[tuple[str, str], ...],
        ask: Callable[[], Awaitable[list[dict[str, Any]]]],
        nothing: str,
    ) -> None:
        with panel():
            table = ui.table(
                columns=[
                    {"name": field, "label": label, "field": field, "align": "left",
                     "classes": "wrap" if field in ("why", "description", "answer") else ""}
                    for label, field in columns
                ],
                rows=[],
                row_key="row",
            ).props("flat dense hide-bottom wrap-cells :pagination='{rowsPerPage: 0}'")  # fmt: skip
            empty = ui.label(nothing).classes("empty")
        seen, shown = self._seen(tab), [None]

        async def look() -> None:
            if not seen():
                return
            rows: Any = await ask()
            if rows != shown[0]:
                shown[0] = rows
                table.rows = [{**row, "row": number} for number, row in enumerate(rows)]
                table.update()
                table.set_visibility(bool(rows))
                empty.set_visibility(not rows)

        table.set_visibility(False)
        self._frame.every(1.0, look)

    async def _queue(self) -> list[dict[str, Any]]:
        return [
            {
                "request": row["request"],
                "state": row["state"],
                "why": row["why"],
                "since": words.time_of(row["since"]),
                "until": words.time_of(row["until"]) or "as long as it takes",
            }
            for row in await self._api.get(f"/lab/queue/{self._id}")
        ]

    async def _events(self) -> list[dict[str, Any]]:
        found = await self._api.get("/v3/device-events", filter=f"device_id={self._id}", order="DESC", limit=EVENTS)
        return [
            {
                "date_time": words.time_of(row["date_time"]),
                "event_type": row["event_type"],
                "description": row["description"] or row["event_type_description"] or _changes(row["changes"]),
            }
            for row in found["data"]
        ]

    async def _steps(self) -> list[dict[str, Any]]:
        try:
            last = await self._api.get(f"/lab/bootstrap/{self._id}")
        except ServiceError as error:
            if error.status != 404:
                raise
            return []
        steps = list(last["steps"])
        if last["state"] != "finished":
            steps.append({"at": last["updated_at"], "step": last["step"], "answer": last["reason"] or last["state"]})
        return [
            {
                "at": words.time_of(step.get("at")),
                "step": step.get("step", ""),
                "answer": step.get("answer", ""),
                "payload_B": words.size(step.get("payload_B")),
                "seconds": "" if step.get("seconds") is None else f"{step['seconds'] * 1000:,.0f} ms",
            }
            for step in steps
        ]

    # -- deleting --------------------------------------------------------------------------------------------

    def _ask_to_delete(self) -> None:
        with ui.dialog() as dialog, ui.card().classes("dialog"):
            heading(2, "Delete the device?")
            ui.label(
                "Its registration, its queue and what is observed go with it. It can come back as a new device, by"
                " bootstrapping or registering again."
            )
            with ui.element("div").classes("buttons"):
                button("Keep it").on_click(dialog.close)
                sure = button("Delete", look="plain danger")

            async def delete() -> None:
                await self._api.call("DELETE", f"/v3/devices/{self._id}")
                ui.navigate.to("/")

            sure.on_click(self._frame.does(delete, sure))
        dialog.open()


def _changes(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in (changes or {}).items())
