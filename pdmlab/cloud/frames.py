"""Lists of the API as frames: a row an item, a column a field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def frame_of(items: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return items as a frame; columns names them when there may be no items, or fewer are wanted."""
    import pandas as pd

    rows = [dict(item) for item in items]
    return pd.DataFrame(rows, columns=list(columns) if columns is not None else None)
