"""A stretch of a block device that is read by the byte, and erased and programmed in the device's units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage.blockdevice import BlockDevice

CHUNK = 16 * 1024  # mbed-bootloader's own copy buffer (MBED_BOOTLOADER_BUFFER_SIZE)
BLANK = b"\xff"


def round_up(size: int, unit: int) -> int:
    """Return size, or the next multiple of unit."""
    return -(-size // unit) * unit


def in_chunks(pieces: Iterable[bytes], size: int = CHUNK) -> Iterator[bytes]:
    """Put pieces of any size together, and cut them into such of `size` B; the last may be shorter."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) >= size:
            yield bytes(waiting[:size])
            del waiting[:size]
    if waiting:
        yield bytes(waiting)


@dataclass(frozen=True)
class Region:
    """`size` bytes of a device from `offset` on; positions below count from there (B)."""

    device: BlockDevice
    offset: int
    size: int

    def __post_init__(self) -> None:
        if self.offset < 0 or self.size <= 0 or self.offset + self.size > self.device.size:
            raise ConfigError(
                f"0x{self.size:x} B at 0x{self.offset:x} do not lie on a medium of 0x{self.device.size:x} B",
                hint="look at update-client.storage-address and storage-size in mbed_app.json",
            )

    def read(self, position: int, size: int) -> bytes:
        """Read any bytes of the region."""
        self._check(position, size)
        unit = self.device.read_size
        start = self.offset + position
        first = start - start % unit
        data = self.device.read(first, round_up(start + size - first, unit))
        return bytes(data[start - first : start - first + size])

    def chunks(self, position: int, size: int) -> Iterator[bytes]:
        """Read size bytes in pieces of at most 16 KiB."""
        for at in range(position, position + size, CHUNK):
            yield self.read(at, min(CHUNK, position + size - at))

    def program(self, position: int, data: bytes) -> None:
        """Program data at a position on a program unit's edge; the last unit is filled up with 0xFF."""
        padded = data + BLANK * (round_up(len(data), self.device.program_size) - len(data))
        self._check(position, len(padded))
        self.device.program(self.offset + position, padded)

    def sectors(self, position: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield position and size of each erase unit from the one at position on, until size B are covered."""
        self._check(position, size)
        at, end = self.offset + position, self.offset + position + size
        while at < end:
            unit = self.device.get_erase_size(at)
            yield at - self.offset, unit
            at += unit

    def erase(self, position: int, size: int) -> None:
        """Erase the sectors that hold size bytes from position (a sector's edge) on, one by one, lowest first."""
        for at, unit in self.sectors(position, size):
            self.device.erase(self.offset + at, unit)

    def _check(self, position: int, size: int) -> None:
        if position < 0 or size < 0 or position + size > self.size:
            raise StorageError(
                f"{size} B at {position} are outside a region of {self.size} B at 0x{self.offset:x}", code=-4001
            )
