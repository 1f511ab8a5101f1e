"""Figures that are drawn again when a slider or a drop-down moves."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets
from matplotlib.figure import Figure

from pdmlab import plots
from pdmlab.errors import ConfigError
from pdmlab.widgets.view import View

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

DPI = 80


class Drawing(View):
    """A figure under its sliders: `choices` has a widget for each name, `image` the picture as PNG."""

    def __init__(
        self,
        draw: Callable[..., object],
        choices: Mapping[str, Sequence[Any]],
        *,
        size: tuple[float, float],
        start: Mapping[str, Any],
    ) -> None:
        self._draw = draw
        self._size = size
        # With kernel subshells, two sliders may be answered in two threads.
        self._drawing = threading.Lock()
        self.choices = {name: _selector(name, values, start.get(name)) for name, values in choices.items()}
        self.image = ipywidgets.Image(format="png", layout={"max_width": "100%"})
        self.problem = ipywidgets.HTML()
        for selector in self.choices.values():
            selector.observe(self.redraw, names="value")
        super().__init__([*self.choices.values(), self.image, self.problem], still=self._picture)
        self._paint()  # what goes wrong at once is the cell's error

    @property
    def values(self) -> dict[str, Any]:
        """What is chosen now."""
        return {name: selector.value for name, selector in self.choices.items()}

    def redraw(self, change: object = None) -> None:
        """Draw the figure for what is chosen now; say beside the sliders why it cannot be drawn."""
        try:
            self._paint()
            self.problem.value = ""
        except Exception as error:  # a handler's exception would end in the kernel's log, where nobody looks
            self.problem.value = f"<b>{escape(type(error).__name__)}:</b> {escape(str(error))}"

    def _paint(self) -> None:
        with self._drawing:
            # Not through pyplot, which is of one thread and would show the figure a second time.
            figure = Figure(figsize=self._size, dpi=DPI, layout="constrained")
            self._draw(figure.subplots(), **self.values)
            file = io.BytesIO()
            figure.savefig(file, format="png")
            self.image.value = file.getvalue()

    def _picture(self) -> str:
        chosen = ", ".join(f"{name} = {plots.shown(name, value)}" for name, value in self.values.items())
        data = base64.b64encode(self.image.value).decode()
        return f"<div>{escape(chosen)}</div><img src='data:image/png;base64,{data}' alt='{escape(chosen)}'>"


def redraw(
    draw: Callable[..., object],
    *,
    size: tuple[float, float] = (7.5, 4.0),
    start: Mapping[str, Any] | None = None,
    **choices: Sequence[Any],
) -> Drawing:
    """Show draw(axes, **values) with a slider (numbers) or drop-down (names) for each choice.

    start: what is chosen at first, where it is not a choice's first value.

    Raises:
        ConfigError: there is nothing to choose from.

    >>> redraw(lambda ax, gain: ax.plot([0, gain]), gain=[1, 2, 5])
    """
    if not choices:
        raise ConfigError("there is nothing to choose from", hint="such as redraw(draw, gain=[1, 2, 5])")
    return Drawing(draw, choices, size=size, start=start or {})


def explore(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str | Sequence[str],
    by: str | None = None,
    over: Sequence[str] = (),
    size: tuple[float, float] = (7.5, 4.0),
    **options: Any,  # those of plots.lines
) -> Drawing:
    """Draw plots.lines(frame, x, y, by=by) for one value at a time of each column in `over`, and of y if it lists some.

    Raises:
        ConfigError: the frame has no such column.
    """
    columns = [y] if isinstance(y, str) else list(y)
    for column in (x, *columns, *([by] if by else []), *over):
        if column not in frame.columns:
            raise ConfigError(f"the frame has no column {column!r}", hint=f"it has {', '.join(frame.columns)}")

    def draw(ax: Axes, **chosen: Any) -> None:
        shown = frame
        measure = chosen.pop("show", columns[0])
        for column, value in chosen.items():
            shown = shown[shown[column] == value]
        plots.lines(shown, x, measure, by=by, ax=ax, title=plots.label(frame, measure), **options)

    choices: dict[str, Sequence[Any]] = {"show": columns} if len(columns) > 1 else {}
    for column in over:
        values = frame[column].unique().tolist()
        choices[column] = values if isinstance(values[0], str) else sorted(values)
    return Drawing(draw, choices, size=size, start={})


def _selector(name: str, values: Sequence[Any], first: Any) -> Any:  # ipywidgets ships no types
    options = [(plots.shown(name, value), value) for value in values]
    if not options:
        raise ConfigError(f"there is nothing to choose from for {name}")
    kind = ipywidgets.Dropdown if isinstance(values[0], str) else ipywidgets.SelectionSlider
    return kind(
        options=options,
        value=options[0][1] if first is None else first,
        description=plots.plain(name),
        style={"description_width": "9em"},
        layout={"width": "30em"},
    )
