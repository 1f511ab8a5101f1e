"""Sweeps by several processes and on a cluster: the same digest however they ran, no row lost, nobody left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pdmlab import experiment, frames, processes
from pdmlab.errors import BadMeasurement, ConfigError, ExperimentError
from pdmlab.experiment import cluster
from pdmlab.measurements import file_transfer
from pdmlab.sim.board import VirtualBoard
from tests.watching import alive, until

POINTS = {"buffer_B": [512, 4096], "file_system": ["FAT", "LFS"], "cache_size_B": [None, 1024]}


@pytest.fixture(scope="module")
def board():
    with VirtualBoard("K64F", id="workers", memory=True, power=False) as board:
        yield board


@pytest.fixture
def sweep(board, tmp_path):
    def swept(measure, factors, **options):
        options = {"experiment": "x", "board": board, "data": tmp_path, "progress": False} | options
        return experiment.sweep(measure, factors, **options)

    return swept


@pytest.fixture(scope="module")
def scheduler():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=":0"
    ) as local:
        yield local.scheduler_address


def test_the_digest_is_the_same_however_a_sweep_ran(sweep, scheduler):
    options = {"repeats": 2, "seed": 5}
    here, there, cloud = (sweep(file_transfer, POINTS, workers=workers, **options) for workers in (1, 2, scheduler))
    assert here.digest == there.digest == cloud.digest
    assert sweep(file_transfer, POINTS, repeats=2, seed=6).digest != here.digest  # other jitter
    columns = [name for name in here.frame.columns if name != "run"]
    assert here.frame[columns].equals(there.frame[columns]) and here.frame[columns].equals(cloud.frame[columns])
    assert here.skipped.equals(there.skipped) and len(here.skipped) == 4  # FAT with a cache; a larger cache than block
    assert [run.sidecar["workers"] for run in (here, there, cloud)] == [1, 2, "cluster"]


def test_a_rerun_by_several_repeats_what_one_has_measured(sweep, tmp_path):
    run = sweep(file_transfer, {"buffer_B": [1024]}, board="sim://K64F?id=workers-rerun")
    assert experiment.rerun(run, workers=2, progress=False, data=tmp_path).digest == run.digest


def test_the_link_of_the_desk_goes_along(tmp_path):
    from pdmlab.network.link import Link

    with VirtualBoard("K64F", id="linked", memory=True, power=False) as board:
        board.network.link = Link.of("ethernet", latency=77_000_000)
        run = experiment.sweep(
            lambda fresh, n: {"latency_ns": fresh.network.link.latency, "seed": fresh.seed},
            {"n": [1]}, experiment="x", board=board, workers=1 + 1, data=tmp_path, progress=False, seed=9,
        )  # fmt: skip
    assert run.frame["latency_ns"].tolist() == [77_000_000] and run.frame["seed"].tolist() == [9]


@pytest.mark.parametrize("workers", ["processes", "cluster"])
def test_a_notebooks_own_function_is_sent_along(workers, sweep, scheduler):
    factor = 3

    def measure(board, n):
        print("this is no answer")  # it goes where the worker's errors go
        return [{"row": row, "m": factor * n} for row in range(2)]

    measure.__module__ = "__main__"
    run = sweep(measure, {"n": [5, 4, 3, 2, 1]}, workers=2 if workers == "processes" else scheduler)
    assert run.frame["m"].tolist() == [15, 15, 12, 12, 9, 9, 6, 6, 3, 3]
    assert run.frame["row"].tolist() == [0, 1] * 5


def test_what_belongs_to_this_process_cannot_be_sent_and_that_is_said(sweep):
    lock = threading.Lock()
    with pytest.raises(ConfigError, match="cannot be sent to other processes") as error:
        sweep(lambda board, n: {"m": lock.locked()}, {"n": [1]}, workers=2)
    assert "workers=1" in error.value.hint


@pytest.mark.parametrize("workers", ["processes", "cluster"])
def test_an_error_comes_back_as_it_was_raised_and_rows_are_kept(workers, sweep, scheduler, tmp_path):
    def measure(board, n):
        if n == 8:
            raise ConfigError("eight cannot be", hint="take seven")
        return {"m": n}

    with pytest.raises(ConfigError, match="eight cannot be") as error:
        sweep(measure, {"n": list(range(1, 9))}, workers=2 if workers == "processes" else scheduler)
    assert error.value.hint == "take seven"
    (run,) = experiment.list_runs(data=tmp_path).itertuples()
    assert run.state == "interrupted"
    kept = experiment.load_run(run.run, data=tmp_path)["m"].tolist()
    assert kept == sorted(kept) and 8 not in kept


def test_an_error_of_a_worker_says_where_it_was_raised(sweep):
    def measure(board, n):
        return {"m": 1 / n}

    with pytest.raises(ZeroDivisionError) as error:
        sweep(measure, {"n": [0]}, workers=2)
    assert "in measure" in error.value.__notes__[0]


def test_an_error_that_cannot_be_sent_is_told_in_words(sweep):
    def measure(board, n):
        error = ValueError("odd")
        error.lock = threading.Lock()
        raise error

    with pytest.raises(ExperimentError, match="ValueError: odd"):
        sweep(measure, {"n": [1]}, workers=2)


def test_what_is_no_row_is_refused_from_afar_too(sweep):
    with pytest.raises(BadMeasurement, match="the measuring function returned 5"):
        sweep(lambda board, n: 5, {"n": [1]}, workers=2)


def test_a_worker_that_dies_is_named_with_its_point_and_rows_are_kept(sweep, tmp_path):
    def measure(board, n):
        if n == 3:
            os._exit(3)
        return {"m": n}

    with pytest.raises(ExperimentError, match=r"measured \{'n': 3\} ended with exit code 3"):
        sweep(measure, {"n": [1, 2, 3]}, workers=1 + 1)
    assert experiment.list_runs(data=tmp_path).state.tolist() == ["interrupted"]


def test_a_stopped_sweep_ends_after_the_points_in_hand(sweep, tmp_path):
    stop = threading.Event()
    marks = tmp_path / "marks"
    marks.mkdir()

    def measure(board, n):
        (marks / str(n)).touch()
        return {"m": n}

    class Stop:
        def is_set(self):
            return stop.is_set() or any(marks.iterdir())

    run = sweep(measure, {"n": list(range(50))}, workers=2, stop=Stop())
    assert run.sidecar["state"] == "interrupted" and 1 <= len(run.frame) < 50
    assert len(run.frame) == len(list(marks.iterdir()))  # what was begun was kept


def test_a_disk_that_fills_up_ends_the_workers_and_keeps_the_rows(sweep, tmp_path, monkeypatch):
    append, left = frames.Journal.append, iter([True, True])

    def full(journal, row, **where):
        if not next(left, False):
            raise ExperimentError("a row could not be written: No space left on device")
        append(journal, row, **where)

    monkeypatch.setattr(frames.Journal, "append", full)
    with pytest.raises(ExperimentError, match="No space left"):
        sweep(lambda board, n: {"m": n}, {"n": list(range(20))}, workers=2)
    assert not [thread for thread in threading.enumerate() if thread.name == processes.THREAD]
    (run,) = experiment.list_runs(data=tmp_path).itertuples()
    assert run.state == "interrupted" and run.rows == 2
    assert len(experiment.load_run(run.run, data=tmp_path)) == 2


def test_real_boards_and_impossible_workers_are_refused_before_anything_is_written(sweep, tmp_path):
    class Real:
        target, url, simulated = "K64F", "serial:///dev/ttyACM0", False

    with pytest.raises(ConfigError, match="real board"):
        sweep(lambda board, n: {"m": n}, {"n": [1]}, board=Real(), workers=2)
    for workers in (0, -1, True, 1.5, None):
        with pytest.raises(ConfigError, match=f"workers is {workers}"):
            sweep(lambda board, n: {"m": n}, {"n": [1]}, workers=workers)
    for address in ("nonsense", "http://127.0.0.1:8786", "tcp://nowhere"):
        with pytest.raises(ConfigError, match="no scheduler's address"):
            sweep(lambda board, n: {"m": n}, {"n": [1]}, workers=address)
    assert not list(tmp_path.iterdir())


# -- killed and interrupted ----------------------------------------------------------------------------------

SWEEPING = """
import os, sys, time
from pathlib import Path
from pdmlab import experiment, frames, processes
from pdmlab.sim.board import VirtualBoard

