"""What is measured of files: one row a direction, and a logger that loses nothing or says how much."""

import pytest

from pdmlab import measurements
from pdmlab.errors import ConfigError
from pdmlab.sim.board import VirtualBoard


@pytest.fixture(scope="module")
def board():
    with VirtualBoard("K64F", id="files", memory=True, power=False) as board:
        yield board


def scratch(board, measure, *args, **kwargs):
    with board.scratch(seed=1) as fresh:
        return measure(fresh, *args, **kwargs)


def test_a_whole_sector_a_call_costs_a_directory_entry_each(board):
    slow, _ = scratch(board, measurements.file_transfer, buffer_B=512, bus_Hz=4_000_000, sync_every_B=65536)
    fast, _ = scratch(board, measurements.file_transfer, buffer_B=256, bus_Hz=4_000_000, sync_every_B=65536)
    assert slow["programs"] > 2 * fast["programs"] * 0.95
    assert slow["throughput_kBps"] < 0.6 * fast["throughput_kBps"]
    assert slow["file_system"].startswith("FatFs")


def test_a_row_for_writing_and_one_for_reading_the_same_twice(board):
    rows = scratch(board, measurements.file_transfer, buffer_B=4096, bus_Hz=1_000_000, sync_every_B=4096)
    assert [row["operation"] for row in rows] == ["write", "read"]
    assert rows == scratch(board, measurements.file_transfer, buffer_B=4096, bus_Hz=1_000_000, sync_every_B=4096)


def test_a_chip_is_measured_with_littlefs():
    with VirtualBoard("DISCO_F413ZH", id="chip", memory=True, power=False) as board:
        write, _ = scratch(board, measurements.file_transfer, buffer_B=1024, bus_Hz=40_000_000, sync_every_B=65536)
    assert write["file_system"].startswith("littlefs") and write["erases"] > 0


def test_the_ring_that_was_needed_loses_nothing_and_a_smaller_one_does(board):
    free = scratch(board, measurements.log_stream, 20_000, 64, 4096, 1_000_000)
    assert free["lost_B"] == 0 and 64 < free["fullest_B"] < 2000
    kept = scratch(board, measurements.log_stream, 20_000, 64, 4096, 1_000_000, ring_B=free["fullest_B"])
    lost = scratch(board, measurements.log_stream, 20_000, 64, 4096, 1_000_000, ring_B=free["fullest_B"] - 100)
    assert kept["lost_B"] == 0 and lost["lost_B"] > 0


def test_a_ring_smaller_than_a_write_is_refused(board):
    with pytest.raises(ConfigError, match="never holds"):
        scratch(board, measurements.log_stream, 20_000, 4096, 4096, 1_000_000, ring_B=512)


def test_a_real_board_says_what_to_do_instead():
    class Real:
        target = "K64F"

    with pytest.raises(ConfigError, match="is a real board") as refused:
        measurements.file_transfer(Real(), 64, 1_000_000, 4096)
    assert "fs-*" in str(refused.value)
