"""Set-up: `python lab.py` on a fresh machine, a half-made environment, a moved checkout, and every Python there is."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import lab
from tests.tools import find_interpreter, unavailable

ROOT = Path(__file__).parent.parent
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"

# A project that installs without a network: its build backend lies beside it.
PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "pdmlab"
version = "0"

[project.optional-dependencies]
dev = []
"""
NEWER = '[project.scripts]\npdmlab = "pdmlab:main"\n'
BACKEND = """\
import tomllib, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    info, name = "pdmlab-0.dist-info", "pdmlab-0-py3-none-any.whl"
    wanted = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"]
    metadata = ["Metadata-Version: 2.1", "Name: pdmlab", "Version: 0", "Provides-Extra: dev"]
    metadata += [f"Requires-Dist: {name}; extra == 'dev'" for name in wanted]
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("pdmlab.py", "")
        wheel.writestr(f"{info}/METADATA", "\\n".join(metadata) + "\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


class Checkout:
    """A miniature of this checkout, in a folder whose name is no easy one."""

    def __init__(self, folder: Path, uv: bool) -> None:
        self.folder = folder
        folder.mkdir()
        shutil.copy(ROOT / "lab.py", folder)
        (folder / "pyproject.toml").write_text(PYPROJECT)
        (folder / "backend.py").write_text(BACKEND)
        path = [p for p in os.environ["PATH"].split(os.pathsep) if not shutil.which("uv", path=p)]
        if uv:
            path.insert(0, str(Path(sys.executable).parent))
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join(path),
            "PIP_NO_INDEX": "1",
            "UV_OFFLINE": "1",
            "PYTHONIOENCODING": "utf-8",
        }

    def run(self, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
        """Run lab.py, after some lines of Python in the same process."""
        program = f"import sys, runpy\n{before}\nsys.argv = sys.argv[1:]\nrunpy.run_path('lab.py', run_name='__main__')"
        return subprocess.run(
            [sys.executable, "-c", program, "lab.py", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )

    def setup(self) -> str:
        """Run `lab.py setup`, which has to work; return what it printed."""
        done = self.run("setup")
        assert done.returncode == 0, done.stdout + done.stderr
        python = self.folder / lab.PYTHON.relative_to(ROOT)
        subprocess.run([python, "-c", "import pdmlab"], cwd=self.folder, check=True)
        return done.stdout


@pytest.fixture(params=["pip", "uv"])
def checkout(request, tmp_path):
    return Checkout(tmp_path / "the lab, ä", uv=request.param == "uv")


@pytest.mark.timeout(300)
def test_an_environment_is_made_once_brought_up_to_date_and_made_again_after_an_interruption(checkout):
    assert "Setting up .venv" in checkout.setup()
    assert checkout.setup() == ""

    pyproject = checkout.folder / "pyproject.toml"
    pyproject.write_text(PYPROJECT + "[tool.ruff]\n")
    assert checkout.setup() == ""

    made = (checkout.folder / ".venv/pyvenv.cfg").stat().st_mtime_ns
    pyproject.write_text(PYPROJECT + NEWER)
    assert "bringing .venv up to date" in checkout.setup()

    pyproject.write_text(PYPROJECT.replace("dev = []", 'dev = ["nowhere-to-be-had"]'))
    failed = checkout.run("setup")
    assert failed.returncode == 1
    assert "is there a network?" in failed.stderr and "what was installed before still runs" in failed.stderr
    pyproject.write_text(PYPROJECT + NEWER)
    assert checkout.setup() == ""
    assert (checkout.folder / ".venv/pyvenv.cfg").stat().st_mtime_ns == made

    (checkout.folder / ".venv/pdmlab-installed").unlink()
    (checkout.folder / ".venv/half-made").touch()
    assert "Setting up .venv" in checkout.setup()
    assert not (checkout.folder / ".venv/half-made").exists()


def test_a_moved_checkout_makes_its_environment_again(tmp_path):
    checkout = Checkout(tmp_path / "here", uv=True)
    checkout.setup()
    checkout.folder = checkout.folder.rename(tmp_path / "there")
    assert "Setting up .venv" in checkout.setup()
    assert checkout.setup() == ""


def test_an_environment_whose_python_is_gone_is_made_again(tmp_path):
    checkout = Checkout(tmp_path / "lab", uv=True)
    checkout.setup()
    python = checkout.folder / lab.PYTHON.relative_to(ROOT)
    python.unlink()
    assert "Setting up .venv" in checkout.setup()


@pytest.mark.skipif(os.name == "nt", reason="a running Python cannot be removed there")
def test_an_active_environment_can_be_made_again_from_within(tmp_path):
    checkout = Checkout(tmp_path / "lab", uv=True)
    checkout.setup()
    own = (checkout.folder / lab.PYTHON.relative_to(ROOT)).parent
    (own / "uv").symlink_to(Path(sys.executable).parent / "uv")  # the real one has it as a tool for tests
    (checkout.folder / ".venv/pdmlab-installed").unlink()
    done = subprocess.run(
        [own / "python", "lab.py", "setup"],
        cwd=checkout.folder,
        env={**checkout.environment, "PATH": f"{own}{os.pathsep}{checkout.environment['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "Setting up .venv with pip" in done.stdout, done.stderr


def test_a_first_set_up_without_a_network_says_so_and_the_next_one_starts_again(tmp_path):
    checkout = Checkout(tmp_path / "lab", uv=True)
    (checkout.folder / "pyproject.toml").write_text(PYPROJECT.replace("dev = []", 'dev = ["nowhere-to-be-had"]'))
    failed = checkout.run("setup")
    assert failed.returncode == 1 and "set-up failed: uv could not install" in failed.stderr
    assert "still runs" not in failed.stderr
    (checkout.folder / "pyproject.toml").write_text(PYPROJECT)
    assert "Setting up .venv" in checkout.setup()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals, and a shell script as uv")
def test_ctrl_c_in_a_set_up_ends_it_and_the_next_one_starts_again(tmp_path):
    checkout = Checkout(tmp_path / "lab", uv=True)
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "uv").write_text(f"#!/bin/sh\n[ $1 = venv ] && mkdir .venv && exit\n: >'{slow}/started'\nexec sleep 60\n")
    (slow / "uv").chmod(0o755)
    running = subprocess.Popen(
        [sys.executable, "lab.py", "setup"],
        cwd=checkout.folder,
        env={**checkout.environment, "PATH": f"{slow}{os.pathsep}{checkout.environment['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(slow / "started")
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130 and "the next run starts it again" in said
    assert "Setting up .venv" in checkout.setup()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_while_jupyterlab_runs_is_jupyterlabs_to_deal_with(tmp_path):
    child = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(7))\n"
        f"pathlib.Path({str(tmp_path / 'started')!r}).touch()\n"
        "time.sleep(60)"
    )
    program = f"import sys, lab\nlab.PYTHON = sys.executable\nsys.exit(lab.call('-c', {child!r}))"
    running = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, start_new_session=True)
    wait_for(tmp_path / "started")
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(timeout=30) == 7


def wait_for(file: Path) -> None:
    """Wait until another process has made a file."""
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} never came"
        time.sleep(0.01)


def test_a_python_without_ensurepip_says_which_package_brings_it(tmp_path):
    checkout = Checkout(tmp_path / "lab", uv=False)
    failed = checkout.run("setup", before="sys.modules['ensurepip'] = None")
    assert failed.returncode == 1
    wanted = f"apt install python{HERE}-venv" if Path("/etc/debian_version").exists() else "or uv"
    assert wanted in failed.stderr


def test_a_python_that_is_too_old_is_told_so(tmp_path):
    checkout = Checkout(tmp_path / "lab", uv=False)
    old = "sys.version_info = (3, 10, 13, 'final', 0); sys.version = '3.10.13 (main)'"
    failed = checkout.run(before=old)
    assert failed.returncode == 1
    assert failed.stderr.startswith("pdmlab needs Python 3.11 or newer; this is 3.10.13\nhint: ")
    assert not (checkout.folder / ".venv").exists()


def test_pythons_from_3_6_on_can_read_as_far_as_that():
    ast.parse((ROOT / "lab.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_lab_and_project_agree_on_the_oldest_python():
    assert f'requires-python = ">={".".join(map(str, lab.OLDEST))}"' in (ROOT / "pyproject.toml").read_text()


def test_an_unknown_command_shows_what_there_is_and_makes_nothing(tmp_path):
    checkout = Checkout(tmp_path / "lab", uv=False)
    done = checkout.run("tset")
    assert done.returncode == 2 and done.stdout.startswith("usage: python lab.py [lab | test")
    assert not (checkout.folder / ".venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize("command", ["lab", "test", "bench", "soak", "fuzz", "lint", "setup"])
def test_make_calls_lab_with_its_arguments(command):
    done = subprocess.run(
        ["make", "-n", command, "PYTHON=python3.12", "ARGS=--port 8899"],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env={name: value for name, value in os.environ.items() if "MAKE" not in name},  # `make test` sets its own
    )  # fmt: skip
    assert done.stdout.strip() == f"python3.12 lab.py {command} --port 8899"


# -- every Python ------------------------------------------------------------------------------------------

SMOKE = [
    "tests/test_clock.py",
    "tests/test_digests.py",
    "tests/test_experiment.py",
    "tests/storage/test_file_systems.py",
    "tests/network/test_sockets.py",
    "tests/update/test_manifest.py",
]
"""Tests that use every C extension of ours: greenlet, littlefs, FatFs, pyarrow, cryptography."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", [version for version in SUPPORTED if version != HERE])
def test_another_python_sets_itself_up_and_runs(version, tmp_path):
    """The newest that is here, in a copy of this checkout; for those between it and this one, wheels must exist."""
    newest = next((each for each in reversed(SUPPORTED) if each != HERE and find_interpreter(each)), None)
    interpreter = find_interpreter(version)
    if interpreter is None or version != newest:
        assert_wheels("--python-version", version)
        return
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("this is no git checkout: which files belong to it cannot be told")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # uv is there
    try:
        done = subprocess.run(
            [interpreter, "lab.py", "test", "-q", "-p", "no:cacheprovider", *SMOKE],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "PDMLAB_STATE": str(tmp_path / "state")},
            capture_output=True,
            text=True,
            timeout=240,
        )
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode() + (late.stderr or b"").decode()
        pytest.fail(f"not done after {late.timeout:g} s; it has said:\n{said[-3000:]}")
    if "set-up failed" in done.stderr:
        unavailable(done.stderr)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"\d+ passed", done.stdout) and "failed" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["windows", "macos"])
