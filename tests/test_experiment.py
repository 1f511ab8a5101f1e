"""Sweeps: every row on disk before the next, runs never overwritten, repetitions with the same digest."""

import contextlib
import json
import signal
import subprocess
import sys
import threading

import pytest

from pdmlab import experiment
from pdmlab.errors import BadMeasurement, ConfigError, ExperimentError, RunNotFound
from pdmlab.measurements import file_transfer
from pdmlab.sim.board import VirtualBoard


class Bench:
    """A board that measures what the test tells it to."""

    target, url, simulated = "K64F", "test://", True

    @contextlib.contextmanager
    def scratch(self, *, seed):
        self.seed = seed
        yield self


def cube(board, side_B):
    """Measure a cube."""
    return {"volume_B": side_B**3 + board.seed, "speed_kBps": side_B / 3}


def test_a_sweep_gives_a_tidy_frame_with_units(tmp_path):
    run = experiment.sweep(
        cube, {"side_B": [1, 2]}, experiment="cubes", board=Bench(), repeats=2, data=tmp_path, progress=False
    )
    frame = experiment.load_run(run.name, data=tmp_path)
    assert list(frame.columns) == [
        "run", "board", "simulated", "clock", "side_B", "repeat", "volume_B", "speed_kBps",
    ]  # fmt: skip
    assert frame.volume_B.tolist() == [2, 3, 9, 10]
    assert set(frame.clock) == {"device"} and set(frame.run) == {run.name}
    assert frame.attrs["units"] == {"side_B": "B", "volume_B": "B", "speed_kBps": "kB/s"}


def test_a_repetition_has_the_same_digest_and_another_name(tmp_path):
    first = experiment.sweep(cube, {"side_B": [3]}, experiment="cubes", board=Bench(), data=tmp_path, progress=False)
    again = experiment.sweep(cube, {"side_B": [3]}, experiment="cubes", board=Bench(), data=tmp_path, progress=False)
    other = experiment.sweep(
        cube, {"side_B": [3]}, experiment="cubes", board=Bench(), data=tmp_path, progress=False, seed=9
    )
    assert first.name != again.name
    assert first.digest == again.digest != other.digest
    assert len(experiment.list_runs("cubes", data=tmp_path)) == 3


def test_an_interrupted_sweep_keeps_finished_rows_and_says_so(tmp_path):
    def fragile(board, n):
        if n == 3:
            raise KeyboardInterrupt
        return {"m": n}

    with pytest.raises(KeyboardInterrupt):
        experiment.sweep(fragile, {"n": [1, 2, 3]}, experiment="x", board=Bench(), data=tmp_path, progress=False)
    runs = experiment.list_runs(data=tmp_path)
    assert runs.state.tolist() == ["interrupted"] and runs.rows.tolist() == [2]
    assert experiment.load_run(runs.run[0], data=tmp_path).m.tolist() == [1, 2]


def test_a_stopped_sweep_ends_after_the_point_in_hand(tmp_path):
    stop = threading.Event()

    def measure(board, n):
        stop.set()
        return {"m": n}

    run = experiment.sweep(
        measure, {"n": [1, 2, 3]}, experiment="x", board=Bench(), data=tmp_path, stop=stop, progress=False
    )
    assert run.sidecar["state"] == "interrupted" and run.frame.n.tolist() == [1]


KILLED = """
import sys, time
from pdmlab import experiment

def measure(board, n):
    if n == 3:
        print("third point", flush=True)
        time.sleep(600)  # until it is killed
    return {"m": n}

from pdmlab.sim.board import VirtualBoard
with VirtualBoard("K64F", id="killed") as board:
    experiment.sweep(measure, {"n": [1, 2, 3]}, experiment="x", board=board, progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_sweep_killed_in_mid_point_loses_no_finished_row(tmp_path):
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"third point\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    runs = experiment.list_runs()
    assert runs.state.tolist() == ["unfinished"] and runs.rows.tolist() == [2]
    frame = experiment.load_run(runs.run[0])
    assert frame.m.tolist() == [1, 2] and frame.attrs["run"] == runs.run[0]
    with VirtualBoard("K64F", id="killed") as again:  # the dead process holds nothing back
        assert again.powered


INTERRUPTED = """
from pdmlab import experiment
from pdmlab.sim.board import VirtualBoard

def listen(device):
    device.uart.readline()  # nobody ever writes one

def measure(board, n):
    if n == 3:
        print("third point", flush=True)
        board.run(listen)
    return {"m": board.run(lambda: n)}

