"""The model and Linux's own TCP in one frame."""

from __future__ import annotations

import pytest

from pdmlab.errors import ConfigError
from pdmlab.measurements import compare_tcp
from pdmlab.network import namespaces


def require() -> None:
    reasons = [namespaces.why_not(path) for path in namespaces.WAYS]
    if all(reasons):
        pytest.skip("; ".join(reasons))


def test_both_are_measured_at_every_point_and_kept(tmp_path):
    require()
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


@pytest.mark.parametrize("windows", [[], [536], [2144, 70_000]])
def test_windows_that_linux_cannot_offer_are_refused(windows, tmp_path):
    with pytest.raises(ConfigError, match="cannot be compared"):
        compare_tcp(windows, data=tmp_path)


def test_where_namespaces_cannot_be_had_the_reason_is_given(monkeypatch, tmp_path):
    monkeypatch.setattr(namespaces, "why_not", lambda path: "no right")
    with pytest.raises(ConfigError, match="cannot be had here: no right"):
        compare_tcp([2144], data=tmp_path)
    assert not list(tmp_path.iterdir())
