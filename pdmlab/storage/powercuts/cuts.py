"""Where and how the power goes: `212b` before the 212th operation, `212p40` when 40 B of it had reached the medium.

b   before: the operation did not happen
p40 prefix: its first 40 B reached the medium
x7  between, drawn from the seed 7. An erase, or one unit of a program on NOR flash: some bits have changed and others
    have not. One unit of a program on a card: garbage. The units before it are whole, those behind it as they were
r7  reordered: of the programs since the last sync, this one included, a subset drawn from the seed 7 reached the medium
a   after: it happened, but the call that made it had not returned

A second cut, in the recovery from the first, follows a plus: `212p40+3b`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from pdmlab.errors import ConfigError
from pdmlab.prng import SplitMix64
from pdmlab.storage.powercuts.geometries import Geometry
from pdmlab.storage.powercuts.image import Image, Operation

KINDS = {"b": "before", "p": "prefix", "x": "between", "r": "reordered", "a": "after"}
TORN = frozenset("px")
_CUT = re.compile(r"(\d{1,9})([bpxra])(\d{0,9})")


class Cut(NamedTuple):
    """One loss of power: at which operation (from 1), of what kind, and that kind's number."""

    operation: int
    kind: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.operation}{self.kind}{self.number if self.kind in 'pxr' else ''}"


def as_code(text: object) -> str:
    """Return a code without the spaces around it.

    Raises:
        ConfigError: it is no text.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{text!r} is no code of a cut", hint="such as report.losses[0].code, or 212p40")
    return text.strip()


def parse(text: str) -> list[Cut]:
    """Return the cuts of a code such as 212p40+3b.

    Raises:
        ConfigError: it is none.
    """
    cuts = []
    for part in text.strip().split("+"):
        match = _CUT.fullmatch(part.strip())
        if match is None or (match[2] in "pxr") != bool(match[3]) or match[1].strip("0") == "":
            raise ConfigError(
                f"{part!r} is no cut",
                hint="an operation's number and b, p40, x7, r7 or a: such as 212p40, or 212p40+3b for two cuts",
            )
        cuts.append(Cut(int(match[1]), match[2], int(match[3] or 0)))
    if len(cuts) > 2:
        raise ConfigError(f"{text!r} has {len(cuts)} cuts", hint="one, and one in the recovery from it")
    return cuts


def require_possible(cut: Cut, operation: Operation, geometry: Geometry) -> None:
    """Refuse a cut that its operation, or the medium, cannot have.

    Raises:
        ConfigError: a prefix longer than the operation, or programs held back where there is no cache.
    """
    size = len(operation.new)
    if cut.kind == "p" and cut.number > size:
        raise ConfigError(f"{cut}: operation {cut.operation} has {size} B", hint=f"p1 to p{size}")
    if cut.kind == "r" and not geometry.cache:
        raise ConfigError(
            f"{cut}: geometry {geometry.name} holds no programs back", hint="b, p40, x7 or a; r is for a cache's"
        )


def half_done(operation: Operation, cut: Cut, geometry: Geometry) -> bytes:
    """Return what a torn operation leaves where it worked."""
    old, new = operation.old, operation.new
    if cut.kind == "p":
        at = min(cut.number, len(new))
        return new[:at] + old[at:]
    if operation.kind == "erase":
        return _between(old, new, cut.number)
    start = SplitMix64(cut.number).below(len(new) // geometry.program) * geometry.program
    end = start + geometry.program
    if geometry.overwrites:
        torn = _stream(cut.number, end - start)
    else:
        torn = _between(old[start:end], new[start:end], cut.number)
    return new[:start] + torn + old[end:]


def _between(old: bytes, new: bytes, seed: int) -> bytes:
    before, after = int.from_bytes(old, "little"), int.from_bytes(new, "little")
    changed = (before ^ after) & int.from_bytes(_stream(seed, len(old)), "little")
    return (before ^ changed).to_bytes(len(old), "little")


def _stream(seed: int, size: int) -> bytes:
    """Return bits that do not hang on a library's generator, in one call for a whole sector."""
    return hashlib.shake_128(seed.to_bytes(8, "little")).digest(size)


def reordered(pending: Sequence[Operation], seed: int) -> list[Operation]:
    """Return the operations of a volatile cache that reached the medium: a subset, in their order."""
    random = SplitMix64(seed)
    return [operation for operation in pending if random.below(2)]


def apply(image: Image, operations: Sequence[Operation], held_back: int, cut: Cut) -> list[tuple[int, bytes]]:
    """Put the medium into the state of the cut, where all operations before it are done; return what undoes that.

    held_back: index of the first operation that a volatile cache may still hold.
    """
    index = cut.operation - 1
    operation = operations[index]
    if cut.kind == "r":
        pending = operations[held_back:index]
        for each in reversed(pending):
            image.put(each.address, each.old)
        for each in reordered([*pending, operation], cut.number):
            image.put(each.address, each.new)
        return [*((each.address, each.new) for each in pending), (operation.address, operation.old)]
    if cut.kind == "b":
        return []
    left = operation.new if cut.kind == "a" else half_done(operation, cut, image.geometry)
    image.put(operation.address, left)
    return [(operation.address, operation.old)]


def undo(image: Image, what: list[tuple[int, bytes]]) -> None:
    """Take back what `apply` did."""
    for address, data in what:
        image.put(address, data)


def torn_variants(operation: Operation, geometry: Geometry, how_many: int, random: SplitMix64) -> list[tuple[str, int]]:
    """Return torn cuts of an operation, as (kind, number): so many prefixes, and so many with a unit in between."""
    if not how_many or operation.old == operation.new:
        return []
    size = len(operation.new)
    variants = [("p", 1 + random.below(size - 1)) for _ in range(how_many)] if size > 1 else []
    variants += [("x", random.below(1 << 24)) for _ in range(how_many)]
    return variants
