"""A suite's rows are a run like any other: kept as they come, found again, and left whole by an interruption."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

import pdmlab
from pdmlab.errors import ExperimentError, RunNotFound
from pdmlab.greentea import run_suite
from pdmlab.greentea.protocol import Event
from pdmlab.greentea.saving import SuiteRun
from tests.greentea.scripted import ScriptedBoard, suite

CASE = "SD+FAT 1 file, buff  1024"
LINES = (
    f"{{{{__testcase_start;{CASE}}}}}",
    '[FS] Wrote: "mbed-file-test-0.txt" 128.00KB (42.00KB/s, 3.05 secs)',
    '[FS] Read : "mbed-file-test-0.txt" 128.00KB (88.94KB/s, 1.44 secs)',
    '[FS] Read : "mbed-file-test-0.txt" 128.00KB (88.94KB/s, 14.4 secs)',
    f"{{{{__testcase_finish;{CASE};1;0}}}}",
    "{{end;success}}",
    "{{__exit;0}}",
)


def test_a_suite_of_a_real_board_is_found_among_the_runs(tmp_path: Path) -> None:
    board = ScriptedBoard(suite(*LINES))
    result = run_suite(board, "fs-single", sync_timeout=0.01, timeout=0.05, save=True, data=tmp_path)
    listed = pdmlab.list_runs(data=tmp_path)
    assert listed.loc[0, ["run", "experiment", "board", "state", "rows"]].to_list() == [
        result.run, "fs-single", "K64F", "finished", 2,
    ]  # fmt: skip
    assert not listed.loc[0, "simulated"]
    frame = pdmlab.load_run(result.run, data=tmp_path)
    assert frame["operation"].to_list() == ["write", "read"] and frame["buffer_B"].to_list() == [1024, 1024]
    assert frame.attrs["units"]["duration_s"] == "s" and set(frame["run"]) == {result.run}
    assert not list(tmp_path.glob("*/*.jsonl"))
    sidecar = json.loads((tmp_path / "fs-single" / f"{result.run}.json").read_text())
    assert sidecar["cases"] == {CASE: "OK"} and len(sidecar["unread"]) == 1
    with pytest.raises(ExperimentError, match=r"is of the suite fs-single, which runs on the board\nhint: .*save=True"):
        pdmlab.rerun(result.run, data=tmp_path)
    assert "could not be read as measurements: 1" in repr(result)


def test_a_result_can_be_saved_later_and_once(tmp_path: Path) -> None:
    result = run_suite(ScriptedBoard(suite(*LINES)), "fs-single", sync_timeout=0.01, timeout=0.05)
    assert pdmlab.list_runs(data=tmp_path).empty
    name = result.save(data=tmp_path)
    assert result.save(data=tmp_path) == name
    assert len(pdmlab.list_runs(data=tmp_path)) == 1
    assert len(pdmlab.load_run(name, data=tmp_path)) == 2


def test_a_result_that_finds_the_disk_full_says_so_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(old: Path, new: Path) -> None:
        if new.suffix == ".parquet":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(old, new)

    result = run_suite(ScriptedBoard(suite(*LINES)), "fs-single", sync_timeout=0.01, timeout=0.05)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(ExperimentError, match=r"No space left on device\nhint: its rows are kept in .* free some"):
            result.save(data=tmp_path)
    (name,) = pdmlab.list_runs(data=tmp_path)["run"]
    assert len(pdmlab.load_run(name, data=tmp_path)) == 2 and not result.run
    assert len(pdmlab.load_run(result.save(data=tmp_path), data=tmp_path)) == 2


def test_a_suite_without_rows_says_too_that_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_suite(ScriptedBoard(lambda _: []), "fs-single", sync=1, sync_timeout=0.01)
    begun = SuiteRun("fs-single", {"board": "K64F"}, data=tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        ExperimentError, match=r"could not be saved in .*: No space left on device\nhint: is the disk full"
    ):
        begun.finish(result, "finished")


def test_an_interrupted_suite_keeps_its_rows(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if "88.94KB/s, 1.44" in str(event):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_suite(ScriptedBoard(suite(*LINES)), "fs-single", sync_timeout=0.01, timeout=1, save=True, data=tmp_path,
                  on_event=stop)  # fmt: skip
    listed = pdmlab.list_runs(data=tmp_path)
    assert listed.loc[0, ["state", "rows"]].to_list() == ["interrupted", 2]


def test_a_killed_suite_leaves_a_journal_that_can_be_read(tmp_path: Path) -> None:
    def look(event: Event) -> None:
        if "__testcase_finish" in str(event):
            (name,) = pdmlab.list_runs(data=tmp_path)["run"]
            assert pdmlab.list_runs(data=tmp_path).loc[0, "state"] == "unfinished"
            seen.append(pdmlab.load_run(name, data=tmp_path)["duration_s"].to_list())

    seen: list[list[float]] = []
    board = ScriptedBoard(suite(*LINES))
    run_suite(board, "fs-single", sync_timeout=0.01, timeout=0.05, save=True, data=tmp_path, on_event=look)
    assert [len(rows) for rows in seen] == [2]


def test_a_suite_that_measured_nothing_is_a_run_that_says_why(tmp_path: Path) -> None:
    result = run_suite(ScriptedBoard(lambda _: []), "fs-single", sync=1, sync_timeout=0.01, save=True, data=tmp_path)
    sidecar = json.loads((tmp_path / "fs-single" / f"{result.run}.json").read_text())
    assert sidecar["result"] == "SYNC_FAILED" and "silent" in sidecar["reason"] and sidecar["rows"] == 0
    with pytest.raises(RunNotFound, match="has no rows"):
        pdmlab.load_run(result.run, data=tmp_path)
