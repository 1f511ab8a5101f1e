"""Two equal areas of a flash, and the records of a TDBStore in them."""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from pdmlab.errors import StorageError
from pdmlab.storage.blockdevice import UNKNOWN_ERASE_VALUE, BlockDevice
from pdmlab.storage.kv.crc import unreflected
from pdmlab.storage.kv.kvstore import MAX_KEY_SIZE, MbedError, refuse
from pdmlab.storage.wrappers import BufferedBlockDevice

HEADER = struct.Struct("<IHHIHHII")
MASTER = struct.Struct("<HHI")
TRAILER = struct.Struct("<HHI")
MAGIC = 0x5468_6683
REVISION = 1
MASTER_KEY = b"TDBS"
RESERVED_SIZE = 64
DELETED = 1 << 31
_WORK = 64
_MAX_DEVICE = 0x8000_0000
_TYPE = "TDBStore"


def align(size: int, unit: int) -> int:
    """Return size (B), rounded up to whole units."""
    return -(-size // unit) * unit


@dataclass(frozen=True)
class Record:
    """A sound record: data is what was asked for of it, size (B) that of all, next where another one may begin."""

    flags: int
    key: bytes
    data: bytes
    size: int
    next: int


class Areas:
    """The halves of a device, addressed by area (0 or 1) and offset (B); failures become statuses of Mbed's."""

    def __init__(self, bd: BlockDevice) -> None:
        self._bd = bd
        self._device = BufferedBlockDevice(bd)
        self._device.init()
        self.unit = bd.program_size
        self.work = max(self.unit, _WORK)
        """How much (B) is read at once of what nobody asked for."""
        self.master = align(RESERVED_SIZE + TRAILER.size, self.unit)
        self.head = self.master + self.length(len(MASTER_KEY), MASTER.size)
        """Where the records behind the master record begin."""
        size, self._sectors = min(bd.size, _MAX_DEVICE), [0]
        while self._sectors[-1] < size:
            self._sectors.append(self._sectors[-1] + bd.get_erase_size(self._sectors[-1]))
        self.size = self._sectors[bisect_left(self._sectors, size // 2)]
        if self.size * 2 != size or self.size < self.head + self.unit:
            bd.deinit()
            raise refuse(
                _TYPE,
                MbedError.INITIALIZATION_FAILED,
                f"{bd!r} has no two equal halves of whole sectors, with room for records",
                "take a slice of it whose sectors are alike (SlicingBlockDevice)",
            )

    def close(self) -> None:
        """Sync the device and let it go."""
        self._device.deinit()

    def read(self, area: int, offset: int, size: int) -> bytes:
        """Read bytes; past the end of an area it is READ_FAILED, as a failing device is."""
        if offset + size > self.size:
            raise refuse(_TYPE, MbedError.READ_FAILED, f"{size} B at 0x{offset:x} go past the end of area {area}")
        try:
            return self._device.read(area * self.size + offset, size)
        except StorageError as error:
            raise _failed(MbedError.READ_FAILED, f"read at 0x{offset:x} of area {area}", error) from error

    def write(self, area: int, offset: int, data: bytes) -> None:
        """Program bytes through a buffer of one program unit."""
        try:
            self._device.program(area * self.size + offset, data)
        except StorageError as error:
            raise _failed(MbedError.WRITE_FAILED, f"write at 0x{offset:x} of area {area}", error) from error

    def sync(self) -> None:
        """Write the buffer out, and sync the device."""
        try:
            self._device.sync()
        except StorageError as error:
            raise _failed(MbedError.WRITE_FAILED, "sync", error) from error

    def erase(self, area: int, offset: int, size: int, *, whole: bool = False) -> None:
        """Erase the sectors that begin in a stretch; with whole, the one in which the stretch begins, too."""
        start = area * self.size + offset
        first = bisect_right(self._sectors, start) - 1 if whole else bisect_left(self._sectors, start)
        for number in range(first, bisect_left(self._sectors, start + size)):
            address, end = self._sectors[number : number + 2]
            try:
                if self._bd.erase_value != UNKNOWN_ERASE_VALUE:
                    self._device.erase(address, end - address)
                    continue
                for unit in range(address, end, self.unit):
                    self._device.program(unit, b"\xff" * self.unit)
            except StorageError as error:
                raise _failed(MbedError.WRITE_FAILED, f"erase {end - address} B at 0x{address:x}", error) from error

    def length(self, key_size: int, data_size: int) -> int:
        """Return the room (B) that a record takes."""
        return align(HEADER.size, self.unit) + align(key_size + data_size, self.unit)

    def record(self, area: int, offset: int, *, at: int = 0, size: int | None = None) -> Record:
        """Read a record and size bytes of its data (all if None) from `at` on; check its CRC if `at` is 0.

        Raises:
            CorruptMedium: there is no sound record (INVALID_DATA_DETECTED).
            StorageError: `at` is past the end (INVALID_SIZE), or the header past that of the area (READ_FAILED).
        """
        header = self.read(area, offset, HEADER.size)
        magic, _, _, flags, key_size, _, data_size, crc = HEADER.unpack(header)
        start = offset + align(HEADER.size, self.unit)
        end = start + key_size + data_size
        # A record that ends where its area does is refused, too.
        if magic != MAGIC or not 0 < key_size < MAX_KEY_SIZE or end >= self.size:
            raise _unsound(area, offset)
        if at > data_size:
            raise refuse(_TYPE, MbedError.INVALID_SIZE, f"no offset {at} in a value of {data_size} B", "see get_info()")
        wanted = data_size - at if size is None else min(size, data_size - at)
        if at:
            data = self.read(area, start + key_size + at, wanted) if wanted else b""
            return Record(flags, b"", data, data_size, offset)
        key = self.read(area, start, key_size)
        data = self.read(area, start + key_size, wanted) if wanted else b""
        running = zlib.crc32(data, zlib.crc32(key, zlib.crc32(header[:-4])))
        for place in range(start + key_size + wanted, end, self.work):
            running = zlib.crc32(self.read(area, place, min(self.work, end - place)), running)
        if unreflected(running) != crc:
            raise _unsound(area, offset)
        return Record(flags, key, data, data_size, align(end, self.unit))

    def copy(self, area: int, offset: int, to: int) -> int:
        """Copy a record into the other area, header first, and return where the next one goes."""
        header = self.read(area, offset, HEADER.size)
        _, _, _, _, key_size, _, size, _ = HEADER.unpack(header)
        length, head = self.length(key_size, size), align(HEADER.size, self.unit)
        if to + length > self.size:
            raise refuse(_TYPE, MbedError.MEDIA_FULL, "the live records do not fit into the other area")
        self.erase(1 - area, to, length)
        # Where units are larger than a header, Mbed fills up with what lies behind it in memory.
        self.write(1 - area, to, header.ljust(head, b"\xff"))
        for start in range(head, length, self.work):
            self.write(1 - area, to + start, self.read(area, offset + start, min(self.work, length - start)))
        return to + length


def _unsound(area: int, offset: int) -> StorageError:
    return refuse(_TYPE, MbedError.INVALID_DATA_DETECTED, f"no sound record at 0x{offset:x} of area {area}")


def _failed(status: MbedError, what: str, error: StorageError) -> StorageError:
    return refuse(_TYPE, status, f"cannot {what}: {error.message}", error.hint)
