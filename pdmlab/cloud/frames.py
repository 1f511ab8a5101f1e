"""Lists of the API as frames: a row an item, a column a field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Columns are named here, so that a frame of nothing has them as well.
DEVICE_COLUMNS = (
    *("id", "name", "state", "endpoint_name", "endpoint_type", "created_at", "updated_at", "bootstrapped_timestamp"),
    *("vendor_id", "device_class", "serial_number", "description", "custom_attributes", "groups", "host_gateway"),
    *("mechanism", "device_execution_mode", "lifecycle_status", "firmware_checksum", "manifest", "manifest_timestamp"),
    *("deployed_state", "deployment", "account_id"),
)
EVENT_COLUMNS = ("date_time", "device_id", "event_type", "description", "changes", "data", "state_change", "id")
QUEUE_COLUMNS = ("device_id", "kind", "async_id", "request", "payload_B", "state", "why", "since", "until")
BOOTSTRAP_COLUMNS = ("at", "step", "answer", "payload_B", "seconds")
PROGRESS_COLUMNS = ("device_id", "endpoint_name", "phase", "block", "done_B", "total_B", "left_s", "description")


def frame_of(items: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return items as a frame of these columns; other fields are left out."""
    import pandas as pd

    rows = [dict(item) for item in items]
    return pd.DataFrame(rows, columns=list(columns))
