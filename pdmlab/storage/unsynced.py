"""The writes that a part has taken since the last sync, and what a power cut leaves of them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pdmlab.prng import SplitMix64
    from pdmlab.storage.medium import Medium


class _Write(NamedTuple):
    offset: int
    before: bytes
    data: bytes | None
    """What was programmed; None for an erase."""

    def do(self, medium: Medium, size: int) -> None:
        if self.data is None:
            medium.poke(self.offset, bytes([medium.blank]) * size)
        else:
            medium.poke(self.offset, medium.over(self.offset, self.data[:size]))


class UnsyncedWrites:
    """The last `depth` writes. They are on the medium at once; a cut takes them back and makes some of them again."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._writes: deque[_Write] = deque(maxlen=depth)

    def note(self, medium: Medium, offset: int, size: int, data: bytes | None) -> None:
        """Note a program, or an erase if data is None, before it is made."""
        self._writes.append(_Write(offset, medium.peek(offset, size), data))

    def clear(self) -> None:
        """Forget them: they are there to stay."""
        self._writes.clear()

    def lose(self, medium: Medium, random: SplitMix64, *, reorder: bool, tear: bool) -> None:
        """Leave on the medium what a cut leaves of them.

        reorder: each survives or not, in any order. tear: of the last program, a prefix survives.
        """
        writes = list(self._writes)
        self._writes.clear()
        if not writes:
            return
        for write in reversed(writes):
            medium.poke(write.offset, write.before)
        last = writes[-1] if writes[-1].data is not None else None
        if reorder:
            for n in range(len(writes) - 1, 0, -1):
                other = random.below(n + 1)
                writes[n], writes[other] = writes[other], writes[n]
            writes = [write for write in writes if random.below(2)]
        for write in writes:
            size = len(write.before)
            write.do(medium, random.below(size + 1) if tear and write is last else size)
