"""A block device in memory that notes every program and erase, and can undo them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import NamedTuple

from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.powercuts.geometries import Geometry


class Operation(NamedTuple):
    """One program or erase: where, and what lay there before and after it."""

    kind: str
    address: int
    old: bytes
    new: bytes

    @property
    def words(self) -> str:
        """Return the operation as a sentence has it."""
        return f"{self.kind} {len(self.new)} B at 0x{self.address:x}"


class Image(BlockDevice):
    """A medium's bytes under a journal of what was done to them; each erase unit is an operation of its own.

    data: the bytes as they are now.
    journal: the operations since the last rollback or mark, in order.
    syncs: how many of them each sync covered.
    """

    type = "IMAGE"

    def __init__(self, geometry: Geometry, data: bytes | None = None) -> None:
        super().__init__()
        self.geometry = geometry
        blank = 0xFF if geometry.erase_value < 0 else geometry.erase_value
        self.data = bytearray(data if data is not None else bytes([blank]) * geometry.size)
        self.journal: list[Operation] = []
        self.syncs: list[int] = []
        self.returned: list[int] = []
        """How many operations had been made when each of a function's own operations had returned."""
        self.looked: list[tuple[int, int]] | None = None
        """Stretches read (address, size) while this is a list."""
        self.kept: dict[str, object] = {}
        """What a session keeps from one opening to the next: buffers, never bytes of the medium. It refers back to
        the image, so whoever is done with the image clears it."""
        self._blank = bytes([blank]) * geometry.erase
        self._starts: list[int] = []
        if geometry.sectors:
            sizes = chain.from_iterable([size] * count for count, size in geometry.sectors)
            self._starts = list(accumulate(sizes, initial=0))

    @property
    def read_size(self) -> int:
        """Smallest readable unit (B)."""
        return self.geometry.read

    @property
    def program_size(self) -> int:
        """Smallest programmable unit (B)."""
        return self.geometry.program

    @property
    def erase_size(self) -> int:
        """Erase unit (B), the largest where they differ."""
        return self.geometry.erase

    def get_erase_size(self, address: int) -> int:
        """Return the size (B) of the erase unit at address."""
        if not self._starts:
            return self.geometry.erase
        index = min(bisect_right(self._starts, address), len(self._starts) - 1)
        return self._starts[index] - self._starts[index - 1]

    def is_valid_erase(self, address: int, size: int) -> bool:
        """Whether this stretch begins and ends at edges of erase units."""
        if not self._starts:
            return super().is_valid_erase(address, size)
        return self._inside(address, size) and {address, address + size} <= set(self._starts)

    @property
    def erase_value(self) -> int:
        """Value of erased bytes, or -1 where it is unknown."""
        return self.geometry.erase_value

    @property
    def size(self) -> int:
        """Size of the medium (B)."""
        return self.geometry.size

    def read(self, address: int, size: int) -> bytes:
        """Read size bytes at address."""
        self._require(self.is_valid_read(address, size), "read", address, size)
        if self.looked is not None:
            self.looked.append((address, size))
        return bytes(self.data[address : address + size])

    def program(self, address: int, data: bytes) -> None:
        """Program data: on NOR flash, bits that are 0 stay so."""
        size = len(data)
        self._require(self.is_valid_program(address, size), "program", address, size)
        old = bytes(self.data[address : address + size])
        new = bytes(data)
        if not self.geometry.overwrites and old.count(0xFF) != size:
            new = (int.from_bytes(old, "little") & int.from_bytes(new, "little")).to_bytes(size, "little")
        self.journal.append(Operation("program", address, old, new))
        self.data[address : address + size] = new

    def erase(self, address: int, size: int) -> None:
        """Erase unit by unit; a card does nothing."""
        self._require(self.is_valid_erase(address, size), "erase", address, size)
        if self.geometry.erase_value < 0:
            return
        end = address + size
        while address < end:
            unit = self.get_erase_size(address)
            old = bytes(self.data[address : address + unit])
            self.journal.append(Operation("erase", address, old, self._blank[:unit]))
            self.data[address : address + unit] = self._blank[:unit]
            address += unit

    def sync(self) -> None:
        """Say that everything so far must be on the medium."""
        self.syncs.append(len(self.journal))

    def put(self, address: int, data: bytes) -> None:
        """Put bytes there without a note in the journal."""
        self.data[address : address + len(data)] = data

    def redo(self, operations: Sequence[Operation]) -> None:
        """Do operations again without a note in the journal."""
        data = self.data
        for _, address, _, new in operations:
            data[address : address + len(new)] = new

    def mark(self) -> None:
        """Forget the journal: what was done stays."""
        self.journal, self.syncs, self.returned = [], [], []

    def rollback(self) -> None:
        """Undo everything in the journal, and forget it."""
        data = self.data
        for _, address, old, _ in reversed(self.journal):
            data[address : address + len(old)] = old
        self.mark()
