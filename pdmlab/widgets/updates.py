"""A view of an update campaign: a bar a device, and closely its slots, its bootloader's log, and why it failed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Protocol

import ipywidgets

from pdmlab.cloud.campaign import ENDED
from pdmlab.cloud.campaign_device import folded
from pdmlab.errors import PdmlabError
from pdmlab.widgets.view import View

if TYPE_CHECKING:
    import pandas as pd

    from pdmlab.cloud.campaign import Campaign

SHOWN = 50
"""Devices that have a bar: the first."""
MOST_LINES = 120
"""Lines of a start that are shown, its last."""
_BEGINS = re.compile(r"Mbed Bootloader|\[BOOT\] Bootloader build|Trial bootloader")
_ENDS = re.compile(
    r"booting\.\.\.|Failed to jump|All clear\. Jumping|PANIC|Starting \S+(, confirmed| on trial)|starting it again"
    r"|Nothing may start"
)
"""First and last lines of a start: of mbed-bootloader, of the 4.x clients' bootloader, of pdmlab's own."""


class Console(Protocol):
    """A board's console."""

    @property
    def transcript(self) -> pd.DataFrame:
        """What it has printed: time, direction, text."""
        ...


class Board(Protocol):
    """A board at hand, a virtual one or not."""

    @property
    def console(self) -> Console:
        """Its serial line."""
        ...


class CampaignView(View):
    """A bar a device with the bytes it has and the time left; `closely(device)` shows it closely, below its bar."""

    def __init__(self, campaign: Campaign, boards: Iterable[Board] = ()) -> None:
        self._campaign = campaign
        self._boards = list(boards)
        self.bars: dict[str, Any] = {}
        self.texts: dict[str, Any] = {}  # ipywidgets ships no types
        self.turns: dict[str, Any] = {}
        self.panels: dict[str, Any] = {}
        self.phase = ipywidgets.HTML()
        self.more = ipywidgets.HTML()
        super().__init__([self.phase], still=self._table)
        self.look()

    def look(self) -> bool:
        """Show how far each device is; say whether the campaign goes on."""
        try:
            info, rows = self._campaign.info, list(self._campaign.progress().itertuples())
        except PdmlabError as error:
            self.phase.value = f"<small>{escape(error.message)}</small>"
            return False
        self.phase.value = f"<b>{escape(str(info['name'] or self._campaign.id))}</b>: {escape(str(info['phase']))}"
        for row in rows[:SHOWN]:
            self._show(row)
        for device, turn in self.turns.items():
            if turn.value:
                self._look_closely(device)
        left = len(rows) - SHOWN
        self.more.value = f"<i>and {left:,} more: campaign.progress() has them all</i>" if left > 0 else ""
        return info["phase"] not in ENDED

    def closely(self, device: str) -> None:
        """Show a device closely, by its id.

        Raises:
            KeyError: it is not among those that have a bar.
        """
        self.turns[device].value = True

    def _show(self, row: Any) -> None:  # Any: a row of itertuples()
        device = str(row.device_id)
        if device not in self.bars:
            self._add(device, str(getattr(row, "endpoint_name", "") or device))
        done, total = int(row.done_B or 0), int(row.total_B or 0)
        self.bars[device].value = done / total if total else 0
        phase = str(getattr(row, "phase", ""))
        self.bars[device].bar_style = {"success": "success", "fail": "danger"}.get(phase, "")
        left = ""
        if row.left_s is not None and row.left_s == row.left_s:
            how = getattr(row, "left_from", "")
            left = f", {row.left_s:.0f} s left (host clock{', ' + how if how else ''})"
        self.texts[device].value = f"{done:,} of {total:,} B{left}. {escape(str(row.description))}"

    def _add(self, device: str, name: str) -> None:
        self.bars[device] = ipywidgets.FloatProgress(min=0, max=1, layout={"width": "14em"})
        self.texts[device] = ipywidgets.HTML()
        self.panels[device] = ipywidgets.HTML(layout={"margin": "0 0 0 2em"})
        turn = ipywidgets.ToggleButton(
            value=False, description=name[:24], icon="caret-right", tooltip="slots, bootloader and reason",
            layout={"width": "14em"},
        )  # fmt: skip
        turn.observe(lambda change: self._turned(device, bool(change["new"])), names="value")
        self.turns[device] = turn
        boxes = []
        for each in self.bars:
            row = ipywidgets.HBox([self.turns[each], self.bars[each], self.texts[each]])
            boxes += [row, self.panels[each]]
        self.children = [self.phase, *boxes, self.more]

    def _turned(self, device: str, opened: bool) -> None:
        self.turns[device].icon = "caret-down" if opened else "caret-right"
        if opened:
            self._look_closely(device)
        else:
            self.panels[device].value = ""

    def _look_closely(self, device: str) -> None:
        try:
            found = self._campaign.device(device)
        except PdmlabError as error:
            self.panels[device].value = f"<small>{escape(error.message)}</small>"
            return
        text = found.panel() + self._console_of(device, found.endpoint_name)
        if text != self.panels[device].value:
            self.panels[device].value = text

    def _console_of(self, device: str, endpoint_name: str) -> str:
        """Return what the device's board, if it is at hand, has printed as it started last."""
        for board in self._boards:
            lines = [str(text) for text in board.console.transcript["text"]]
            if len(self._boards) == len(self.bars) == 1 or any(device in line for line in lines):
                printed = last_start(lines)
                said = escape(folded("\n".join(printed))) if printed else "<i>no line of a bootloader yet</i>"
                return f"<p><b>Its console, at the last start</b></p><pre>{said}</pre>"
        return ""

    def _table(self) -> str:
        rows = "".join(
            f"<tr style='text-align:left'><td>{escape(device)}</td><td>{text.value}</td></tr>"
            for device, text in self.texts.items()
        )
        closely = "".join(
            f"<h4>{escape(device)}</h4>{panel.value}" for device, panel in self.panels.items() if panel.value
        )
        return f"<div>{self.phase.value}</div><table><tr><th>device</th><th></th></tr>{rows}</table>{closely}"


def last_start(lines: Sequence[str]) -> list[str]:
    """Return what a bootloader printed at the last start, of a console's lines; [] where there is nothing of one."""
    starts = [at for at, line in enumerate(lines) if _BEGINS.match(line)]
    if not starts:
        return []
    found = list(lines[starts[-1] :])
    end = next((at for at, line in enumerate(found) if _ENDS.search(line)), len(found) - 1)
    return found[: end + 1][-MOST_LINES:]


def campaign(campaign: Campaign, *, boards: Iterable[Board] = ()) -> CampaignView:
    """Show how far a campaign is with each device, until it has ended; a press on a device shows it closely.

    boards: boards at hand, whose consoles show what their bootloaders print, for those that do not tell it themselves.
    By calls: campaign.progress(), .devices(), .device(id), .slots(id).
    """
    view = CampaignView(campaign, boards)
    view.follow(view.look)
    return view
