"""The steps of a story: durable operations on a file system or a key-value store, and what must be there after each.

>>> Step.parse("write /log 300")
Step('write /log 300')
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pdmlab.errors import ConfigError

Contents: TypeAlias = dict[str, bytes | None]
"""What a store holds: name -> bytes; a directory is None."""

FILE_VERBS = {"mkdir": 1, "write": 2, "append": 2, "rename": 2, "remove": 1}
STORE_VERBS = {"set": 2, "once": 2, "remove": 1}
FILE_NAMES, NUMBERS, KEYS = r"(/[^/\s]+)+", r"1?\d", r"[\w.-]+"
"""How things are called in a file system, in NVStore, and in a store of named values."""
_SIZED = frozenset(("write", "append", "set", "once"))
FORMS = "mkdir /d, write /f 300, append /f 100, rename /f /g, remove /f; set 3 40, once 4 16, remove 3"
MOST_BYTES = 1 << 20


@dataclass(frozen=True, repr=False)
class Step:
    """One durable operation: when it has returned, what it did must outlast any cut.

    size: how much it writes (B); the bytes follow from the step's place in its story.
    to: the new name, of a rename.
    """

    verb: str
    name: str
    size: int = 0
    to: str = ""

    @classmethod
    def parse(cls, text: str) -> Step:
        """Read a step as str() writes it.

        Raises:
            ConfigError: it is none.
        """
        verb, *rest = str(text).split()
        places = FILE_VERBS.get(verb, STORE_VERBS.get(verb))
        if places is None or len(rest) != places:
            raise ConfigError(f"{text!r} is no step", hint=f"such as {FORMS}")
        if verb not in _SIZED:
            return cls(verb, rest[0], to=rest[1] if verb == "rename" else "")
        if not rest[1].isdigit() or int(rest[1]) > MOST_BYTES:
            raise ConfigError(f"{text!r}: {rest[1]!r} is no size", hint=f"0 to {MOST_BYTES} B")
        return cls(verb, rest[0], int(rest[1]))

    def data(self, salt: str) -> bytes:
        """Return the bytes that it writes; `salt` is its story and its place there."""
        return hashlib.shake_128(f"{salt}{self}".encode()).digest(self.size)

    def __str__(self) -> str:
        more = f" {self.size}" if self.verb in _SIZED else f" {self.to}" if self.to else ""
        return f"{self.verb} {self.name}{more}"

    def __repr__(self) -> str:
        return f"Step({str(self)!r})"


def after(before: Mapping[str, bytes | None], step: Step, data: bytes) -> Contents:
    """Return what must be there when a step has returned.

    Raises:
        ConfigError: the step cannot be taken there, such as a rename of what is not there.
    """
    there = dict(before)
    _require(there, step)
    if step.verb == "mkdir":
        there[step.name] = None
    elif step.verb in ("write", "set", "once"):
        there[step.name] = data
    elif step.verb == "append":
        there[step.name] = (there.get(step.name) or b"") + data
    elif step.verb == "remove":
        del there[step.name]
    else:
        moved = {name: value for name, value in there.items() if name == step.name or _inside(name, step.name)}
        for name in moved:
            del there[name]
        there |= {step.to + name[len(step.name) :]: value for name, value in moved.items()}
    return there


def _require(there: Contents, step: Step) -> None:
    """Refuse what the step's store would refuse: a story of refusals tests nothing."""
    name = step.name
    wrong = ""
    if step.verb in ("remove", "rename") and name not in there:
        wrong = f"there is no {name}"
    elif step.verb == "mkdir" and name in there:
        wrong = f"{name} is there already"
    elif step.verb in ("write", "append") and name in there and there[name] is None:
        wrong = f"{name} is a directory"
    elif step.verb == "remove" and any(_inside(each, name) for each in there):
        wrong = f"{name} is not empty"
    else:
        for each in (name, step.to) if step.to else (name,):
            parent = each.rpartition("/")[0]
            if each.startswith("/") and parent and there.get(parent, b"") is not None:
                wrong = f"there is no directory {parent}"
    if wrong:
        raise ConfigError(f"the step '{step}' cannot be taken: {wrong}", hint=f"steps are such as {FORMS}")


def _inside(name: str, directory: str) -> bool:
    return name.startswith(f"{directory}/")


def all_contents(before: Contents, steps: Sequence[Step], datas: Sequence[bytes]) -> list[Contents]:
    """Return what must be there before the first step and after each."""
    every = [before]
    for step, data in zip(steps, datas, strict=True):
        every.append(after(every[-1], step, data))
    return every


def difference(found: Contents, allowed: Sequence[Contents], step: Step) -> str:
    """Return in words what is wrong with what was found, held against the nearest of what is allowed."""
    nearest = min(allowed, key=lambda each: len(_differing(found, each)))
    names = _differing(found, nearest)
    touched = {step.name, step.to}
    others = [name for name in names if name not in touched and not _inside(name, step.name)]
    name = (others or names)[0]
    words = _one_difference(name, found, allowed)
    if len(names) > 1:
        words += f" (and {len(names) - 1} more)"
    return f"of an earlier operation: {words}" if others else f"of the interrupted operation: {words}"


def _differing(a: Contents, b: Contents) -> list[str]:
    missing = object()
    return sorted(name for name in a.keys() | b.keys() if a.get(name, missing) != b.get(name, missing))


def _one_difference(name: str, found: Contents, allowed: Sequence[Contents]) -> str:
    versions = [each[name] for each in allowed if name in each]
    if name not in found:
        return f"{name} is gone"
    if not versions:
        return f"{name} is there, which never was"
    here = found[name]
    if here is None:
        return f"{name} is a directory"
    wanted = [version for version in versions if version is not None]
    if not wanted:
        return f"{name} is a file"
    if here in wanted:
        return f"{name} is of another moment than the rest: the operation is half there"
    sizes = " or ".join(dict.fromkeys(str(len(version)) for version in wanted))
    if len(here) not in {len(version) for version in wanted}:
        return f"{name} has {len(here)} B, not {sizes}"
    same = next(version for version in wanted if len(version) == len(here))
    at = next(index for index, pair in enumerate(zip(here, same, strict=True)) if pair[0] != pair[1])
    return f"{name} has its {sizes} B, but others from byte {at} on"
