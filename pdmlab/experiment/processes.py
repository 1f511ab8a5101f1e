"""Measuring in several processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator

from pdmlab import processes
from pdmlab.errors import ExperimentError
from pdmlab.experiment.measuring import Job, Outcomes
from pdmlab.experiment.points import Task


def measured_by_processes(job: Job, tasks: Iterator[Task], count: int) -> Outcomes:
    """Give what came of each task, as it comes; when the iterator is closed, the processes end at once.

    Raises:
        ConfigError: the measuring function cannot be sent to other processes.
        ExperimentError: a process died.
    """
    try:
        yield from processes.called(packed_job(job), tasks, count)
    except processes.ProcessEnded as error:
        assert isinstance(error.item, Task)
        raise ExperimentError(
            f"the process that measured {error.item.point} ended with exit code {error.code}",
            hint="was it killed, for want of memory say? What was measured before is kept",
        ) from None


def packed_job(job: Job) -> bytes:
    """Return a job as bytes that another interpreter can open, functions of a notebook included.

    Raises:
        ConfigError: it holds something that belongs to this process.
    """
    return processes.packed(
        Job(job.measure, getattr(job.bench, "blueprint", job.bench), job.seed), "the measuring function"
    )
