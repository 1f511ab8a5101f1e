"""The other side of processes.py: reads a function and its items from standard input, and answers each."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import traceback
from functools import cache
from queue import SimpleQueue
from typing import Any, BinaryIO

from pdmlab.errors import ExperimentError


def main() -> None:
    """Call the function until standard input ends, and end then at once, in whatever there is to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program that started this one hears Ctrl-C, and ends it
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a function prints is no answer
    read: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, read), daemon=True).start()
    packed = read.get()
    while True:
        try:
            item = pickle.loads(read.get())
            answer = pickle.dumps(_opened(packed)(item))
        except BaseException as error:
            answer = pickle.dumps(_portable(error))
        answers.write(answer)
        answers.flush()


def _read(source: BinaryIO, read: SimpleQueue[bytes]) -> None:
    """Pass on what comes; when nothing more can, nobody waits for an answer: the program that asked is gone."""
    try:
        while True:
            read.put(pickle.load(source))
    except (EOFError, OSError):
        os._exit(0)


@cache
def _opened(packed: bytes) -> Any:  # a function, of whatever the program that started this one has
    try:
        return pickle.loads(packed)
    except Exception as error:
        raise ExperimentError(
            f"the function cannot be opened in another process: {error}",
            hint="what it imports has to be importable there",
        ) from error


def _portable(error: BaseException) -> BaseException:
    """Return an error that can be sent: itself with where it was raised, or its words."""
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = ExperimentError(f"{type(error).__name__}: {error}")
    error.add_note(f"raised in another process:\n{where}")
    return error
