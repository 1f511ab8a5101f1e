"""Partitions of a block device: the master boot record that every PC reads, and one of its four as a device."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pdmlab.errors import StorageError
from pdmlab.storage.blockdevice import BD_ERROR_DEVICE_ERROR, BlockDevice
from pdmlab.storage.wrappers.wrapper import CountedInits, Wrapper

INVALID_MBR, INVALID_PARTITION = -3101, -3102
UNIT = 512
"""The record lies in so many bytes (B); blocks of the table are so large, or as an erase unit if that is larger."""
_ENTRY = struct.Struct("<B3sB3sII")
_SIGNATURE = b"\x55\xaa"
_TABLE = 4 * _ENTRY.size + len(_SIGNATURE)
_STATUSES = (0x00, 0x80)
_NO_TYPES = (0x00, 0x05, 0x0F)  # no entry, and extended partitions


class Entry(NamedTuple):
    """A row of the table: blocks are counted in max(erase unit, 512) B."""

    status: int
    first_chs: bytes
    type: int
    last_chs: bytes
    start: int
    blocks: int


class MBRBlockDevice(Wrapper):
    """Partition 1 to 4 of a device with a master boot record; its type and place are known after init().

    >>> from pdmlab.storage import HeapBlockDevice
    >>> heap = HeapBlockDevice(64 * 512)
    >>> MBRBlockDevice.partition(heap, 1, 0x83, 0, 32 * 512)
    >>> first = MBRBlockDevice(heap, 1)
    >>> first.init()
    >>> first.partition_start, first.size
    (512, 15872)
    """

    type = "MBR"

    def __init__(self, device: BlockDevice, part: int = 1) -> None:
        super().__init__(device)
        _check_number(part)
        self.partition_number = part
        self.partition_start = self.partition_stop = self.partition_type = 0
        self._inits = CountedInits(self.type)

    @staticmethod
    def partition(device: BlockDevice, part: int, type: int, start: int, stop: int = 0) -> None:
        """Write a partition into the device's table; make the table where there is none.

        The first block is the table's own: a start below 512 begins after it. Like a slice's, a negative start, and
        a stop of 0 or less, count from the end. (Mbed OS takes a negative address for a positive one, and a start
        without a stop for a size from the end.)

        Raises:
            StorageError: the device has no room for a table or the partition, or it overlaps another, -4001.
        """
        _check_number(part)
        if not 0 <= type <= 0xFF:
            raise _refuse(f"a partition cannot be of type {type}", "a byte: 0x0C for FAT, 0x83 for Linux and littlefs")
        device.init()
        try:
            unit = max(device.erase_size, UNIT)
            start = start if start >= 0 else device.size + start
            stop = stop if stop > 0 else device.size + stop
            if start < UNIT:
                start += unit
            _write(device, part, type, start, stop, unit)
        finally:
            device.deinit()

    def init(self) -> None:
        """Initialise the device below at the first call, and find the partition; counted.

        Raises:
            StorageError: there is no master boot record (-3101), or no such partition in it (-3102).
        """
        if not self._inits.users:
            self.device.init()
            self._find()
        self._inits.users += 1

    def deinit(self) -> None:
        """Undo one init; the last is also the device's below."""
        if not self._inits.users:
            return
        self._inits.users -= 1
        if not self._inits.users:
            self.device.deinit()

    def _find(self) -> None:
        device = self.device
        length = max(device.read_size, _TABLE)
        head = device.read(UNIT - length, length) if length <= UNIT else b""
        if not head.endswith(_SIGNATURE):
            raise StorageError(
                f"{device!r} has no master boot record (BD_ERROR_INVALID_MBR, {INVALID_MBR})",
                code=INVALID_MBR,
                hint="MBRBlockDevice.partition(device, 1, 0x83, 0) writes one; a card without one is used whole",
            )
        entry = _entries(head)[self.partition_number - 1]
        unit = max(device.erase_size, UNIT)
        start, size = entry.start * unit, entry.blocks * unit
        if entry.status not in _STATUSES:
            why = f"its status is 0x{entry.status:02x}: the device may have a file system without partitions"
        elif entry.type in _NO_TYPES:
            why = "there is none" if not entry.type else f"type 0x{entry.type:02x} is an extended one"
        elif not device.is_valid_erase(start, size):
            why = f"0x{start:x} to 0x{start + size:x} are not whole erase units of the device"
        else:
            self.partition_start, self.partition_stop, self.partition_type = start, start + size, entry.type
            return
        raise StorageError(
            f"partition {self.partition_number} of {device!r}: {why} (BD_ERROR_INVALID_PARTITION, {INVALID_PARTITION})",
            code=INVALID_PARTITION,
            hint="partitions are 1 to 4; MBRBlockDevice.partition() makes one",
        )

    @property
    def size(self) -> int:
        """Size of the partition (B); 0 before init()."""
        return self.partition_stop - self.partition_start

    @property
    def read_size(self) -> int:
        """Smallest readable unit (B); 0 before init()."""
        return self.device.read_size if self._inits.users else 0

    @property
    def program_size(self) -> int:
        """Smallest programmable unit (B); 0 before init()."""
        return self.device.program_size if self._inits.users else 0

    @property
    def erase_size(self) -> int:
        """Erase unit (B); 0 before init()."""
        return self.device.erase_size if self._inits.users else 0

    def get_erase_size(self, address: int) -> int:
        """Return the size (B) of the erase unit at address; 0 before init()."""
        return self.device.get_erase_size(self.partition_start + address) if self._inits.users else 0

    def sync(self) -> None:
        """Sync the device below."""
        self._inits.need("sync")
        self.device.sync()

    def read(self, address: int, size: int) -> bytes:
        """Read from the partition."""
        self._inits.need("read")
        self._require(self.is_valid_read(address, size), "read", address, size)
        return self.device.read(self.partition_start + address, size)

    def program(self, address: int, data: bytes) -> None:
        """Program the partition."""
        self._inits.need("program")
        self._require(self.is_valid_program(address, len(data)), "program", address, len(data))
        self.device.program(self.partition_start + address, data)

    def erase(self, address: int, size: int) -> None:
        """Erase units of the partition."""
        self._inits.need("erase")
        self._require(self.is_valid_erase(address, size), "erase", address, size)
        self.device.erase(self.partition_start + address, size)

    def is_valid_read(self, address: int, size: int) -> bool:
        """Whether this stretch lies inside the partition, and the device below can read it."""
        return self._inside(address, size) and self.device.is_valid_read(self.partition_start + address, size)

    def is_valid_program(self, address: int, size: int) -> bool:
        """Whether this stretch lies inside the partition, and the device below can program it."""
        return self._inside(address, size) and self.device.is_valid_program(self.partition_start + address, size)

    def is_valid_erase(self, address: int, size: int) -> bool:
        """Whether this stretch lies inside the partition, and the device below can erase it."""
        return self._inside(address, size) and self.device.is_valid_erase(self.partition_start + address, size)

    def __repr__(self) -> str:
        return f"<{self.type} partition {self.partition_number} of {self.device!r}>"


