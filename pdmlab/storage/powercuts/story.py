"""A story: what is done to a medium, how it is recovered after a cut, and what must be there then.

A story is anything with the methods of `Story`. `StoreStory` is one of steps on a store, held against a model
of what each returned step must have left; `FunctionStory` (functions.py) is a function and a check of your own.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from pdmlab.errors import ConfigError, PdmlabError, StorageError
from pdmlab.storage.powercuts.geometries import Geometry
from pdmlab.storage.powercuts.image import Image, Operation
from pdmlab.storage.powercuts.steps import FILE_NAMES, FILE_VERBS, FORMS, Contents, Step, all_contents, difference

WHOLE = (
    "every operation that returned is there, byte for byte; the interrupted one is either there whole or not at all, "
    "and is there when it has been tried again"
)
FILES = f"{WHOLE}; a new file is made by its open and filled by its sync, so that between them it may be there, empty"

Outcome = Literal["before", "between", "after", "lost"]


class Finding(NamedTuple):
    """What verification says: whether the interrupted operation is there, or that something is lost.

    words: what is lost; or, where nothing is, what is wrong all the same: lost clusters, or files hidden for a while.
    """

    outcome: Outcome
    words: str = ""


@runtime_checkable
class Story(Protocol):
    """What the explorer needs of a story; see StoreStory."""

    name: str
    geometry: Geometry
    invariant: str
    weakness: str

    @property
    def steps(self) -> Sequence[object]:
        """The steps, whose str() says what they do."""
        ...

    def prepare(self, device: Image) -> None:
        """Put onto a blank medium what is there beforehand; nothing is cut in it."""
        ...

    def play(self, device: Image) -> Iterator[None]:
        """Take the steps; yields as each has returned."""
        ...

    def recover(self, device: Image, done: int, seen: Outcome = "before", returned: int | None = None) -> Finding:
        """Start again after a cut in step `done` (from 0), verify, try that step again, and verify.

        seen: what a recovery before this one has found; it must not go back behind that.
        returned: after a second cut, how many of the recovery's device.returned came before it.
        """
        ...

    def look(self, device: Image) -> None:
        """Read everything, for the device to note (device.looked); raises nothing."""
        ...

    def places(self, device: Image) -> Places:
        """Name what lies where on a medium."""
        ...


Places = Callable[[Operation], str]
"""Names where an operation went, such as "allocation table"; empty if nothing is known."""


class Session(Protocol):
    """A store that has been opened, as a board opens it at its start."""

    def take(self, step: Step, data: bytes, before: Contents) -> None:
        """Take a step; `before` is what is there."""
        ...

    def contents(self) -> Contents:
        """Read everything."""
        ...

    def settle(self) -> Contents | str | None:
        """Do what the store itself does before its first write; if that writes, return what a reader saw before.

        A reader that failed saw an error: its words.
        """
        ...

    def flaw(self) -> str:
        """Name what is wrong with the medium though all contents are right; empty if nothing is."""
        ...

    def close(self) -> None:
        """Let the device go; writes nothing that a cut could lose."""
        ...


class StoreStory:
    """Steps on a store: open, take a step, be cut, open again, compare everything, take it again, compare again.

    Args:
        opens: mounts or initialises the store on a device, and returns it as a Session.
        formats: makes an empty store on a blank device.
        before: steps whose results are there beforehand; they are not cut.
        places: names what lies where, of a device.
        verbs, names: what its steps may do, and a regular expression of what they may do it to.
        weakness: why the store's own algorithm loses something, where it is known to; reports with losses say it.
    """

    def __init__(
        self,
        name: str,
        geometry: Geometry,
        steps: Sequence[Step | str],
        *,
        opens: Callable[[Image], Session],
        formats: Callable[[Image], None],
        before: Sequence[Step | str] = (),
        places: Callable[[Image], Places] | None = None,
        invariant: str = WHOLE,
        weakness: str = "",
        verbs: Container[str] = FILE_VERBS,
        names: str = FILE_NAMES,
    ) -> None:
        self.name = name
        self.weakness = weakness
        self.invariant = invariant
        self.geometry = geometry
        self.before = tuple(_step(each) for each in before)
        self.steps = tuple(_step(each) for each in steps)
        if not self.steps:
            raise ConfigError(f"the story {name} has no steps", hint='such as steps=["write /log 300"]')
        self._opens, self._formats, self._places = opens, formats, places
        every = (*self.before, *self.steps)
        for step in every:
            if step.verb not in verbs or not all(re.fullmatch(names, each) for each in (step.name, step.to) if each):
                raise ConfigError(f"'{step}' is no step of this store", hint=f"steps are such as {FORMS}")
        self._data = [step.data(f"{number} ") for number, step in enumerate(every)]
        self._contents = all_contents({}, every, self._data)
        self._allowed = [
            _allowed(step, *self._contents[number : number + 2])
            for number, step in enumerate(self.steps, len(self.before))
        ]

    def expected(self, done: int) -> Contents:
        """Return what must be there when so many steps have returned."""
        return self._contents[len(self.before) + done]

    def prepare(self, device: Image) -> None:
        """Make an empty store and take the steps before the story."""
        with self._told():
            self._formats(device)
            self._take_all(device, 0, len(self.before))

    def play(self, device: Image) -> Iterator[None]:
        """Open the store and take the steps; yields as each has returned."""
        with self._told():
            session = self._opens(device)
        try:
            for number in range(len(self.before), len(self._data)):
                with self._told(str(self.steps[number - len(self.before)])):
                    self._take(session, number)
                yield
            if session.contents() != self._contents[-1]:
                raise StorageError(f"{self.name} does not hold what its steps have put there, without any cut")
        finally:
            session.close()

    def recover(self, device: Image, done: int, seen: Outcome = "before", returned: int | None = None) -> Finding:
        """Open, compare, take the interrupted step again, open, compare."""
        number = len(self.before) + done
        allowed = self._allowed[done]
        goal = allowed["after"]
        outcome: Outcome
        when = "opening it"
        try:
            session = self._opens(device)
            try:
                when = "reading it"
                earlier = session.settle()
                found = session.contents()
                outcome = next((name for name, wanted in allowed.items() if found == wanted), "lost")
                if outcome == "lost":
                    return _lost(difference(found, list(allowed.values()), self.steps[done]))
                if _BEHIND[outcome] < _BEHIND[seen]:
                    return Finding("lost", f"of the interrupted operation: '{self.steps[done]}' is undone")
                flaw = session.flaw()
                when = "trying again"
                try:
                    self._take(session, number)
                except StorageError:
                    if outcome != "after":
                        raise
                    # What is done already may be refused: there is no such file to rename any more.
                else:
                    if outcome == "after" and self.steps[done].verb == "once":
                        flaw = f"'{self.steps[done]}' could be done again: it is not set once any more"
            finally:
                session.close()
            when = "opening it after trying again"
            session = self._opens(device)
            try:
                found = session.contents()
            finally:
                session.close()
        except PdmlabError as error:
            return _lost(f"{when}: {error.message}")
        except _FELL_OVER as error:
            # The store's own code fell over what lies there.
            return _lost(f"{when}: {type(error).__name__}: {error}")
        if found != goal:
            return _lost(f"after trying again, {difference(found, [goal], self.steps[done])}")
        if isinstance(earlier, str):
            flaw = f"until the store's first write, a reader fails: {earlier}"
        elif earlier is not None and earlier not in allowed.values():
            hidden = difference(earlier, list(allowed.values()), self.steps[done])
            flaw = f"hidden until the store's first write, {hidden}"
        return Finding(outcome, flaw)

    def look(self, device: Image) -> None:
        """Open the store and read everything, so that the device can note what was read."""
        try:
            session = self._opens(device)
            try:
                device.looked = []
                session.contents()
            finally:
                session.close()
        except (PdmlabError, *_FELL_OVER):
            pass  # what could be read has been noted

    def places(self, device: Image) -> Places:
        """Name what lies where."""
        return self._places(device) if self._places else lambda operation: ""

    @contextlib.contextmanager
    def _told(self, step: str = "") -> Iterator[None]:
        """Say which story it was that the store refused on this medium, though no power was cut."""
        try:
            yield
        except StorageError as error:
            where = f", at '{step}'" if step else ""
            raise ConfigError(
                f"the story {self.name} cannot be told on {self.geometry.size} B with units of "
                f"{self.geometry.units} B to read/program/erase{where}: {error.message}",
                hint="another geometry, size or seed, or steps of your own",
            ) from error

    def _take_all(self, device: Image, first: int, last: int) -> None:
        if first == last:
            return
        session = self._opens(device)
        try:
            for number in range(first, last):
                self._take(session, number)
        finally:
            session.close()

    def _take(self, session: Session, number: int) -> None:
        step = self.steps[number - len(self.before)] if number >= len(self.before) else self.before[number]
        session.take(step, self._data[number], self._contents[number])

    def __repr__(self) -> str:
        return f"<story {self.name}: {len(self.steps)} steps on {self.geometry.units} B, {self.geometry.size} B>"


_FELL_OVER = (ArithmeticError, LookupError, ValueError, TypeError, AssertionError, MemoryError)
_BEHIND = {"before": 0, "between": 1, "after": 2}


def _lost(words: str) -> Finding:
    """Return a loss; names that a torn directory makes up may hold any character."""
    return Finding("lost", "".join(each if each.isprintable() and each != "\ufffd" else "?" for each in words))


def _allowed(step: Step, before: Contents, goal: Contents) -> dict[Outcome, Contents]:
    """Return what may be there when a step was interrupted."""
    allowed: dict[Outcome, Contents] = {"before": before, "after": goal}
    if step.verb in ("write", "append") and step.name not in before:
        allowed["between"] = {**before, step.name: b""}
    return allowed


def _step(step: Step | str) -> Step:
    return step if isinstance(step, Step) else Step.parse(step)
