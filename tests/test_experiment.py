"""Sweeps: every row on disk before the next, runs never overwritten, repetitions with the same digest."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

from pdmlab import experiment
from pdmlab.errors import BadMeasurement, BoardError, ConfigError, ExperimentError, NotMeasurable, RunNotFound
from pdmlab.frames import sorting
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


@pytest.fixture
def measure_n(tmp_path):
    """Return a sweep over n with the measures given for it in turn."""

    def swept(*returned, factors=None, **options):
        values = iter(returned)
        factors = factors or {"n": list(range(len(returned)))}
        return experiment.sweep(
            lambda board, **point: next(values),
            factors, experiment="x", board=Bench(), data=tmp_path, progress=False, **options,
        )  # fmt: skip

    return swept


@pytest.mark.parametrize("name", ["run", "board", "simulated", "clock", "repeat"])
def test_the_columns_that_a_sweep_fills_in_are_nobody_elses(name, measure_n, tmp_path):
    with pytest.raises(ConfigError, match=f"cannot be called '{name}'"):
        measure_n({"m": 1}, factors={name: [1]})
    assert not list(tmp_path.iterdir())  # before anything is measured or written
    with pytest.raises(BadMeasurement, match=f"returned {name}"):
        measure_n({"m": 1, name: False})
    with pytest.raises(BadMeasurement, match="returned n: a factor"):
        measure_n({"n": 99})


@pytest.mark.parametrize("returned", [None, 5, "fast", {}, [], [None], [{"m": 1}, 5]])
def test_what_is_no_row_is_refused_in_words(returned, measure_n, tmp_path):
    with pytest.raises(BadMeasurement, match="the measuring function returned"):
        measure_n(returned)
    assert not list(tmp_path.glob("**/*.jsonl"))


@pytest.mark.parametrize("cell", [float("nan"), float("inf"), [1, 2], np.arange(2), 1j])
def test_a_cell_that_is_no_value_is_refused_with_what_to_give_instead(cell, measure_n):
    with pytest.raises(BadMeasurement, match="give None for what was not measured"):
        measure_n({"m": cell})


def test_numpys_scalars_are_numbers_as_factors_and_as_measures(measure_n):
    row = {"i": np.int64(3), "f": np.float32(0.5), "b": np.bool_(True)}
    run = measure_n(row, row, factors={"n": np.arange(2)})
    assert run.sidecar["factors"] == {"n": [0, 1]}
    assert run.frame[["n", "i", "f", "b"]].iloc[1].tolist() == [1, 3, 0.5, True]
    assert run.digest == measure_n({"i": 3, "f": 0.5, "b": True}, {"i": 3, "f": 0.5, "b": True}).digest


@pytest.mark.parametrize(
    ("first", "second", "dtype"),
    [(None, 1.5, "Float64"), (1, 0.5, "Float64"), (0.5, 1, "Float64"), (None, "a", "string")],
)
def test_a_column_takes_what_goes_together_in_any_order(first, second, dtype, measure_n, tmp_path):
    run = measure_n({"m": first}, {"m": second}, {"m": None})
    frame = experiment.load_run(run.name, data=tmp_path)
    assert frame["m"].dtype == dtype and frame["m"].isna().tolist() == [first is None, False, True]
    assert run.digest == measure_n({"m": first}, {"m": second}, {"m": None}).digest


def test_a_whole_number_has_the_same_digest_as_the_float_it_becomes(measure_n):
    assert measure_n({"m": 1}, {"m": 0.5}).digest == measure_n({"m": 1.0}, {"m": 0.5}).digest


def test_a_column_of_numbers_takes_no_text(measure_n):
    with pytest.raises(BadMeasurement, match="column m takes int, but the row has 'a'"):
        measure_n({"m": 1}, {"m": "a"})


@pytest.mark.parametrize(
    ("factors", "words"),
    [({"n": "abc"}, "the factor n is 'abc'"), ({"n": 5}, "the factor n is 5"), ({"n": [1, "a"]}, "do not go together"),
     ({"n": [float("nan")]}, "finite number"), ({"n": [[1]]}, "finite number"), ({"n": []}, "at least one factor")],
)  # fmt: skip
def test_factors_that_nothing_can_be_measured_with_are_refused_at_once(factors, words, measure_n, tmp_path):
    with pytest.raises(ConfigError, match=words):
        measure_n({"m": 1}, factors=factors)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("repeats", [0, -1, 1.5, "2", True])
def test_a_point_is_measured_once_or_more(repeats, measure_n):
    with pytest.raises(ConfigError, match="repeats is"):
        measure_n({"m": 1}, repeats=repeats)


def test_anything_that_can_be_called_measures_and_is_handed_in_again(tmp_path, monkeypatch):
    half = functools.partial(lambda board, n, by: {"m": n / by}, by=2)
    run = experiment.sweep(half, {"n": [3]}, experiment="x", board=Bench(), data=tmp_path, progress=False)
    assert run.frame["m"].tolist() == [1.5] and run.sidecar["measure"] == "functools:partial(...)"
    with pytest.raises(ExperimentError, match="cannot be imported"):
        experiment.rerun(run, data=tmp_path)
    with pytest.raises(ConfigError, match="5 cannot be called"):
        experiment.sweep(5, {"n": [3]}, experiment="x", board=Bench(), data=tmp_path)


def test_rows_may_come_one_by_one_while_the_board_is_there(tmp_path):
    def measure(board, n):
        for part in range(n):
            yield {"part": board.run(lambda part=part: part)}

    with VirtualBoard("K64F", id="one-by-one", memory=True) as board:
        run = experiment.sweep(measure, {"n": [2]}, experiment="x", board=board, data=tmp_path, progress=False)
    assert run.frame["part"].tolist() == [0, 1]


def test_a_damaged_file_is_told_from_a_run(measure_n, tmp_path):
    run = measure_n({"m": 1})
    parquet = run.folder / f"{run.name}.parquet"
    data = bytearray(parquet.read_bytes())
    data[len(data) // 2] ^= 1
    parquet.write_bytes(data)
    with pytest.raises(ExperimentError, match="is damaged") as error:
        experiment.load_run(run.name, data=tmp_path)
    assert "rerun" in error.value.hint
    parquet.unlink()
    with pytest.raises(RunNotFound, match=r"parquet is not"):
        run.frame  # noqa: B018


def test_a_folder_that_takes_nothing_is_named_before_the_first_point(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match="nothing can be kept in") as error:
        experiment.sweep(cube, {"side_B": [1]}, experiment="c", board=Bench(), data=tmp_path / "file", progress=False)
    assert "PDMLAB_DATA" in error.value.hint

    def full(*names):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ExperimentError, match="No space left"):
        experiment.sweep(cube, {"side_B": [1]}, experiment="c", board=Bench(), data=tmp_path, progress=False)
    assert not list((tmp_path / "c").iterdir())


def test_a_closed_board_is_not_measured_on(tmp_path):
    with VirtualBoard("K64F", id="shut", memory=True) as board:
        pass
    with pytest.raises(BoardError, match="closed"):
        experiment.sweep(cube, {"side_B": [1]}, experiment="x", board=board, data=tmp_path, progress=False)
    assert not list(tmp_path.glob("**/*.jsonl"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_disk_that_is_full_at_a_row_is_told_once_and_the_file_is_closed(tmp_path):
    journal = experiment.frames.Journal(tmp_path / "j.jsonl")
    journal._file.close()
    journal._file = open("/dev/full", "w")  # noqa: SIM115  # the journal closes it
    with pytest.raises(ExperimentError, match="could not be written"):
        journal.append({"m": 1})
    journal.close()
    assert journal._file.closed


# -- points that cannot be, factors that stand for a default ---------------------------------------------------


def test_points_that_cannot_be_are_left_out_and_listed_with_why(tmp_path):
    def measure(board, n, by):
        if by > n:
            raise NotMeasurable(f"{n} cannot be divided by {by}")
        return {"m": n // by}

    options = {"experiment": "x", "board": Bench(), "data": tmp_path, "progress": False, "repeats": 2}
    run = experiment.sweep(measure, {"n": [1, 4], "by": [2, 8]}, **options)
    assert run.sidecar["state"] == "finished" and run.sidecar["skipped"] == 3 and "skipped=3" in repr(run)
    assert run.frame["m"].tolist() == [2, 2] and "see run.skipped" in run._repr_html_()
    assert run.skipped.to_dict("records")[1] == {"n": 1, "by": 8, "why": "1 cannot be divided by 8"}
    only = experiment.sweep(measure, {"n": [4], "by": [2]}, **options)
    assert only.digest == run.digest and only.skipped.empty and list(only.skipped.columns) == ["n", "by", "why"]
    assert experiment.list_runs(data=tmp_path).rows.tolist() == [2, 2]


def test_a_sweep_of_which_no_point_can_be_says_why(tmp_path):
    def measure(board, n):
        raise NotMeasurable("the flash has no sector of that size")

    with pytest.raises(ConfigError, match=r"none of the points can be measured.*no sector of that size"):
        experiment.sweep(measure, {"n": [1, 2]}, experiment="x", board=Bench(), data=tmp_path, progress=False)


def test_a_factor_of_none_stands_for_what_was_measured_with(measure_n):
    run = measure_n({"n": 64, "m": 1}, {"n": 512, "m": 2}, factors={"n": [None, 512]})
    assert run.frame["n"].tolist() == [64, 512]


def test_a_value_that_stands_twice_is_refused(measure_n):
    with pytest.raises(ConfigError, match="the factor n has a value twice"):
        measure_n({"m": 1}, {"m": 1}, factors={"n": [1, 1]})


# -- however long ----------------------------------------------------------------------------------------------


def test_the_memory_of_a_sweep_does_not_grow_with_its_length(tmp_path, monkeypatch):
    monkeypatch.setattr(sorting, "IN_MEMORY", 64 * 1024)

    def peak(points):
        tracemalloc.start()
        try:
            run = experiment.sweep(
                cube, {"side_B": range(points)}, experiment="c", board=Bench(), data=tmp_path, progress=False
            )
            factors = points * 200  # the values of the factor, which the caller has given
            assert run.sidecar["rows"] == points
            return tracemalloc.get_traced_memory()[1] - factors
        finally:
            tracemalloc.stop()

    peak(1000)  # imports
    short, long = peak(3_000), peak(15_000)
    assert long < 1.25 * short < 12e6, f"{short / 1e6:.1f} MB for 3,000 rows, {long / 1e6:.1f} MB for 15,000"


def test_a_long_run_has_the_frame_and_digest_of_a_short_one(tmp_path, monkeypatch):
    """Whether its rows fit in memory at once or are sorted in pieces on disk."""

    def swept():
        return experiment.sweep(
            cube, {"side_B": range(300)}, experiment="c", board=Bench(), data=tmp_path, progress=False, repeats=9
        )

    at_once = swept()
    monkeypatch.setattr(sorting, "IN_MEMORY", 1000)
    in_pieces = swept()
    assert at_once.digest == in_pieces.digest
    assert at_once.frame.drop(columns="run").equals(in_pieces.frame.drop(columns="run"))
    assert in_pieces.frame.attrs["units"]["speed_kBps"] == "kB/s"


@pytest.mark.parametrize("limit", [1, 40, 10**6])
def test_lines_are_sorted_by_their_characters_however_many(limit, monkeypatch, tmp_path):
    lines = [f"{n * 7919 % 1000} \u2028 ä" for n in range(500)]
    monkeypatch.setattr(sorting, "IN_MEMORY", limit)
    assert list(sorting.sorted_lines(lines, tmp_path)) == sorted(lines)
    assert not list(tmp_path.iterdir())


def test_rows_that_came_out_of_turn_are_put_in_order(tmp_path):
    journal = experiment.frames.Journal(tmp_path / "j.jsonl")
    for place, m in ((2, "c"), (0, "a"), (0, "b\u2028"), (10, "d")):
        journal.append({"m": m}, place=place)
    journal.close()
    assert [row["m"] for row in experiment.frames.journal_in_order(journal.path)] == ["a", "b\u2028", "c", "d"]
    assert experiment.frames.read_journal(journal.path)[0] == {"m": "c"}
    assert experiment.frames.count_rows(journal.path) == 4