with VirtualBoard("K64F", id="interrupted") as board:
    try:
        experiment.sweep(measure, {"n": [1, 2, 3]}, experiment="x", board=board, progress=False)
    except KeyboardInterrupt:
        print("still", board.run(lambda: "usable"), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to a whole console")
def test_ctrl_c_while_the_board_is_busy_keeps_the_rows_and_the_board():
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"third point\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"still usable\n"
    assert process.returncode == 0
    runs = experiment.list_runs()
    assert runs.state.tolist() == ["interrupted"] and runs.rows.tolist() == [2]
    assert experiment.load_run(runs.run[0]).m.tolist() == [1, 2]


def test_a_journal_cut_off_in_a_line_keeps_the_whole_ones(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert experiment.frames.read_journal(path) == [{"a": 1}, {"a": 2}]


def test_a_row_of_another_shape_is_refused_by_name(tmp_path):
    def measure(board, n):
        return {"m": n} if n == 1 else {"other": n}

    with pytest.raises(BadMeasurement, match=r"unknown \['other'\], missing \['m'\]"):
        experiment.sweep(measure, {"n": [1, 2]}, experiment="x", board=Bench(), data=tmp_path, progress=False)


def test_a_run_is_repeated_from_its_sidecar_alone(tmp_path, monkeypatch):
    run = experiment.sweep(cube, {"side_B": [4]}, experiment="c", board=Bench(), data=tmp_path, progress=False)
    monkeypatch.setattr("pdmlab.boards.connect", lambda url: contextlib.nullcontext(Bench()))
    assert experiment.rerun(run, measure=cube, data=tmp_path, progress=False).digest == run.digest


POINT = {"buffer_B": [1024], "bus_Hz": [25_000_000], "sync_every_B": [65536]}


def test_a_run_on_a_virtual_board_is_repeated_from_its_sidecar_with_the_same_digest():
    with VirtualBoard("K64F", id="repeated", seed=7) as board:
        run = experiment.sweep(file_transfer, POINT, experiment="files", board=board, seed=3, progress=False)
        beside = experiment.rerun(run.name, progress=False)  # the board is open, and stays so
        assert board.powered
    alone = experiment.rerun(run, progress=False)
    assert run.digest == beside.digest == alone.digest
    assert len({run.name, beside.name, alone.name}) == 3
    assert run.sidecar["board_row"] and run.sidecar["measure"] == "pdmlab.measurements.files:file_transfer"


def test_a_sweep_leaves_the_board_that_it_opened_itself_to_others():
    experiment.sweep(file_transfer, POINT, experiment="files", board="sim://K64F?id=lent", progress=False)
    with VirtualBoard("K64F", id="lent"):
        pass


def test_progress_tells_the_points_and_the_time_left(tmp_path, capsys):
    experiment.sweep(cube, {"side_B": [1, 2]}, experiment="c", board=Bench(), data=tmp_path)
    shown = capsys.readouterr().err
    assert "2/2" in shown and "<" in shown and "point" in shown


def test_a_notebooks_own_function_has_to_be_handed_in_again(tmp_path):
    run = experiment.sweep(
        lambda board, n: {"m": n}, {"n": [1]}, experiment="x", board=Bench(), data=tmp_path, progress=False
    )
    with pytest.raises(ExperimentError, match="cannot be imported"):
        experiment.rerun(run.name, data=tmp_path)


def test_wrong_requests_say_what_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match="at least one factor"):
        experiment.sweep(cube, {}, experiment="x", board=Bench(), data=tmp_path)
    with pytest.raises(ConfigError, match="folder name"):
        experiment.sweep(cube, {"side_B": [1]}, experiment="../x", board=Bench(), data=tmp_path)
    with pytest.raises(RunNotFound, match="no run 'nothing'"):
        experiment.load_run("nothing", data=tmp_path)


def test_the_sidecar_says_what_made_the_run(tmp_path):
    run = experiment.sweep(cube, {"side_B": [1]}, experiment="c", board=Bench(), data=tmp_path, progress=False)
    sidecar = json.loads((tmp_path / "c" / f"{run.name}.json").read_text())
    assert sidecar["settings"]["data"] == {"value": str(tmp_path), "origin": "keyword"}
    assert sidecar["versions"]["littlefs-python"] and sidecar["seed"] == 1 and sidecar["state"] == "finished"
    assert not list(tmp_path.glob("**/*.jsonl")) and not list(tmp_path.glob("**/*.part"))
