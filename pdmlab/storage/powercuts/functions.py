"""A story that is a function of a block device, with a check of what it left."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pdmlab.errors import ConfigError, PdmlabError
from pdmlab.storage.powercuts.geometries import Geometry
from pdmlab.storage.powercuts.image import Image
from pdmlab.storage.powercuts.story import Finding, Outcome, Places


class FunctionStory:
    """A function that does everything, from opening to closing, and is run again from its beginning after a cut.

    Args:
        function: called with the block device. Written as a generator, it yields after each durable operation, with
            its name if it likes, and the check learns how many have returned.
        check: called as check(device) or check(device, done) after a cut, and again when the function has run once
            more; raises, or returns False or words, if something is wrong. `done` operations have returned, in the
            newest run that has got so far.
        prepare: puts onto the blank medium what is there beforehand.
        again: False if a board that starts anew does not run it again.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],  # Any: the device is whatever block device the function was written for
        check: Callable[..., object],
        geometry: Geometry,
        *,
        prepare: Callable[[Any], object] | None = None,
        again: bool = True,
        name: str = "",
    ) -> None:
        for each in (function, check):
            if not callable(each):
                raise ConfigError(f"{each!r} cannot be called", hint="hand in a function of a block device")
        self.name = name or getattr(function, "__name__", "function")
        self.geometry = geometry
        self.weakness = ""
        self.invariant = (inspect.getdoc(check) or f"{getattr(check, '__name__', 'the check')} accepts it").strip()
        self._function, self._check, self._prepare, self._again = function, check, prepare, again
        self._counts = len(inspect.signature(check).parameters) > 1
        self._steps: list[str] = []
        self._total = 0

    @property
    def steps(self) -> Sequence[object]:
        """What the function has named with its yields when it was played; one step where it yields nothing."""
        return self._steps

    def prepare(self, device: Image) -> None:
        """Put onto the medium what is there beforehand."""
        if self._prepare is not None:
            self._prepare(device)

    def play(self, device: Image) -> Iterator[None]:
        """Run the function; a generator's yields are its steps, and what it does after the last is one more."""
        self._steps, end = [], 0
        for name in self._run(device):
            self._steps.append(name)
            end = len(device.journal)
            yield
        self._total = len(self._steps)
        if len(device.journal) > end:
            self._steps.append(f"{self.name}, its end")
            yield

    def recover(self, device: Image, done: int, seen: Outcome = "before", returned: int | None = None) -> Finding:
        """Check, run the function again, and check."""
        wrong = self._wrong(device, min(returned or done, self._total))
        if wrong and returned == 0 and not self._wrong(device, 0):
            wrong = ""  # the cut was in the first operation of the run that began anew
        if wrong or not self._again:
            return Finding("lost", f"after the cut: {wrong}") if wrong else Finding("before")
        try:
            for _ in self._run(device):
                device.returned.append(len(device.journal))
        except Exception as error:  # whatever a function of somebody else's raises is the finding
            return Finding("lost", f"running it again: {_words(error)}")
        wrong = self._wrong(device, self._total)
        return Finding("lost", f"after running it again: {wrong}") if wrong else Finding("before")

    def look(self, device: Image) -> None:
        """Check, so that the device can note what was read."""
        device.looked = []
        self._wrong(device, 0)

    def places(self, device: Image) -> Places:
        """Name nothing: only the function knows its layout."""
        return lambda operation: ""

    def _run(self, device: Image) -> Iterator[str]:
        result = self._function(device)
        if not inspect.isgenerator(result):
            yield self.name
            return
        for number, said in enumerate(result, 1):
            yield str(said) if said is not None else f"{self.name}, step {number}"

    def _wrong(self, device: Image, done: int) -> str:
        try:
            result = self._check(device, done) if self._counts else self._check(device)
        except Exception as error:  # a check says no in its own way
            return _words(error)
        return result if isinstance(result, str) else "the check says no" if result is False else ""

    def __repr__(self) -> str:
        return f"<story {self.name}: a function, on {self.geometry.units} B, {self.geometry.size} B>"


def _words(error: Exception) -> str:
    if isinstance(error, PdmlabError):
        return error.message
    said = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
