"""Measuring on a dask cluster that is given by its scheduler's address."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import pickle
import socket
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from pdmlab.errors import ConfigError, ExperimentError
from pdmlab.experiment.measuring import Job, Outcome, Outcomes
from pdmlab.experiment.points import Task
from pdmlab.experiment.processes import packed_job
from pdmlab.experiment.provenance import DECIDING, versions

AHEAD = 2
"""Tasks that wait at the cluster for each of its threads."""
ANSWER_S = 10
_EXAMPLE = "dask scheduler, and dask worker tcp://host:8786 on each machine"
_ONE_AT_A_TIME = threading.Lock()


_LOST = (asyncio.CancelledError, concurrent.futures.CancelledError, TimeoutError, OSError)
"""What calls to a cluster raise whose scheduler has gone; distributed's own CancelledErrors are these."""


class Cluster:
    """A cluster that can measure: it is there, it has workers, and they have the versions that are here.

    Raises:
        ConfigError: it is not, has not, or they have others.
    """

    def __init__(self, address: str) -> None:
        self._client = _connected(address)
        try:
            self._threads: int = sum(self._client.ncores().values())
            if not self._threads:
                raise ConfigError(f"the cluster at {address} has no workers", hint=f"start one: dask worker {address}")
            _require_same_versions(self._client, address)
        except BaseException:
            self.close()
            raise

    def measured(self, job: Job, tasks: Iterator[Task]) -> Outcomes:
        """Give what came of each task, as it comes; when the iterator is closed, what waits there is called off.

        Raises:
            ExperimentError: the cluster lost a task.
        """
        yield from _measured(self._client, packed_job(job), tasks, AHEAD * self._threads)

    def close(self) -> None:
        """Leave the cluster."""
        with contextlib.suppress(*_LOST):
            self._client.close()

    def __repr__(self) -> str:
        return f"<cluster, {self._threads} threads>"


def _measured(client: Any, packed: bytes, tasks: Iterator[Task], most: int) -> Outcomes:
    from distributed import KilledWorker, as_completed

    waiting: dict[Any, Task] = {}
    completed = as_completed(loop=client.loop)

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
            except (KilledWorker, *_LOST) as error:
                raise ExperimentError(
                    f"the cluster lost {task.point}: {error or type(error).__name__}",
                    hint="did its scheduler or workers end? What was measured before is kept",
                ) from error
            send()
            yield task, outcome
    finally:
        with contextlib.suppress(*_LOST):
            client.cancel(list(waiting))


def _connected(address: str) -> Any:  # a distributed.Client, which the base installation lacks
    host, port = require_address(address)
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError("sweeps on a cluster need dask.distributed", hint="pip install 'pdmlab[cluster]'") from None
    try:
        # A Client that finds nobody cannot be closed for a long time: see first whether anybody is there.
        socket.create_connection((host, port), timeout=ANSWER_S).close()
        return Client(address, timeout=ANSWER_S, set_as_default=False)
    except OSError as error:  # a TimeoutError too
        raise ConfigError(f"no dask scheduler answers at {address}: {error}", hint=f"start one: {_EXAMPLE}") from error


def require_address(address: str) -> tuple[str, int]:
    """Return host and port of a scheduler's address.

    Raises:
        ConfigError: it is none.
    """
    parts = urlsplit(address)
    with contextlib.suppress(ValueError):
        if parts.scheme in ("tcp", "tls") and parts.hostname and parts.port:
            return parts.hostname, parts.port
    raise ConfigError(f"workers is {address!r}, no scheduler's address", hint="such as tcp://10.0.0.5:8786")


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
