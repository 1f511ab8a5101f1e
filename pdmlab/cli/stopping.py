"""Waiting for the end of a command that runs until somebody stops it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

_STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # SIGHUP: the terminal went away; SIGBREAK: Windows


@contextlib.contextmanager
def stoppable(pressed: Mapping[str, Callable[[], object]] | None = None) -> Iterator[Callable[[], None]]:
    """Yield a function that waits until Ctrl-C, a termination, or the end of the terminal; then all ends in order.

    A signal that the process was started to ignore (nohup, a shell's background job) stays ignored.

    Args:
        pressed: signal name -> what to do each time it comes, such as {"SIGUSR1": board.reset}.
    """
    stop, due = threading.Event(), []
    before = {}

    def handle(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if pressed is not None and name in pressed:
            due.append(pressed[name])
        else:
            stop.set()

    for name in (*_STOPS, *(pressed or ())):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handle)

    def wait() -> None:
        while not stop.wait(0.2):  # in slices: Windows delivers no signal to a thread that waits for ever
            while due:
                due.pop(0)()

    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
