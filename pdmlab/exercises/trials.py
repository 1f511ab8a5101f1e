"""Judges that try an answer out: on a board, in a replay, or against a rule, to see what happens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from pdmlab import measurements
from pdmlab.errors import ConfigError, Lwm2mError
from pdmlab.lwm2m.attributes import NotificationAttributes
from pdmlab.sim.board import VirtualBoard

if TYPE_CHECKING:
    from pdmlab.exercises import Judge

WRITE_SIZES = (1, 4, 16, 64, 256, 512, 1024, 4096)
WITHIN = 0.1
"""How far above the least counts as least."""


def least_ring(board: Any, *, rate_Bps: int, sync_every_B: int, bus_Hz: int) -> Judge:  # Any: a virtual board
    """Judge (ring_B, write_B): it loses nothing of 64 KiB at that rate, and is within 10 % of the least ring."""

    def log(write_B: int, ring_B: int | None) -> dict[str, Any]:  # Any: a row's cells
        with _fresh(board, seed=1) as fresh:
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
            return "Nothing is lost, but a smaller ring would do."
        return True

    return judge


def download_speed(board: Any, *, bearer: str, round_trip_ms: int, receive_buffer_B: int, seed: int) -> Judge:
    """Judge a speed (kB/s): within 10 % of what a download measures."""

    @cache
    def measured() -> float:
        with _fresh(board, seed=seed) as fresh:
            row: dict[str, Any] = measurements.http_download(fresh, bearer, round_trip_ms, receive_buffer_B)
            return float(row["throughput_kBps"])

    def judge(answer: Any) -> bool | str:
        ratio = float(answer) / measured()
        if abs(ratio - 1) <= WITHIN:
            return True
        return f"The measurement was {'below' if ratio > 1 else 'above'} that, by {abs(1 - 1 / ratio):.0%}."

    return judge


def attributes_within(values: Sequence[float], *, most: int, off_by: float, for_s: int, silence_s: int) -> Judge:
    """Judge attributes, {"pmin": 5, "st": 0.5}: few enough notifications, and the server never far off for long.

    Args:
        most: notifications over all values, one value a second.
        off_by, for_s: what the server believes may be further off than this for so many seconds on end, not more.
        silence_s: the longest time without a notification.
    """

    def judge(answer: Any) -> bool | str:
        try:
            attributes = NotificationAttributes(**dict(answer))
        except Lwm2mError as error:
            return f"The device would refuse them: {error.message}."
        rows = measurements.told(values, attributes)
        faults = []
        if (count := int(rows["told"].sum())) > most:
            faults.append(f"{count} notifications, {most} are allowed")
        if (stale := longest_run((rows["error"] > off_by).tolist())) > for_s:
            faults.append(f"the server is off by more than {off_by:g} for {stale} s on end, {for_s} s are allowed")
        if (silent := longest_run((~rows["told"]).tolist())) > silence_s:
            faults.append(f"{silent} s without a notification, {silence_s} s are allowed")
        return "; ".join(faults).capitalize() + "." if faults else True

    return judge


def longest_run(flags: Sequence[bool]) -> int:
    """Return the longest run of true flags."""
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest


def bricks(board: Any, *, image_B: int, bootloader: str | None = None) -> Judge:  # Any: a virtual board
    """Judge a replay code: one power cut, the card in its place at the end, and no start that starts anything.

    bootloader: which one it has to be, unless the code names one; fota if nothing is said.
    """

    def judge(answer: Any) -> bool | str:
        code = str(answer).strip()
        try:
            story = measurements.replay(board, code, image_B=image_B, bootloader=bootloader)
            after = measurements.replay(
                board, f"{code} seat-card boot download boot", image_B=image_B, bootloader=bootloader
            )
        except ConfigError as error:
            return f"{error.message}."
        if story.cuts != 1:
            return f"The power is lost {story.cuts} times, not once."
        if after.running != "nothing":
            return f"It is not bricked: with its card in place, the next starts end with {after.running} running."
        return True

    return judge


@contextlib.contextmanager
def _fresh(board: VirtualBoard, *, seed: int) -> Iterator[Any]:  # Any: measurements ask for their own Bench
    """Give a fresh board as board.scratch does, also when the notebook's last cell has closed the board."""
    with VirtualBoard(board.target, id=f"{board.id}-trial", seed=seed, memory=True, power=False) as fresh:
        fresh.network.link = board.network.link
        yield fresh
