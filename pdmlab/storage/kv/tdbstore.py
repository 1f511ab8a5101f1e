"""TDBStore: named records in two areas of a flash, one of them live, byte for byte and step for step as in Mbed OS 6.

Little-endian. An area begins with 64 B of reserved data and their trailer (u16 size 8, u16 data size, u32 CRC).
Then come the master record and the others, in the order in which they were set, aligned to the program size:

| offset | bytes |
|---|---|
| 0 | u32 magic 0x54686683, u16 header size 24, u16 revision 1, u32 flags (deleted: bit 31) |
| 12 | u16 key size, u16 0, u32 data size, u32 CRC over the header before it, key and data |
| 24, aligned | key, data |

The master record's key is "TDBS", its data u16 version, u16 revision 1, u32 0. A record's header is written last,
then the device is synced and the record read back. A full area is collected into the other one, whose master
record, with the next version, is written last; the old area stays until it is needed. What is odd in that is
Mbed's own: docs/decisions/0011-stores-as-they-are.md lists it.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import ExitStack

from pdmlab.errors import CorruptMedium, StorageError
from pdmlab.storage.blockdevice import BlockDevice, require_device
from pdmlab.storage.kv.areas import (
    DELETED,
    HEADER,
    MAGIC,
    MASTER,
    MASTER_KEY,
    RESERVED_SIZE,
    REVISION,
    TRAILER,
    Areas,
    align,
)
from pdmlab.storage.kv.crc import crc32_unreflected, unreflected
from pdmlab.storage.kv.kvstore import Info, KeyIterator, KVFlag, KVStore, MbedError, SetHandle, refuse
from pdmlab.storage.kv.ramtable import Cursor, Place, RamTable

_SUPPORTED = KVFlag.WRITE_ONCE | KVFlag.REQUIRE_CONFIDENTIALITY | KVFlag.REQUIRE_REPLAY_PROTECTION
_MAX_ITERATORS = 16


class _Set(SetHandle):
    """A record under way: all but its header is written as it comes."""

    def __init__(self, key: bytes, size: int, flags: int, *, offset: int, place: Place | None) -> None:
        super().__init__(key.decode(errors="replace"), size, flags)
        self.offset, self.place = offset, place
        self.position = 0
        self.added = 0
        self.header = HEADER.pack(MAGIC, HEADER.size, REVISION, flags, len(key), 0, size, 0)[:-4]
        self.crc = zlib.crc32(key, zlib.crc32(self.header))
        self.held = ExitStack()


class TDBStore(KVStore):
    """Values by key over a flash whose sectors make two equal halves; where it cannot erase, 0xFF is programmed."""

    type = "TDBStore"

    def __init__(self, bd: BlockDevice) -> None:
        require_device(bd, self.type)
        self.bd = bd
        self._mutex = bd.clock.mutex()
        self._opened: Areas | None = None
        self._set: _Set | None = None
        self._table = RamTable()
        self._live = self._version = self._free = 0

    def init(self) -> None:
        """Find the live area and read its records as far as they are sound; a device with none gets an empty store."""
        with self._mutex:
            if self._opened is not None:
                return
            self._opened = Areas(self.bd)
            self._set = None
            self._table.clear()
            try:
                self._open(self._opened)
            except StorageError:
                self._opened = None
                self.bd.deinit()
                raise

    def deinit(self) -> None:
        """Sync the device and let it go."""
        with self._mutex:
            if self._opened is not None:
                areas, self._opened = self._opened, None
                self._table.cursors.clear()
                areas.close()

    def get(self, key: str, size: int | None = None, offset: int = 0) -> bytes:
        """Return at most size bytes of a value, all if None, from offset on."""
        raw = self._check_key(key)
        self._check_stretch(size, offset)
        with self._mutex:
            return self._areas.record(self._live, self._require(raw), at=offset, size=size).data

    def get_info(self, key: str) -> Info:
        """Return size (B) and flags of a value."""
        raw = self._check_key(key)
        with self._mutex:
            record = self._areas.record(self._live, self._require(raw), size=0)
            return Info(record.size, KVFlag(record.flags))

    def set_start(self, key: str, size: int, flags: int = 0) -> SetHandle:
        """Make room for a record, collecting if need be, and write its key; its header follows at the end."""
        raw = self._check_key(key)
        if flags & ~_SUPPORTED:
            raise refuse(self.type, MbedError.INVALID_ARGUMENT, f"flags 0x{flags:x} for {key!r}", "see KVFlag")
        return self._start(raw, size, flags)

    def set_add_data(self, handle: SetHandle, data: bytes) -> None:
        """Write the next piece of a value."""
        held = self._held(handle)
        if held.added + len(data) > held.size:
            raise refuse(self.type, MbedError.INVALID_SIZE, f"more than {held.size} B for {held.key!r}", "as announced")
        held.crc = zlib.crc32(data, held.crc)
        try:
            self._areas.write(self._live, held.position, data)
        except StorageError:
            self._abandon(held)
            raise
        held.position += len(data)
        held.added += len(data)

    def set_finalize(self, handle: SetHandle) -> None:
        """Write the header, sync, read the record back, and make it the one of its key."""
        held, areas = self._held(handle), self._areas
        is_master = held.offset == areas.master
        try:
            if held.added != held.size:
                what = f"{held.added} B instead of {held.size} B for {held.key!r}"
                raise refuse(self.type, MbedError.INVALID_SIZE, what, "add all that was announced")
            areas.write(self._live, held.offset, held.header + struct.pack("<I", unreflected(held.crc)))
            areas.sync()
            if not is_master:
                areas.record(self._live, held.offset, size=0)
        except StorageError:
            self._abandon(held)
            raise
        with held.held:
            self._set = None
            if held.place is not None:
                if held.flags & DELETED:
                    self._table.delete(held.place)
                else:
                    self._table.put(held.place, held.offset)
                self._free = align(held.position, areas.unit)
                self._hide_older_records()

    def remove(self, key: str) -> None:
        """Write a record that says that the key is deleted."""
        self.set_finalize(self._start(self._check_key(key), 0, DELETED))

    def reset(self) -> None:
        """Erase the heads of both areas: every key is gone, and the reserved data."""
        with self._mutex:
            areas = self._areas
            for area in (0, 1):
                areas.erase(area, 0, areas.head + areas.unit, whole=True)
            self._live, self._version, self._free = 0, 1, areas.head
            self._table.clear()
            self._write_master()

    def iterate(self, prefix: str = "") -> KeyIterator:
        """Go through the keys, by falling CRC; after a restart "TDBS", the master record's, is among them, as in Mbed.

        Raises:
            StorageError: 16 iterators are open (OUT_OF_RESOURCES).
        """
        with self._mutex:
            self._ready()
            if len(self._table.cursors) >= _MAX_ITERATORS:
                what = f"{_MAX_ITERATORS} iterators are open"
                raise refuse(self.type, MbedError.OUT_OF_RESOURCES, what, "close() those that are done")
            keys = _Keys(self, prefix)
            self._table.cursors.append(keys.cursor)
            return keys

    def reserved_data_set(self, data: bytes) -> None:
        """Write at most 64 B beside the records, once; Mbed keeps the device key there."""
        if len(data) > RESERVED_SIZE:
            raise refuse(
                self.type, MbedError.INVALID_SIZE, f"{len(data)} B of reserved data", f"at most {RESERVED_SIZE}"
            )
        with self._mutex:
            areas = self._areas
            if self._reserved() is not None:
                what = "there are reserved data already"
                raise refuse(self.type, MbedError.WRITE_FAILED, what, "only reset() removes them")
            trailer = TRAILER.pack(TRAILER.size, len(data), crc32_unreflected(data))
            self._reset_area(1 - self._live)
            for area in (0, 1):
                areas.write(area, 0, data)
                areas.write(area, RESERVED_SIZE, trailer)
                areas.sync()

    def reserved_data_get(self) -> bytes:
        """Return the reserved data; where neither area has sound ones it is ITEM_NOT_FOUND."""
        with self._mutex:
            found = self._reserved()
            if found is None:
                hint = "reserved_data_set() writes them, once"
                raise refuse(self.type, MbedError.ITEM_NOT_FOUND, "there are no reserved data", hint)
            return found[0]

    # -- storing ---------------------------------------------------------------------------------------

    def _start(self, key: bytes, size: int, flags: int) -> _Set:
        with ExitStack() as stack:
            stack.enter_context(self._mutex)
            areas = self._areas
            if key == MASTER_KEY:
                held = _Set(key, size, flags, offset=areas.master, place=None)
            else:
                held = self._place(key, size, flags)
            held.position = held.offset + align(HEADER.size, areas.unit)
            try:
                areas.write(self._live, held.position, key)
            except StorageError:
                self._abandon(held)
                raise
            held.position += len(key)
            held.held = stack.pop_all()
            self._set = held
            return held

    def _place(self, key: bytes, size: int, flags: int) -> _Set:
        if self._set is not None:  # one that was never finalized: what it wrote is in the way
            unfinished, self._set = self._set, None
            unfinished.held.close()
            self._collect()
        areas = self._areas
        length = areas.length(len(key), size)
        if self._free + length > areas.size:
            self._collect()
        if self._free + length > areas.size:
            raise refuse(self.type, MbedError.MEDIA_FULL, f"no room for {size} B under {key.decode()!r}")
        place = self._find(key)
        if place.offset is not None:
            there = HEADER.unpack(areas.read(self._live, place.offset, HEADER.size))[3]
            if there & KVFlag.WRITE_ONCE:
                raise refuse(self.type, MbedError.WRITE_PROTECTED, f"{key.decode()!r} was stored write-once")
        elif flags & DELETED:
            raise refuse(self.type, MbedError.ITEM_NOT_FOUND, f"there is no {key.decode()!r} to remove")
        areas.erase(self._live, self._free, length)
        return _Set(key, size, flags, offset=self._free, place=place)

    def _held(self, handle: SetHandle) -> _Set:
        if not isinstance(handle, _Set) or handle is not self._set:
            raise refuse(self.type, MbedError.INVALID_ARGUMENT, f"{handle!r} is not being stored", "set_start() begins")
        return handle

    def _abandon(self, held: _Set) -> None:
        """Give up a record that may lie there in part: what is good moves to the other area."""
        with held.held:
            self._set = None
            if held.offset != self._areas.master:
                try:
                    self._collect()
                except StorageError:
                    pass  # as in Mbed: the first failure is the one that is told

    def _hide_older_records(self) -> None:
        """Erase on where an older record begins just behind the newest: the next start would take it for one more."""
        try:
            self._areas.record(self._live, self._free, size=0)
        except StorageError:
            return
        self._areas.erase(self._live, self._free, HEADER.size)

    # -- collecting ------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Copy the newest record of each key into the other area, then switch, then write its master record."""
        other, to = 1 - self._live, self._areas.head
        self._reset_area(other)
        for entry in self._table:
            after = self._areas.copy(self._live, entry.offset, to)
            entry.offset, to = to, after
        self._free = to
        self._live = other
        self._version = self._version + 1 & 0xFFFF
        self._write_master()

    def _write_master(self) -> None:
        handle = self._start(MASTER_KEY, MASTER.size, 0)
        self.set_add_data(handle, MASTER.pack(self._version, REVISION, 0))
        self.set_finalize(handle)

    def _reset_area(self, area: int) -> None:
        areas, reserved = self._areas, self._reserved()
        areas.erase(area, 0, areas.head + areas.unit, whole=True)
        if reserved is not None:
            data, trailer = reserved
            areas.write(area, 0, data.ljust(RESERVED_SIZE, b"\xff") + trailer)

    def _reserved(self) -> tuple[bytes, bytes] | None:
        """Return sound reserved data of either area, and their trailer."""
        areas = self._areas
        for area in (0, 1):
            trailer = areas.read(area, RESERVED_SIZE, TRAILER.size)
            size, length, crc = TRAILER.unpack(trailer)
            if size == TRAILER.size and length <= RESERVED_SIZE:
                data = areas.read(area, 0, length) if length else b""
                if crc32_unreflected(data) == crc:
                    return data, trailer
        return None

    # -- opening ---------------------------------------------------------------------------------------

    @property
    def _areas(self) -> Areas:
        return self._ready()

    def _ready(self) -> Areas:
        if self._opened is None:
            raise refuse(self.type, MbedError.NOT_READY, f"the store on {self.bd!r} is not initialised")
        return self._opened

    def _open(self, areas: Areas) -> None:
        first, second = (self._master_version(areas, area) for area in (0, 1))
        if first is None and second is None:
            self._reset_area(0)
            self._live, self._version, self._free = 0, 1, areas.head
            self._write_master()
            return
        if first is None or second is None:
            self._live = 0 if second is None else 1
        else:  # as Mbed has it; when a version has wrapped this may be the older area
            self._live = 0 if first > second or first == 0 else 1
        self._version = (second if self._live else first) or 0
        self._scan(areas)

    def _master_version(self, areas: Areas, area: int) -> int | None:
        try:
            record = areas.record(area, areas.master, size=MASTER.size)
        except CorruptMedium:
            return None
        if record.key != MASTER_KEY:  # Mbed halts the board there
            what = f"area {area} begins with a record of {record.key!r}"
            raise refuse(self.type, MbedError.ITEM_NOT_FOUND, what, "erase the medium: it holds no TDBStore")
        version: int = MASTER.unpack(record.data.ljust(MASTER.size, b"\0"))[0]
        return version

    def _scan(self, areas: Areas) -> None:
        """Read the records in turn until one is unsound, the master record among them; there free space begins."""
        self._free = areas.master
        while self._free + HEADER.size < areas.size:
            try:
                record = areas.record(self._live, self._free, size=0)
                place = self._find(record.key)
            except CorruptMedium:
                return
            if not record.flags & DELETED:
                self._table.put(place, self._free)
            elif place.offset is not None:
                self._table.delete(place)
            self._free = record.next

    def _find(self, key: bytes) -> Place:
        return self._table.find(key, lambda offset: self._areas.record(self._live, offset, size=0).key)

    def _require(self, key: bytes) -> int:
        offset = self._find(key).offset
        if offset is None:
            raise refuse(self.type, MbedError.ITEM_NOT_FOUND, f"there is no {key.decode()!r}")
        return offset

    def _next_key(self, cursor: Cursor, prefix: bytes) -> bytes | None:
        with self._mutex:
            areas = self._areas
            while cursor.index < len(self._table):
                key = areas.record(self._live, self._table[cursor.index].offset, size=0).key
                cursor.index += 1
                if key.startswith(prefix):
                    return key
            return None

    def _close_iterator(self, cursor: Cursor) -> None:
        with self._mutex:
            if cursor in self._table.cursors:
                self._table.cursors.remove(cursor)

    def __repr__(self) -> str:
        if self._opened is None:
            return f"<TDBStore on {self.bd!r}, not initialised>"
        return (
            f"<TDBStore on {self.bd!r}: {len(self._table)} keys in area {self._live}, version {self._version}, "
            f"{self._opened.size - self._free} of {self._opened.size} B free>"
        )


class _Keys(KeyIterator):
    def __init__(self, store: TDBStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix.encode()
        self.cursor = Cursor()

    def __next__(self) -> str:
        key = self._store._next_key(self.cursor, self._prefix)
        if key is None:
            self.close()
            raise StopIteration
        return key.decode(errors="replace")

    def close(self) -> None:
        """Give the iterator back; a second close does nothing."""
        self._store._close_iterator(self.cursor)
