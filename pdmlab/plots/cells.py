"""A medium as a grid of cells, from its lowest address on, in rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from pdmlab.plots.canvas import finish, new_axes
from pdmlab.plots.words import human_size

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def cells(
    frame: pd.DataFrame, *, colours: Mapping[str, str], across: int = 64, ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw cells in rows of `across`: `offset_B` and `holds` a row of the frame; `colours` is word -> colour."""
    count = len(frame)
    rows = -(-count // across)
    ax = ax if ax is not None else new_axes(width=9, height=1.2 + 0.16 * rows)
    words = list(colours)
    numbers = [words.index(word) for word in frame["holds"]] + [len(words)] * (rows * across - count)
    grid = [numbers[start : start + across] for start in range(0, rows * across, across)]
    shades = ListedColormap([*colours.values(), "white"])
    ax.pcolormesh(grid, cmap=shades, vmin=-0.5, vmax=len(words) + 0.5, edgecolor="white", linewidth=0.4)
    offsets = [int(offset) for offset in frame["offset_B"]]
    step = max(rows // 8, 1)
    ax.set_yticks([row + 0.5 for row in range(0, rows, step)],
                  [f"0x{offsets[row * across]:05x}" for row in range(0, rows, step)], fontsize="x-small")  # fmt: skip
    ax.invert_yaxis()
    ax.set_xticks([])
    size = offsets[1] - offsets[0] if count > 1 else 0
    ax.set_xlabel(f"{across} cells of {human_size(size)} a row", fontsize="small")
    used = [word for word in words if (frame["holds"] == word).any()]
    handles = [Patch(color=colours[word], label=word) for word in used]
    ax.legend(handles=handles, frameon=False, fontsize="small", ncols=len(handles), loc="lower left",
              bbox_to_anchor=(0, 1.0 if not title else 1.04))  # fmt: skip
    finish(ax, frame, title, raised=14)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    return ax
