"""Independent programs that tests hold pdmlab against, each in an environment of its own under .tools/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal, NoReturn

import pytest

from pdmlab.network import namespaces

TOOLS = Path(__file__).parents[1] / ".tools"


def environment(name: str, *requirements: str, python: str | None = None) -> Path:
    """Return the interpreter of an environment with these requirements, built once and kept.

    python: the version the requirements need, such as "3.11". Skips the test with a reason if that
    interpreter or the packages cannot be had; fails it where CI=true, so that CI never skips by accident.
    """
    home = TOOLS / name
    interpreter = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = "\n".join(sorted(requirements))
    marker = home / "requirements.txt"
    if marker.exists() and marker.read_text() == wanted:
        return interpreter
    base = _interpreter(python)
    TOOLS.mkdir(exist_ok=True)
    # Built aside and renamed, so that parallel test workers never meet a half-built one.
    build = Path(tempfile.mkdtemp(dir=TOOLS, prefix=f"{name}."))
    try:
        _run(base, "-m", "venv", str(build))
        _run(str(build / interpreter.relative_to(home)), "-m", "pip", "install", "-q", *requirements)
        (build / marker.name).write_text(wanted)
        if home.exists() and not marker.exists():
            shutil.rmtree(home)
        try:
            build.rename(home)
        except OSError:
            if not marker.exists():
                raise
    finally:
        shutil.rmtree(build, ignore_errors=True)
    return interpreter


def find_interpreter(version: str) -> str | None:
    """Return a Python of that version, such as "3.12": on the PATH or pyenv's; None if there is none."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for candidate in (shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}*/bin/python{version}")):
        # pyenv puts commands on the PATH that do not start
        if candidate is not None and subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return str(candidate)
    return None


def program(*names: str) -> str:
    """Return the path of the first of these programs that is installed, in a folder for administrators too.

    Skips the test with a reason if there is none; fails it where CI=true.
    """
    for name in names:
        if found := shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"):
            return found
    unavailable(f"there is no {' or '.join(names)} here")


def require_namespaces(path: namespaces.PathName | Literal["auto"] = "auto") -> None:
    """Skip the test where that path between namespaces, or any, cannot be had; in CI fail it for want of a program."""
    if sys.platform == "linux":
        for name in namespaces.PROGRAMS:
            program(name)
    if reason := namespaces.why_not(path):
        pytest.skip(f"no {path} path here: {reason}")


def _interpreter(version: str | None) -> str:
    found = sys.executable if version is None else find_interpreter(version)
    if found is None:
        unavailable(f"there is no python{version} here")
    return found


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        unavailable(f"{' '.join(command[1:])}: {done.stderr.strip()[-500:]}")


def unavailable(reason: str) -> NoReturn:
    """Skip the test for a reason; fail it where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
