"""One update campaign: its phase, what may be done, and a row a device, which opens to its slots and why it failed."""

from __future__ import annotations

from functools import partial
from typing import Any

from nicegui import events, ui

from pdmlab.errors import PdmlabError, ServiceError
from pdmlab.page import words
from pdmlab.page.campaign_form import count, sure_to_start
from pdmlab.page.campaign_rows import ROW, Opened, rows_of
from pdmlab.page.campaigns import PHASES
from pdmlab.page.frame import Frame, button, heading, panel
from pdmlab.page.seat import READ_ONLY

ROWS = 50


class Campaign:
    """A campaign, as one tab sees it."""

    def __init__(self, frame: Frame, campaign_id: str) -> None:
        self._frame, self._id = frame, campaign_id
        self._api = frame.seat.api
        self._phase = self._filter = ""
        self._page, self._pages, self._only = 0, 1, ""
        self._shown: Any = None
        self._there = True
        self._opened = Opened(self._api, campaign_id)

    def show(self) -> None:
        """Draw it, and keep it fresh."""
        may = self._frame.seat.may_write
        with ui.element("div").classes("headline"):
            ui.link("Campaigns", "/campaigns").classes("crumb")
            ui.label("/").classes("crumb")
            self._title = heading(1, "…")
            self._state = ui.label("").classes("state quiet")
            with ui.element("div").classes("end"):
                self._buttons = {
                    name: button(name, look="main" if name == "Start" else "plain", why_not="" if may else READ_ONLY)
                    for name in ("Start", "Stop", "Archive", "Delete")
                }
                for name, each in self._buttons.items():
                    each.on_click(self._frame.does(partial(self._do, name), each))
        with panel(), ui.element("div").classes("body"):
            with ui.element("div").classes("tallies"):
                self._tallies = ui.html("", sanitize=False).style("display: contents")
            self._meter = ui.html("", sanitize=False).style("width: 100%")
            self._said = ui.label("").classes("quiet")
        with panel("Devices") as end:
            with end:
                self._chips = ui.element("div").classes("chips")
            self._table = ui.table(
                columns=[
                    {"name": "endpoint", "label": "Endpoint name", "field": "endpoint", "align": "left"},
                    {"name": "phase", "label": "Phase", "field": "phase", "align": "left"},
                    {"name": "bar", "label": "Image, and time left (host clock)", "field": "part", "align": "left"},
                    {"name": "description", "label": "What it does", "field": "description", "align": "left",
                     "classes": "wide", "headerClasses": "wide"},
                ],
                rows=[],
                row_key="id",
            ).props("flat dense hide-bottom wrap-cells :pagination='{rowsPerPage: 0}'").classes("campaign")  # fmt: skip
            self._table.add_slot("body", ROW)
            self._table.on("turn", self._turn_row)
            self._table.on("ask", self._ask)
            self._none = ui.label("").classes("empty")
            with ui.element("div").classes("headline").style("padding: 6px 12px") as self._pager:
                self._where = ui.label("").classes("quiet")
                with ui.element("div").classes("end"):
                    button("Previous").on_click(lambda: self._turn(-1))
                    button("Next").on_click(lambda: self._turn(1))
        self._pager.set_visibility(False)
        self._none.set_visibility(False)
        self._frame.every(0.5, self.look)

    async def look(self) -> None:
        """Show how far it is now."""
        if not self._there:
            return
        try:
            info = await self._api.get(f"/v3/update-campaigns/{self._id}")
        except ServiceError as error:
            if error.status != 404:
                raise
            self._there = False
            self._title.set_content("<h1>No such campaign</h1>")
            return
        found = await self._api.get(
            f"/lab/campaigns/{self._id}/devices", phase=self._only, offset=self._page * ROWS, limit=ROWS
        )
        await self._opened.look()
        if (info, found, self._opened.told) == self._shown:
            return
        self._shown = info, found, dict(self._opened.told)
        self._phase, self._filter = info["phase"], str(info["device_filter"])
        self._title.set_content(f"<h1>{words.safe(info['name'] or self._id)}</h1>")
        self._state.set_text(self._phase)
        self._state.classes(replace=f"state {PHASES.get(self._phase, 'quiet')}")
        self._show_buttons()
        self._show_sum(info, found)
        self._show_rows(found)

    def _show_buttons(self) -> None:
        fits = {
            "Start": self._phase == "draft",
            "Stop": self._phase in ("starting", "active"),
            "Archive": self._phase == "stopped",
            "Delete": self._phase in ("draft", "stopped", "archived", "expired"),
        }
        for name, each in self._buttons.items():
            each.set_visibility(fits[name])

    def _show_sum(self, info: dict[str, Any], found: dict[str, Any]) -> None:
        phases = found["phases"]
        total, done, failed = sum(phases.values()), phases.get("success", 0), phases.get("fail", 0)
        skipped = phases.get("skipped", 0)
        tallies = {"devices": (total, ""), "done": (done, "good"), "failed": (failed, "bad" if failed else ""),
                   "skipped": (skipped, ""), "under way": (total - done - failed - skipped, "")}  # fmt: skip
        self._tallies.set_content(
            "".join(
                f'<span class="{look}"><b>{many:,}</b>{name}</span>'
                for name, (many, look) in tallies.items()
                if many or name != "skipped"
            )
        )
        self._meter.set_content(_meter(100 * found["done_B"] / found["total_B"] if found["total_B"] else 0))
        started, ended = words.time_of(info["started_at"]), words.time_of(info["finished"])
        said = [
            f"{words.size(found['done_B'])} of {words.size(found['total_B'])} fetched" if found["total_B"] else "",
            f"devices: {info['device_filter']}",
            f"started {started} UTC" if started else "not started",
            f"ended {ended} UTC" if ended else "",
            (info.get("autostop_reason") or "").replace("_", " "),
        ]
        self._said.set_text(" · ".join(filter(None, said)))

    def _show_rows(self, found: dict[str, Any]) -> None:
        may = self._frame.seat.may_write
        self._table.rows = rows_of(found["data"], self._opened, may_ask=may)
        self._table.update()
        self._table.set_visibility(bool(found["data"]))
        self._none.set_visibility(not found["data"])
        self._none.set_text(
            "Which devices it is for is found out when it starts." if self._phase == "draft" else "No device is in it."
        )
        self._pages = max(1, -(-found["total"] // ROWS))
        self._pager.set_visibility(self._pages > 1)
        self._where.set_text(f"page {self._page + 1} of {self._pages}, {found['total']:,} devices")
        self._chips.clear()
        with self._chips:
            for phase in ["", *sorted(found["phases"])] if len(found["phases"]) > 1 else []:
                text = f"{phase.replace('_', ' ')} {found['phases'][phase]:,}" if phase else "all"
                chip = ui.button(text, color=None, on_click=lambda _, phase=phase: self._choose(phase)).props(
                    "flat no-caps"
                )
                chip.classes("chip on" if phase == self._only else "chip")

    # -- what is pressed -------------------------------------------------------------------------------------

    async def _turn_row(self, event: events.GenericEventArguments) -> None:
        """Open a device's row, or close it."""
        self._opened.turn(str(event.args))
        await self._again()

    async def _ask(self, event: events.GenericEventArguments) -> None:
        """Ask a device for its slots and its log."""
        device_id = str(event.args)

        async def work() -> str:
            await self._opened.ask(device_id)
            return "The device has been asked for its slots and its bootloader's log"

        await self._frame.does(work)()
        await self._again()

    async def _turn(self, by: int) -> None:
        self._page = min(max(self._page + by, 0), self._pages - 1)
        await self._again()

    async def _choose(self, phase: str) -> None:
        self._only, self._page = phase, 0
        await self._again()

    async def _again(self) -> None:
        self._shown = None
        try:
            await self.look()
        except PdmlabError:
            return  # the bar says so

    async def _do(self, name: str) -> None:
        path = f"/v3/update-campaigns/{self._id}"
        if name == "Delete":
            await self._api.call("DELETE", path)
            ui.navigate.to("/campaigns")
            return
        if name == "Start" and not await sure_to_start(await count(self._api, self._filter)):
            return
        await self._api.call("POST", f"{path}/{name.lower()}")
        await self._again()


def _meter(part: float) -> str:
    return (
        f'<span class="meter" role="progressbar" aria-label="Image bytes fetched by all devices" aria-valuemin="0"'
        f' aria-valuemax="100" aria-valuenow="{part:.0f}"><i style="width: {part:.1f}%"></i></span>'
    )
