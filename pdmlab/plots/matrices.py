"""Words in a matrix: what came of each row under each column, coloured by the word."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.colors import to_rgb
from matplotlib.patches import Patch, Rectangle

from pdmlab.plots.canvas import finish, new_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def matrix(
    frame: pd.DataFrame,
    rows: str,
    columns: str,
    word: str,
    *,
    colours: Mapping[str, str],
    shade: str = "",
    order: Sequence[str] = (),
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw a frame's column `word` as a matrix; rows in the frame's order, columns in `order`, or as they come.

    colours: what `shade`, a column, or else the word itself says -> colour; others have none.
    """
    names = list(dict.fromkeys(frame[rows]))
    heads = list(order) or list(dict.fromkeys(frame[columns]))
    ax = ax if ax is not None else new_axes(width=9.5, height=1.0 + 0.36 * len(names))
    cells = zip(frame[rows], frame[columns], frame[word], frame[shade or word], strict=True)
    words = {(row, column): (str(said), str(tone)) for row, column, said, tone in cells}
    for y, name in enumerate(names):
        for x, head in enumerate(heads):
            said, tone = words.get((name, head), ("", ""))
            face = colours.get(tone, "white")
            ax.add_patch(Rectangle((x + 0.02, y + 0.06), 0.96, 0.88, facecolor=face, edgecolor="none"))
            ink = "white" if sum(to_rgb(face)) < 1.6 else "black"
            ax.text(x + 0.5, y + 0.5, said, ha="center", va="center", fontsize="small", color=ink)
    ax.set_xlim(0, len(heads))
    ax.set_ylim(len(names), 0)
    ax.set_xticks([x + 0.5 for x in range(len(heads))], heads)
    ax.set_yticks([y + 0.5 for y in range(len(names))], [textwrap.fill(name, 46) for name in names], fontsize="small")
    # The heads stand above the line that says what is simulated.
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.tick_params(axis="x", pad=14)
    for side in ax.spines.values():
        side.set_visible(False)
    if shade:
        used = [tone for tone in colours if tone in set(frame[shade])]
        handles = [Patch(color=colours[tone], label=tone) for tone in used]
        ax.legend(handles=handles, frameon=False, fontsize="small", ncols=len(handles), loc="upper right",
                  bbox_to_anchor=(1, -0.01))  # fmt: skip
    return finish(ax, frame, title, raised=30)
