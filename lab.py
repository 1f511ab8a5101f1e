"""Set the lab up and run it: `python lab.py` opens JupyterLab, `python lab.py test` checks everything.

Needs Python 3.11 or newer and nothing else; the Makefile calls it. The environment is `.venv`, made with uv
where that is installed, else with venv and pip, and made again only when pyproject.toml has changed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "pdmlab-installed"

USAGE = """usage: python lab.py [lab | test | bench | lint | setup] [arguments]

  lab     open JupyterLab on notebooks/00-start-here.ipynb (the default)
  test    check everything: lint, types, layers, tests, notebooks
  bench   print the benchmarks, as ratios where there is something to compare with
  lint    only ruff, mypy and import-linter
  setup   only make the environment"""


def main(arguments: list[str]) -> int:
    """Do what the command line asks; return the exit status."""
    if sys.version_info < (3, 11):
        print(f"pdmlab needs Python 3.11 or newer; this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    command, *rest = arguments or ["lab"]
    commands = {"lab": lab, "test": test, "bench": bench, "lint": lint, "setup": lambda _: 0}
    if command not in commands:
        print(USAGE)
        return 0 if command in ("help", "-h", "--help") else 2
    setup()
    try:
        return commands[command](rest)
    except KeyboardInterrupt:
        return 130


def setup() -> None:
    """Make .venv and install pdmlab into it, unless that is done already."""
    wanted = hashlib.sha256((HERE / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    if STAMP.is_file() and STAMP.read_text() == wanted and PYTHON.exists():
        return
    print("Setting up .venv (once; about a minute) …", flush=True)
    uv = shutil.which("uv")
    if uv:
        if not PYTHON.exists():
            run(uv, "venv", "--quiet", "--python", sys.executable, str(VENV))
        run(uv, "pip", "install", "--quiet", "--python", str(PYTHON), "-e", ".[dev]")
    else:
        if not PYTHON.exists():
            run(sys.executable, "-m", "venv", str(VENV))
        run(str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", ".[dev]")
    STAMP.write_text(wanted)


def lab(arguments: list[str]) -> int:
    """Open JupyterLab on the first notebook."""
    return call(str(PYTHON), "-m", "jupyterlab", "notebooks/00-start-here.ipynb", *arguments)


def lint(_: list[str]) -> int:
    """Check style, types and layers."""
    python = str(PYTHON)
    for check in (
        ("-m", "ruff", "check"),
        ("-m", "ruff", "format", "--check"),
        ("-m", "mypy"),
        ("-c", "from importlinter.cli import lint_imports_command as main; main()"),
    ):
        status = call(python, *check)
        if status:
            return status
    return 0


def test(arguments: list[str]) -> int:
    """Check everything; arguments go to pytest (and then only it runs)."""
    if arguments:
        return call(str(PYTHON), "-m", "pytest", *arguments)
    return lint([]) or call(str(PYTHON), "-m", "pytest", "-n", "auto", "--dist", "worksteal")


def bench(arguments: list[str]) -> int:
    """Print the benchmarks."""
    return call(str(PYTHON), "-m", "benchmarks", *arguments)


def run(*command: str) -> None:
    """Run a command and give up where it fails."""
    status = call(*command)
    if status:
        raise SystemExit(f"set-up failed: {' '.join(command[:4])} … ended with status {status}")


def call(*command: str) -> int:
    """Run a command in the checkout; return its exit status."""
    return subprocess.run(command, cwd=HERE, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
