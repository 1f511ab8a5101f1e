"""Steps drawn by a seed: for file systems with directories and renames, and for key-value stores."""

from __future__ import annotations

from collections.abc import Sequence

from pdmlab.errors import ConfigError
from pdmlab.prng import SplitMix64
from pdmlab.storage.powercuts.steps import Step

_MOST_FILES = 8
_SIZES = (20, 60, 300, 900, 2500)
_EARLY = (1, 3)  # steps that make directories, so that every story has some
_DIRECTORIES = ("/log", "/config", "/log/old", "/config/net", "/update")


class _Tree:
    """What is there while steps are drawn: file -> size (B), directories, and how many units they take."""

    def __init__(self, room: int, unit: int, overhead: int) -> None:
        self.files: dict[str, int] = {}
        self.directories = [""]
        self._room, self._unit, self.overhead = room, unit, overhead

    def fits(self, more: int) -> bool:
        sizes = [*self.files.values(), more]
        units = sum(-(-size // self._unit) + 1 for size in sizes) * self._unit
        return units + len(self.directories) * self.overhead <= self._room

    def move(self, old: str, new: str) -> None:
        self.files = {new + name[len(old) :] if _within(name, old) else name: size for name, size in self.files.items()}
        self.directories = [new + name[len(old) :] if _within(name, old) else name for name in self.directories]


def _within(name: str, directory: str) -> bool:
    return name == directory or name.startswith(f"{directory}/")


def files(seed: int, length: int, *, room: int, unit: int, overhead: int, replacing: bool = True) -> list[Step]:
    """Draw steps on files and directories that take at most `room` B, in units of `unit` B.

    replacing: whether a rename may go onto a file that is there, which FAT refuses.
    """
    random = SplitMix64(seed).split("files")
    tree = _Tree(room, unit, overhead)
    steps: list[Step] = []
    for _ in range(100 * length):
        step = _file_step(random, tree, len(steps), replacing)
        if step is not None:
            steps.append(step)
        if len(steps) == length:
            return steps
    raise ConfigError(
        f"a medium of this size has no room for a story of {length} steps",
        hint="a larger size, less length, or steps of your own",
    )


def _file_step(random: SplitMix64, tree: _Tree, number: int, replacing: bool) -> Step | None:
    draw = random.below(100)
    names = sorted(tree.files)
    if (
        (draw < 16 or number in _EARLY)
        and len(tree.directories) <= len(_DIRECTORIES)
        and tree.fits(_SIZES[-1] + tree.overhead)
    ):
        name = _DIRECTORIES[random.below(len(_DIRECTORIES))]
        if name in tree.directories or name.rpartition("/")[0] not in tree.directories:
            return None
        tree.directories.append(name)
        return Step("mkdir", name)
    size = _SIZES[random.below(len(_SIZES))]
    if draw < 40 or not names:
        name = f"{tree.directories[random.below(len(tree.directories))]}/f{number}"
        if len(names) >= _MOST_FILES or not tree.fits(size):
            return None if not names else _removed(random, tree, names)
        tree.files[name] = size
        return Step("write", name, size)
    name = names[random.below(len(names))]
    if draw < 56 and tree.fits(size):
        tree.files[name] = size
        return Step("write", name, size)
    if draw < 72 and tree.fits(tree.files[name] + size):
        tree.files[name] += size
        return Step("append", name, size)
    if draw < 90:
        return _renamed(random, tree, names, name, number, replacing)
    return _removed(random, tree, names)


def _renamed(random: SplitMix64, tree: _Tree, names: list[str], name: str, number: int, replacing: bool) -> Step | None:
    to = f"{tree.directories[random.below(len(tree.directories))]}/r{number}"
    below = [each for each in tree.directories if each.count("/") == 1]
    draw = random.below(6)
    if draw == 0 and below:
        name = below[random.below(len(below))]
        to = f"/d{number}"
    elif draw < 3 and replacing and len(names) > 1:
        to = names[random.below(len(names))]
        if to == name:
            return None
        del tree.files[to]
    tree.move(name, to)
    return Step("rename", name, to=to)


def _removed(random: SplitMix64, tree: _Tree, names: list[str]) -> Step:
    name = names[random.below(len(names))]
    del tree.files[name]
    return Step("remove", name)


def records(seed: int, length: int, keys: Sequence[str], *, largest: int) -> list[Step]:
    """Draw sets and removes of keys, with values of 1 B to `largest`; two keys are set once, one of them late."""
    random = SplitMix64(seed).split("records")
    there: set[str] = set()
    steps = [Step("once", keys[-1], 16)]
    while len(steps) < length:
        key = keys[random.below(len(keys) - 2)]
        if len(steps) == 2 * length // 3:
            steps.append(Step("once", keys[-2], largest))
        elif key in there and random.below(5) == 0:
            there.discard(key)
            steps.append(Step("remove", key))
        else:
            there.add(key)
            steps.append(Step("set", key, 1 + random.below(largest)))
    return steps


def sealed(seed: int, length: int, names: Sequence[str], *, largest: int) -> list[Step]:
    """Draw sets of names that are not there, and removes of those that are."""
    random = SplitMix64(seed).split("sealed")
    there: set[str] = set()
    steps = []
    for _ in range(length):
        name = names[random.below(len(names))]
        if name in there:
            there.discard(name)
            steps.append(Step("remove", name))
        else:
            there.add(name)
            steps.append(Step("set", name, 1 + random.below(largest)))
    return steps


def sotp(seed: int, length: int) -> list[Step]:
    """Draw what a client does with its SOTP: ROT and FACTORY_DONE, then SAVED_TIME, LAST_TIME_BACK, a version."""
    random = SplitMix64(seed).split("sotp")
    steps = [Step("set", "1", 48), Step("set", "4", 16), Step("set", "0", 1)]
    while len(steps) < length:
        key, size = (("2", 8), ("3", 8), ("8", 8), ("1", 48))[random.below(4)]
        steps.append(Step("set", key, size))
    return steps[:length]
