"""One target's process: it fuzzes and reports on standard output, so that a crash or a leak is its own."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EVERY = 1.0  # s between reports


@dataclass(frozen=True)
class Report:
    """How far it has come."""

    inputs: int
    found: int
    resident_MB: int

    def __str__(self) -> str:
        return f"@ {self.inputs} {self.found} {self.resident_MB}"

    @classmethod
    def parse(cls, line: str) -> Report | None:
        """Read a report's line; None if it is something else."""
        words = line.split()
        return cls(*map(int, words[1:])) if len(words) == 4 and words[0] == "@" else None


def fuzz(name: str, inputs: int, seed: int, folder: str) -> None:
    """Run a target on so many inputs; guided by coverage if there is a folder, which gets what atheris keeps."""
    if folder:
        import atheris  # only here: it is not to be had everywhere

        with atheris.instrument_imports(include=["pdmlab.coap", "pdmlab.lwm2m"]):
            from tests.fuzz.targets import TARGETS
    else:
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.findings import Findings
    from tests.fuzz.mutate import Mutator

    findings, corpus = Findings(TARGETS[name]), TARGETS[name].corpus()
    findings.warm_up(corpus[:1])
    for data in corpus:
        findings.run(data)
    run = counted(findings.run, findings.found, inputs)
    if not folder:
        mutator = Mutator(corpus, seed, TARGETS[name].longest)
        while True:
            run(mutator.next())
    for number, data in enumerate(corpus):
        (Path(folder) / f"corpus-{number}").write_bytes(data)
    flags = [f"-seed={seed}", "-runs=-1", f"-max_len={TARGETS[name].longest}", "-verbosity=0", "-timeout=30"]
    atheris.Setup([name, *flags, f"-artifact_prefix={folder}/", folder], run)
    atheris.Fuzz()


def counted(run: Callable[[bytes], None], found: dict[str, bytes], inputs: int) -> Callable[[bytes], None]:
    """Return what runs an input, reports now and then, and ends the process after so many."""
    count, told, next_report = 0, 0, time.monotonic()

    def one(data: bytes) -> None:
        nonlocal count, told, next_report
        run(data)
        count += 1
        if count & 0xFF and count < inputs:
            return
        if count >= inputs or time.monotonic() >= next_report:
            next_report = time.monotonic() + EVERY
            for what in list(found)[told:]:
                print(what)
            told = len(found)
            print(Report(count, told, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024), flush=True)
        if count >= inputs:
            os._exit(0)  # libFuzzer takes any exception for a defect, and never returns

    return one


if __name__ == "__main__":
    fuzz(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