marks = Path(sys.argv[1])

def measure(board, n):
    (marks / f"{n}-{os.getpid()}").touch()
    if n >= 4:
        time.sleep(600)  # until it is ended
    return {"m": n}

with VirtualBoard("K64F", id="ended", memory=True, power=False) as board:
    experiment.sweep(measure, {"n": [1, 2, 3, 4, 5]}, experiment="x", board=board, workers=2, progress=False)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="there is no /proc to look at processes")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_sweep_keeps_every_finished_row_and_ends_its_workers(how, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    rows = lambda: sum(text.count("\n") for text in (path.read_text() for path in _journals()))
    with subprocess.Popen([sys.executable, "-c", SWEEPING, str(marks)], stderr=subprocess.PIPE) as process:
        until(lambda: len(list(marks.iterdir())) == 5 and rows() == 3)  # two sleep
        process.send_signal(how)
        said = process.stderr.read()
    assert process.returncode != 0 and (how == signal.SIGKILL or b"KeyboardInterrupt" in said)
    runs = experiment.list_runs()
    assert runs.state.tolist() == ["unfinished" if how == signal.SIGKILL else "interrupted"]
    assert experiment.load_run(runs.run[0])["m"].tolist() == [1, 2, 3]
    workers = {int(path.name.split("-")[1]) for path in marks.iterdir()}
    until(lambda: not any(alive(worker) for worker in workers))


def _journals():
    return Path(os.environ["PDMLAB_DATA"]).glob("x/*[0-9a-f].jsonl")


# -- the cluster ---------------------------------------------------------------------------------------------


def test_a_cluster_that_is_not_there_or_has_no_workers_is_named(sweep, tmp_path):
    from distributed import LocalCluster

    with pytest.raises(ConfigError, match=r"no dask scheduler answers at tcp://127.0.0.1:1: "):
        sweep(lambda board, n: {"m": n}, {"n": [1]}, workers="tcp://127.0.0.1:1")
    with (
        LocalCluster(n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=":0") as local,
        pytest.raises(ConfigError, match="has no workers") as error,
    ):
        sweep(lambda board, n: {"m": n}, {"n": [1]}, workers=local.scheduler_address)
    assert "dask worker tcp://" in error.value.hint


def test_workers_with_other_versions_are_refused_by_name():
    class Client:
        def run(self, function):
            return {"tcp://far:1": function() | {"fatfs-ng": "0.0.1", "python": "3.9"}}

    with pytest.raises(ConfigError, match=r"tcp://far:1 has fatfs-ng 0.0.1 \(here "):
        cluster._require_same_versions(Client(), "tcp://s:1")


@pytest.mark.slow
def test_a_cluster_of_processes_measures_the_same(sweep, tmp_path):
    """A scheduler and a worker as they are started on other machines."""
    found, dask = tmp_path / "scheduler.json", [sys.executable, "-m"]
    with contextlib.ExitStack() as ended:
        for program in (
            [*dask, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
            [*dask, "distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard"],
        ):
            process = subprocess.Popen(
                [*program, "--scheduler-file", str(found)], stderr=subprocess.DEVNULL, cwd=tmp_path
            )
            ended.callback(process.wait)
            ended.callback(process.terminate)
            until(found.exists)
        address = json.loads(found.read_text())["address"]
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        run = sweep(file_transfer, POINTS, workers=address)
    assert run.digest == sweep(file_transfer, POINTS).digest
