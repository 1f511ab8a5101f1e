"""How far a download is, and how long it will still take."""

from __future__ import annotations

from dataclasses import dataclass

from pdmlab.service.campaign_words import STEPS
from pdmlab.service.store import Row


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

    def served(self, start: int, size: int, total: int, now: float) -> None:
        """Count a block; one that was sent again counts once."""
        self.done_B = max(self.done_B, start + size)
        self.total_B, self.latest = total, now
        self.block_B = max(self.block_B, size)  # the last one may be smaller
        self.block = start // self.block_B
        self.blocks += 1

    @property
    def left_s(self) -> float | None:
        """Predict how long the rest takes, from how long the part so far took; None before there is any."""
        carried, took = self.done_B - self.first_B, self.latest - self.since
        if carried <= 0 or took <= 0 or self.blocks < 2:
            return None
        return (self.total_B - self.done_B) * took / carried


def shown(row: Row, progress: Progress | None, now: float) -> Row:
    """Return what a view of a campaign shows of a device."""
    total = row["payload_size"] or 0
    done, block, left = row["done_B"], None, None
    if progress is not None and progress.row_id == row["id"]:
        done, block, left = progress.done_B, progress.block, progress.left_s
        total = progress.total_B or total
    if row["summary_status"] == "success":
        done = total
    return {
        "device_id": row["device_id"],
        "endpoint_name": row["endpoint_name"] or "",
        "phase": row["step"] if row["step"] != "done" else row["summary_status"],
        "block": block,
        "done_B": done,
        "total_B": total,
        "left_s": left if row["step"] == "downloading" else None,
        "description": row["description"] or STEPS[row["step"]],
    }
