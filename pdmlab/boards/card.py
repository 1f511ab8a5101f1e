"""The card that a board shows in a notebook; a virtual board's is framed and says SIMULATED."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_SIMULATED = "border:2px dashed #D55E00;"
_REAL = "border:2px solid #0072B2;"
_BOX = "border-radius:8px;padding:.6em 1em;display:inline-block"


def card(title: str, rows: Mapping[str, object], *, simulated: bool) -> str:
    """Return a board's card as HTML: a title, and a table of what is known of it."""
    cells = "".join(
        f"<tr style='text-align:left'><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    colour, word = ("#a84a00", "SIMULATED ") if simulated else ("#005a8c", "")
    return (
        f"<div style='{_SIMULATED if simulated else _REAL}{_BOX}'>"
        f"<b style='color:{colour}'>{word}{escape(title)}</b><table>{cells}</table></div>"
    )
