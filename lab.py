"""Set the lab up and run it: `python lab.py` opens JupyterLab, `python lab.py test` checks everything.

Needs Python 3.11 or newer and nothing else; the Makefile calls it. The environment is `.venv`, made with uv
where that is installed, else with venv and pip. It is brought up to date when pyproject.toml has changed, and made
again after an interrupted set-up, in another folder, or by another Python: keep nothing of your own in it.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)

if sys.version_info < OLDEST:  # here, before anything that an older Python would trip over
    names = [name for name in ("python3.14", "python3.13", "python3.12", "python3.11") if shutil.which(name)]
    # pyenv puts commands on the PATH that do not start
    found = [name for name in names if subprocess.call([name, "-c", ""], stderr=subprocess.DEVNULL) == 0]
    hint = f"run {found[0]} lab.py, or make PYTHON={found[0]}" if found else "install one; make PYTHON=... names it"
    raise SystemExit(f"pdmlab needs Python 3.11 or newer; this is {sys.version.split()[0]}\nhint: {hint}")

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "pdmlab-installed"
# Where .venv's own Python runs this file, the one that it was made from can make it again.
BASE = getattr(sys, "_base_executable", None) or sys.executable

USAGE = """usage: python lab.py [lab | test | bench | soak | fuzz | lint | setup] [arguments]

  lab     open JupyterLab on notebooks/00-start-here.ipynb (the default); arguments go to JupyterLab
  test    check everything: lint, types, layers, tests, notebooks; with arguments, only pytest with them
  bench   print the benchmarks, as ratios where there is something to compare with; arguments pick some
  soak    1,000 live virtual devices at a service for ten minutes, which is then killed; --help tells more
  fuzz    ten million mutated inputs for the parsers of strangers' bytes; --help tells more
  lint    only ruff, mypy and import-linter
  setup   only make the environment

With make: make lab ARGS="--no-browser --port 8899"."""


def main(arguments: list[str]) -> int:
    """Do what the command line asks; return the exit status."""
    command, *rest = arguments or ["lab"]
    commands = {"lab": lab, "test": test, "bench": bench, "soak": soak, "fuzz": fuzz, "lint": lint}
    commands["setup"] = lambda _: 0
    if command not in commands:
        print(USAGE)
        return 0 if command in ("help", "-h", "--help") else 2
    try:
        setup()
    except KeyboardInterrupt:
        print("\nset-up interrupted; the next run starts it again", file=sys.stderr)
        return 130
    return commands[command](rest)


def setup() -> None:
    """Make .venv and install pdmlab into it, unless that is done already.

    The stamp names the environment on its first line and what was installed into it on its second. It is missing
    while something is installed, so that an interrupted set-up is seen.
    """
    environment = f"Python {sys.version_info.major}.{sys.version_info.minor} in {HERE}"
    wanted = requirements()
    stamp = STAMP.read_text(encoding="utf-8") if STAMP.is_file() else ""
    usable = stamp.startswith(f"{environment}\n") and starts(PYTHON)
    if usable and stamp == f"{environment}\n{wanted}\n":
        return
    uv = find_uv()
    if usable:
        print("pyproject.toml has changed: bringing .venv up to date ...", flush=True)
    else:
        print(f"Setting up .venv with {'uv' if uv else 'pip'} (once; about a minute, 1 GB) ...", flush=True)
        make_environment(uv)
    STAMP.unlink(missing_ok=True)
    if uv:
        failed = run(uv, "pip", "install", "--quiet", "--python", str(PYTHON), "-e", ".[dev]")
    else:
        failed = run(str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", ".[dev]")
    if not failed:
        STAMP.write_text(f"{environment}\n{wanted}\n", encoding="utf-8")
        return
    if usable:  # an installer that gives up by itself leaves the environment as it was
        STAMP.write_text(stamp, encoding="utf-8")
    way_out = f"\n      what was installed before still runs: {PYTHON.parent / 'pdmlab'} lab" if usable else ""
    give_up(
        f"{'uv' if uv else 'pip'} could not install what pyproject.toml asks for (its message is above)",
        f"is there a network? Behind a proxy set HTTPS_PROXY. The next run tries again.{way_out}",
    )


def find_uv() -> str | None:
    """Return the path of the uv that is installed; .venv's own goes with it."""
    uv = shutil.which("uv")
    return uv if uv is not None and Path(uv).parent != PYTHON.parent else None


def requirements() -> str:
    """Return a digest of what pyproject.toml says of the package, but not of the tools that check it."""
    import tomllib  # not in the Pythons that are told above that they are too old

    document = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))
    return hashlib.sha256(json.dumps([document["build-system"], document["project"]]).encode()).hexdigest()


def make_environment(uv: str | None) -> None:
    """Make an empty .venv, in place of whatever is there."""
    try:
        if VENV.is_symlink() or VENV.is_file():
            VENV.unlink()
        elif VENV.exists():
            shutil.rmtree(VENV)
    except OSError as error:
        give_up(f".venv cannot be removed: {error}", "close what runs from it (JupyterLab?), or remove it by hand")
    if uv:
        failed = run(uv, "venv", "--quiet", "--python", BASE, str(VENV))
    elif importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        debian = Path("/etc/debian_version").exists()
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        give_up(
            "this Python comes without venv or ensurepip, which make .venv",
            f"sudo apt install {package}" if debian else "install your system's package of them, or uv",
        )
    else:
        failed = run(BASE, "-m", "venv", str(VENV))
    if failed:
        give_up(".venv could not be made (the message is above)", f"is {HERE} writable, and is there 1 GB of room?")


def give_up(what: str, hint: str) -> None:
    """End with what went wrong and what to try."""
    raise SystemExit(f"set-up failed: {what}\nhint: {hint}")


def starts(python: Path) -> bool:
    """Return whether an interpreter is there and runs: one whose base was removed does not."""
    try:
        return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run(*command: str) -> int:
    """Run a step of the set-up; return its exit status. Ctrl-C ends it."""
    return subprocess.run(command, cwd=HERE, check=False).returncode


def lab(arguments: list[str]) -> int:
    """Open JupyterLab on the first notebook."""
    return call("-c", "from pdmlab.cli import main; main(prog_name='pdmlab')", "lab", *arguments)


def lint(_: list[str]) -> int:
    """Check style, types and layers, all of them even if one finds fault."""
    checks = (
        ("-m", "ruff", "check"),
        ("-m", "ruff", "format", "--check"),
        ("-m", "mypy", "--num-workers", "auto"),
        ("-c", "from importlinter.cli import lint_imports_command as main; main()"),
    )
    return max(abs(call(*check)) for check in checks)


def test(arguments: list[str]) -> int:
    """Check everything; arguments go to pytest (and then only it runs)."""
    if arguments:
        return call("-m", "pytest", *arguments)
    found = lint([])
    return call("-m", "pytest", "-n", "auto", "--dist", "worksteal") or found


def bench(arguments: list[str]) -> int:
    """Print the benchmarks."""
    return call("-m", "benchmarks", *arguments)


def soak(arguments: list[str]) -> int:
    """Run many devices at a service for long."""
    return call("-m", "benchmarks.soak", *arguments)


def fuzz(arguments: list[str]) -> int:
    """Mutate inputs of parsers."""
    return call("-m", "tests.fuzz", *arguments)


def call(*arguments: str) -> int:
    """Run .venv's Python in the checkout; return its exit status. Ctrl-C is its to deal with."""
    child = subprocess.Popen([PYTHON, *arguments], cwd=HERE)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the terminal sent it to the child as well, and JupyterLab asks what to do
            continue


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
