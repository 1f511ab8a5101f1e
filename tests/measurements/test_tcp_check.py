"""The model and Linux's own TCP in one frame."""

from __future__ import annotations

import pytest

from pdmlab.errors import ConfigError
from pdmlab.measurements import compare_tcp
from pdmlab.network import namespaces
from tests.tools import require_namespaces


def test_both_are_measured_at_every_point_and_kept(tmp_path):
    require_namespaces()
    run = compare_tcp([2144, 4288], [20.0], size_B=8576, threads=(1, 2), data=tmp_path, seed=3)
    rows = run.frame
    assert list(rows["tcp"]) == ["Linux", "model"] * 4
    assert set(rows[rows["tcp"] == "model"]["clock"]) == {"device"} and set(rows["simulated"]) == {True}
    assert set(rows[rows["tcp"] == "Linux"]["clock"]) == {"host"}
    assert set(rows["path"]) - {"model"} <= set(namespaces.WAYS) and run.sidecar["path"] in namespaces.WAYS
    assert run.sidecar["state"] == "finished" and run.folder.parent == tmp_path
    # No time decides: what Linux measures hangs on how busy the host is, but it cannot beat the window.
    assert (rows["throughput_kBps"] <= rows["window_per_round_trip_kBps"] * 1.6).all()
    model = rows[rows["tcp"] == "model"]
    again = compare_tcp([2144, 4288], [20.0], size_B=8576, threads=(1, 2), data=tmp_path, seed=3).frame
    assert list(again[again["tcp"] == "model"]["throughput_kBps"]) == list(model["throughput_kBps"])


@pytest.mark.parametrize("windows", [[536], [2144, 70_000]])
def test_windows_that_linux_cannot_offer_are_refused(windows, tmp_path):
    with pytest.raises(ConfigError, match="cannot be compared"):
        compare_tcp(windows, data=tmp_path)


def test_where_namespaces_cannot_be_had_the_reason_is_given(monkeypatch, tmp_path):
    monkeypatch.setattr(namespaces, "why_not", lambda path: "no right")
    with pytest.raises(ConfigError, match="cannot be had here: no right"):
        compare_tcp([2144], data=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"windows_B": ()}, "windows_B is ()"),
        ({"windows_B": (2144.5,)}, "cannot be compared: a window is 2144.5"),
        ({"round_trips_ms": (0,)}, "round_trips_ms is [0]"),
        ({"round_trips_ms": ()}, "round_trips_ms is ()"),
        ({"round_trips_ms": ("x",)}, "round_trips_ms is 'x'"),
        ({"threads": (0,)}, "threads is 0"),
        ({"threads": ()}, "threads is ()"),
        ({"losses": ()}, "losses is ()"),
        ({"losses": (2,)}, "no probability"),
        ({"size_B": 0}, "size_B is 0"),
        ({"size_B": -1}, "size_B is -1"),
        ({"repeats": 0}, "repeats is 0"),
        ({"bearer": "pigeon"}, "no bearer named 'pigeon'"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_kept(wrong, said, tmp_path):
    with pytest.raises(ConfigError) as error:
        compare_tcp(**wrong, data=tmp_path)
    assert said in str(error.value) and error.value.hint and not list(tmp_path.iterdir())


def test_whole_floats_are_compared_as_the_numbers_that_they_are(tmp_path):
    require_namespaces()
    run = compare_tcp((2144.0,), (5,), threads=(1.0,), size_B=4096.0, data=tmp_path)
    assert list(run.frame["window_B"]) == [2144, 2144] and list(run.frame["bytes"]) == [4096, 4096]
