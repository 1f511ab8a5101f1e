"""A board's points over the model's curve, with how far they are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.errors import ConfigError
from pdmlab.plots.canvas import finish, new_axes, note_estimates, scale
from pdmlab.plots.words import COLOURS, MARKERS, label, whose

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_STYLES = {"before": ":", "after": "-", "": "-"}


def overlay(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    model: pd.DataFrame | None = None,
    by: str = "operation",
    ax: Axes | None = None,
    log_x: bool = True,
    title: str = "",
) -> Axes:
    """Draw a board's rows as points over the model's as a curve; the legend says how far they are apart.

    Args:
        frame: rows of both, told apart by `simulated`, or by a column `model` that is empty for the board and names
            the model otherwise, as in `Calibration.curves`; or rows of the board alone, with the others in `model`.
        by: the column of which each value has a colour.

    Raises:
        ConfigError: there is no row of a board, or none of a model.
    """
    import pandas as pd

    if model is None:
        names = frame["model"].fillna("").astype(str) if "model" in frame.columns else pd.Series("", frame.index)
        modelled = names != "" if (names != "").any() else frame["simulated"].fillna(False).astype(bool)
        frame, model = frame[~modelled], frame[modelled]
    if not len(frame) or not len(model):
        raise ConfigError(
            f"there is no row of {'a board' if not len(frame) else 'the model'} to lay over the other",
            hint="pandas.concat([board_rows, model_rows]); where both are simulated, overlay(board_rows, …, model=…)",
        )
    ax = ax if ax is not None else new_axes(9.5)
    if "model" not in model.columns:
        model = model.assign(model="")
    for number, group in enumerate(dict.fromkeys([*frame[by], *model[by]])):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        board = frame[frame[by] == group]
        xs, ys = (board[column].astype(float).tolist() for column in (x, y))
        ax.scatter(xs, ys, marker=marker, color=colour, s=34, zorder=3, label=f"{group}, board")
        for name, curve in model[model[by] == group].groupby("model", sort=False):
            middle = curve.groupby(x)[y].mean().astype(float)
            said = " ".join(word for word in (f"{group}, model", str(name)) if word)
            ax.plot(
                [float(place) for place in middle.index], middle.tolist(), _STYLES.get(str(name), "-"), color=colour,
                label=said + _apart(board, middle, x, y),
            )  # fmt: skip
    both = pd.concat([frame[[x]], model[[x]]])
    scale(ax, both, x, log_x=log_x)
    ax.set_ylim(bottom=0)
    labelled = frame if frame.attrs.get("labels") else model
    ax.set_xlabel(label(labelled, x, short=x.endswith("_B")))  # its ticks carry the unit
    ax.set_ylabel(label(labelled, y))
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    clocks = ", ".join(sorted({str(clock) for clock in [*frame["clock"], *model["clock"]]}))
    note_estimates(ax, model)
    known = whose(frame)
    points = known if known == "SIMULATED" else f"board, {known}" if known else "board"
    return finish(ax, None, title, note=f"points {points}, curve SIMULATED, {clocks} clock")


def _apart(board: pd.DataFrame, curve: pd.Series[float], x: str, y: str) -> str:
    """Return how far the model is from the board where both were measured, in per cent of the board."""
    known = board[board[x].isin(curve.index)]
    if not len(known):
        return ""
    errors = sorted(
        abs(100 * (float(curve[place]) / float(value) - 1)) for place, value in zip(known[x], known[y], strict=True)
    )
    middle, most = errors[len(errors) // 2], errors[-1]
    return f": {middle:.2g} % off (median), {most:.2g} % at most"
