"""Calling one function in several processes of this machine, each with an interpreter of its own.

A process is sent the function and then one item after another over its standard input, and answers over what was its
standard output. It needs nothing of the program that started it, so that a notebook and a script without a main guard
may both use it; it ends when that program does.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from pdmlab.errors import ConfigError

THREAD = "pdmlab-process"
"""The name of the threads that hand out items."""
Item = TypeVar("Item")


class ProcessEnded(Exception):
    """A process died with an item in its hands; the caller knows in which words that is said."""

    def __init__(self, item: object, code: int) -> None:
        super().__init__(f"the process that had {item!r} ended with exit code {code}")
        self.item, self.code = item, code


def packed(function: Callable[[Any], object], what: str) -> bytes:
    """Return a function as bytes that another interpreter can open, one of a notebook included.

    Raises:
        ConfigError: it holds something that belongs to this process; `what` names it in the message.
    """
    import cloudpickle

    try:
        sent: bytes = cloudpickle.dumps(function)
    except Exception as error:
        raise ConfigError(
            f"{what} cannot be sent to other processes: {error}",
            hint="what it uses has to be importable or plain values: open boards and files inside it, or workers=1",
        ) from error
    return sent


def called(sent: bytes, items: Iterator[Item], count: int) -> Generator[tuple[Item, Any], None, None]:
    """Give what the packed function returned for each item, as it comes; closing it ends the processes at once.

    Any: what the function returns.

    Raises:
        ProcessEnded: a process died.
        Exception: whatever the function raised.
    """
    answers: SimpleQueue[tuple[Item, Any] | None] = SimpleQueue()
    wanted = threading.Semaphore(2 * count)  # answers that may wait here
    shared = _Shared(items)
    processes: list[_Process] = []
    threads: list[threading.Thread] = []
    try:
        for _ in range(count):
            processes.append(_Process(sent))
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
            if isinstance(answer[1], BaseException):
                raise answer[1]
            yield answer
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


class _Shared(Generic[Item]):
    """An iterator that several threads take from."""

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._lock = threading.Lock()
        self._closed = False

    def next(self) -> Item | None:
        with self._lock:
            return None if self._closed else next(self._items, None)

    def close(self) -> None:
        self._closed = True


def _serve(
    process: _Process,
    items: _Shared[Item],
    answers: SimpleQueue[tuple[Item, Any] | None],
    wanted: threading.Semaphore,
) -> None:
    """Hand a process one item after another; None in the end."""
    while (item := items.next()) is not None:
        wanted.acquire()
        answers.put((item, process.call(item)))
    answers.put(None)


_START = "import sys; sys.path[:] = {path!r}; from pdmlab.worker import main; main()"


class _Process:
    """An interpreter that calls the function."""

    def __init__(self, sent: bytes) -> None:
        self._sent: bytes | None = sent
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C in a terminal reaches all of a group: it is for the program that started this.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    def call(self, item: object) -> Any:
        """Return what the function makes of an item; an exception, of the function or of the process's end, too."""
        to, answers = self._process.stdin, self._process.stdout
        assert to is not None and answers is not None
        try:
            if self._sent is not None:
                pickle.dump(self._sent, to)
                self._sent = None
            pickle.dump(pickle.dumps(item), to)
            to.flush()
            return pickle.load(answers)
        except (EOFError, OSError, pickle.UnpicklingError):
            return ProcessEnded(item, self._process.wait())

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
