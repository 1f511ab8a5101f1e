"""Counters from a log: by device, how many messages, retransmissions and handshakes there were, and how long it took.

They count what the log still has. A round trip (ms) is from the first transmission of a request of this end to its
response, so that what was lost on the way is in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from pdmlab.capture.rows import LoggedMessage

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Counters:
    """Of one device; `device` and `name` are "" for all whom nobody knows."""

    device: str
    name: str
    received: int = 0
    sent: int = 0
    received_B: int = 0
    sent_B: int = 0
    retransmissions: int = 0
    duplicates: int = 0
    never_acknowledged: int = 0
    resets: int = 0
    errors: int = 0
    handshakes_full: int = 0
    handshakes_resumed: int = 0
    handshakes_failed: int = 0
    connections_closed: int = 0
    round_trips_ms: list[float] = field(default_factory=list, repr=False)

    def add(self, row: LoggedMessage) -> None:
        """Count a row."""
        if row.is_event:
            self._add_event(row)
            return
        came = row.direction == "in"
        self.received += came
        self.sent += not came
        self.received_B += row.payload_B * came
        self.sent_B += row.payload_B * (not came)
        again = row.transmission > 1
        self.retransmissions += again and not came
        self.duplicates += again and came
        self.resets += row.outcome == "reset" and not again
        self.errors += row.code[:2] in ("4.", "5.") and not again
        if row.round_trip_ms is not None and row.answers is not None and came:
            self.round_trips_ms.append(row.round_trip_ms)

    def _add_event(self, row: LoggedMessage) -> None:
        self.never_acknowledged += row.code == "gave up"
        self.handshakes_failed += row.code == "handshake failed"
        if row.code == "handshake completed":
            resumed = row.options == "resumed"
            self.handshakes_resumed += resumed
            self.handshakes_full += not resumed
        self.connections_closed += row.code == "closed"


def counted(rows: Iterable[LoggedMessage]) -> pd.DataFrame:
    """Return a frame of Counters, a row a device, with round_trip_p50_ms and round_trip_p99_ms (NaN without any)."""
    import pandas as pd

    by_device: dict[tuple[str, str], Counters] = {}
    for row in rows:
        who = (row.device, "" if row.device else row.name)
        counters = by_device.setdefault(who, Counters(row.device, row.name))
        counters.name = row.name or counters.name
        counters.add(row)
    records = []
    for each in by_device.values():
        record = asdict(each)
        trips = sorted(record.pop("round_trips_ms"))
        record |= {f"round_trip_p{part}_ms": _percentile(trips, part) for part in (50, 99)}
        records.append(record)
    names = [name for name in Counters.__dataclass_fields__ if name != "round_trips_ms"]
    return pd.DataFrame(records, columns=[*names, "round_trip_p50_ms", "round_trip_p99_ms"])


def _percentile(values: list[float], part: int) -> float:
    """Return the value that `part` in a hundred of the sorted values do not exceed (nearest rank)."""
    return values[max(-(-len(values) * part // 100), 1) - 1] if values else float("nan")
