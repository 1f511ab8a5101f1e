"""The records in the bytes of a store's two areas: which are sound, which are live, which are garbage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from pdmlab.storage.kv import areas, flashrecord
from pdmlab.storage.kv.crc import crc32_unreflected
from pdmlab.storage.kv.kvstore import MAX_KEY_SIZE
from pdmlab.storage.kv.sotp import SotpType

State = Literal["master", "live", "garbage", "deleted", "reserved"]
UNITS = tuple(1 << n for n in range(13))
"""Program units (B) that a store may be aligned to."""
_LIKELY_AREA = 4096
_SECTOR = 256
"""No flash has smaller sectors, so that areas begin at multiples of it."""


@dataclass(frozen=True)
class Row:
    """A record: offset in the image and length there, size of its data (all B)."""

    offset: int
    length: int
    key: str
    flags: int
    size: int
    sound: bool
    state: State


@dataclass
class Area:
    """An area of a store: where it lies in the image, its master record's version (None if it has none)."""

    offset: int
    size: int
    version: int | None = None
    live: bool = False
    rows: list[Row] = field(default_factory=list)

    @property
    def used(self) -> int:
        """How far its records reach (B)."""
        return max((row.offset + row.length for row in self.rows), default=self.offset) - self.offset


@dataclass
class Dump:
    """A store found in an image: TDBStore, or NVStore or SOTP, in units of so many B."""

    kind: str
    unit: int
    areas: list[Area]
    root_of_trust: bytes | None = field(default=None, repr=False)

    @property
    def offset(self) -> int:
        """Where it begins in the image (B)."""
        return min(area.offset for area in self.areas)

    @property
    def size(self) -> int:
        """How much it takes in the image (B)."""
        return max(area.offset + area.size for area in self.areas) - self.offset


def find_stores(image: bytes) -> list[Dump]:
    """Return the TDBStore, and the NVStore or SOTP, that an image holds."""
    found = (_find(image, _tdb_starts(image), _read_tdb), _find(image, _flash_starts(image), _read_flash))
    return [dump for dump in found if dump is not None]


Reader = Callable[[bytes, int, list[tuple[int, int]]], Dump | None]


def _find(image: bytes, starts: list[int], read: Reader) -> Dump | None:
    if not starts:
        return None
    pair = _pair(image, starts[:2])
    # Of the units that fit, the one that makes sense of most records.
    dumps = [dump for unit in UNITS if (dump := read(image, unit, pair)) is not None]
    return max(dumps, key=_sense, default=None)


def _sense(dump: Dump) -> tuple[int, int]:
    rows = [row for area in dump.areas for row in area.rows]
    return sum(row.sound for row in rows), len(rows)


