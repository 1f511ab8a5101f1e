"""The table of devices: found by part of a name, by state, in pages; and what to do while there are none."""

from __future__ import annotations

from typing import Any

from nicegui import events, ui

from pdmlab.page import words
from pdmlab.page.frame import Frame, heading, panel

ROWS = 50
_COLUMNS = [
    # label, field, the field that the service sorts by, classes
    ("Endpoint name", "endpoint_name", True, "break"),
    ("Device id", "id", False, "wide break"),
    ("State", "state", True, ""),
    ("Registered since (UTC)", "registered_at", True, "wide"),
    ("Last update (UTC)", "last_update", True, ""),
    ("Lifetime", "lifetime", True, "number wide"),
    ("Queue mode", "queue_mode", False, "wide"),
    ("Security", "security", False, "wide"),
    ("Address", "address", False, "wide break"),
]
_CELLS = {
    "endpoint_name": '<a :href="`/devices/${props.row.id}`">{{ props.value || "(no name)" }}</a>',
    "id": '<a class="mono" :href="`/devices/${props.row.id}`">{{ props.value }}</a>',
    "state": '<span :class="props.row.look">{{ props.value }}</span>',
    "address": '<span class="mono">{{ props.value }}</span>',
}


class Devices:
    """The table, as one tab sees it."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._api = frame.seat.api
        self._search = self._state = ""
        self._shown: object = None

    def show(self) -> None:
        """Draw it, and keep it fresh."""
        with ui.element("div").classes("headline"):
            heading(1, "Devices")
            self._count = ui.label("").classes("quiet")
            with ui.element("div").classes("end"):
                self._chips = ui.element("div").classes("chips").props('role="group" aria-label="State"')
                search = ui.input(placeholder="Endpoint name, name or id", on_change=self._searched)
                search.classes("find").props('outlined dense clearable debounce=250 aria-label="Search devices"')
        with panel():
            self._table = ui.table(
                columns=[
                    {
                        "name": field, "label": label, "field": field, "sortable": sortable,
                        "align": "right" if "number" in classes else "left",
                        "classes": classes, "headerClasses": classes,
                    }
                    for label, field, sortable, classes in _COLUMNS
                ],
                rows=[],
                row_key="id",
                pagination={"rowsPerPage": ROWS, "page": 1, "rowsNumber": 0, "sortBy": None, "descending": False},
            ).props('flat dense binary-state-sort :rows-per-page-options="[25, 50, 100, 200]"')  # fmt: skip
            for name, inner in _CELLS.items():
                self._table.add_slot(f"body-cell-{name}", f'<q-td :props="props">{inner}</q-td>')
            self._table.on("request", self._asked)
            self._empty = ui.element("div").classes("empty")
        self._empty.set_visibility(False)
        self._frame.every(2.0, self.look)

    async def look(self) -> None:
        """Show the devices as they are now; nothing is sent to the browser if nothing has changed."""
        paging: dict[str, Any] = self._table.pagination
        per_page = int(paging["rowsPerPage"])
        found = await self._api.get(
            "/lab/devices",
            search=self._search,
            state=self._state,
            sort=paging["sortBy"] or "created_at",
            descending=str(bool(paging["descending"])).lower(),
            limit=per_page,
            offset=(int(paging["page"]) - 1) * per_page,
        )
        rows = [_row(each) for each in found["data"]]
        shown = rows, found["states"], found["total"], self._state, self._search
        if shown == self._shown and paging.get("rowsNumber") == found["total"]:  # the browser's may be of before
            return
        self._shown = shown
        self._table.pagination = {**paging, "rowsNumber": found["total"]}
        self._table.rows = rows
        self._table.update()
        every = sum(found["states"].values())
        self._count.set_text(f"{words.number(every)} found" if self._search else words.number(every))
        self._show_chips(found["states"])
        none = found["total"] == 0
        self._table.set_visibility(not none)
        self._empty.set_visibility(none)
        if none:
            await self._say_what_next(every)

    def _show_chips(self, states: dict[str, int]) -> None:
        self._chips.clear()
        with self._chips:
            for state in ["", *sorted(set(states) | ({self._state} if self._state else set()))]:
                text = f"{state} {states.get(state, 0):,}" if state else "all"
                chip = ui.button(text, color=None, on_click=lambda _, state=state: self._choose(state)).props(
                    "flat no-caps"
                )
                chip.classes("chip on" if state == self._state else "chip")
                chip.props(f'aria-pressed="{str(state == self._state).lower()}"')

    async def _say_what_next(self, every: int) -> None:
        self._empty.clear()
        with self._empty:
            if self._search or every:
                ui.html("<b>No device is like that</b>", sanitize=False)
                ui.label("Take another word, or another state.")
                return
            where = await self._api.get("/lab/service")
        with self._empty:
            ui.html("<b>No device has come yet</b>", sanitize=False)
            plain = str(where["plain_lwm2m"] or "").partition("?")[0].removeprefix("coap://")
            if plain:
                ui.label("Bring a virtual one, in another shell on this machine:")
                ui.label(f"pdmlab client -n desk1 -u {plain}").classes("command")
            else:
                ui.label("Build a board's firmware with the credentials of this service:")
                ui.link("Credentials", "/credentials")
            ui.label("It shows here as soon as it registers.")

    async def _searched(self, event: events.ValueChangeEventArguments[Any]) -> None:
        self._search = str(event.value or "")[:128]
        await self._first_page()

    async def _choose(self, state: str) -> None:
        self._state = state
        await self._first_page()

    async def _first_page(self) -> None:
        self._table.pagination = {**self._table.pagination, "page": 1}
        await self._frame.does(self._look_again)()

    async def _asked(self, event: events.GenericEventArguments) -> None:
        """Take another page, or another order."""
        wanted = event.args["pagination"]
        kept = {name: wanted[name] for name in ("page", "rowsPerPage", "sortBy", "descending")}
        self._table.pagination = {**self._table.pagination, **kept}
        await self._frame.does(self._look_again)()

    async def _look_again(self) -> None:
        self._shown = None
        await self.look()


def _row(device: dict[str, Any]) -> dict[str, Any]:
    queue_mode = device["queue_mode"]
    return {
        "id": device["id"],
        "endpoint_name": device["endpoint_name"] or device["name"] or "",
        "state": device["state"],
        "look": words.state(device["state"]),
        "registered_at": words.lately(device["registered_at"]) or "–",
        "last_update": words.lately(device["last_update"]) or "–",
        "lifetime": "–" if device["lifetime"] is None else f"{device['lifetime']:,} s",
        "queue_mode": "–" if queue_mode is None else "yes, sleeps" if queue_mode else "no",
        "security": device["security"] or "–",
        "address": device["address"] or "–",
    }
