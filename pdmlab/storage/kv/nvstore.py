"""NVStore: small numbered records in two areas of internal flash, one of them live; the root of trust is one.

The layout is that of Mbed's NVStore, little-endian: records of a header of 8 B (u16 key and flags, u16 size
and owner, u32 CRC over the rest) and data, aligned to max(8, program size). The first record of an area is
its master record, written last, whose version says which area is newer. A full area is copied into the other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pdmlab.errors import CorruptMedium, NoSpace, StorageError, WriteOnce
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.kv.crc import crc32

HEADER = struct.Struct("<HHI")
_MASTER = struct.Struct("<HHI")
_MASTER_KEY = 0xFFE
_DELETED, _SET_ONCE, _KEY_MASK = 0x8000, 0x4000, 0x0FFF
_SIZE_MASK = 0x0FFF
MAX_DATA = 4095
MAX_KEYS = 16
MIN_AREA = 4096


class NvstoreError(IntEnum):
    """NVSTORE_* of Mbed OS."""

    READ_ERROR = -1
    WRITE_ERROR = -2
    NOT_FOUND = -3
    DATA_CORRUPT = -4
    BAD_VALUE = -5
    BUFF_TOO_SMALL = -6
    FLASH_AREA_TOO_SMALL = -7
    OS_ERROR = -8
    ALREADY_EXISTS = -9
    NO_FREE_KEY = -10


class SotpType(IntEnum):
    """Keys that the client's secure one-time-programmable store uses; ROT is also NVStore's DEVICEKEY."""

    FACTORY_DONE = 0
    RANDOM_SEED = 1
    SAVED_TIME = 2
    LAST_TIME_BACK = 3
    ROT = 4
    TRUSTED_TIME_SRV_ID = 5
    EXECUTION_MODE = 6
    OEM_TRANSFER = 7
    MIN_FW_VERSION = 8


@dataclass(frozen=True)
class _Record:
    offset: int
    flags: int
    key: int
    owner: int
    data: bytes


class NVStore:
    """Numbered records over two areas of a flash, each (offset, size in B): whole sectors of 4096 B or more."""

    def __init__(self, flash: BlockDevice, areas: Sequence[tuple[int, int]]) -> None:
        self.flash = flash
        self.areas = tuple(areas)
        if len(self.areas) != 2 or min(size for _, size in self.areas) < MIN_AREA:
            raise _error(NvstoreError.FLASH_AREA_TOO_SMALL, f"areas {list(areas)}", "two areas of 4096 B or more")
        self._unit = max(flash.program_size, HEADER.size)
        self._mutex = flash.clock.mutex()
        self._live: int | None = None
        self._version = 0
        self._end = 0
        self._table: dict[int, int] = {}

    def get(self, key: int) -> bytes:
        """Return the data stored under key.

        Raises:
            StorageError: NVSTORE_NOT_FOUND (-3).
            CorruptMedium: its CRC is wrong.
        """
        with self._mutex:
            self._ready(key)
            if key not in self._table:
                raise _error(NvstoreError.NOT_FOUND, f"no key {key}", "keys() lists what is there")
            return self._record(key).data

    def set(self, key: int, data: bytes, *, owner: int = 0) -> None:
        """Store data (at most 4095 B) under key; the old data stay until the new are complete."""
        self._store(key, bytes(data), 0, owner)

    def set_once(self, key: int, data: bytes, *, owner: int = 0) -> None:
        """Store data that nothing but reset() can change."""
        self._store(key, bytes(data), _SET_ONCE, owner)

    def remove(self, key: int) -> None:
        """Forget key.

        Raises:
            StorageError: NVSTORE_NOT_FOUND (-3).
        """
        with self._mutex:
            self._ready(key)
            if key not in self._table:
                raise _error(NvstoreError.NOT_FOUND, f"no key {key} to remove", "keys() lists what is there")
            self._store(key, b"", _DELETED, 0)

    def keys(self) -> list[int]:
        """List the keys that hold data."""
        with self._mutex:
            self._ready(0)
            return sorted(self._table)

    def reset(self) -> None:
        """Erase both areas: everything is gone, set-once data too."""
        with self._mutex:
            for area in (0, 1):
                self._erase(area)
            self._live = None
            self._open()

    # -- records -------------------------------------------------------------------------------------

    def _store(self, key: int, data: bytes, flags: int, owner: int) -> None:
        if len(data) > MAX_DATA:
            raise _error(NvstoreError.BAD_VALUE, f"{len(data)} B for key {key}", f"at most {MAX_DATA} B")
        with self._mutex:
            self._ready(key)
            if key in self._table and self._record(key).flags & _SET_ONCE:
                raise WriteOnce(
                    f"NVStore: key {key} was set once (NVSTORE_ALREADY_EXISTS, {NvstoreError.ALREADY_EXISTS})",
                    code=NvstoreError.ALREADY_EXISTS,
                    hint="only reset() of the whole store removes it",
                )
            assert self._live is not None
            record = _pack(key, flags, owner, data)
            if self._end + self._aligned(len(record)) > self.areas[self._live][1]:
                self._collect(key, record, bool(flags & _DELETED))
                return
            offset = self._end
            self._end += self._aligned(len(record))
            self._write(self._live, offset, record)
            if flags & _DELETED:
                self._table.pop(key, None)
            else:
                self._table[key] = offset

    def _collect(self, key: int | None, record: bytes, deleted: bool) -> None:
        """Copy what lives into the other area, the new record first and the master record last; then switch."""
        assert self._live is not None
        other = 1 - self._live
        self._erase(other)
        end = self._aligned(HEADER.size + _MASTER.size)
        room = self.areas[other][1]
        table: dict[int, int] = {}
        live = {k: offset for k, offset in self._table.items() if k != key}
        records = [(k, self._raw(self._live, offset)) for k, offset in live.items()]
        if key is not None and not deleted:
            records.insert(0, (key, record))
        if end + sum(self._aligned(len(raw)) for _, raw in records) > room:
            raise NoSpace(
                f"NVStore: no room for key {key} (NVSTORE_FLASH_AREA_TOO_SMALL, {NvstoreError.FLASH_AREA_TOO_SMALL})",
                code=NvstoreError.FLASH_AREA_TOO_SMALL,
                hint="remove keys, or give the store larger areas",
            )
        for number, raw in records:
            self._write(other, end, raw)
            table[number] = end
            end += self._aligned(len(raw))
        self._write_master(other, self._version + 1 & 0xFFFF)
        old, self._live = self._live, other
        self._table, self._end = table, end
        self._erase(old)

    def _record(self, key: int) -> _Record:
        assert self._live is not None
        record = self._parse(self._live, self._table[key])
        if record is None:
            raise CorruptMedium(
                f"NVStore: the record of key {key} is damaged (NVSTORE_DATA_CORRUPT, {NvstoreError.DATA_CORRUPT})",
                code=NvstoreError.DATA_CORRUPT,
                hint="set it again",
            )
        return record

    def _parse(self, area: int, offset: int) -> _Record | None:
        """Read the record there; None if it is damaged, or none."""
        start, size = self.areas[area]
        if offset + HEADER.size > size:
            return None
        key, length, crc = HEADER.unpack(self.flash.read(start + offset, HEADER.size))
        n = length & _SIZE_MASK
        if offset + HEADER.size + n > size:
            return None
        data = self.flash.read(start + offset + HEADER.size, n) if n else b""
        if crc32(struct.pack("<HH", key, length) + data) != crc:
            return None
        return _Record(offset, key & (_DELETED | _SET_ONCE), key & _KEY_MASK, length >> 12, data)

    def _raw(self, area: int, offset: int) -> bytes:
        record = self._parse(area, offset)
        if record is None:
            raise CorruptMedium(
                f"NVStore: a record at 0x{offset:x} is damaged (NVSTORE_DATA_CORRUPT, {NvstoreError.DATA_CORRUPT})",
                code=NvstoreError.DATA_CORRUPT,
            )
        return _pack(record.key, record.flags, record.owner, record.data)

    def _write(self, area: int, offset: int, record: bytes) -> None:
        padded = record + b"\xff" * (self._aligned(len(record)) - len(record))
        self.flash.program(self.areas[area][0] + offset, padded)

    def _write_master(self, area: int, version: int) -> None:
        self._write(area, 0, _pack(_MASTER_KEY, 0, 0, _MASTER.pack(version, MAX_KEYS, 0)))
        self._version = version

    def _aligned(self, size: int) -> int:
        return -(-size // self._unit) * self._unit

    def _erase(self, area: int) -> None:
        self.flash.erase(*self.areas[area])

    def _is_blank(self, area: int) -> bool:
        return not self.flash.read(*self.areas[area]).strip(b"\xff")

    def _is_end(self, area: int, offset: int) -> bool:
        start, size = self.areas[area]
        return offset + HEADER.size > size or self.flash.read(start + offset, HEADER.size) == b"\xff" * HEADER.size

    # -- opening -------------------------------------------------------------------------------------

    def _ready(self, key: int) -> None:
        if not 0 <= key < MAX_KEYS:
            raise _error(NvstoreError.BAD_VALUE, f"key {key}", f"keys are 0 to {MAX_KEYS - 1}")
        if self._live is None:
            self._open()

    def _open(self) -> None:
        versions: dict[int, int] = {}
        for area in (0, 1):
            master = self._parse(area, 0)
            if master is not None and master.key == _MASTER_KEY and len(master.data) == _MASTER.size:
                versions[area] = _MASTER.unpack(master.data)[0]
            elif not self._is_blank(area):
                self._erase(area)
        self._table = {}
        if not versions:
            self._live, self._end = 0, self._aligned(HEADER.size + _MASTER.size)
            self._write_master(0, 1)
            return
        live = max(versions, key=lambda area: versions[area])
        if set(versions.values()) == {0, 0xFFFF}:  # the version has wrapped
            live = next(area for area, version in versions.items() if version == 0)
        if len(versions) == 2:
            self._erase(1 - live)
        self._live, self._version = live, versions[live]
        self._scan(live)

    def _scan(self, live: int) -> None:
        offset = self._aligned(HEADER.size + _MASTER.size)
        while not self._is_end(live, offset):
            record = self._parse(live, offset)
            if record is None:  # a record that a power cut tore: what is good goes to the other area
                self._end = offset
                self._collect(None, b"", False)
                return
            if record.flags & _DELETED:
                self._table.pop(record.key, None)
            else:
                self._table[record.key] = offset
            offset += self._aligned(HEADER.size + len(record.data))
        self._end = offset

    def __repr__(self) -> str:
        # The data are secrets.
        return f"<NVStore in {' and '.join(f'{size} B at 0x{offset:x}' for offset, size in self.areas)}>"


def root_of_trust(store: NVStore, random_bytes: Callable[[int], bytes]) -> bytes:
    """Return the device's root of trust (16 B), making it from random bytes the first time.

    random_bytes: the board's source of randomness.
    """
    try:
        return store.get(SotpType.ROT)
    except StorageError as error:
        if error.code != NvstoreError.NOT_FOUND:
            raise
    key = random_bytes(16)
    store.set_once(SotpType.ROT, key)
    return key


def _pack(key: int, flags: int, owner: int, data: bytes) -> bytes:
    head = struct.pack("<HH", key | flags, len(data) | owner << 12)
    return head + struct.pack("<I", crc32(head + data)) + data


def _error(code: NvstoreError, what: str, hint: str) -> StorageError:
    return StorageError(f"NVStore: {what} (NVSTORE_{code.name}, {code.value})", code=code, hint=hint)