def _pair(image: bytes, starts: list[int]) -> list[tuple[int, int]]:
    """Return offset and size of both areas; where one has no master record this is the likeliest guess."""
    if len(starts) == 2:
        length = starts[1] - starts[0]
        return [(starts[0], length), (starts[1], min(length, len(image) - starts[1]))]
    (start,), half = starts, len(image) // 2
    rest = len(image) - start
    if start in (0, half):
        return [(0, half), (half, len(image) - half)]
    if rest >= 2 * _LIKELY_AREA:
        return [(start, rest // 2), (start + rest // 2, rest - rest // 2)]
    return [(max(start - rest, 0), rest), (start, rest)]


def _mark_live(found: list[Area]) -> Area | None:
    """Choose the live area as a start does."""
    valid = [area for area in found if area.version is not None]
    if not valid:
        return None
    if len(valid) == 2:
        first, second = (area.version or 0 for area in valid)
        valid = [valid[0] if first > second or first == 0 else valid[1]]
    valid[0].live = True
    return valid[0]


def _judge(area: Area, rows: list[tuple[Row, bool]]) -> None:
    """Add rows, of which some say that their key is deleted, to an area, with what they are worth."""
    newest = {row.key: index for index, (row, _) in enumerate(rows) if row.sound}
    for index, (row, deletes) in enumerate(rows):
        state: State = "garbage"
        if row.state in ("master", "reserved"):
            state = row.state
        elif area.live and row.sound and newest[row.key] == index:
            state = "deleted" if deletes else "live"
        area.rows.append(Row(row.offset, row.length, row.key, row.flags, row.size, row.sound, state))


# -- TDBStore ----------------------------------------------------------------------------------------


def _tdb_starts(image: bytes) -> list[int]:
    """Return where areas with a TDBStore's master record begin."""
    magic, starts, at = areas.MAGIC.to_bytes(4, "little"), set[int](), -1
    while (at := image.find(magic, at + 1)) >= 0:
        for unit in UNITS:
            key = at + areas.align(areas.HEADER.size, unit)
            start = at - areas.align(areas.RESERVED_SIZE + areas.TRAILER.size, unit)
            if start >= 0 and start % _SECTOR == 0 and image[key : key + 4] == areas.MASTER_KEY:
                starts.add(start)
    return sorted(starts)


def _read_tdb(image: bytes, unit: int, pair: list[tuple[int, int]]) -> Dump | None:
    dump = Dump("TDBStore", unit, [Area(*each) for each in pair])
    master = areas.align(areas.RESERVED_SIZE + areas.TRAILER.size, unit)
    rows: list[list[tuple[Row, bool]]] = []
    for area in dump.areas:
        raw = image[area.offset : area.offset + area.size]
        rows.append(list(_tdb_rows(raw, master, unit, area.offset)))
        if rows[-1] and rows[-1][0][0].sound:
            data = master + areas.align(areas.HEADER.size, unit) + len(areas.MASTER_KEY)
            area.version = areas.MASTER.unpack_from(raw, data)[0]
    live = _mark_live(dump.areas)
    if live is None:
        return None
    for area, found in zip(dump.areas, rows, strict=True):
        reserved = _reserved(image, area.offset)
        if reserved is not None:
            size = len(reserved)
            area.rows.append(Row(area.offset, master, "reserved data", 0, size, True, "reserved"))
            if size == 16:
                dump.root_of_trust = reserved
        _judge(area, found)
    return dump


def _tdb_rows(raw: bytes, offset: int, unit: int, base: int) -> Iterator[tuple[Row, bool]]:
    first = offset
    while offset + areas.HEADER.size <= len(raw):
        magic, _, _, flags, key_size, _, size, crc = areas.HEADER.unpack_from(raw, offset)
        start = offset + areas.align(areas.HEADER.size, unit)
        end = start + key_size + size
        if magic != areas.MAGIC or not 0 < key_size < MAX_KEY_SIZE or end > len(raw):
            return
        body = raw[start:end]
        sound = crc32_unreflected(raw[offset : offset + areas.HEADER.size - 4], body) == crc
        key = body[:key_size].decode(errors="replace")
        is_master = offset == first and body[:key_size] == areas.MASTER_KEY
        after = areas.align(end, unit)
        state: State = "master" if is_master else "garbage"
        row = Row(base + offset, after - offset, key, flags & ~areas.DELETED, size, sound, state)
        yield row, bool(flags & areas.DELETED)
        if not sound:
            return
        offset = after


def _reserved(image: bytes, start: int) -> bytes | None:
    trailer = image[start + areas.RESERVED_SIZE : start + areas.RESERVED_SIZE + areas.TRAILER.size]
    if len(trailer) < areas.TRAILER.size:
        return None
    size, length, crc = areas.TRAILER.unpack(trailer)
    data = image[start : start + length]
    if size != areas.TRAILER.size or length > areas.RESERVED_SIZE or crc32_unreflected(data) != crc:
        return None
    return data


# -- NVStore and SOTP --------------------------------------------------------------------------------


def _flash_starts(image: bytes) -> list[int]:
    """Return where areas with an NVStore's or SOTP's master record begin."""
    head = flashrecord.pack(flashrecord.MASTER_KEY, 0, flashrecord.MASTER.size, b"")[:4]
    starts, at = [], -1
    while (at := image.find(head, at + 1)) >= 0:
        raw = image[at : at + flashrecord.HEADER.size + flashrecord.MASTER.size]
        if at % _SECTOR == 0 and flashrecord.parse(raw, 0, 0x0FFF, 8) is not None:
            starts.append(at)
    return starts


def _read_flash(image: bytes, unit: int, pair: list[tuple[int, int]]) -> Dump | None:
    if unit < flashrecord.HEADER.size:
        return None
    dump = Dump("SOTP", unit, [Area(*each) for each in pair])
    size_mask = 0xFFFF
    masters = [flashrecord.parse(image[area.offset : area.offset + 16], 0, 0x0FFF, unit) for area in dump.areas]
    for area, master in zip(dump.areas, masters, strict=True):
        if master is not None and master.key == flashrecord.MASTER_KEY:
            area.version, keys, _ = flashrecord.MASTER.unpack(master.data)
            if keys:  # how many an NVStore may have; 0 is SOTP's revision
                dump.kind, size_mask = "NVStore", 0x0FFF
    if _mark_live(dump.areas) is None:
        return None
    for area in sorted(dump.areas, key=lambda area: area.live):
        raw = image[area.offset : area.offset + area.size]
        _judge(area, list(_flash_rows(raw, unit, size_mask, area.offset, dump)))
    return dump


def _flash_rows(raw: bytes, unit: int, size_mask: int, base: int, dump: Dump) -> Iterator[tuple[Row, bool]]:
    offset, end = 0, len(raw.rstrip(b"\xff"))
    while offset < end:
        size = int.from_bytes(raw[offset + 2 : offset + 4], "little") & size_mask
        record = flashrecord.parse(raw[offset : offset + flashrecord.HEADER.size + size], offset, size_mask, unit)
        if record is None:
            yield Row(base + offset, areas.align(end, unit) - offset, "?", 0, end - offset, False, "garbage"), False
            return
        is_master = offset == 0 and record.key == flashrecord.MASTER_KEY
        deletes = bool(record.flags & flashrecord.DELETED)
        if record.key == SotpType.ROT:  # the live area comes last, and in it the newest
            dump.root_of_trust = None if deletes else record.data
        state: State = "master" if is_master else "garbage"
        flags, key = record.flags & ~flashrecord.DELETED, _key_name(dump.kind, record.key)
        yield Row(base + offset, record.next - offset, key, flags, len(record.data), True, state), deletes
        offset = record.next


def _key_name(kind: str, key: int) -> str:
    if key == flashrecord.MASTER_KEY:
        return "master"
    known = key == SotpType.ROT or (kind == "SOTP" and key in list(SotpType))
    return f"{key} ({SotpType(key).name})" if known else str(key)
