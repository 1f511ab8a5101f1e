"""Mbed's BlockDevice interface, and the heap-backed device.

Addresses and sizes are in bytes. A refusal is a StorageError that carries Mbed's own code.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import ClassVar

from pdmlab.clock import Clock, WallClock
from pdmlab.errors import ConfigError, StorageError

BD_ERROR_DEVICE_ERROR = -4001
UNKNOWN_ERASE_VALUE = -1

default_block_device: contextvars.ContextVar[Callable[[], BlockDevice]] = contextvars.ContextVar("default_block_device")
"""Gives the running board's device; set by whoever boots the board."""
_fallback: Callable[[], BlockDevice] | None = None


def set_default(device: Callable[[], BlockDevice] | None) -> None:
    """Set what get_default_instance() gives outside any board's own threads; None for nothing."""
    global _fallback
    _fallback = device


class BlockDevice:
    """A medium in units: read_size, program_size and erase_size, each a multiple of the one before."""

    type: ClassVar[str] = "BLOCK"

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or WallClock()

    @classmethod
    def get_default_instance(cls) -> BlockDevice:
        """Return the running board's default device.

        Raises:
            StorageError: no board is running here.
        """
        give = default_block_device.get(_fallback)
        if give is None:
            raise StorageError(
                "there is no default block device (BD_ERROR_DEVICE_ERROR, -4001)",
                code=BD_ERROR_DEVICE_ERROR,
                hint="run this on a board: board.run(main)",
            )
        return give()

    def init(self) -> None:
        """Power the device up; counted, so that every init needs a deinit."""

    def deinit(self) -> None:
        """Undo one init; the last writes back what is buffered."""

    def sync(self) -> None:
        """Return when all that was programmed is on the medium."""

    def read(self, address: int, size: int) -> bytes:
        """Read size bytes at address, both multiples of read_size."""
        raise _abstract(self, "read")

    def program(self, address: int, data: bytes) -> None:
        """Program data at address, both multiples of program_size; the blocks must have been erased."""
        raise _abstract(self, "program")

    def erase(self, address: int, size: int) -> None:
        """Erase size bytes at address, both at the edges of erase units."""

    def trim(self, address: int, size: int) -> None:
        """Say that the contents of a stretch do not matter any more."""

    @property
    def read_size(self) -> int:
        """Smallest readable unit (B)."""
        return 1

    @property
    def program_size(self) -> int:
        """Smallest programmable unit (B)."""
        return 1

    @property
    def erase_size(self) -> int:
        """Smallest erasable unit (B); where units differ, the largest."""
        return self.program_size

    def get_erase_size(self, address: int) -> int:
        """Return the size (B) of the erase unit at address."""
        return self.erase_size

    @property
    def erase_value(self) -> int:
        """Value of erased bytes, or -1 where it is unknown."""
        return UNKNOWN_ERASE_VALUE

    @property
    def size(self) -> int:
        """Size of the device (B)."""
        raise _abstract(self, "size")

    def is_valid_read(self, address: int, size: int) -> bool:
        """Whether a read of this stretch is aligned and inside the device."""
        return self._inside(address, size) and not (address % self.read_size or size % self.read_size)

    def is_valid_program(self, address: int, size: int) -> bool:
        """Whether a program of this stretch is aligned and inside the device."""
        return self._inside(address, size) and not (address % self.program_size or size % self.program_size)

    def is_valid_erase(self, address: int, size: int) -> bool:
        """Whether this stretch begins and ends at edges of erase units inside the device."""
        if not self._inside(address, size) or address % self.get_erase_size(address):
            return False
        end = address + size
        return end == self.size or end % self.get_erase_size(end) == 0

    def _inside(self, address: int, size: int) -> bool:
        return address >= 0 and size >= 0 and address + size <= self.size

    def _require(self, valid: bool, what: str, address: int, size: int) -> None:
        if not valid:
            raise StorageError(
                f"{self.type}: cannot {what} {size} B at 0x{address:x} of 0x{self.size:x} "
                f"(BD_ERROR_DEVICE_ERROR, {BD_ERROR_DEVICE_ERROR})",
                code=BD_ERROR_DEVICE_ERROR,
                hint=f"units are {self.read_size}/{self.program_size}/{self.get_erase_size(0)} B to read/program/erase",
            )

    def __repr__(self) -> str:
        return (
            f"<{self.type} {self.size} B, read/program/erase {self.read_size}/{self.program_size}/{self.erase_size} B>"
        )


