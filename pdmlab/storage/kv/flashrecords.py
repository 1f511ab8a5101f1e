"""Numbered records in two areas of internal flash, one of them live: what NVStore and SOTP have in common.

Little-endian. A record is a header of 8 B (u16 number and flags, u16 size, u32 CRC over the rest) and data, aligned
to max(8, program size). The first of an area is its master record, whose version says which area is newer. A full
area is collected: the new record goes into the other area first, then the others by number, then the master record;
then the old area is erased. A start erases an area without a sound master record, and collects once it meets a
record that a power cut tore. Steps and oddities are Mbed's: docs/decisions/0011-stores-as-they-are.md lists those.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from pdmlab.errors import ConfigError, CorruptMedium, NoSpace, StorageError, WriteOnce
from pdmlab.storage.blockdevice import BlockDevice, require_device
from pdmlab.storage.kv.areas import align
from pdmlab.storage.kv.flashrecord import (
    DELETED,
    HEADER,
    MASTER,
    MASTER_KEY,
    SET_ONCE,
    FlashRecord,
    pack,
    parse,
)
from pdmlab.storage.kv.kvstore import BYTES

_RETRY_NS = 1_000_000
Statuses = type[IntEnum]
_CHUNK = 128
MAX_OWNER = 15
"""NVStore's size field has four bits for the owner."""
_KINDS: dict[str, type[StorageError]] = {
    "DATA_CORRUPT": CorruptMedium,
    "FLASH_AREA_TOO_SMALL": NoSpace,
    "ALREADY_EXISTS": WriteOnce,
}
_HINTS = {
    "NOT_FOUND": "keys() lists what is there",
    "DATA_CORRUPT": "set it again",
    "FLASH_AREA_TOO_SMALL": "remove keys, or give the store larger areas; restart before the next set",
    "ALREADY_EXISTS": "only reset() of the whole store removes it",
}


@dataclass(frozen=True)
class _Entry:
    area: int
    offset: int
    once: bool
    owner: int


