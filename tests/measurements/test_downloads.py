"""A download is bounded by one window a round trip, until the link is the limit."""

import pytest

from pdmlab import measurements
from pdmlab.sim.board import VirtualBoard


@pytest.fixture(scope="module")
def board():
    with VirtualBoard("K64F", id="downloads", memory=True, power=False) as board:
        yield board


def get(board, *point):
    with board.scratch(seed=1) as fresh:
        return measurements.http_download(fresh, *point)


def test_a_small_window_is_the_limit(board):
    row = get(board, "ethernet", 300, 1024)
    assert row["throughput_kBps"] == pytest.approx(row["buffer_per_round_trip_kBps"], rel=0.02)


def test_a_large_one_is_not(board):
    row = get(board, "cellular", 20, 16384)
    assert row["throughput_kBps"] < row["link_kBps"] < row["buffer_per_round_trip_kBps"]
    assert row["throughput_kBps"] == pytest.approx(row["link_kBps"], rel=0.12)
