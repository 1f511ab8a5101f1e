"""A board's serial console: the transcript as it grows, and a line to type into."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Protocol

import ipywidgets

from pdmlab.errors import PdmlabError
from pdmlab.widgets.view import View

if TYPE_CHECKING:
    from pdmlab.boards.console import Console

LINES = 200
"""How many lines are shown; `board.console.transcript` has all of them."""
_COLOURS = {"board": "inherit", "host": "#0072B2"}

_shown: dict[int, ConsoleView] = {}


class Attached(Protocol):
    """A board, as far as its console goes."""

    @property
    def console(self) -> Console:
        """Its serial line."""
        ...

    @property
    def target(self) -> str:
        """Mbed's target name."""
        ...

    def reset(self) -> None:
        """Restart it."""
        ...


class ConsoleView(View):
    """The last lines of a console, an input line (Enter sends) and a Reset button."""

    def __init__(self, board: Attached) -> None:
        self._board = board
        self._console = board.console
        self._seen = -1
        self.text = ipywidgets.HTML()
        self.line = ipywidgets.Text(placeholder="type a line, press Enter", layout={"width": "36em"})
        self.line.observe(self._submit, names="value")
        self.line.continuous_update = False  # so that value changes with Enter, not with each key
        reset = ipywidgets.Button(description="Reset", icon="refresh", tooltip="board.reset()")
        reset.on_click(lambda _: self._try(self._board.reset))
        self.problem = ipywidgets.HTML()
        super().__init__([self.text, ipywidgets.HBox([self.line, reset]), self.problem], still=self._table)
        self.look()

    def look(self) -> bool:
        """Show what has come since; say whether more can come."""
        transcript = self._console.transcript
        if len(transcript) != self._seen:
            self._seen = len(transcript)
            self.text.value = self._table()
        return not self._console.closed

    def _submit(self, change: dict[str, Any]) -> None:  # Any: traitlets' own
        text = change["new"]
        if text:
            self._try(lambda: self._console.write_line(text))
            self.line.value = ""

    def _try(self, work: Any) -> None:
        try:
            work()
            self.problem.value = ""
        except PdmlabError as error:
            self.problem.value = f"<pre>{escape(str(error))}</pre>"

    def _table(self) -> str:
        transcript = self._console.transcript
        if not len(transcript):
            return "<i>nothing yet</i>"
        start = transcript["time"].iloc[0]
        rows: list[Any] = list(transcript.tail(LINES).itertuples())
        lines = "\n".join(
            f"<span style='color:#888'>{(row.time - start).total_seconds():8.3f}</span>  "
            f"<span style='color:{_COLOURS[row.direction]}'>{'> ' if row.direction == 'host' else ''}"
            f"{escape(str(row.text))}</span>"
            for row in rows
        )
        return (
            "<div style='max-height:22em;overflow:auto;display:flex;flex-direction:column-reverse'>"  # its end shows
            f"<pre style='line-height:1.25;font-family:monospace'>{lines}</pre></div>"
            "<small>seconds since the first line, host clock; blue: sent by the host</small>"
        )


def console(board: Attached) -> ConsoleView:
    """Show a board's console live; a second view of the same console replaces the first.

    By calls: board.console.transcript, board.console.write_line(text), board.reset().
    """
    key = id(board.console)
    if key in _shown:
        _shown.pop(key).close()
    view = _shown[key] = ConsoleView(board)
    view.follow(view.look)
    return view
