"""The other side of a sweep by processes: reads a job and its tasks from standard input, and answers each."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from typing import Any

from pdmlab.errors import ExperimentError


def main() -> None:
    """Measure until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program that started this one hears Ctrl-C, and ends it
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a measuring function prints is no answer
    tasks = sys.stdin.buffer
    try:
        job = pickle.load(tasks)
    except EOFError:
        return
    except Exception as error:
        job, broken = None, error
    while True:
        try:
            task = pickle.load(tasks)
        except EOFError:
            return
        try:
            if job is None:
                raise ExperimentError(
                    f"the measuring function cannot be opened in another process: {broken}",
                    hint="what it imports has to be importable there",
                )
            outcome: Any = job(task)
        except BaseException as error:
            outcome = _portable(error)
        answers.write(pickle.dumps(outcome))
        answers.flush()


def _portable(error: BaseException) -> BaseException:
    """Return an error that can be sent: itself with where it was raised, or its words."""
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = ExperimentError(f"{type(error).__name__}: {error}")
    error.add_note(f"raised in another process:\n{where}")
    return error