class FlashRecords(ABC):
    """Records over two areas of a flash, each (offset, size in B) of whole sectors; opened at their first use."""

    type: ClassVar[str]
    status: ClassVar[Statuses]
    prefix: ClassVar[str]
    size_mask: ClassVar[int]
    max_data: ClassVar[int]
    min_area: ClassVar[int]
    retries: ClassVar[int]

    def __init__(self, flash: BlockDevice, areas: Sequence[tuple[int, int]]) -> None:
        require_device(flash, self.type)
        self.flash = flash
        self.areas = tuple(areas)
        self.max_keys = 16
        if len(self.areas) != 2 or min(size for _, size in self.areas) < self.min_area:
            hint = f"two areas of {self.min_area} B or more"
            raise self._refuse("FLASH_AREA_TOO_SMALL", f"areas {list(areas)}", hint)
        (low, size), (high, _) = sorted(self.areas)
        if low < 0 or low + size > high:
            hint = "two areas of their own: one is erased while the other holds the records"
            raise ConfigError(f"{self.type}: areas {list(areas)} share flash, or begin before it", hint=hint)
        self._unit = max(flash.program_size, HEADER.size)
        self._first = align(HEADER.size + MASTER.size, self._unit)
        self._mutex = flash.clock.mutex()
        self._opened = False
        self._live = self._version = self._free = 0
        self._table: dict[int, _Entry] = {}

    def init(self) -> None:
        """Open the store now; any other call does so, too."""
        with self._mutex:
            self._ready()

    def deinit(self) -> None:
        """Forget what is in RAM: the next use opens the store again."""
        with self._mutex:
            self._opened = False

    def get(self, key: int) -> bytes:
        """Return the data stored under key.

        Raises:
            StorageError: NOT_FOUND.
            CorruptMedium: its CRC is wrong.
        """
        with self._mutex:
            self._ready(key)
            entry = self._table.get(key)
            if entry is None:
                raise self._refuse("NOT_FOUND", f"no key {key}")
            record = self._read(entry.area, entry.offset)
            if record is None:
                raise self._refuse("DATA_CORRUPT", f"the record of key {key} is damaged")
            return record.data

    def set(self, key: int, data: bytes) -> None:
        """Store data under key; the old data stay until the new are complete.

        Raises:
            NoSpace: FLASH_AREA_TOO_SMALL: the records do not fit into one area.
        """
        self._store(key, data, 0)

    def remove(self, key: int) -> None:
        """Forget key.

        Raises:
            StorageError: NOT_FOUND.
        """
        self._store(key, b"", DELETED)

    def keys(self) -> list[int]:
        """List the keys that hold data."""
        with self._mutex:
            self._ready()
            return sorted(self._table)

    def iterate(self) -> Iterator[int]:
        """Go through the keys that hold data."""
        return iter(self.keys())

    def reset(self) -> None:
        """Erase both areas: everything is gone."""
        with self._mutex:
            self._opened = False
            for area in (0, 1):
                self._erase(area)
            self._open()

    # -- what differs ----------------------------------------------------------------------------------

    @abstractmethod
    def _master(self) -> int:
        """Return the second half-word of a master record."""

    @abstractmethod
    def _adopt(self, master: int) -> None:
        """Take over what a master record's second half-word says."""

    @abstractmethod
    def _size(self, area: int) -> int:
        """Return how much (B) of an area is used."""

    @abstractmethod
    def _goes_first(self, flags: int) -> bool:
        """Whether a record of these flags is written when its turn brings a collection."""

    @abstractmethod
    def _fits(self, to: int, length: int, size: int) -> bool:
        """Whether a record of length (B, not aligned) may be copied to an offset of an area of size (B)."""

    def _is_once(self, flags: int) -> bool:
        return bool(flags & SET_ONCE)

    # -- records ---------------------------------------------------------------------------------------

    def _store(self, key: int, data: bytes, flags: int, owner: int | None = None) -> None:
        if not isinstance(data, BYTES):
            raise self._refuse("BAD_VALUE", f"{type(data).__name__} for key {key}", "bytes")
        data = bytes(data)
        if owner is not None and (type(owner) is not int or not 0 <= owner <= MAX_OWNER):
            raise self._refuse("BAD_VALUE", f"owner {owner!r} for key {key}", f"0 to {MAX_OWNER}")
        if len(data) > self.max_data:
            raise self._refuse("BAD_VALUE", f"{len(data)} B for key {key}", f"at most {self.max_data} B")
        with self._mutex:
            self._ready(key)
            entry = self._table.get(key)
            if flags & DELETED and entry is None:
                raise self._refuse("NOT_FOUND", f"no key {key} to remove")
            if entry is not None and entry.once:
                raise self._refuse("ALREADY_EXISTS", f"key {key} was set once")
            if owner is None:
                owner = entry.owner if entry is not None else 0
            offset = self._free
            self._free += align(HEADER.size + len(data), self._unit)
            if self._free >= self._size(self._live):
                self._collect(key, flags, owner, data)
                return
            self._write_record(self._live, offset, key, flags, owner, data)
            if flags & DELETED:
                del self._table[key]
            else:
                self._table[key] = _Entry(self._live, offset, self._is_once(flags), owner)

    def _collect(self, key: int | None = None, flags: int = 0, owner: int = 0, data: bytes = b"") -> None:
        other, to = 1 - self._live, self._first
        if key is not None and self._goes_first(flags):
            # Without its flags, as in Mbed: set-once lasts until the next start, and a deletion deletes nothing.
            self._write_record(other, to, key, 0, owner, data)
            self._table[key] = _Entry(other, to, self._is_once(flags), owner)
            to += align(HEADER.size + len(data), self._unit)
        for number, entry in sorted(self._table.items()):
            if entry.area == self._live:
                length = self._copy(entry.offset, to)
                self._table[number] = _Entry(other, to, entry.once, entry.owner)
                to += align(length, self._unit)
        self._version = self._version + 1 & 0xFFFF
        self._write_master(other, self._version)
        self._free = to
        self._live = other
        self._erase(1 - other)

    def _copy(self, offset: int, to: int) -> int:
        """Copy a record into the other area, as Mbed does in pieces, and return its length (B, not aligned)."""
        start = self.areas[self._live][0] + offset
        _, size_field, _ = HEADER.unpack(self.flash.read(start, HEADER.size))
        length: int = HEADER.size + (size_field & self.size_mask)
        if not self._fits(to, length, self._size(1 - self._live)):
            raise self._refuse("FLASH_AREA_TOO_SMALL", "the live records do not fit into the other area")
        piece = self._unit if self._unit > HEADER.size else _CHUNK
        for done in range(0, length, piece):
            self._program(1 - self._live, to + done, self.flash.read(start + done, min(piece, length - done)))
        return length

    def _read(self, area: int, offset: int) -> FlashRecord | None:
        # Nothing keeps a record inside its area, in Mbed: only the end of the flash does here.
        start = self.areas[area][0] + offset
        room = self.flash.size - start - HEADER.size
        if room < 0:
            return None
        head = self.flash.read(start, HEADER.size)
        _, size_field, _ = HEADER.unpack(head)
        data_size = min(size_field & self.size_mask, room)
        body = self.flash.read(start + HEADER.size, data_size) if data_size else b""
        record = parse(head + body, offset, self.size_mask, self._unit)
        if record is None or (record.key >= self.max_keys and record.key != MASTER_KEY):
            return None
        return record

    def _write_record(self, area: int, offset: int, key: int, flags: int, owner: int, data: bytes) -> None:
        record = pack(key, flags, len(data) | owner << 12, data)
        # The header's program unit goes first, then the rest.
        head = self._unit if self._unit > HEADER.size else HEADER.size
        self._program(area, offset, record[:head])
        if len(record) > head:
            self._program(area, offset + head, record[head:])

    def _write_master(self, area: int, version: int) -> None:
        self._write_record(area, 0, MASTER_KEY, 0, 0, MASTER.pack(version, self._master(), 0))

    def _program(self, area: int, offset: int, data: bytes) -> None:
        padded = data.ljust(align(len(data), self.flash.program_size), b"\xff")
        for left in range(self.retries - 1, -1, -1):
            try:
                self.flash.program(self.areas[area][0] + offset, padded)
                return
            except StorageError as error:
                if not left:
                    raise self._refuse("WRITE_ERROR", error.message, error.hint) from error
                self.flash.clock.charge(_RETRY_NS)

    def _erase(self, area: int) -> None:
        for left in range(self.retries - 1, -1, -1):
            try:
                self.flash.erase(*self.areas[area])
                return
            except StorageError as error:
                if not left:
                    raise self._refuse("WRITE_ERROR", error.message, error.hint) from error
                self.flash.clock.charge(_RETRY_NS)

    # -- opening ---------------------------------------------------------------------------------------

    def _ready(self, key: int = 0) -> None:
        if not self._opened:
            self._open()
        if not isinstance(key, int) or not 0 <= key < self.max_keys:
            raise self._refuse("BAD_VALUE", f"key {key!r}", f"keys are 0 to {self.max_keys - 1}")

    def _open(self) -> None:
        self._table = {}
        versions: dict[int, int] = {}
        ends = [self._end_of_records(area) for area in (0, 1)]
        for area in (0, 1):
            if not ends[area]:
                continue
            master = self._read(area, 0)
            if master is None or master.key != MASTER_KEY or len(master.data) > MASTER.size:
                self._erase(area)
                continue
            versions[area], adopted, _ = MASTER.unpack(master.data.ljust(MASTER.size, b"\0"))
            self._adopt(adopted)
            self._live, self._version = area, versions[area]
        if not versions:
            # As in Mbed: the version in RAM stays what it was, so that the first collection may write 1 again.
            self._live, self._free = 0, self._first
            self._write_master(0, 1)
            self._opened = True
            return
        if len(versions) == 2:  # as Mbed has it; when a version has wrapped this may be the older area
            self._live = 0 if versions[0] > versions[1] or versions[0] == 0 else 1
            self._version = versions[self._live]
            self._erase(1 - self._live)
        self._scan(ends[self._live])
        self._opened = True

    def _scan(self, end: int) -> None:
        self._free = self._first
        while self._free < end:
            record = self._read(self._live, self._free)
            if record is None:  # a power cut tore it: what is good goes into the other area
                self._collect()
                return
            if record.flags & DELETED:
                self._table.pop(record.key, None)
            else:
                owner = (record.size_field & ~self.size_mask) >> 12
                self._table[record.key] = _Entry(self._live, self._free, self._is_once(record.flags), owner)
            self._free = record.next

    def _end_of_records(self, area: int) -> int:
        """Return where nothing but 0xFF follows in an area (B)."""
        start, end = self.areas[area][0], self._size(area)
        while end >= _CHUNK:
            used = len(self.flash.read(start + end - _CHUNK, _CHUNK).rstrip(b"\xff"))
            if used:
                return end - _CHUNK + used
            end -= _CHUNK
        return 0

    def _refuse(self, name: str, what: str, hint: str | None = None) -> StorageError:
        status = self.status[name]
        return _KINDS.get(name, StorageError)(
            f"{self.type}: {what} ({self.prefix}_{name}, {status.value})", code=status, hint=hint or _HINTS.get(name)
        )

    def __repr__(self) -> str:
        # The data are secrets.
        where = " and ".join(f"{size} B at 0x{offset:x}" for offset, size in self.areas)
        return f"<{self.type} in {where}>"
