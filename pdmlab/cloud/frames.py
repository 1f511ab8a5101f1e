"""Lists of the API as frames: a row an item, a column a field, times as times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Columns are named here or beside their items, so that a frame of nothing has them as well.
QUEUE_COLUMNS = ("device_id", "kind", "async_id", "request", "payload_B", "state", "why", "since", "until")
BOOTSTRAP_COLUMNS = ("at", "step", "answer", "payload_B", "seconds")

_TIMES = frozenset(
    {
        *("created_at", "updated_at", "started_at", "finished", "when", "date_time", "timestamp", "claimed_at"),
        *("expires_at", "completed_at", "bootstrapped_timestamp", "manifest_timestamp", "enrolment_list_timestamp"),
        "validity",
    }
)
_MILLISECONDS = frozenset({"creation_time", "last_login_time"})


def frame_of(items: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return items as a frame of these columns; other fields are left out."""
    import pandas as pd

    frame = pd.DataFrame([dict(item) for item in items], columns=list(columns))
    for name in columns:
        if name in _TIMES:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601", errors="coerce")
        elif name in _MILLISECONDS:
            frame[name] = pd.to_datetime(pd.to_numeric(frame[name]), unit="ms", utc=True)
    return frame
