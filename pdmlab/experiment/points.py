"""The points of a sweep: every combination of the factors, each as often as it is repeated, in one fixed order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pdmlab import frames
from pdmlab.errors import BadMeasurement, ConfigError
from pdmlab.frames import ID_COLUMNS, Cell, Schema

RESERVED = (*(column.name for column in ID_COLUMNS), "repeat")
"""Columns that a sweep fills in itself."""


class Task(NamedTuple):
    """One measurement of one point; `place` is its number in the order of a sweep."""

    place: int
    point: dict[str, Cell]
    repeat: int


class Points:
    """The points of a sweep; they are made one by one, so that their number takes no memory.

    Raises:
        ConfigError: factors or repeats that nothing can be measured with.
    """

    def __init__(self, factors: Mapping[str, Iterable[Cell]], repeats: int) -> None:
        if not isinstance(repeats, int) or repeats < 1:
            raise ConfigError(f"repeats is {repeats!r}", hint="every point is measured once or more")
        self.factors = _checked(factors)
        self.repeats = repeats

    def __len__(self) -> int:
        return math.prod(map(len, self.factors.values())) * self.repeats

    def __iter__(self) -> Iterator[Task]:
        place = 0
        for values in itertools.product(*self.factors.values()):
            for repeat in range(self.repeats):
                yield Task(place, dict(zip(self.factors, values, strict=True)), repeat)
                place += 1


def _checked(factors: Mapping[str, Iterable[Cell]]) -> dict[str, list[Cell]]:
    """Return the factors as lists of plain values, if there is something to measure."""
    chosen: dict[str, list[Cell]] = {}
    for name, values in factors.items():
        if name in RESERVED:
            raise ConfigError(f"a factor cannot be called {name!r}", hint=f"a sweep fills in {', '.join(RESERVED)}")
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise ConfigError(f"the factor {name} is {values!r}", hint=f'give a list of values: {{"{name}": [...]}}')
        chosen[name] = [frames.plain(value) for value in values]
        try:
            Schema.from_rows([name], *({name: value} for value in chosen[name] or [None]))
        except BadMeasurement as error:
            raise ConfigError(f"the factors do not go together: {error.message}") from None
        if len(set(chosen[name])) < len(chosen[name]):
            raise ConfigError(f"the factor {name} has a value twice: {chosen[name]}", hint="sweep(..., repeats=2)")
    if not chosen or not all(chosen.values()):
        raise ConfigError("a sweep needs at least one factor with one value", hint='such as {"buffer_B": [64, 1024]}')
    return chosen