def _write(device: BlockDevice, part: int, type: int, start: int, stop: int, unit: int) -> None:
    length = -(-_TABLE // device.program_size) * device.program_size
    if length > UNIT or device.size < UNIT:
        raise _refuse(
            f"{device!r} has no room for a master boot record",
            f"it is programmed in the first {UNIT} B, in units of {device.program_size} B",
        )
    if not start < stop <= device.size or not device.is_valid_erase(start, stop - start):
        raise _refuse(
            f"0x{start:x} to 0x{max(stop, 0):x} cannot be a partition of {device!r}",
            f"a partition is whole erase units behind the first {unit} B, which are the table's",
        )
    head = device.read(UNIT - length, length)
    entries = _entries(head)
    if not head.endswith(_SIGNATURE) or any(entry.status not in _STATUSES for entry in entries):
        # The first sector of a FAT volume without partitions has the same signature, and code in the table's place.
        entries = [Entry(0, bytes(3), 0, bytes(3), 0, 0)] * 4
    first, blocks = start // unit, (stop - start) // unit
    for number, other in enumerate(entries, 1):
        apart = first >= other.start + other.blocks or first + blocks <= other.start
        if number != part and other.type and not apart:
            raise _refuse(
                f"partition {part} would overlap partition {number}",
                f"that one has 0x{other.start * unit:x} to 0x{(other.start + other.blocks) * unit:x}",
            )
    entries[part - 1] = Entry(0x00, _chs(first), type, _chs(first + blocks - 1), first, blocks)
    table = b"".join(_ENTRY.pack(*entry) for entry in entries) + _SIGNATURE
    device.erase(0, device.get_erase_size(0))
    device.program(UNIT - length, b"\xff" * (length - _TABLE) + table)


def _entries(head: bytes) -> list[Entry]:
    table = head[len(head) - _TABLE : len(head) - len(_SIGNATURE)]
    return [Entry(*fields) for fields in _ENTRY.iter_unpack(table)]


def _chs(block: int) -> bytes:
    """Write a block's number as cylinder, head and sector of 63 + 1, as Mbed does; nobody reads it any more."""
    number = min(block, 0xFF_FFFD) + 1
    return bytes((number >> 6 & 0xFF, number & 0x3F | number >> 16 & 0xC0, number >> 14 & 0xFF))


def _check_number(part: int) -> None:
    if not 1 <= part <= 4:
        raise _refuse(f"there is no partition {part}", "1 to 4")


def _refuse(what: str, hint: str) -> StorageError:
    return StorageError(
        f"MBR: {what} (BD_ERROR_DEVICE_ERROR, {BD_ERROR_DEVICE_ERROR})", code=BD_ERROR_DEVICE_ERROR, hint=hint
    )
