"""What a key may do over REST: the groups that it is in, and a table of which call wants which group."""

from __future__ import annotations

import enum
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

TABLE = Path(__file__).with_name("rights.toml")


class Rights(enum.IntEnum):
    """How much a key may do: each may do what those before it may."""

    NONE = 0
    """In none of the groups that give rights: it may ask who it is."""
    READ_ONLY = 1
    DEVELOPER = 2
    ADMINISTRATOR = 3
    SERVICE = 4
    """An administrator of the account that the service was made with, who sees to the other accounts."""


GROUPS = {
    Rights.ADMINISTRATOR: "Administrators",
    Rights.DEVELOPER: "Developers",
    Rights.READ_ONLY: "Readers",
}
"""The groups that every account has, and that give rights; groups that somebody makes are names for lists of keys."""

WANTS = {
    Rights.NONE: "any key",
    Rights.READ_ONLY: f"a key of the group {GROUPS[Rights.READ_ONLY]}, or of one that may do more",
    Rights.DEVELOPER: f"a key of the group {GROUPS[Rights.DEVELOPER]} or {GROUPS[Rights.ADMINISTRATOR]}",
    Rights.ADMINISTRATOR: f"a key of the group {GROUPS[Rights.ADMINISTRATOR]}",
    Rights.SERVICE: f"a key of the group {GROUPS[Rights.ADMINISTRATOR]} of the service's own account",
}
"""What a call wants, in words."""


def word(rights: Rights) -> str:
    """Return the word by which tables have a group's rights."""
    return rights.name.lower().replace("_", "-")


def most(words: Iterable[str | None]) -> Rights:
    """Return what a key may do that is in groups of these rights; None is a group that gives none."""
    return max((_WORDS[each] for each in words if each is not None), default=Rights.NONE)


_WORDS = {word(rights): rights for rights in Rights}


@dataclass(frozen=True)
class Call:
    """A row of the table: calls of these methods ("*" is any) to paths of a pattern want at least these rights."""

    method: str
    path: str
    least: Rights

    @property
    def pattern(self) -> re.Pattern[str]:
        """The paths, as a regular expression: * is one segment, ** is whatever follows."""
        inner = re.escape(self.path).replace(r"/\*\*", "(?:/.*)?").replace(r"\*", "[^/]+")
        return re.compile(inner, re.DOTALL)


@lru_cache(maxsize=1)
def table() -> tuple[Call, ...]:
    """Return the rows of rights.toml, in their order."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))["call"]
    return tuple(Call(method, path, _WORDS[least]) for method, path, least in rows)


@lru_cache(maxsize=1)
def _compiled() -> tuple[tuple[str, re.Pattern[str], Rights], ...]:
    return tuple((row.method, row.pattern, row.least) for row in table())


def least(method: str, path: str) -> Rights:
    """Return what a call wants at least: the first row that fits says it."""
    method = "GET" if method == "HEAD" else method
    for wanted, pattern, rights in _compiled():
        if wanted in ("*", method) and pattern.fullmatch(path):
            return rights
    return Rights.ADMINISTRATOR
