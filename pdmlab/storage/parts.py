"""Storage parts by name: their geometry and timing, each figure with its source."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from pdmlab.errors import ConfigError

Kind = Literal["sd", "nor", "internal"]


@dataclass(frozen=True)
class Part:
    """A row of parts.toml: sizes in B, times in ns, clocks in Hz."""

    name: str
    kind: Kind
    figures: dict[str, int]
    sources: dict[str, str]

    def __getitem__(self, figure: str) -> int:
        return self.figures[figure]

    @property
    def unsourced(self) -> list[str]:
        """The figures that are estimates."""
        return [figure for figure, source in self.sources.items() if not source]

    def __repr__(self) -> str:
        return f"<part {self.name}, {len(self.unsourced)} of {len(self.figures)} figures estimated>"


@cache
def parts() -> dict[str, Part]:
    """Return every part that pdmlab knows."""
    rows = tomllib.loads((files(__package__) / "parts.toml").read_text(encoding="utf-8"))
    found: dict[str, Part] = {}
    for name, row in rows.items():
        kind: Kind = row.pop("kind")
        figures = {figure: int(entry["value"]) for figure, entry in row.items()}
        sources = {figure: str(entry["source"]) for figure, entry in row.items()}
        found[name] = Part(name, kind, figures, sources)
    return found


def part(name: str, kind: Kind) -> Part:
    """Return the part of that name for a driver of that kind.

    Raises:
        ConfigError: there is none.
    """
    row = parts().get(name)
    if row is None or row.kind != kind:
        names = ", ".join(known.name for known in parts().values() if known.kind == kind)
        raise ConfigError(f"no {kind} part {name!r} in parts.toml", hint=f"there are: {names}")
    return row
