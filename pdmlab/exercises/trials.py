"""Judges that try an answer out: on a board, in a replay, or against a rule, to see what happens."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pdmlab import measurements

if TYPE_CHECKING:
    from pdmlab.exercises import Judge

WRITE_SIZES = (1, 4, 16, 64, 256, 512, 1024, 4096)
WITHIN = 0.1
"""How far above the least counts as least."""


def least_ring(board: Any, *, rate_Bps: int, sync_every_B: int, bus_Hz: int) -> Judge:  # Any: a virtual board
    """Judge (ring_B, write_B): it loses nothing of 64 KiB at that rate, and is within 10 % of the least ring."""

    def log(write_B: int, ring_B: int | None) -> dict[str, Any]:  # Any: a row's cells
        with board.scratch(seed=1) as fresh:
            return dict(measurements.log_stream(fresh, rate_Bps, write_B, sync_every_B, bus_Hz, ring_B))

    @cache
    def least() -> int:
        return min(int(log(size, None)["fullest_B"]) for size in WRITE_SIZES)

    def judge(answer: Any) -> bool | str:
        ring_B, write_B = (int(number) for number in answer)
        if not 0 < write_B <= ring_B:
            return f"a ring buffer of {ring_B} B never holds a write of {write_B} B."
        lost = log(write_B, ring_B)["lost_B"]
        if lost:
            return f"{lost} B of 64 KiB are lost."
        if ring_B > least() * (1 + WITHIN):
            return f"Nothing is lost, but a ring of {least() / ring_B:.0%} of that would do, written otherwise."
        return True

    return judge


def download_speed(board: Any, *, bearer: str, round_trip_ms: int, receive_buffer_B: int, seed: int) -> Judge:
    """Judge a speed (kB/s): within 10 % of what a download measures."""

    @cache
    def measured() -> float:
        with board.scratch(seed=seed) as fresh:
            row = measurements.http_download(fresh, bearer, round_trip_ms, receive_buffer_B)
            return float(row["throughput_kBps"])

    def judge(answer: Any) -> bool | str:
        ratio = float(answer) / measured()
        if abs(ratio - 1) <= WITHIN:
            return True
        return f"The measurement was {'below' if ratio > 1 else 'above'} that, by {abs(1 - 1 / ratio):.0%}."

    return judge
