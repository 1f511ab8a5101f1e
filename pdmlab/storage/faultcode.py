"""The codes that replay faults: `seed:17,bad:7=progerror,+20:pull!,+40:seat`.

Items are separated by commas. `+n:` says after how many operations of the medium, counted from the first item, an
item takes effect; without it, at once. The seed decides what a fault leaves to chance; without it, it is 0.

    bad:7=progerror       erase block 7 fails so: progerror, eraseerror, readerror, prognoop, erasenoop
    worn:0x400            the erase block at 0x400 takes no more programs and erases
    endurance:1000~20=progerror     each block fails so after 1000 erases (a card's: programs), 20 % more or less
    flip:3@0x1200+512     3 bits of the 512 B at 0x1200 have changed
    reads:100000          one bit in 100,000 B that are read is wrong, once
    lock, unlock          programs and erases are refused, or taken again
    pull, seat            the card leaves its holder between two operations, or comes back
    pull!                 it leaves its holder in the middle of an operation
    busy, busy:700ms, ready         it stays busy, for good or for a time; it is ready again
    silent, answering     it does not answer at all; it answers again
    torn                  of the last unsynced program, a part survives a cut of the power
    reorder:32            of the last 32 unsynced programs and erases, some survive it, in any order
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from pdmlab.errors import ConfigError

BlockFault = Literal["progerror", "eraseerror", "readerror", "prognoop", "erasenoop"]
"""How a block fails, in the words of littlefs's emulated block device: a program, erase or read that is refused,
or a program or erase that does nothing and says nothing."""
BLOCK_FAULTS: tuple[BlockFault, ...] = get_args(BlockFault)

_N = r"(0x[0-9a-f]+|\d+)"
_KIND = f"({'|'.join(BLOCK_FAULTS)})"
_ITEMS = {
    "bad": rf"{_N}={_KIND}",
    "worn": _N,
    "endurance": rf"{_N}~{_N}={_KIND}",
    "flip": rf"{_N}@{_N}\+{_N}",
    "reads": _N,
    "busy": r"(?:(\d+)(ns|us|ms|s))?",
    "reorder": _N,
} | dict.fromkeys(("lock", "unlock", "pull", "seat", "ready", "silent", "answering", "torn"), "")
UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Of times (ns)."""


@dataclass(frozen=True)
class Item:
    """One fault of a code: its word, its numbers in order (times in ns), and the kind of a block's fault."""

    text: str
    word: str
    numbers: tuple[int, ...] = ()
    kind: BlockFault = "progerror"
    after: int = 0
    """Operations between the first item and this one."""

    def __str__(self) -> str:
        return f"+{self.after}:{self.text}" if self.after else self.text


def parse_item(text: str, after: int = 0) -> Item:
    """Read one item, without its `+n:`.

    Raises:
        ConfigError: it is none.
    """
    word, _, argument = text.partition(":")
    if text == "pull!":
        return Item(text, "pull", after=after)
    match = re.fullmatch(_ITEMS[word], argument) if word in _ITEMS else None
    if match is None or (not argument and ":" in text):
        raise ConfigError(f"{text!r} is no fault of a medium", hint="pdmlab/storage/faultcode.py lists the codes")
    groups = [group for group in match.groups() if group is not None]
    if word == "busy":
        return Item(text, word, (int(groups[0]) * UNITS[groups[1]],) if groups else (), after=after)
    kinds = [kind for kind in BLOCK_FAULTS if kind in groups]
    numbers = tuple(int(group, 0) for group in groups if group not in BLOCK_FAULTS)
    return Item(text, word, numbers, kinds[0] if kinds else "progerror", after)


def parse_code(code: str) -> tuple[int, list[Item]]:
    """Return the seed and the items of a code.

    Raises:
        ConfigError: it is no text, or has an item that is none.
    """
    if not isinstance(code, str):
        raise ConfigError(f"{code!r} is no code of faults", hint="text, such as 'seed:17,bad:7=progerror'")
    seed, items = 0, []
    for number, text in enumerate(part.strip() for part in code.split(",") if part.strip()):
        if number == 0 and (first := re.fullmatch(rf"seed:{_N}", text)):
            seed = int(first[1], 0)
            continue
        later = re.fullmatch(r"\+(\d+):(.+)", text)
        items.append(parse_item(later[2], int(later[1])) if later else parse_item(text))
    return seed, items


def format_code(seed: int, items: list[Item]) -> str:
    """Return the code of these items; empty if there are none."""
    return ",".join([*([f"seed:{seed}"] if seed else []), *map(str, items)]) if items else ""


def span(ns: int) -> str:
    """Write a time in the largest unit that it is whole in."""
    return next(f"{ns // unit}{name}" for name, unit in UNITS.items() if not ns % unit)
