"""A firmware's download takes a round trip a block, and a delta as many fewer blocks as it is smaller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pdmlab import measurements
from pdmlab.errors import ConfigError
from pdmlab.experiment import sweep
from pdmlab.sim.board import VirtualBoard

K = 1024


@pytest.fixture(scope="module")
def board() -> Iterator[VirtualBoard]:
    with VirtualBoard("K64F", id="updates", memory=True, power=False) as board:
        yield board


def update(board: VirtualBoard, *point: object, **more: object) -> dict[str, float]:
    return measurements.firmware_update(board, *point, image_B=32 * K, **more)  # type: ignore[arg-type, return-value]


def test_each_block_takes_a_round_trip_at_least(board: VirtualBoard) -> None:
    row = update(board, "ethernet", 512, round_trip_ms=300)
    assert row["blocks"] == 64 and row["retransmissions"] == 0
    assert row["download_s"] >= 64 * 0.3
    # 512 B of 5 ms on the card and 300 ms on the way: what is left is erasing the slot.
    assert row["download_s"] == pytest.approx(64 * 0.3, rel=0.35)
    assert row["throughput_kBps"] == pytest.approx(32 * K / 1000 / row["download_s"], rel=1e-4)


def test_larger_blocks_are_fewer_and_take_more_memory(board: VirtualBoard) -> None:
    small, large = (update(board, "ethernet", block, round_trip_ms=200) for block in (256, 1024))
    assert (small["blocks"], large["blocks"]) == (128, 32)
    assert small["download_s"] > 2 * large["download_s"]
    assert 512 < small["ram_B"] < 700 and 2048 < large["ram_B"] < 2300
    assert small["on_air_B"] > large["on_air_B"] > 32 * K


def test_a_delta_between_builds_is_smaller_and_makes_the_same_image(board: VirtualBoard) -> None:
    raw, delta = (update(board, "nb-iot", payload=kind) for kind in ("raw", "delta"))
    assert raw["of_image"] == 1 and delta["of_image"] < 0.5
    assert delta["download_s"] < 0.6 * raw["download_s"]
    assert delta["install_s"] == raw["install_s"]


def test_losses_are_made_good_and_cost_time(board: VirtualBoard) -> None:
    whole, lossy = (update(board, "ethernet", round_trip_ms=20, loss=loss) for loss in (0.0, 0.1))
    assert lossy["retransmissions"] > 0 == whole["retransmissions"]
    assert lossy["download_s"] > whole["download_s"]


def test_asking_for_the_next_block_while_one_is_written_hides_the_card_behind_the_link(board: VirtualBoard) -> None:
    # As long on the way as on the card (about 5 ms): what was one after the other is at the same time.
    one, both = (update(board, "ethernet", round_trip_ms=5, prefetch=each) for each in (0, 1))
    assert both["download_s"] < 0.75 * one["download_s"]
    assert (both["blocks"], both["retransmissions"]) == (one["blocks"], 0)
    assert both["ram_B"] == one["ram_B"] + 512


def test_several_requests_under_way_share_a_round_trip_until_they_are_more_than_the_link_takes(
    board: VirtualBoard,
) -> None:
    rows = [update(board, "nb-iot", prefetch=ahead) for ahead in (1, 4, 16)]
    one, four, crowd = (row["download_s"] for row in rows)
    assert four < one / 3
    assert [row["retransmissions"] > 0 for row in rows] == [False, False, True], (
        "what waits for its answer for 3 s is sent once more"
    )
    assert crowd > four and rows[2]["on_air_B"] > 2 * rows[1]["on_air_B"]


def test_a_download_has_ended_when_its_last_block_is_written(board: VirtualBoard) -> None:
    # What was asked for ahead has come long before: the card is what takes the time.
    rows = [update(board, "ethernet", 1024, prefetch=ahead) for ahead in (1, 4, 16)]
    assert len({row["download_s"] for row in rows}) == 1
    assert rows[0]["throughput_kBps"] < 250, "a card takes 4 ms for each of its blocks"


def test_a_sweep_of_updates_repeats_itself(board: VirtualBoard) -> None:
    factors = {"bearer": ["wifi"], "block_B": [128, 512], "image_B": [32 * K]}
    runs = [
        sweep(measurements.firmware_update, factors, experiment=f"updates-{n}", board=board, seed=3) for n in (1, 2)
    ]
    assert runs[0].digest == runs[1].digest
    assert list(runs[0].frame["blocks"]) == [256, 64]


@pytest.mark.parametrize(
    ("point", "word"),
    [({"block_B": 100}, "block_B is 100"), ({"image_B": 5}, "image_B"), ({"image_B": 1 << 20}, "slot take"),
     ({"image_B": 20000.5}, "image_B is 20000.5"),
     ({"payload": "zip"}, "raw or delta"), ({"prefetch": 17}, "prefetch is 17"), ({"bearer": "pigeon"}, "pigeon")],
)  # fmt: skip
def test_what_cannot_be_is_refused(board: VirtualBoard, point: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        measurements.firmware_update(board, **{"bearer": "ethernet", "image_B": 32 * K, **point})  # type: ignore[arg-type]
