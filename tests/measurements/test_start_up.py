"""A start, step by step, on the device's clock."""

from pdmlab import measurements
from pdmlab.sim.board import VirtualBoard


def start(medium):
    with VirtualBoard("K64F", id="start", memory=True, power=False) as board:
        return measurements.start_up(board, medium)


def test_steps_follow_each_other_from_reset_to_the_network():
    rows = start("blank")
    ends = [row["start_ms"] + row["duration_ms"] for row in rows]
    assert rows[0]["start_ms"] >= 0
    assert all(row["start_ms"] >= end - 1e-6 for row, end in zip(rows[1:], ends, strict=False))
    assert rows == start("blank")
    assert max(rows, key=lambda row: row["duration_ms"])["step"].startswith("network: link up")


def test_a_used_card_is_not_formatted_again():
    first, second = (
        next(row["duration_ms"] for row in start(medium) if row["step"] == "mount the file system")
        for medium in ("blank", "used")
    )
    assert second < first / 2