def require_device(device: object, user: str) -> None:
    """Refuse what is no block device.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(device, BlockDevice):
        raise ConfigError(f"{user}: {device!r} is no block device", hint="such as HeapBlockDevice(1 << 16)")


def _abstract(device: BlockDevice, what: str) -> TypeError:
    return TypeError(f"{type(device).__name__} does not define {what}")


class HeapBlockDevice(BlockDevice):
    """A device in memory, of erase units that each take their room when they are first programmed."""

    type = "HEAP"

    def __init__(
        self, size: int, read: int = 512, program: int = 512, erase: int = 512, *, clock: Clock | None = None
    ) -> None:
        super().__init__(clock)
        whole = all(type(each) is int and each > 0 for each in (size, read, program, erase))
        if not whole or program % read or erase % program or size % erase:
            raise StorageError(
                f"a heap device of {size} B cannot have units of {read}/{program}/{erase} B",
                code=BD_ERROR_DEVICE_ERROR,
                hint="whole numbers above 0: each a multiple of the one before, and the device of the erase size",
            )
        self._size, self._read, self._program, self._erase = size, read, program, erase
        self._blocks: dict[int, bytearray] = {}
        self._users = 0

    def init(self) -> None:
        """Make the device ready; counted. What was programmed before a deinit is still there."""
        self._users += 1

    def deinit(self) -> None:
        """Undo one init."""
        self._users = max(self._users - 1, 0)

    @property
    def read_size(self) -> int:
        """Smallest readable unit (B)."""
        return self._read

    @property
    def program_size(self) -> int:
        """Smallest programmable unit (B)."""
        return self._program

    @property
    def erase_size(self) -> int:
        """Erase unit (B)."""
        return self._erase

    @property
    def size(self) -> int:
        """Size of the device (B)."""
        return self._size

    def read(self, address: int, size: int) -> bytes:
        """Read size bytes at address; what was never programmed reads as zero."""
        self._check(self.is_valid_read(address, size), "read", address, size)
        out = bytearray()
        while size:
            number, offset = divmod(address, self._erase)
            n = min(size, self._erase - offset)
            block = self._blocks.get(number)
            out += block[offset : offset + n] if block is not None else bytes(n)
            address, size = address + n, size - n
        return bytes(out)

    def program(self, address: int, data: bytes) -> None:
        """Program data at address, erased or not."""
        self._check(self.is_valid_program(address, len(data)), "program", address, len(data))
        view = memoryview(data)
        while view:
            number, offset = divmod(address, self._erase)
            n = min(len(view), self._erase - offset)
            block = self._blocks.setdefault(number, bytearray(self._erase))
            block[offset : offset + n] = view[:n]
            address, view = address + n, view[n:]

    def erase(self, address: int, size: int) -> None:
        """Check the stretch; the contents stay, as in Mbed's own heap device."""
        self._check(self.is_valid_erase(address, size), "erase", address, size)

    def _check(self, valid: bool, what: str, address: int, size: int) -> None:
        if not self._users:
            raise StorageError(
                f"HEAP: cannot {what} before init() (BD_ERROR_DEVICE_ERROR, {BD_ERROR_DEVICE_ERROR})",
                code=BD_ERROR_DEVICE_ERROR,
                hint="call init(), or mount a file system",
            )
        self._require(valid, what, address, size)
