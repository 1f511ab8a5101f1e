"""A slider over the operations of a story: what is on the medium when the power goes there, and what becomes of it."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Mapping
from html import escape
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from pdmlab import plots
from pdmlab.errors import ConfigError
from pdmlab.storage.powercuts import Instant, Player, Story
from pdmlab.storage.powercuts.replaying import ERASED, LIVE, OLD, OVERWRITTEN, TORN, TORN_LIVE, WRITTEN
from pdmlab.widgets.drawing import DPI
from pdmlab.widgets.view import View

COLOURS = {
    ERASED: "0.93",
    OLD: "0.72",
    LIVE: plots.COLOURS[0],
    WRITTEN: plots.COLOURS[2],
    OVERWRITTEN: plots.COLOURS[4],
    TORN: plots.COLOURS[1],
    TORN_LIVE: plots.COLOURS[7],
}
_WAYS = ("before it", "in it: a prefix", "in it: between", "after it")


class PowerCuts(View):
    """A medium under its story, its operation and the way it is cut; `at` gives the same by a call."""

    def __init__(self, stories: Mapping[str, Story | Player], *, start: int = 1) -> None:
        if not stories:
            raise ConfigError("there is no story to cut", hint='power_cuts({"littlefs": stories.littlefs()})')
        self._players = {name: each if isinstance(each, Player) else Player(each) for name, each in stories.items()}
        self._drawing = threading.Lock()  # with kernel subshells, two sliders may be answered in two threads
        wide = {"style": {"description_width": "6em"}, "layout": {"width": "46em"}}
        self.story = ipywidgets.Dropdown(options=list(stories), description="store", **wide)
        self.operation = ipywidgets.IntSlider(start, 1, self._player.operations, description="operation", **wide)
        self.way = ipywidgets.Dropdown(options=_WAYS, value=_WAYS[1], description="power goes", **wide)
        self.image = ipywidgets.Image(format="png", layout={"max_width": "100%"})
        self.verdict = ipywidgets.HTML()
        self.story.observe(self._other_story, names="value")
        for each in (self.operation, self.way):
            each.observe(self.redraw, names="value")
        super().__init__([self.story, self.operation, self.way, self.verdict, self.image], still=self._picture)
        self._paint()

    @property
    def _player(self) -> Player:
        return self._players[self.story.value]

    @property
    def code(self) -> str:
        """The cut that is chosen, as replay() takes it."""
        number = int(self.operation.value)
        size = len(self._player.trace.operations[number - 1].new)
        # What is in between, and how far a prefix goes, follow from the operation: the slider moves one thing.
        kinds = dict(zip(_WAYS, ("b", f"p{max(size // 2, 1)}", f"x{number}", "a"), strict=True))
        return f"{number}{kinds[self.way.value]}"

    @property
    def at(self) -> Instant:
        """The medium at the chosen instant."""
        return self._player.at(self.code)

    def redraw(self, change: object = None) -> None:
        """Draw what is chosen now; say in its place why it cannot be drawn."""
        try:
            self._paint()
        except Exception as error:  # a handler's exception would end in the kernel's log, where nobody looks
            self.verdict.value = f"<b>{escape(type(error).__name__)}:</b> {escape(str(error))}"

    def _other_story(self, change: object) -> None:
        self.operation.max = self._player.operations
        self.redraw()

    def _paint(self) -> None:
        with self._drawing:
            instant = self.at
            figure = Figure(figsize=(9.5, 3.4), dpi=DPI, layout="constrained")
            draw_instant(instant, ax=figure.subplots())
            file = io.BytesIO()
            figure.savefig(file, format="png")
            self.image.value = file.getvalue()
            self.verdict.value = instant._repr_html_()

    def _picture(self) -> str:
        data = base64.b64encode(self.image.value).decode()
        return f"{self.verdict.value}<img src='data:image/png;base64,{data}' alt='{escape(self.code)}'>"


def draw_instant(instant: Instant, *, ax: Any = None) -> Any:  # Any: matplotlib's Axes, loaded late
    """Draw the medium of an instant, a row for each erase unit where that is a good width."""
    per_unit = instant.unit_B // instant.cell_B
    across = per_unit if 32 <= per_unit <= 128 else 64 if len(instant.cells) > 512 else 32
    title = f"{instant.step}: the power goes {instant.cut} {instant.operation}"
    return plots.cells(instant.frame, colours=COLOURS, across=across, ax=ax, title=title)


def power_cuts(stories: Mapping[str, Story | Player], *, start: int = 1) -> PowerCuts:
    """Show a drop-down of stories, a slider over the operations, how the power goes, and the medium at that instant.

    start: the operation that is shown first. The same by a call: `powercuts.replay(code, story)`.

    >>> power_cuts({"littlefs": stories.littlefs("nor", size=65536), "FAT": stories.fat()})
    """
    return PowerCuts(stories, start=start)
