"""Media whose programs and erases are noted, and whose supply fails in any of them, at any share of it.

A cut is the number of an operation and how much of it had happened:

    20        half of it, as a cut that nobody timed
    20.25     that share of its bytes, the first ones (.001 to .999)
    20b       nothing of it (before)
    20a       all of it, but the call had not returned (after)
    20x7      bits at random, drawn by 7: of an erase anywhere in it, of a program in one of its units
    20o       all of it, and then the card is out, while the board has its power
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from pdmlab.clock import PowerLost
from pdmlab.errors import ConfigError
from pdmlab.storage.medium import Medium, MediumFault
from pdmlab.storage.powercuts.cuts import Cut as StoreCut
from pdmlab.storage.powercuts.cuts import half_done
from pdmlab.storage.powercuts.geometries import Geometry
from pdmlab.storage.powercuts.image import Operation

SMALL = 1 << 20
_CUT = re.compile(r"([1-9]\d{0,5})(?:(\.\d{1,3})|([bao])|x(\d{1,8}))?")


class Cut(NamedTuple):
    """One loss of power, or of a card: at which operation (from 1), of what kind (p, b, a, x or o), and its number.

    p: the share of the operation's bytes, in thousandths. x: the seed.
    """

    operation: int
    kind: str = "p"
    number: int = 500

    def __str__(self) -> str:
        if self.kind == "p":
            share = f".{self.number:03}".rstrip("0")
            return str(self.operation) if share == ".5" else f"{self.operation}{share}"
        return f"{self.operation}{self.kind}{self.number if self.kind == 'x' else ''}"


def parse_cut(text: str) -> Cut:
    """Read a cut.

    Raises:
        ConfigError: it is none.
    """
    match = _CUT.fullmatch(text)
    if match is None or (match[2] and not match[2].strip(".0")):
        raise ConfigError(f"{text[:20]!r} is no cut", hint="such as 20, 20.25, 20b, 20a, 20x7 or 20o")
    if match[2]:
        return Cut(int(match[1]), "p", int(match[2][1:].ljust(3, "0")))
    if match[4] is not None:
        return Cut(int(match[1]), "x", int(match[4]))
    return Cut(int(match[1]), match[3], 0) if match[3] else Cut(int(match[1]))


class Done(NamedTuple):
    """One program or erase: of which medium, where, what lay there before and after, and the console's last line."""

    medium: TracedMedium
    kind: str
    offset: int
    old: bytes
    new: bytes
    said: str

    @property
    def words(self) -> str:
        """The operation as a sentence has it."""
        return f"{self.kind} {self.medium.name}"

    def left_by(self, cut: Cut) -> bytes:
        """Return what lies there when the power is lost in it."""
        if cut.kind == "b":
            return self.old
        if cut.kind in "ao" or self.old == self.new:
            return self.new
        if cut.kind == "p":
            reached = len(self.new) * cut.number // 1000
            return self.new[:reached] + self.old[reached:]
        operation = Operation(self.kind, self.offset, self.old, self.new)
        return half_done(operation, StoreCut(1, "x", cut.number), self.medium.units)


def _no_card() -> None:
    """Nothing can be taken out."""


@dataclass
class Trace:
    """Every program and erase of a board's media, in order; cut: where the supply fails, once, and then None.

    said: the console's last line, which each operation is noted with. pull: takes the card out.
    """

    done: list[Done] = field(default_factory=list)
    cut: Cut | None = None
    said: str = ""
    pull: Callable[[], object] = _no_card

    def write(self, medium: TracedMedium, kind: str, offset: int, new: bytes) -> None:
        """Do one operation and note it; or lose power in it.

        Raises:
            PowerLost: the supply failed.
        """
        done = Done(medium, kind, offset, medium.peek(offset, len(new)), new, self.said)
        self.done.append(done)
        if self.cut is None or len(self.done) != self.cut.operation:
            medium.poke(offset, new)
            return
        cut, self.cut = self.cut, None
        if cut.kind == "o":
            medium.poke(offset, new)
            self.pull()
            return
        medium.poke(offset, done.left_by(cut))
        raise PowerLost

    def change(self, medium: TracedMedium, offset: int, new: bytes) -> None:
        """Put bytes there as people and age do: to be undone like an operation, and none that could be cut."""
        self.done.append(Done(medium, "change", offset, medium.peek(offset, len(new)), new, ""))
        medium.poke(offset, new)

    def take(self) -> list[Done]:
        """Return what was done since the last take, and forget it."""
        done, self.done = self.done, []
        return done

    def undo(self) -> None:
        """Take back everything that was done since the last take."""
        for each in reversed(self.take()):
            each.medium.poke(each.offset, each.old)


class TracedMedium(Medium):
    """A medium in memory that tells a trace of its operations.

    program: its program unit (B), in which a torn one has random bits. refusals: how many programs from refuse_from to
    refuse_end it still refuses, as worn cells do.
    """

    def __init__(self, size: int, *, trace: Trace, name: str, program: int, card: bool = False) -> None:
        super().__init__(size, erase_value=0 if card else 0xFF, name=name)
        # A small one lies in a piece: it is read and put back far more often than a board's.
        self._small = bytearray(self._erased(size)) if size <= SMALL else None
        self.trace = trace
        self.units = Geometry(name, 1, program, program, program, -1 if card else 0xFF)
        self.refusals = self.refuse_from = 0
        self.refuse_end = size

    def peek(self, offset: int, size: int) -> bytes:
        """Return what lies there."""
        if self._small is None or offset < 0 or offset + size > self.size:
            return super().peek(offset, size)
        return bytes(self._small[offset : offset + size])

    def poke(self, offset: int, data: bytes) -> None:
        """Put data there."""
        if self._small is None or offset < 0 or offset + len(data) > self.size:
            super().poke(offset, data)
        else:
            self._small[offset : offset + len(data)] = data

    def read(self, offset: int, size: int) -> bytes:
        """Return what lies there, to the running driver.

        Raises:
            MediumFault: not seated.
        """
        return self.peek(offset, size) if self.sound else super().read(offset, size)

    def program(self, offset: int, data: bytes) -> None:
        """Program data: NOR flash keeps the bits that are already 0.

        Raises:
            MediumFault: not seated, or program error.
        """
        if not self.sound:
            self._begin_write(offset)
        if self.refusals and self.refuse_from <= offset < self.refuse_end:
            self.refusals -= 1
            raise MediumFault("program error", offset)
        self.trace.write(self, "program", offset, self.over(offset, bytes(data)))

    def erase(self, offset: int, size: int) -> None:
        """Erase a block.

        Raises:
            MediumFault: not seated.
        """
        if not self.sound:
            self._begin_write(offset)
        self.trace.write(self, "erase", offset, self._erased(size))
