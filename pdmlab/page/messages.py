"""A device's messages as they pass: decoded, held, searched, and as a capture for Wireshark."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from typing import Any

from nicegui import ui

from pdmlab.errors import PdmlabError, ServiceError
from pdmlab.page import words
from pdmlab.page.frame import Frame, button, panel

SHOWN = 250
"""Lines on the screen: the latest."""
KEPT = 2_000
"""Lines that a search looks through."""
AT_ONCE = 0.25
"""How often the screen gets what has come (s, host clock)."""


class Messages:
    """The log of a device, as one tab sees it. It is followed while its tab is seen."""

    def __init__(self, frame: Frame, device_id: str) -> None:
        self._frame, self._id = frame, device_id
        self._api = frame.seat.api
        self._rows: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._fresh: list[dict[str, Any]] = []
        self._lines: deque[ui.html] = deque()
        self._last = -1
        self._held, self._missed = False, 0
        self._filter = ""
        self._task: asyncio.Task[None] | None = None

    def show(self, tabs: ui.tabs) -> None:
        """Draw it; follow while the tab is the one that is seen."""
        with panel("Messages") as end:
            with end:
                self._said = ui.label("").classes("quiet")
                search = ui.input(placeholder="Part of a line: GET /3/0, 4.04 …", on_change=self._searched)
                search.classes("find").props('outlined dense clearable debounce=250 aria-label="Search messages"')
                self._hold = button("Pause")
                self._hold.on_click(self._pause)
                save = button("Download pcapng", label="Download the messages for Wireshark")
                save.on_click(self._frame.does(self._save, save))
            self._log = ui.element("div").classes("log").props('tabindex="0" role="log" aria-label="Messages"')
            self._none = ui.label("Nothing has been said yet; what passes shows here at once.").classes("empty")
        self._none.set_visibility(False)
        client = ui.context.client
        client.on_delete(self._stop)

        async def look() -> None:
            if tabs.value == "Messages" and (self._task is None or self._task.done()):
                self._task = asyncio.get_running_loop().create_task(self._follow())
            elif tabs.value != "Messages":
                self._stop()
            self._flush()

        self._frame.every(AT_ONCE, look)

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _follow(self) -> None:
        """Read the stream of messages; where it ends, or the service goes away, go on from the last one."""
        while True:
            with contextlib.suppress(PdmlabError):
                path = f"/lab/log/{self._id}/live"
                async for line in self._api.lines(path, after=self._last, limit=SHOWN):
                    if line.startswith("data: "):
                        row = json.loads(line[6:])
                        self._last = max(self._last, int(row["number"]))
                        self._fresh.append(row)
                        if len(self._fresh) > KEPT:
                            del self._fresh[:-KEPT]
            await asyncio.sleep(1.0)
            try:
                where = await self._api.get("/lab/log/" + self._id, limit=1)
            except ServiceError as error:
                if error.status in (401, 404):
                    return
            except PdmlabError:
                continue
            else:
                if where and int(where[-1]["number"]) < self._last:
                    self._last = -1  # the service has started anew, and counts from its beginning

    def _flush(self) -> None:
        """Put what has come on the screen."""
        fresh, self._fresh = self._fresh, []
        self._rows.extend(fresh)
        self._none.set_visibility(not self._rows and self._task is not None)
        if fresh and not self._held:
            self._draw([row for row in fresh if self._fits(row)][-SHOWN:])
        if fresh and self._held:
            self._missed += len(fresh)
            self._hold.set_text(f"Go on ({self._missed:,} new)")
        if fresh:
            self._said.set_text(f"{len(self._rows):,} messages and events")

    def _draw(self, rows: list[dict[str, Any]]) -> None:
        with self._log:
            for row in rows:
                line = ui.html(words.message(row), sanitize=False)
                line.move(target_index=0)  # the box is turned over: what is first in it stands at its lower end
                self._lines.append(line)
        while len(self._lines) > SHOWN:
            self._lines.popleft().delete()

    def _fits(self, row: dict[str, Any]) -> bool:
        if not self._filter:
            return True
        said = f"{row['type']} {row['code']} {row['path']}{row['query']} {row['payload']} {row['options']}"
        return self._filter in said.lower()

    def _redraw(self) -> None:
        self._lines.clear()
        self._log.clear()
        self._draw([row for row in self._rows if self._fits(row)][-SHOWN:])

    def _searched(self, event: Any) -> None:  # NiceGUI's own event
        self._filter = str(event.value or "").lower()
        self._redraw()

    def _pause(self) -> None:
        self._held, self._missed = not self._held, 0
        self._hold.set_text("Go on" if self._held else "Pause")
        self._hold.props(f'aria-pressed="{str(self._held).lower()}"')
        if not self._held:
            self._redraw()

    async def _save(self) -> str:
        answer = await self._api.call("GET", f"/lab/log/{self._id}/capture")
        ui.download.content(answer.content, f"{self._id}.pcapng")
        return f"{words.size(len(answer.content))} for Wireshark, as plain CoAP"
