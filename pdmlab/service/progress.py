"""How far a download is, and how long it still takes: predicted from size, block size and round trip, then measured.

Before the first block, the rest takes a round trip a block. As blocks come, what they took counts more and more, and
from PRIOR blocks on alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pdmlab.service.campaign_words import STEPS
from pdmlab.service.filters import parse_time
from pdmlab.service.pace import Pace
from pdmlab.service.store import Row
from pdmlab.update.prefetch import MOST_AHEAD

PRIOR = 8
"""Blocks as many as the prediction weighs before the first has come; each that comes takes one's weight from it."""
QUIET_TRIPS, QUIET_S = 8, 10.0
"""A device that says it downloads, and asks for no block for so long (round trips, and s), gets the image elsewhere."""
AHEAD = ("waiting", "sending", "accepted", "download approval", "downloading")
"""Steps at which the download, or the rest of it, is still to come."""


@dataclass
class Progress:
    """Blocks of one image on their way to one device; times in Unix seconds, sizes in bytes."""

    row_id: str
    uri: str
    first_B: int
    since: float
    block_B: int = 0
    done_B: int = 0
    total_B: int = 0
    block: int = 0
    blocks: int = 0
    latest: float = 0.0
    has_first: bool = False

    def served(self, start: int, size: int, total: int, now: float) -> None:
        """Count a block; one that was sent again counts once. Who asks for the first one again begins anew."""
        if start == 0:
            # Not where it only comes late, after some that were asked for ahead of it.
            anew = self.has_first or self.first_B > MOST_AHEAD * size
            if anew and self.done_B > 2 * size:
                self.first_B = self.done_B = self.blocks = 0
                self.since = now
            self.has_first = True
        self.done_B = max(self.done_B, start + size)
        self.total_B, self.latest = total, now
        self.block_B = max(self.block_B, size)  # the last one may be smaller
        self.block = start // self.block_B
        self.blocks += 1

    @property
    def left_s(self) -> float | None:
        """Predict how long the rest takes, from how long the part so far took; None before there is any."""
        return left(self.total_B, self, Pace(None))


def left(total_B: int, progress: Progress | None, pace: Pace) -> float | None:
    """Return how long the rest of an image will take (s); None where neither its pace nor any block says so."""
    done = 0 if progress is None else progress.done_B
    block = pace.block_B if progress is None else progress.block_B
    rest = math.ceil(max(total_B - done, 0) / max(block, 1))
    come = 0 if progress is None else progress.blocks
    weight = 0.0 if pace.round_trip_s is None else float(max(PRIOR - come, 0))
    took = weight * (pace.round_trip_s or 0.0)
    if progress is not None and come >= 2:
        # The first block's own time is not known: when it was asked for is not.
        took += max(progress.latest - progress.since, 0.0)
        weight += (done - progress.first_B) / block - 1
    return rest * took / weight if weight > 0 and took > 0 else None


def shown(row: Row, progress: Progress | None, pace: Pace, now: float) -> Row:
    """Return what a view of a campaign shows of a device; now: Unix s."""
    total = row["payload_size"] or 0
    done, block, mine = row["done_B"], None, None
    if progress is not None and progress.row_id == row["id"]:
        mine, done, block = progress, progress.done_B, progress.block
        total = progress.total_B or total
    if row["summary_status"] == "success":
        done = total
    step = row["step"]
    if step == "download approval" and mine is not None and mine.latest > _since(row, math.inf):
        step = "downloading"  # what it says of that can be lost where a download goes on after a reset
    open_ = row["summary_status"] == "info" and step in AHEAD and total > 0
    if mine is None and step == "downloading" and _is_elsewhere(row, pace, now):
        pace = pace._replace(round_trip_s=None)
    return {
        "id": row["id"],
        "device_id": row["device_id"],
        "endpoint_name": row["endpoint_name"] or "",
        "phase": step if step != "done" else row["summary_status"],
        "block": block,
        "block_B": pace.block_B if mine is None else mine.block_B,
        "round_trip_ms": None if pace.round_trip_s is None else round(pace.round_trip_s * 1000, 2),
        "done_B": done,
        "total_B": total,
        "left_s": left(total, mine, pace) if open_ else None,
        "left_from": _from(mine, pace) if open_ else "",
        "description": row["description"] or STEPS[step],
    }


def _is_elsewhere(row: Row, pace: Pace, now: float) -> bool:
    """Whether a device that downloads has asked here for nothing: by HTTP, or of another server."""
    silent = now - _since(row, now)
    return silent > max(QUIET_S, QUIET_TRIPS * (pace.round_trip_s or 0.0))


def _since(row: Row, otherwise: float) -> float:
    """Return when a device last said something of its update (Unix s)."""
    since = parse_time(row["updated_at"])
    return otherwise if since is None else since.timestamp()


def _from(progress: Progress | None, pace: Pace) -> str:
    """Say where the time left is from: "predicted", "measured", or "" where there is none."""
    if progress is not None and progress.blocks >= 2:
        measured = pace.round_trip_s is None or progress.blocks >= PRIOR
        return "measured" if measured else "predicted and measured"
    return "predicted" if pace.round_trip_s is not None else ""
