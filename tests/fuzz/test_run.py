"""`make fuzz` itself: it reaches its number, with coverage to guide it and without, and says what it has found."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import __main__ as run
from tests.fuzz.child import Report
from tests.fuzz.findings import Findings
from tests.fuzz.targets import Target

ROOT = Path(__file__).parents[2]


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tests.fuzz", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_a_run_without_guidance_reaches_its_number() -> None:
    done = fuzz("--unguided", "--inputs", "1500", "tlv", "cbor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1,500 inputs in" in done.stdout
    assert done.stdout.rstrip().endswith(": 0 found")


def test_a_run_guided_by_coverage_reaches_its_number() -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("there is no atheris for this Python")
    done = fuzz("--inputs", "2000", "tlv")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2,000 inputs in" in done.stdout


def test_an_unknown_target_says_which_there_are() -> None:
    done = fuzz("elf")
    assert done.returncode == 2
    assert "there is no target 'elf'; there are coap, endpoint," in done.stderr


def test_reports_are_told_from_what_libraries_print() -> None:
    assert Report.parse(str(Report(512, 1, 60))) == Report(512, 1, 60)
    assert Report.parse("") is None
    assert Report.parse("@ home") is None
    assert Report.parse("INFO: 1 2 3") is None


def test_an_input_that_was_found_can_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(data: bytes) -> None:
        assert data != b"x"

    findings = Findings(Target("made-up", check), folder=tmp_path)
    findings.run(b"x")
    (path,) = tmp_path.iterdir()
    monkeypatch.setattr(run, "TARGETS", {"made-up": findings.target})
    with pytest.raises(AssertionError):
        run.show(path)
