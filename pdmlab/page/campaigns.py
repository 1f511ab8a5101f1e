"""Update campaigns: what there is, and a new one from an image and a manifest."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from pdmlab.page import words
from pdmlab.page.campaign_form import CampaignForm
from pdmlab.page.frame import Frame, button, heading, panel
from pdmlab.page.seat import READ_ONLY

SHOWN = 100
"""Campaigns in the list: the latest."""
PHASES = {"draft": "quiet", "starting": "wait", "active": "good", "stopping": "wait", "stopped": "quiet off",
          "archived": "quiet off", "expired": "bad off"}  # fmt: skip


class Campaigns:
    """The list, as one tab sees it."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._api = frame.seat.api
        self._shown: Any = None

    def show(self) -> None:
        """Draw it, and keep it fresh."""
        why_not = "" if self._frame.seat.may_write else READ_ONLY
        with ui.element("div").classes("headline"):
            heading(1, "Update campaigns")
            with ui.element("div").classes("end"):
                image = button("Upload an image …", why_not=why_not)
                new = button("New campaign …", look="main", why_not=why_not)
        form = CampaignForm(self._frame)
        image.on_click(form.ask_for_image)
        new.on_click(form.ask)
        with panel():
            self._table = ui.table(
                columns=[
                    {"name": "name", "label": "Name", "field": "name", "align": "left"},
                    {"name": "phase", "label": "Phase", "field": "phase", "align": "left"},
                    {"name": "filter", "label": "Devices", "field": "filter", "align": "left",
                     "classes": "wide wrap mono", "headerClasses": "wide"},
                    {"name": "started", "label": "Started (UTC)", "field": "started", "align": "left"},
                    {"name": "finished", "label": "Ended (UTC)", "field": "finished", "align": "left",
                     "classes": "wide", "headerClasses": "wide"},
                    {"name": "reason", "label": "Why it ended", "field": "reason", "align": "left",
                     "classes": "wide wrap", "headerClasses": "wide"},
                ],
                rows=[],
                row_key="id",
            ).props("flat dense hide-bottom :pagination='{rowsPerPage: 0}'")  # fmt: skip
            self._table.add_slot(
                "body-cell-name",
                '<q-td :props="props"><a :href="`/campaigns/${props.row.id}`">{{ props.value }}</a></q-td>',
            )
            self._table.add_slot(
                "body-cell-phase",
                '<q-td :props="props"><span :class="props.row.look">{{ props.value }}</span></q-td>',
            )
            with ui.element("div").classes("empty") as self._empty:
                ui.html("<b>No campaign yet</b>", sanitize=False)
                ui.label("A campaign needs an image, and a manifest of it that you have signed. Beside the firmware:")
                ui.label(
                    "pdmlab dm update device -p firmware.bin -D DEVICE      # image, manifest and campaign in one\n"
                    "pdmlab dm create -p firmware.bin -u URL -o fw.manifest  # or the manifest alone, for the form"
                ).classes("command")
                ui.label("Upload an image … says its URL.")
        self._empty.set_visibility(False)
        self._frame.every(2.0, self.look)

    async def look(self) -> None:
        """Show the campaigns as they are now."""
        found = await self._api.get("/v3/update-campaigns", order="DESC", limit=SHOWN)
        rows = [
            {
                "id": each["id"],
                "name": each["name"] or each["id"],
                "phase": each["phase"],
                "look": f"state {PHASES.get(each['phase'], 'quiet')}",
                "filter": each["device_filter"],
                "started": words.time_of(each["started_at"]) or "–",
                "finished": words.time_of(each["finished"]) or "–",
                "reason": (each.get("autostop_reason") or "").replace("_", " "),
            }
            for each in found["data"]
        ]
        if rows == self._shown:
            return
        self._shown = rows
        self._table.rows = rows
        self._table.update()
        self._table.set_visibility(bool(rows))
        self._empty.set_visibility(not rows)
