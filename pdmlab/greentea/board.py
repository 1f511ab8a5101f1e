"""What Greentea needs of a board: a console and a reset button. Any of pdmlab.boards and pdmlab.sim has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pandas as pd


class ConsoleLine(Protocol):
    """A line that the board printed."""

    @property
    def text(self) -> str:
        """The line without its end."""
        ...

    @property
    def time(self) -> float:
        """When it came (s since the epoch, host clock)."""
        ...


class Console(Protocol):
    """A serial console, as pdmlab.boards has it."""

    def read_line(self, timeout: float = 10.0) -> ConsoleLine | None:
        """Return the next line; None if none comes in `timeout` seconds. Raises ConsoleLost."""
        ...

    def write(self, text: str) -> None:
        """Send text. Raises ConsoleLost."""
        ...

    def skip(self) -> None:
        """Leave out what came and nobody read."""
        ...

    @property
    def transcript(self) -> pd.DataFrame:
        """The conversation: time, direction, text."""
        ...


class Board(Protocol):
    """What has a console and a reset button."""

    @property
    def console(self) -> Console:
        """The serial line."""
        ...

    def reset(self) -> None:
        """Restart the board."""
        ...
