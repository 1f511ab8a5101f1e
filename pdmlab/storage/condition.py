"""The condition of a medium's part: what is broken on it now, and how it reads, programs and erases with that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.errors import ConfigError
from pdmlab.prng import SplitMix64
from pdmlab.storage.faultcode import BlockFault, Item, span
from pdmlab.storage.medium import FaultKind, MediumFault
from pdmlab.storage.unsynced import UnsyncedWrites

if TYPE_CHECKING:
    from pdmlab.storage.medium import Medium


class Condition:
    """What is broken now. A medium in less than perfect condition does its operations here.

    met: how many operations were refused or came out wrong for it.
    """

    def __init__(self) -> None:
        self._medium: Medium | None = None
        self.met = 0
        self.recover()

    def recover(self) -> None:
        """Have nothing broken any more."""
        self._bad: dict[int, set[BlockFault]] = {}
        self._worn: set[int] = set()
        self._worn_blocks: tuple[tuple[int, int], set[int]] = (0, 0), set()
        self._endurance: Item | None = None
        self._lives: dict[int, int] = {}
        self._sectors: dict[int, int] = {}
        self._flipped = 0
        self._read_gap = self._until_flip = 0
        self._busy_ns: int | None = 0
        self._busy_until: int | None = None
        self._silent = self._torn = self._reorder = False
        self._unsynced = UnsyncedWrites(0)
        self._reading = self._tearing = self._wearing = SplitMix64()
        if self._medium is not None:
            self._medium.seated, self._medium.write_protected = True, False

    @property
    def broken(self) -> list[str]:
        """What is broken now, a sentence each."""
        found = [f"block {block}: {kind}" for block, kinds in sorted(self._bad.items()) for kind in sorted(kinds)]
        found += [f"the block at 0x{address:x} is worn out" for address in sorted(self._worn)]
        if self._endurance is not None:
            cycles, spread = self._endurance.numbers
            found.append(f"blocks last {cycles} cycles +-{spread} %, then {self._endurance.kind}")
        if self._flipped:
            found.append(f"{self._flipped} bits flipped")
        if self._read_gap:
            found.append(f"a wrong bit in {self._read_gap} B read")
        if self._medium is not None and not self._medium.seated:
            found.append("the card is out")
        if self._medium is not None and self._medium.write_protected:
            found.append("locked: programs and erases are refused")
        if self._busy_ns != 0:
            found.append("busy until its power is cut" if self._busy_ns is None else f"busy for {span(self._busy_ns)}")
        if self._silent:
            found.append("it does not answer")
        if self._torn:
            found.append("a power cut may tear the last program")
        if self._reorder:
            found.append(f"a power cut may lose and reorder the last {self._unsynced.depth} unsynced writes")
        return found

    def happen(self, item: Item, random: SplitMix64) -> None:
        """Let an item of a code take effect; what it leaves to chance is drawn from random."""
        medium = self.medium
        if item.word == "bad":
            self._bad.setdefault(item.numbers[0], set()).add(item.kind)
        elif item.word == "worn":
            self._worn.add(item.numbers[0])
        elif item.word == "endurance":
            self._endurance, self._wearing, self._lives = item, random, {}
        elif item.word == "flip":
            self._flip(*item.numbers, random=random)
        elif item.word == "reads":
            (self._read_gap,), self._reading = item.numbers, random
            self._until_flip = self._next_gap()
        elif item.word in ("lock", "unlock"):
            medium.write_protected = item.word == "lock"
        elif item.word in ("pull", "seat"):
            medium.seated = item.word == "seat"
        elif item.word in ("busy", "ready"):
            self._busy_ns = (item.numbers[0] if item.numbers else None) if item.word == "busy" else 0
            self._busy_until = None
        elif item.word in ("silent", "answering"):
            self._silent = item.word == "silent"
        elif item.word == "torn":
            self._torn, self._tearing = True, random
            self._unsynced = UnsyncedWrites(max(self._unsynced.depth, 1))
        elif item.word == "reorder":
            self._reorder, self._tearing = True, random
            self._unsynced = UnsyncedWrites(item.numbers[0])

    # -- the medium's operations ---------------------------------------------------------------------

    def refuse(self, offset: int) -> None:
        """Refuse a command that the part does not even hear.

        Raises:
            MediumFault: not seated, no answer or stuck busy.
        """
        medium = self.medium
        if not medium.seated:
            raise self._meet("not seated", offset)
        if self._silent:
            raise self._meet("no answer", offset)
        if self._busy_ns is None:
            raise self._meet("stuck busy", offset)
        if self._busy_ns:
            now = medium.clock.now() if medium.clock is not None else 0
            if self._busy_until is None:
                self._busy_until = now + self._busy_ns
            left = self._busy_until - now
            if left <= 0 or medium.clock is None:  # without a clock, nobody could wait: it is busy once
                self._busy_ns = 0
            if left > 0:
                raise self._meet("stuck busy", offset, left)

    def read(self, offset: int, size: int) -> bytes:
        """Read through what is broken.

        Raises:
            MediumFault: read error.
        """
        medium = self.medium
        if self._bad or self._endurance is not None:
            for block in self._blocks(offset, size):
                if "readerror" in self._failing(block):
                    raise self._meet("read error", max(offset, block * medium.erase_block))
        data = medium.peek(offset, size)
        if not self._read_gap:
            return data
        changed = bytearray(data)
        self.met += self._until_flip < size
        while self._until_flip < size:
            changed[self._until_flip] ^= 1 << self._reading.below(8)
            self._until_flip += self._next_gap()
        self._until_flip -= size
        return bytes(changed)

    def program(self, offset: int, data: bytes) -> None:
        """Program through what is broken.

        Raises:
            MediumFault: program error or worn out.
        """
        self._refuse_write(offset, len(data), "progerror", "program error")
        if self._unsynced.depth:
            self._unsynced.note(self.medium, offset, len(data), data)
        for start, end in self._effective(offset, len(data), "prognoop"):
            self.medium.program_plainly(start, data[start - offset : end - offset])

    def erase(self, offset: int, size: int) -> None:
        """Erase through what is broken.

        Raises:
            MediumFault: erase error or worn out.
        """
        self._refuse_write(offset, size, "eraseerror", "erase error")
        if self._unsynced.depth:
            self._unsynced.note(self.medium, offset, size, None)
        if self._endurance is not None:  # where sectors differ, a large one is several blocks
            self._sectors.update((block, offset) for block in self._blocks(offset, size))
        for start, end in self._effective(offset, size, "erasenoop"):
            self.medium.erase_plainly(start, end - start)

    def torn_length(self, size: int) -> int:
        """Return how much of an operation (B) that is broken off takes effect: half, if torn by chance."""
        return self._tearing.below(size + 1) if self._torn else size // 2

    def keep_writes(self) -> None:
        """Keep everything written, whatever happens to the power."""
        self._unsynced.clear()

    def lose_writes(self) -> None:
        """Leave on the medium what a power cut leaves of the writes since the last sync."""
        self._unsynced.lose(self.medium, self._tearing, reorder=self._reorder, tear=self._torn)
        self._busy_ns = 0

    @property
    def medium(self) -> Medium:
        """The medium that is in this condition.

        Raises:
            ConfigError: none is yet.
        """
        if self._medium is None:
            raise ConfigError("these faults belong to no medium yet", hint="medium.faults = MediumFaults(seed=17)")
        return self._medium

    # -- inside --------------------------------------------------------------------------------------

    def _meet(self, kind: FaultKind, offset: int, busy_ns: int | None = None) -> MediumFault:
        self.met += 1
        return MediumFault(kind, offset, busy_ns=busy_ns)

    def _flip(self, count: int, address: int, size: int, *, random: SplitMix64) -> None:
        bits: set[int] = set()
        while len(bits) < count:
            bits.add(8 * address + random.below(8 * size))
        for bit in sorted(bits):
            self.medium.poke(bit // 8, bytes([self.medium.peek(bit // 8, 1)[0] ^ 1 << bit % 8]))
        self._flipped += count

    def _next_gap(self) -> int:
        # Evenly from 1 to twice the mean less 1: integers only, so that every interpreter draws the same.
        return 1 + self._reading.below(2 * self._read_gap - 1)

    def _refuse_write(self, offset: int, size: int, kind: BlockFault, what: FaultKind) -> None:
        if not (self._bad or self._worn or self._endurance is not None):
            return
        unit = self.medium.erase_block
        if self._worn_blocks[0] != (unit, len(self._worn)):
            self._worn_blocks = (unit, len(self._worn)), {address // unit for address in self._worn}
        for block in self._blocks(offset, size):
            here = max(offset, block * unit)
            if kind in self._bad.get(block, ()):
                raise self._meet(what, here)
            if block in self._worn_blocks[1] or kind in self._failing(block):
                raise self._meet("worn out", here)

    def _failing(self, block: int) -> set[BlockFault] | frozenset[BlockFault]:
        """How a block fails now: as it was told to, and by its age."""
        bad = self._bad.get(block, frozenset[BlockFault]())
        if self._endurance is None:
            return bad
        if block not in self._lives:
            cycles, spread = self._endurance.numbers
            width = cycles * spread // 100
            self._lives[block] = cycles - width + self._wearing.split(str(block)).below(2 * width + 1)
        start = self._sectors.get(block, block * self.medium.erase_block)
        return bad | {self._endurance.kind} if self.medium.wear[start] >= self._lives[block] else bad

    def _effective(self, offset: int, size: int, kind: BlockFault) -> list[tuple[int, int]]:
        """The pieces of a write that have an effect: all of it but what lies in blocks that do nothing."""
        if not self._bad and self._endurance is None:
            return [(offset, offset + size)]
        unit = self.medium.erase_block
        pieces: list[tuple[int, int]] = []
        for block in self._blocks(offset, size):
            if kind in self._failing(block):
                self.met += 1
                continue
            start, end = max(offset, block * unit), min(offset + size, (block + 1) * unit)
            if pieces and pieces[-1][1] == start:
                start = pieces.pop()[0]
            pieces.append((start, end))
        return pieces

    def _blocks(self, offset: int, size: int) -> range:
        unit = self.medium.erase_block
        return range(offset // unit, (offset + max(size, 1) - 1) // unit + 1)
