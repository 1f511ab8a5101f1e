"""`make fuzz`: ten million mutated inputs for the parsers of strangers' bytes, in turn and guided by coverage.

`python -m tests.fuzz [--inputs N] [--seed N] [--unguided] [TARGET ...]`. Inputs that show a defect are left in
tests/fuzz/found; `python -m tests.fuzz --show FILE` runs one of them, and shows the traceback.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.child import Report
from tests.fuzz.findings import FOUND
from tests.fuzz.targets import TARGETS

TOTAL = 10_000_000


def main(arguments: list[str]) -> int:
    """Fuzz; return 1 if something was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all, if none is named")
    parser.add_argument("--inputs", type=int, default=TOTAL, help="in all, shared among the targets (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unguided", action="store_true", help="mutate by the seed alone, as CI does")
    parser.add_argument("--show", type=Path, metavar="FILE", help="run one input that was found")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.targets) - TARGETS.keys()):
        parser.error(f"there is no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    if options.show is not None:
        show(options.show)
        return 0
    guided = not options.unguided and importlib.util.find_spec("atheris") is not None
    if not guided:
        print("not guided by coverage" + ("" if options.unguided else ": atheris cannot be had for this Python here"))
    names = options.targets or list(TARGETS)
    weights = sum(TARGETS[name].weight for name in names)
    shares = {name: max(1, round(options.inputs * TARGETS[name].weight / weights)) for name in names}
    return run(shares, options.seed, guided=guided)


def show(path: Path) -> None:
    """Run one input, so that what it does is seen."""
    target = TARGETS[path.name.rpartition("-")[0]]
    target.check(bytes.fromhex(path.read_text(encoding="utf-8").partition("\n")[0]))
    print(f"{path}: nothing wrong any more")


def run(shares: dict[str, int], seed: int, *, guided: bool) -> int:
    """Give each target its share of inputs; return 1 if something was found."""
    start, done, found = time.perf_counter(), 0, 0
    total = sum(shares.values())

    def progress(name: str, report: Report) -> None:
        rate = (done + report.inputs) / (time.perf_counter() - start)
        left = (total - done - report.inputs) / max(rate, 1)
        print(
            f"\r{name:12} {report.inputs:>10,} inputs, {report.resident_MB} MB, {report.found} found; "
            f"in all {done + report.inputs:,} of {total:,}, {rate:,.0f}/s, {left / 60:.1f} min left  ",
            end="",
            flush=True,
        )

    for name, share in shares.items():
        last = run_target(name, share, seed, progress, guided=guided)
        done, found = done + last.inputs, found + last.found
    seconds = time.perf_counter() - start
    print(f"{done:,} inputs in {seconds / 60:.1f} min, {done / seconds:,.0f}/s: {found} found")
    if found:
        print(f"the inputs are in {FOUND}; --show FILE runs one")
    return 1 if found else 0


def run_target(name: str, inputs: int, seed: int, progress: Callable[[str, Report], None], *, guided: bool) -> Report:
    """Run a target's process, print what it finds, and return its last report; ending early is a finding."""
    last = Report(0, 0, 0)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", "tests.fuzz.child", name, str(inputs), str(seed), folder if guided else ""]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if (report := Report.parse(line)) is not None:
                    progress(name, last := report)
                elif line.strip():
                    print(f"\n  {name}: {line.rstrip()}", flush=True)
        print(flush=True)
        if last.inputs >= inputs:
            return last
        errors.seek(0)
        print(f"  {name}: ended early, with status {child.returncode}\n{errors.read()[-2000:]}")
        return Report(last.inputs, last.found + 1, last.resident_MB)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
