"""The points of a sweep: every combination of the factors, each as often as it is repeated, in one fixed order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from pdmlab import frames
from pdmlab.errors import BadMeasurement, ConfigError
from pdmlab.frames import ID_COLUMNS, Cell, Schema
from pdmlab.storage.parts import Part

Factors: TypeAlias = Mapping[str, Iterable[Cell | Part]]
"""Name -> values; a Part of one's own stands in rows by its name."""
RESERVED = (*(column.name for column in ID_COLUMNS), "repeat")
"""Columns that a sweep fills in itself."""


class Task(NamedTuple):
    """One measurement of one point; `place` is its number in the order of a sweep."""

    place: int
    point: dict[str, Cell]
    repeat: int


class Points:
    """The points of a sweep; they are made one by one, so that their number takes no memory.

    factors: name -> cells; parts: the Part objects among them, factor -> name -> Part.

    Raises:
        ConfigError: factors or repeats that nothing can be measured with.
    """

    def __init__(self, factors: Factors, repeats: int) -> None:
        if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
            raise ConfigError(f"repeats is {repeats!r}", hint="every point is measured once or more")
        self.parts: dict[str, dict[str, Part]] = {}
        self.factors = _checked(factors, self.parts)
        self.repeats = repeats

    def __len__(self) -> int:
        return math.prod(map(len, self.factors.values())) * self.repeats

    def __iter__(self) -> Iterator[Task]:
        place = 0
        for values in itertools.product(*self.factors.values()):
            for repeat in range(self.repeats):
                yield Task(place, dict(zip(self.factors, values, strict=True)), repeat)
                place += 1


def _checked(factors: Factors, parts: dict[str, dict[str, Part]]) -> dict[str, list[Cell]]:
    """Return the factors as lists of plain values, if there is something to measure; parts takes what is one."""
    chosen: dict[str, list[Cell]] = {}
    for name, values in factors.items():
        if name in RESERVED:
            raise ConfigError(f"a factor cannot be called {name!r}", hint=f"a sweep fills in {', '.join(RESERVED)}")
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise ConfigError(f"the factor {name} is {values!r}", hint=f'give a list of values: {{"{name}": [...]}}')
        given = list(values)
        own = {value.name: value for value in given if isinstance(value, Part)}
        if own:
            parts[name] = own
        chosen[name] = [value.name if isinstance(value, Part) else frames.plain(value) for value in given]
        try:
            Schema.from_rows([name], *({name: value} for value in chosen[name] or [None]))
        except BadMeasurement as error:
            raise ConfigError(f"the factors do not go together: {error.message}") from None
        if len(set(chosen[name])) < len(chosen[name]):
            raise ConfigError(
                f"the factor {name} has a value twice: {chosen[name]}",
                hint='rows tell parts apart by name: part.with_(name="...")' if own else "sweep(..., repeats=2)",
            )
    if not chosen or not all(chosen.values()):
        raise ConfigError("a sweep needs at least one factor with one value", hint='such as {"buffer_B": [64, 1024]}')
    return chosen
