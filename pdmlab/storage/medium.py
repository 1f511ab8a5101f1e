"""The bytes of a storage part: what stays when the power goes.

A medium without a path lives in memory; with a path it is a plain image file, which other programs can read. An
erase value of 0xFF is NOR flash: programming only clears bits. Any other value is a card, which overwrites; -1 is one
whose erased bytes nobody knows (here they are 0). A driver refuses a medium of the other kind.

A medium refuses with a MediumFault, which says what is wrong with the part; the driver above turns it into
its own code, after the time that Mbed's driver spends before it gives up.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pdmlab.clock import PowerLost
from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage.image import CHUNK, SHIFT, FileImage, MemoryImage

if TYPE_CHECKING:
    from pdmlab.clock import Clock
    from pdmlab.storage.faults import MediumFaults
    from pdmlab.storage.supply import Supply

_ERASE_BLOCK = 4096
_MASK = CHUNK - 1
_FILL = 1 << 20

FaultKind = Literal[
    "not seated", "no answer", "stuck busy", "write protected",
    "read error", "program error", "erase error", "worn out",
]  # fmt: skip
"""What a part can refuse with. `not seated`: there is no card. `no answer`: nothing drives the bus.
`stuck busy`: it answers, and stays busy. `worn out`: a program or erase beyond the block's endurance."""


class MediumFault(StorageError):
    """A part did not do what it was told; drivers turn it into their own code.

    offset: where (B). busy_ns: of `stuck busy`, for how long from now; None for good. A driver that has waited
    that long asks again.
    """

    def __init__(self, kind: FaultKind, offset: int = 0, *, busy_ns: int | None = None) -> None:
        super().__init__(f"{kind} at 0x{offset:x} of the medium", code=-4001)
        self.kind: FaultKind = kind
        self.offset = offset
        self.busy_ns = busy_ns


