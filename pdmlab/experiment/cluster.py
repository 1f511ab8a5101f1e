"""Measuring on a dask cluster that is given by its scheduler's address."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from typing import Any

from pdmlab.errors import ConfigError, ExperimentError
from pdmlab.experiment.measuring import Job, Outcome
from pdmlab.experiment.points import Task
from pdmlab.experiment.processes import packed_job
from pdmlab.experiment.provenance import DECIDING, versions

AHEAD = 2
"""Tasks that wait at the cluster for each of its threads."""
_ONE_AT_A_TIME = threading.Lock()


def measured_by_cluster(job: Job, tasks: Iterator[Task], address: str) -> Iterator[tuple[Task, Outcome]]:
    """Give what came of each task, as it comes; when the iterator is closed, what waits there is called off.

    Raises:
        ConfigError: there is no such cluster, or it has no workers, or other versions than here.
        ExperimentError: the cluster lost a task.
    """
    packed = packed_job(job)
    with closing(_connected(address)) as client:
        threads = sum(client.ncores().values())
        if not threads:
            raise ConfigError(f"the cluster at {address} has no workers", hint=f"start one: dask worker {address}")
        _require_same_versions(client, address)
        yield from _measured(client, packed, tasks, AHEAD * threads)


def _measured(client: Any, packed: bytes, tasks: Iterator[Task], most: int) -> Iterator[tuple[Task, Outcome]]:
    from distributed import KilledWorker, as_completed

    waiting: dict[Any, Task] = {}
    completed = as_completed()

    def send() -> None:
        task = next(tasks, None)
        if task is not None:
            future = client.submit(_measure, packed, task, pure=False)
            waiting[future] = task
            completed.add(future)

    try:
        for _ in range(most):
            send()
        while waiting:
            future = next(completed)
            task = waiting.pop(future)
            try:
                outcome: Outcome = future.result()
            except (KilledWorker, asyncio.CancelledError, TimeoutError, OSError) as error:
                raise ExperimentError(
                    f"the cluster lost {task.point}: {error}",
                    hint="did its scheduler or workers end? What was measured before is kept",
                ) from error
            send()
            yield task, outcome
    finally:
        client.cancel(list(waiting))


def _connected(address: str) -> Any:  # a distributed.Client, which the base installation lacks
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError("sweeps on a cluster need dask.distributed", hint="pip install 'pdmlab[cluster]'") from None
    try:
        return Client(address, timeout=10, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"no dask scheduler answers at {address!r}: {error}", hint="such as tcp://10.0.0.5:8786; dask scheduler"
        ) from error


def _require_same_versions(client: Any, address: str) -> None:
    here = {package: version for package, version in versions().items() if package in DECIDING}
    try:
        found = client.run(versions)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"pdmlab cannot be loaded by the cluster at {address}: {error}", hint="install it for its workers"
        ) from error
    for worker, there in found.items():
        other = [
            f"{name} {there.get(name)} (here {version})" for name, version in here.items() if there.get(name) != version
        ]
        if other:
            raise ConfigError(
                f"the worker {worker} has {', '.join(other)}: it might measure something else",
                hint="install the same versions there",
            )


@lru_cache(maxsize=4)
def _opened(packed: bytes) -> Job:
    job: Job = pickle.loads(packed)
    return job


def _measure(packed: bytes, task: Task) -> Outcome:
    """Measure one task, on a worker; one at a time in a process, which no thread would make faster."""
    with _ONE_AT_A_TIME:
        return _opened(packed)(task)
