"""The committed runs are whole, say what made them, and can be made again to the last digit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import pytest

from pdmlab import experiment, frames
from tests.tools import unavailable

REFERENCE = Path(__file__).parents[1] / "data" / "reference"
RUNS = sorted(REFERENCE.glob("*/*.json"))


def test_there_is_one_of_storage_and_one_of_the_network():
    assert [path.parent.name for path in RUNS] == ["network", "storage"]
    assert sorted(experiment.list_runs(data=REFERENCE).experiment) == ["network", "storage"]


@pytest.fixture(params=RUNS, ids=lambda path: path.parent.name)
def run(request):
    return request.param.parent, json.loads(request.param.read_text(encoding="utf-8"))


def test_its_file_is_the_one_that_was_measured(run):
    folder, sidecar = run
    data = (folder / f"{sidecar['run']}.parquet").read_bytes()
    assert hashlib.sha256(data).hexdigest() == sidecar["parquet_sha256"] and len(data) < 64 * 1024
    frame = experiment.load_run(sidecar["run"], data=REFERENCE)
    rows = frame.astype(object).to_dict("records")
    schema = frames.Schema.from_rows(list(sidecar["factors"]), *rows)
    assert [asdict(column) for column in schema.columns] == sidecar["columns"]
    assert frames.digest(schema, rows) == sidecar["digest"]
    assert len(frame) == sidecar["rows"] and set(frame.simulated) == {True} and set(frame.clock) == {"device"}


def test_its_sidecar_says_everything_and_nothing_of_whose_machine_it_was(run):
    _, sidecar = run
    assert sidecar["state"] == "finished" and sidecar["board_row"]["mcu"] and sidecar["versions"]["pdmlab"]
    assert {origin["origin"] for origin in sidecar["settings"].values()} <= {"default", "keyword"}
    text = json.dumps(sidecar["settings"])
    assert "/" not in text.replace("sim://", "")


@pytest.mark.slow
def test_it_is_repeated_from_its_sidecar_with_the_same_digest(run, tmp_path):
    _, sidecar = run
    for package in ("littlefs-python", "fatfs-ng"):
        there, here = sidecar["versions"][package], metadata.version(package)
        if there != here:
            unavailable(f"measured with {package} {there}, here is {here}: another file system, other counts")
    run = experiment.Run(tmp_path, sidecar["run"], sidecar)
    again = experiment.rerun(run, progress=False, data=tmp_path)
    assert again.digest == sidecar["digest"]