class Medium:
    """A part's `size` bytes; `program` and `erase` need power, `peek` and `poke` (a programmer's view) do not.

    erase_value: what erased bytes read as; -1 where that is unknown. blank: the byte that they are here.
    name: what a supply calls it when it fails in the middle of one of its operations.
    supply: feeds it; None for one that never fails.
    faults: what is broken on it; None for nothing, which costs nothing.
    sound: whether it is powered, seated, not protected and without faults: nothing is refused then. To be read only.
    powered: without it, read, program and erase raise PowerLost before they touch anything.
    seated: whether a card is in its holder; soldered parts always are.
    insertions: how often the card was put back; it has forgotten its initialisation each time.
    write_protected: the lock on the side of a card.
    erase_block: size (B) of the blocks that wear; the driver sets it.
    clock: what faults that last for a time are timed by; the driver sets it.
    wear: erases of each block by its offset; of a card, which is never erased before, programs.
    """

    def __init__(
        self,
        size: int,
        *,
        erase_value: int = 0xFF,
        path: Path | str | None = None,
        name: str = "medium",
        supply: Supply | None = None,
    ) -> None:
        for what, value, least, most in (("size", size, 1, sys.maxsize), ("erase_value", erase_value, -1, 0xFF)):
            if type(value) is not int or not least <= value <= most:
                hint = "a size is in B, 1 or more; an erase_value is 0xFF for flash, another byte, or -1, for a card"
                raise ConfigError(f"a medium cannot have {what}={value!r}", hint=hint)
        self.size = size
        self.erase_value = erase_value
        self.blank = max(erase_value, 0)
        self.path = path = None if path is None else Path(path)
        self.name = name
        self.supply = supply
        self.erase_block = _ERASE_BLOCK
        self.clock: Clock | None = None
        self.wear: Counter[int] = Counter()
        self.insertions = 0
        self._powered = self._seated = True
        self._write_protected = False
        self._faults: MediumFaults | None = None
        self._image = MemoryImage(size, self.blank) if path is None else FileImage(path, size, self.blank)
        self._chunks = self._image.chunks
        self._blanks: dict[int, bytes] = {}
        self._nor = erase_value == 0xFF
        self._what = f"program {name}", f"erase {name}"
        self._look()

    # -- its state -----------------------------------------------------------------------------------

    @property
    def powered(self) -> bool:
        """Whether the part has its supply."""
        return self._powered

    @powered.setter
    def powered(self, powered: bool) -> None:
        lost = self._powered and not powered
        self._powered = powered
        self._look()
        if lost and self._faults is not None:
            self._faults.power_lost()

    @property
    def seated(self) -> bool:
        """Whether a card is in its holder."""
        return self._seated

    @seated.setter
    def seated(self, seated: bool) -> None:
        if seated and not self._seated:
            self.insertions += 1
        self._seated = seated
        self._look()

    @property
    def write_protected(self) -> bool:
        """Whether programs and erases are refused."""
        return self._write_protected

    @write_protected.setter
    def write_protected(self, protected: bool) -> None:
        self._write_protected = protected
        self._look()

    @property
    def faults(self) -> MediumFaults | None:
        """What is broken on it."""
        return self._faults

    @faults.setter
    def faults(self, faults: MediumFaults | None) -> None:
        if faults is not None:
            faults.attach(self)  # or refuse to be this medium's
        self._faults = faults
        self._look()

    def _look(self) -> None:
        """Note whether anything has to be asked before an operation."""
        sound = self._powered and self._seated and not self._write_protected
        self.sound = sound and self._faults is None

    # -- a programmer's view -------------------------------------------------------------------------

    def peek(self, offset: int, size: int) -> bytes:
        """Return what lies there."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise self._outside(offset, size)
        return self._image.read(offset, size)

    def poke(self, offset: int, data: bytes) -> None:
        """Put data there, as a programmer or a host's card reader does.

        Raises:
            BoardError: the disk with the image is full, or went away; what had room is in the image.
        """
        if offset < 0 or offset + len(data) > self.size:
            raise self._outside(offset, len(data))
        self._image.write(offset, data)

    # -- the driver's --------------------------------------------------------------------------------

    def require_answer(self) -> None:
        """Find the part at the other end of the bus, ready for a command.

        Raises:
            MediumFault: not seated, no answer or stuck busy.
        """
        if not self.sound:
            if not self._powered:
                raise PowerLost
            if self._faults is not None:
                self._faults.need_answer()
            elif not self._seated:
                raise MediumFault("not seated")

    def read(self, offset: int, size: int) -> bytes:
        """Return what lies there, to the running driver.

        Raises:
            MediumFault: as require_answer, or read error.
        """
        if self.sound:
            chunk = self._chunks.get(offset >> SHIFT)
            if chunk is not None:
                start = offset & _MASK
                data = chunk[start : start + size]
                if len(data) == size:  # all in this chunk
                    return data
            return self.peek(offset, size)
        if self._begin(offset):
            raise self._pulled(offset)
        return self.peek(offset, size) if self._faults is None else self._faults.read(offset, size)

    def program(self, offset: int, data: bytes) -> None:
        """Program data: NOR flash keeps the bits that are already 0.

        Raises:
            MediumFault: as require_answer, or write protected, program error or worn out.
        """
        supply = self.supply
        if self.sound and (supply is None or supply.writes_left is None):
            if supply is not None:
                supply.operations += 1
            self.program_plainly(offset, data)
            return
        pulled = not self.sound and self._begin_write(offset)
        failing = supply is not None and supply.fails(self._what[0])
        if pulled or failing:
            data = data[: self._broken_off(len(data))]
        if self._faults is None:
            self.program_plainly(offset, data)
        else:
            self._faults.program(offset, data)
        if pulled or failing:
            self._end_write(offset, failing)

    def erase(self, offset: int, size: int) -> None:
        """Erase a block and count its wear.

        Raises:
            MediumFault: as require_answer, or write protected, erase error or worn out.
        """
        pulled = not self.sound and self._begin_write(offset)
        failing = self.supply is not None and self.supply.fails(self._what[1])
        if pulled or failing:
            size = self._broken_off(size)
        if self._faults is None:
            self.erase_plainly(offset, size)
        else:
            self._faults.erase(offset, size)
        if pulled or failing:
            self._end_write(offset, failing)

    def sync(self) -> None:
        """Hear that everything programmed so far must stay, whatever happens to the power."""
        if self._faults is not None:
            self._faults.synced()

    # -- with a supply that fails, or faults ----------------------------------------------------------

    def _begin(self, offset: int) -> bool:
        """Refuse an operation that cannot begin; return whether the card is pulled in the middle of it."""
        if not self._powered:
            raise PowerLost
        if self._faults is not None:
            return self._faults.begin(offset)
        if not self._seated:
            raise MediumFault("not seated", offset)
        return False

    def _begin_write(self, offset: int) -> bool:
        pulled = self._begin(offset)
        if self._write_protected:
            raise MediumFault("write protected", offset)
        return pulled

    def _broken_off(self, size: int) -> int:
        return size // 2 if self._faults is None else self._faults.torn_length(size)

    def _end_write(self, offset: int, failing: bool) -> None:
        if not failing:
            raise self._pulled(offset)
        assert self.supply is not None
        self.supply.cut()
        raise PowerLost

    def _pulled(self, offset: int) -> MediumFault:
        assert self._faults is not None
        self._faults.lose_writes()
        return MediumFault("not seated", offset)

    # -- with nothing between ------------------------------------------------------------------------

    def program_plainly(self, offset: int, data: bytes) -> None:
        """Program data, whatever is broken."""
        size, start = len(data), offset & _MASK
        chunk, end = self._chunks.get(offset >> SHIFT), start + size
        if chunk is None or end > len(chunk):
            self.poke(offset, self.over(offset, data))
        elif self._nor:
            there = chunk[start:end]
            chunk[start:end] = data if there == self._blanks.get(size) else self.over(offset, data)
        else:
            chunk[start:end] = data
        if not self._nor:
            block = offset // self.erase_block * self.erase_block
            self.wear[block] = self.wear.get(block, 0) + 1

    def erase_plainly(self, offset: int, size: int) -> None:
        """Erase a block and count its wear, whatever is broken."""
        if self._nor:
            self.wear[offset] = self.wear.get(offset, 0) + 1
        end = offset + size
        while offset < end:
            n = min(end - offset, _FILL)
            self.poke(offset, self._erased(n))
            offset += n

    def over(self, offset: int, data: bytes) -> bytes:
        """Return what programming data there makes of it: NOR flash cannot set bits."""
        if not self._nor:
            return data
        there = self.peek(offset, len(data))
        return data if there == self._erased(len(data)) else _and(there, data)

    def _erased(self, size: int) -> bytes:
        """Return so many blank bytes; those of a few sizes are kept."""
        blank = self._blanks.get(size)
        if blank is None:
            blank = bytes([self.blank]) * size
            if len(self._blanks) < 16:
                self._blanks[size] = blank
        return blank

    def close(self) -> None:
        """Let go of the file; what was programmed is in it."""
        self._image.close()

    def _outside(self, offset: int, size: int) -> StorageError:
        return StorageError(f"{size} B at 0x{offset:x} are not on a medium of 0x{self.size:x} B")

    def __repr__(self) -> str:
        where = self.path.name if self.path is not None else "memory"
        broken = f", {self._faults!r}" if self._faults is not None else ""
        return f"<medium of {self.size} B in {where}{'' if self.seated else ', not seated'}{broken}>"


def _and(there: bytes, data: bytes) -> bytes:
    kept = int.from_bytes(there, "little") & int.from_bytes(data, "little")
    return kept.to_bytes(len(data), "little")
