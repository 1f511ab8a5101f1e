"""Measuring in several processes of this machine, each with an interpreter of its own.

A process is sent the job and then one task after another over its standard input, and answers over what was its
standard output. It needs nothing of the program that started it, so that a notebook and a script without a main guard
may both use it; it ends when that program does.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, TypeAlias

from pdmlab.errors import ConfigError, ExperimentError
from pdmlab.experiment.measuring import Job, Outcome, Outcomes
from pdmlab.experiment.points import Task

THREAD = "pdmlab-sweep"
"""The name of the threads that hand out tasks."""
Answer: TypeAlias = tuple[Task, Outcome | BaseException]


def measured_by_processes(job: Job, tasks: Iterator[Task], count: int) -> Outcomes:
    """Give what came of each task, as it comes; when the iterator is closed, the processes end at once.

    Raises:
        ConfigError: the measuring function cannot be sent to other processes.
        ExperimentError: a process died.
    """
    packed = packed_job(job)
    answers: SimpleQueue[Answer | None] = SimpleQueue()
    wanted = threading.Semaphore(2 * count)  # answers that may wait here
    shared = _Shared(tasks)
    processes: list[_Process] = []
    threads: list[threading.Thread] = []
    try:
        for _ in range(count):
            processes.append(_Process(packed))
            work = (processes[-1], shared, answers, wanted)
            threads.append(threading.Thread(target=_serve, args=work, name=THREAD, daemon=True))
            threads[-1].start()
        busy = count
        while busy:
            answer = answers.get()
            if answer is None:
                busy -= 1
                continue
            wanted.release()
            task, outcome = answer
            if isinstance(outcome, BaseException):
                raise outcome
            yield task, outcome
    finally:
        shared.close()
        for process in processes:
            process.end()
        for thread in threads:
            while thread.is_alive():
                wanted.release()
                thread.join(0.05)
        for process in processes:
            process.close()


def packed_job(job: Job) -> bytes:
    """Return a job as bytes that another interpreter can open, functions of a notebook included.

    Raises:
        ConfigError: it holds something that belongs to this process.
    """
    import cloudpickle

    elsewhere = Job(job.measure, getattr(job.bench, "blueprint", job.bench), job.seed)
    try:
        packed: bytes = cloudpickle.dumps(elsewhere)
    except Exception as error:
        raise ConfigError(
            f"the measuring function cannot be sent to other processes: {error}",
            hint="what it uses has to be importable or plain values: open boards and files inside it, or workers=1",
        ) from error
    return packed


class _Shared:
    """An iterator that several threads take from."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        self._tasks = tasks
        self._lock = threading.Lock()
        self._closed = False

    def next(self) -> Task | None:
        with self._lock:
            return None if self._closed else next(self._tasks, None)

    def close(self) -> None:
        self._closed = True


def _serve(process: _Process, tasks: _Shared, answers: SimpleQueue[Answer | None], wanted: threading.Semaphore) -> None:
    """Hand a process one task after another; None in the end."""
    while (task := tasks.next()) is not None:
        wanted.acquire()
        answers.put((task, process.measure(task)))
    answers.put(None)


_START = "import sys; sys.path[:] = {path!r}; from pdmlab.experiment.worker import main; main()"


class _Process:
    """An interpreter that measures."""

    def __init__(self, packed: bytes) -> None:
        self._packed: bytes | None = packed
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C in a terminal reaches all of a group: it is for the program that sweeps.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    def measure(self, task: Task) -> Outcome | BaseException:
        """Have one task measured; return an exception, of measuring or of the process's end."""
        to, answers = self._process.stdin, self._process.stdout
        assert to is not None and answers is not None
        try:
            if self._packed is not None:
                pickle.dump(self._packed, to)
                self._packed = None
            pickle.dump(pickle.dumps(task), to)
            to.flush()
            outcome: Any = pickle.load(answers)
        except (EOFError, OSError, pickle.UnpicklingError):
            code = self._process.wait()
            return ExperimentError(
                f"the process that measured {task.point} ended with exit code {code}",
                hint="was it killed, for want of memory say? What was measured before is kept",
            )
        answer: Outcome | BaseException = outcome
        return answer

    def end(self) -> None:
        """End the process, in whatever it is doing."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let go of its pipes, when nobody reads them any more."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
