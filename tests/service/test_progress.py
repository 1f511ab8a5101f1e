"""The time that is left of a download: predicted before it begins, measured as it goes on."""

from __future__ import annotations

import pytest

from pdmlab.service.ids import timestamp
from pdmlab.service.pace import ONE_EXCHANGE_B, USUAL_BLOCK_B, Pace, Paces
from pdmlab.service.progress import PRIOR, Progress, left, shown

SIZE = 1_000_000
NOW = 1_800_000_000.0


def downloading(blocks: int, each_s: float, block: int = 512) -> Progress:
    progress = Progress("row", "coap://image", 0, 100.0)
    for number in range(blocks):
        progress.served(number * block, block, SIZE, 100.0 + number * each_s)
    return progress


def row(**values: object) -> dict[str, object]:
    return {
        "id": "row", "device_id": "d", "endpoint_name": "desk", "step": "accepted", "summary_status": "info",
        "payload_size": SIZE, "done_B": 0, "description": "", "updated_at": timestamp(NOW), **values,
    }  # fmt: skip


def test_before_the_first_block_it_takes_a_round_trip_a_block() -> None:
    assert left(SIZE, None, Pace(0.25, 1024)) == pytest.approx(977 * 0.25)
    assert left(SIZE, None, Pace(0.25)) == pytest.approx(1954 * 0.25)


def test_without_a_round_trip_nothing_is_said_until_two_blocks_have_come() -> None:
    assert left(SIZE, None, Pace(None)) is None
    assert left(SIZE, downloading(1, 2.0), Pace(None)) is None
    assert left(SIZE, downloading(2, 2.0), Pace(None)) == pytest.approx(2.0 * 1952)


def test_what_was_predicted_counts_less_with_each_block_and_then_not_at_all() -> None:
    predicted, real = 0.1, 1.0
    each = [(left(SIZE, downloading(n, real), Pace(predicted)) or 0) / (1954 - n) for n in range(1, 3 * PRIOR)]
    assert each[0] == pytest.approx(predicted)
    assert each == sorted(each)
    assert each[PRIOR:] == pytest.approx([real] * len(each[PRIOR:]))


def test_a_row_says_where_its_time_is_from() -> None:
    said = [
        shown(row(**values), progress, pace, NOW)["left_from"]
        for values, progress, pace in (
            ({}, None, Pace(None)),
            ({}, None, Pace(0.2)),
            ({"step": "downloading"}, downloading(3, 1.0), Pace(0.2)),
            ({"step": "downloading"}, downloading(30, 1.0), Pace(0.2)),
            ({"step": "downloading"}, downloading(3, 1.0), Pace(None)),
            ({"step": "rebooting"}, downloading(30, 1.0), Pace(0.2)),
        )
    ]
    assert said == ["", "predicted", "predicted and measured", "measured", "measured", ""]


def test_nothing_is_left_of_what_has_ended() -> None:
    done = shown(row(step="done", summary_status="success"), None, Pace(0.2), NOW)
    assert (done["left_s"], done["done_B"], done["phase"]) == (None, SIZE, "success")


def test_round_trips_are_smoothed_and_a_lost_message_is_no_round_trip() -> None:
    paces = Paces()
    for _ in range(20):
        paces.answered("d", 0.1, 20)
    paces.answered("d", 30.0, 20)
    assert 0.1 < (paces.of("d").round_trip_s or 0) < 0.15
    paces.answered("d", 9.0, ONE_EXCHANGE_B + 1, 1024)  # several exchanges: no round trip, but a size of blocks
    assert (paces.of("d").round_trip_s or 0) < 0.15 and paces.of("d").block_B == 1024
    assert paces.of("other") == Pace(None, USUAL_BLOCK_B)


def test_a_device_that_fetches_elsewhere_is_not_predicted_for_ever() -> None:
    there = row(step="downloading")
    assert shown(there, None, Pace(0.2), NOW + 5)["left_from"] == "predicted"
    assert shown(there, None, Pace(0.2), NOW + 11)["left_s"] is None
    assert shown(there, None, Pace(2.0), NOW + 11)["left_from"] == "predicted"  # its first block takes that long
    assert shown(there, downloading(30, 1.0), Pace(0.2), NOW + 900)["left_from"] == "measured"


def test_who_asks_for_the_first_block_again_begins_anew() -> None:
    progress = downloading(30, 1.0)
    progress.served(0, 512, SIZE, 200.0)
    assert (progress.done_B, progress.blocks, progress.since) == (512, 1, 200.0)
    progress.served(0, 512, SIZE, 201.0)  # sent again: it counts once
    assert (progress.done_B, progress.since) == (512, 200.0)


def test_who_asks_for_blocks_ahead_has_not_begun_anew_because_the_first_comes_late() -> None:
    since = 99.0  # blocks 0 to 16 are under way, and the request for 0 is lost at first
    progress = Progress("row", "coap://image", 512, since)
    for number in range(1, 16):
        progress.served(number * 512, 512, SIZE, 100.0)
    progress.served(0, 512, SIZE, 200.0)
    assert (progress.done_B, progress.since) == (16 * 512, since)


def test_who_was_early_with_the_first_block_and_asks_for_it_again_begins_anew_too() -> None:
    progress = downloading(12, 1.0)
    progress.served(0, 512, SIZE, 200.0)
    assert (progress.done_B, progress.blocks, progress.since) == (512, 1, 200.0)
    resumed = Progress("row", "coap://image", 100 * 512, 100.0)  # in the middle, by a service that has just started
    resumed.served(100 * 512, 512, SIZE, 100.0)
    resumed.served(0, 512, SIZE, 200.0)
    assert (resumed.done_B, resumed.blocks, resumed.since) == (512, 1, 200.0)


def test_blocks_that_come_mean_that_it_downloads_whatever_it_has_said_before() -> None:
    said = row(step="download approval")
    progress = downloading(4, 1.0)
    progress.latest = NOW + 5
    assert shown(said, progress, Pace(None), NOW + 6)["phase"] == "downloading"
    progress.latest = NOW - 5  # it has asked since
    assert shown(said, progress, Pace(None), NOW + 6)["phase"] == "download approval"
