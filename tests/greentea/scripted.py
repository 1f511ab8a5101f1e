"""A board that is a script: what it prints at each reset, and after each line that it hears."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace

import pandas as pd

from pdmlab.errors import ConsoleLost

SYNC = re.compile(r"\{\{__sync;([^}]+)\}\}")


@dataclass(frozen=True)
class Line:
    text: str
    time: float


class ScriptedBoard:
    """A console and a reset button. `answers(heard)` gives the lines that it prints after each line from the host.

    The string LOST as a line breaks the serial line off.
    """

    LOST = "\0lost"

    def __init__(self, answers: Callable[[str], Iterable[str]], on_reset: Iterable[str] = ()) -> None:
        self.simulated = False
        self.info = SimpleNamespace(target="K64F")
        self.console = self
        self.heard: list[str] = []
        self.resets = 0
        self.now = 1_700_000_000.0
        self._answers = answers
        self._on_reset = list(on_reset)
        self._waiting: deque[str] = deque()
        self._log: list[tuple[float, str, str]] = []
        self._half = ""

    def reset(self) -> None:
        self.resets += 1
        self._half = ""
        self._waiting += self._on_reset

    def read_line(self, timeout: float = 10.0) -> Line | None:
        if not self._waiting:
            return None
        text = self._waiting.popleft()
        if text == self.LOST:
            raise ConsoleLost("the line to K64F broke off: unplugged", hint="plug it in again")
        self.now += 0.25
        self._log.append((self.now, "board", text))
        return Line(text, self.now)

    def write(self, text: str) -> None:
        *lines, self._half = (self._half + text).split("\n")
        for line in lines:
            self.heard.append(line)
            self._waiting += self._answers(line)

    def skip(self) -> None:
        self._waiting.clear()

    @property
    def transcript(self) -> pd.DataFrame:
        frame = pd.DataFrame(self._log, columns=["time", "direction", "text"])
        return frame.assign(time=pd.to_datetime(frame["time"], unit="s", utc=True))


def suite(*lines: str, host_test: str = "default_auto", timeout: int = 60) -> Callable[[str], Iterable[str]]:
    """Answer a sync as greentea-client does, and go on with these lines."""

    def answers(heard: str) -> list[str]:
        found = SYNC.search(heard)
        if found is None:
            return []
        return [
            "mbed" * 8,
            f"{{{{__sync;{found[1]}}}}}",
            "{{__version;1.3.0}}",
            f"{{{{__timeout;{timeout}}}}}",
            f"{{{{__host_test_name;{host_test}}}}}",
            *lines,
        ]

    return answers
