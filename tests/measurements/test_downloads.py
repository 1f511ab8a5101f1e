"""A download is bounded by one window a round trip, until the link is the limit."""

import pytest

from pdmlab import measurements
from pdmlab.errors import ConfigError
from pdmlab.experiment import sweep
from pdmlab.network.link import Link
from pdmlab.sim.board import VirtualBoard

COMMON = {"offered_window_B", "throughput_kBps", "first_byte_ms", "wait_p50_ms", "wait_p99_ms", "segments",
          "retransmissions", "on_medium_B", "efficiency", "estimates"}  # fmt: skip


@pytest.fixture(scope="module")
def board():
    with VirtualBoard("K64F", id="downloads", memory=True, power=False) as board:
        yield board


def get(board, *point, **more):
    with board.scratch(seed=1) as fresh:
        return measurements.http_download(fresh, *point, **more)


def test_a_small_window_is_the_limit(board):
    row = get(board, "ethernet", 300, 1024)
    assert row["throughput_kBps"] == pytest.approx(row["window_per_round_trip_kBps"], rel=0.02)
    assert row["offered_window_B"] == 1024 and row["window_B"] == 2144 and row["retransmissions"] == 0


def test_a_large_one_is_not(board):
    row = get(board, "cellular", 20, 16384, 16384)
    assert row["throughput_kBps"] < row["link_kBps"] < row["window_per_round_trip_kBps"]
    assert row["throughput_kBps"] == pytest.approx(row["link_kBps"], rel=0.12)


def test_the_stacks_window_bounds_what_a_larger_receive_buffer_offers(board):
    rows = [get(board, "ethernet", 100, size) for size in (1072, 2144, 4096)]
    assert [row["offered_window_B"] for row in rows] == [1072, 2144, 2144]
    assert rows[1]["throughput_kBps"] == pytest.approx(2 * rows[0]["throughput_kBps"], rel=0.03)
    assert rows[2]["throughput_kBps"] == pytest.approx(rows[1]["throughput_kBps"], rel=0.01)


def test_threads_add_their_windows_until_they_share_the_link(board):
    one, two = (get(board, "ethernet", 100, 1024, threads=count) for count in (1, 2))
    assert two["throughput_kBps"] == pytest.approx(2 * one["throughput_kBps"], rel=0.05)
    assert two["bytes"] == 2 * one["bytes"]
    narrow = get(board, "cellular", 20, 8576, 8576, threads=3)
    assert narrow["throughput_kBps"] < narrow["link_kBps"] and narrow["efficiency"] < 1


def test_loss_costs_retransmissions_and_time(board):
    whole, lossy = (get(board, "ethernet", 20, 2144, loss=loss) for loss in (0.0, 0.03))
    assert whole["retransmissions"] == 0 < lossy["retransmissions"]
    assert lossy["throughput_kBps"] < 0.8 * whole["throughput_kBps"]


def test_every_bearer_is_swept_in_one_call_and_says_what_is_estimated(board, tmp_path):
    factors = {
        "bearer": ["ethernet", "nb-iot", "6lowpan", "wi-sun"],
        "round_trip_ms": [None, 50.0],
        "receive_buffer_B": [1024],
        "threads": [1, 2],
    }
    run = sweep(measurements.http_download, factors, experiment="network", board=board, progress=False, data=tmp_path)
    rows = run.frame
    assert len(rows) == 16 and set(rows.columns) >= COMMON
    assert set(rows["clock"]) == {"device"} and set(rows["simulated"]) == {True}
    said = {str(row.bearer): str(row.estimates) for row in rows.itertuples() if row.round_trip_ms != 50.0}
    assert said["nb-iot"] == "nb-iot: jitter, call_time" and said["wi-sun"] == "wi-sun: latency, call_time"
    assert "latency" not in str(rows[rows["round_trip_ms"] == 50.0]["estimates"].unique())
    again = sweep(measurements.http_download, factors, experiment="network", board=board, progress=False, data=tmp_path)
    assert again.digest == run.digest


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"receive_buffer_B": 0}, "receive_buffer_B is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"window_B": 70_000}, "window_B is 70000"),
        ({"loss": 1.5}, "no probability"),
        ({"round_trip_ms": -1}, "cannot be negative"),
    ],
)
def test_what_cannot_be_is_refused(board, point, said):
    with pytest.raises(ConfigError, match=said):
        get(board, "ethernet", **point)


def test_whole_floats_are_sizes_and_fractions_are_refused(board):
    whole = get(board, "ethernet", receive_buffer_B=1024.0, window_B=2144.0, threads=2.0)
    assert whole == get(board, "ethernet", receive_buffer_B=1024, window_B=2144, threads=2)
    for wrong in ({"receive_buffer_B": 1.5}, {"window_B": float("nan")}, {"threads": "2"}, {"round_trip_ms": "x"}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is"):
            get(board, "ethernet", **wrong)


def test_a_link_of_ones_own_is_measured_under_its_name(board):
    mine = Link.of("ethernet", name="my cable", latency=10_000_000)
    row = get(board, mine, window_B=1072)
    assert row["bearer"] == "my cable" and row["round_trip_ms"] == 20 and mine.receive_buffer == 2144
    assert "bearer" not in get(board, "ethernet")


def test_a_point_that_times_out_is_skipped_and_the_sweep_goes_on(board, tmp_path):
    factors = {"bearer": ["ethernet"], "loss": [0.0, 1.0, 0.01]}
    run = sweep(measurements.http_download, factors, experiment="lossy", board=board, progress=False, data=tmp_path)
    assert list(run.frame["loss"]) == [0.0, 0.01]
    assert list(run.skipped["loss"]) == [1.0] and "time-out" in run.skipped["why"].iloc[0]
