"""Fifty live devices for a short while: what `make soak` does with a thousand for ten minutes, but for the kill."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_fifty_devices_are_registered_over_tls_read_and_observed_and_nothing_is_lost(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--devices", "50", "--minutes", "0.05", "--no-kill"],
        cwd=ROOT,
        env={**os.environ, "PDMLAB_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert re.search(r"^nothing lost$", done.stdout, re.MULTILINE)
    reads = re.search(r"^(\d+) reads answered of (\d+), (\d+) notifications, 0 values lost", done.stdout, re.MULTILINE)
    assert reads is not None, done.stdout
    answered, asked, notifications = map(int, reads.groups())
    assert answered == asked > 0
    assert notifications > 50  # the first value of each, and what they have counted to
