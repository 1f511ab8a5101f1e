"""A cluster that fails says so in the words of a sweep, and one that is not there leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pdmlab import experiment
from pdmlab.errors import ConfigError, ExperimentError
from pdmlab.experiment import cluster
from pdmlab.sim.board import VirtualBoard


@pytest.fixture(scope="module")
def board() -> Iterator[VirtualBoard]:
    with VirtualBoard("K64F", id="clusters", memory=True, power=False) as board:
        yield board


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=":0"
    ) as local:
        yield local.scheduler_address


def measure(board: Any, n: int) -> dict[str, int]:
    return {"m": n}


def test_tasks_that_a_cluster_gives_up_are_lost_in_the_words_of_a_sweep(
    board: VirtualBoard, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = cluster._connected

    def failing(address: str) -> Any:
        client = connected(address)
        submit = client.submit

        def give_up(function: Any, packed: bytes, task: Any, **options: Any) -> Any:
            future = submit(function, packed, task, **options)
            if task.point["n"] == 2:
                future.cancel(reason="scheduler-connection-lost")
            return future

        client.submit = give_up
        return client

    monkeypatch.setattr(cluster, "_connected", failing)
    with pytest.raises(ExperimentError, match=r"the cluster lost \{'n': 2\}: .*\nhint: did its scheduler or workers"):
        experiment.sweep(
            measure, {"n": [1, 2, 3]}, experiment="x", board=board, workers=scheduler, data=tmp_path, progress=False
        )
    assert experiment.list_runs(data=tmp_path)["state"].to_list() == ["interrupted"]


@pytest.mark.parametrize("workers", [0, None], ids=["no workers", "no scheduler"])
def test_a_cluster_that_cannot_measure_leaves_no_run(board: VirtualBoard, tmp_path: Path, workers: int | None) -> None:
    from distributed import LocalCluster

    def refused(address: str) -> None:
        with pytest.raises(ConfigError):
            experiment.sweep(measure, {"n": [1]}, experiment="x", board=board, workers=address, data=tmp_path)

    if workers is None:
        refused("tcp://127.0.0.1:1")
    else:
        with LocalCluster(
            n_workers=workers, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=":0"
        ) as local:
            refused(local.scheduler_address)
    assert not list(tmp_path.iterdir())


def test_a_run_that_no_sweep_made_says_how_to_repeat_it(tmp_path: Path) -> None:
    sidecar = {"run": "r", "experiment": "network-check", "measure": "pdmlab.measurements.tcp_check:compare_tcp",
               "factors": {}, "repeats": 1, "seed": 1}  # fmt: skip
    with pytest.raises(
        ExperimentError, match=r"is of no sweep \(.* no board_url\).*compare_tcp\nhint: call compare_tcp"
    ):
        experiment.rerun(experiment.Run(tmp_path, "r", sidecar))
    del sidecar["measure"]
    with pytest.raises(ExperimentError, match="but of something else\nhint: sweep"):
        experiment.rerun(experiment.Run(tmp_path, "r", sidecar))