def test_other_operating_systems_need_no_compiler(platform):
    assert_wheels("--python-version", HERE, "--python-platform", platform)


def assert_wheels(*options: str) -> None:
    """Resolve what pdmlab needs to run from wheels alone."""
    done = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--only-binary", ":all:", *options,
         "pyproject.toml"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode and re.search(r"[Ff]ailed to fetch|error sending request|offline", done.stderr):
        unavailable(done.stderr.strip()[-500:])
    assert done.returncode == 0, done.stderr
    assert re.search(r"^littlefs-python==", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_the_wheel_carries_every_file_of_the_package(tmp_path):
    """Tables, schemas and migrations too, and nothing else."""
    built = subprocess.run(
        [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(ROOT)],
        capture_output=True, text=True,
    )  # fmt: skip
    if built.returncode:
        unavailable(built.stderr.strip()[-500:])
    (wheel,) = tmp_path.glob("pdmlab-*.whl")
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pdmlab").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert carried == there


def test_the_smoke_tests_exist():
    assert all((ROOT / name).is_file() for name in SMOKE)
    assert importlib.util.find_spec("uv")


# -- JupyterLab --------------------------------------------------------------------------------------------


def test_arguments_of_lab_reach_jupyterlab():
    done = subprocess.run(
        [sys.executable, "-c", "from pdmlab.cli import main; main()", "lab", "--version"],
        cwd=ROOT / "notebooks",
        capture_output=True,
        text=True,
    )
    assert re.fullmatch(r"4\.\d+\.\d+\S*", done.stdout.strip()), done.stderr


def test_lab_outside_a_checkout_says_where_to_run_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from pdmlab.cli import main; main()", "lab"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "run it in the checkout" in done.stderr
