"""ARM's own mbedhtrun drives a virtual board in a process of its own, over its pty."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import environment

MBEDHTRUN = "import sys; from mbed_host_tests.mbedhtrun import main; sys.exit(main())"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


@pytest.mark.parametrize("suite", ["fs-single", "net-multi"])
def test_mbedhtrun_runs_a_suite_to_success(suite: str, tmp_path: Path) -> None:
    python = environment("mbed-host-tests", "mbed-host-tests==1.8.15", python="3.11")
    board = subprocess.Popen(
        [sys.executable, "-c", "from pdmlab.cli import main; main()", "board", "K64F", "--application", suite],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PDMLAB_STATE": str(tmp_path)},
    )
    try:
        assert board.stdout is not None
        said = board.stdout.readline()
        found = re.match(r"SIMULATED K64F, .*: (/dev/\S+)$", said)
        assert found is not None, said
        done = subprocess.run(
            [python, "-c", MBEDHTRUN, "-m", "K64F", "-p", f"{found[1]}:115200", "--skip-flashing", "--skip-reset"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=90,
        )
    finally:
        board.terminate()
        board.communicate(timeout=60)
    output = done.stdout + done.stderr
    assert "{{result;success}}" in output, output[-3000:]
    assert done.returncode == 0
    assert "DUT greentea-client version: 1.3.0" in output
    assert "host test detected: default_auto" in output
    assert "Traceback" not in output
