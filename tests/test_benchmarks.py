"""The benchmarks: each can be had by its name, and one of them runs."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import network
from benchmarks.__main__ import NAMES
from benchmarks.table import Table

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_can_be_had_by_its_name(name):
    module = import_module(f"benchmarks.{name}")
    assert module.__doc__ and callable(module.bench)


def test_no_benchmark_is_left_out():
    helpers = {"__init__", "__main__", "builds", "coap_secure", "coap_server", "lean_coap", "paced_sender"}
    helpers |= {"side_by_side", "soak", "soak_devices", "table"}
    helpers |= {"rest_client", "rest_devices", "rest_lab", "rest_service"}
    assert set(NAMES) == {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - helpers


def test_a_table_sets_text_to_the_left_and_numbers_to_the_right(capsys):
    table = Table("Reads", {"what": "", "MB/s": ".1f", "ratio": ".2f"}, text_width=6)
    table.row("ours", 19.52, 2)
    table.row("theirs", None, 0.5)
    assert capsys.readouterr().out == (
        "\nReads\nwhat         MB/s      ratio\nours         19.5       2.00\ntheirs                  0.50\n"
    )


def test_a_benchmark_runs_and_leaves_nothing_in_your_state_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "network"],
        cwd=ROOT,
        env={**os.environ, "PDMLAB_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().splitlines()) == 2 + len(network.BEARERS) * len(network.WINDOWS) + 1
    assert not (tmp_path / "state").exists()


def test_an_unknown_benchmark_says_which_there_are():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "disks"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "startup | storage" in done.stdout
