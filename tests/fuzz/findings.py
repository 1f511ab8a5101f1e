"""What fuzzing has found: each defect once, with an input that shows it."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

from tests.fuzz.targets import Target

FOUND = Path(__file__).parent / "found"
"""Where inputs are left; not under version control."""


class Findings:
    """Runs a target's check on inputs, and remembers what went wrong."""

    def __init__(self, target: Target, folder: Path | None = FOUND) -> None:
        self.target = target
        self.found: dict[str, bytes] = {}
        self._folder = folder

    def warm_up(self, inputs: Iterable[bytes]) -> None:
        """Check inputs without a look at the time or the outcome: what a parser imports is no part of its time."""
        for data in inputs:
            with contextlib.suppress(Exception):  # `run` notes it
                self.target.check(data)

    def run(self, data: bytes) -> None:
        """Check one input."""
        collects = gc.isenabled()
        gc.disable()  # what the rest of the process left to collect is no part of a parser's time either
        start = time.thread_time()
        try:
            self._check(data)
        finally:
            took = time.thread_time() - start
            if collects:
                gc.enable()
        if took > self.target.seconds:
            self._note(f"slow: {took:.2f} s for {len(data)} B", data, key="slow")

    def _check(self, data: bytes) -> None:
        try:
            self.target.check(data)
        except Exception as error:  # whatever it is, it is a finding
            frames = traceback.extract_tb(error.__traceback__)
            where = next((f for f in reversed(frames) if "/pdmlab/" in f.filename), frames[-1])
            self._note(f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error!s:.100}", data)

    def _note(self, what: str, data: bytes, key: str | None = None) -> None:
        key = key or what.partition(": ")[0]
        if any(known.startswith(key) for known in self.found):
            return
        self.found[what] = data
        if self._folder is not None:
            self._folder.mkdir(exist_ok=True)
            name = f"{self.target.name}-{hashlib.sha256(data).hexdigest()[:12]}.hex"
            (self._folder / name).write_text(f"{data.hex()}\n# {what}\n", encoding="utf-8")
