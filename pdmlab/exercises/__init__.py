"""Exercises that check themselves: `check("01.1", answer)` says right or wrong, `hint("01.1")` helps.

Each participant has their own seed (the setting: PDMLAB_SEED=7), so answers cannot be copied, only reasoned. A notebook
registers an exercise with what judges an answer: a function of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape

from pdmlab.errors import ConfigError

Judge = Callable[[object], bool | str]
"""Takes the answer; returns True, or False, or what is wrong with it in words."""


@dataclass(frozen=True)
class Verdict:
    """What a check found; true in a condition if the answer was right."""

    exercise: str
    right: bool
    words: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{self.exercise}: {'right' if self.right else 'not yet'}. {self.words}".rstrip()

    def _repr_html_(self) -> str:
        colour, sign = ("#00694d", "✔") if self.right else ("#a84a00", "✘")
        return f"<b style='color:{colour}'>{sign} {escape(repr(self))}</b>"


@dataclass
class Exercise:
    """A question with a checkable answer."""

    name: str
    question: str
    judge: Judge
    hints: tuple[str, ...] = ()
    asked: int = field(default=0, repr=False)

    def _repr_html_(self) -> str:
        return (
            f"<b>Exercise {escape(self.name)}</b> {escape(self.question)}<br>"
            f"<code>check({self.name!r}, your_answer)</code>, and <code>hint({self.name!r})</code> if you want one"
        )


_exercises: dict[str, Exercise] = {}


def exercise(name: str, question: str, judge: Judge, *hints: str) -> Exercise:
    """Pose an exercise; posing it again (re-running the cell) replaces it."""
    _exercises[name] = Exercise(name, question, judge, hints)
    return _exercises[name]


def check(name: str, answer: object) -> Verdict:
    """Say whether the answer to an exercise is right.

    Raises:
        ConfigError: no such exercise has been posed.
    """
    found = _find(name)
    try:
        verdict = found.judge(answer)
    except (TypeError, ValueError, LookupError) as error:
        return Verdict(name, False, f"the answer {answer!r} cannot be judged: {error}")
    if not isinstance(verdict, str) and verdict:  # numpy's true is not True
        return Verdict(name, True, "")
    more = f" hint({name!r}) helps." if found.hints else ""
    return Verdict(name, False, (verdict if isinstance(verdict, str) else "Look again.") + more)


def hint(name: str) -> str:
    """Return the exercise's next hint; after the last, the last again."""
    found = _find(name)
    if not found.hints:
        return "There is no hint for this one."
    found.asked += 1
    return found.hints[min(found.asked, len(found.hints)) - 1]


def _find(name: str) -> Exercise:
    try:
        return _exercises[name]
    except KeyError:
        posed = ", ".join(sorted(_exercises)) or "none yet"
        raise ConfigError(
            f"there is no exercise {name!r}", hint=f"run the cell that poses it; posed: {posed}"
        ) from None
