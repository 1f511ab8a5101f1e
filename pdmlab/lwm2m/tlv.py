"""LwM2M's TLV format (OMA LwM2M 1.0.2 section 6.4.3, content format 11542) for input that may be hostile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pdmlab.errors import Lwm2mError


class Kind(IntEnum):
    """What an entry is: the top two bits of its type byte."""

    OBJECT_INSTANCE = 0
    RESOURCE_INSTANCE = 1
    MULTIPLE_RESOURCE = 2
    RESOURCE = 3


MAX_ENTRIES = 10_000
"""More are nobody's object: an entry of two bytes takes a hundred times that in memory."""
_INSIDE = {
    Kind.OBJECT_INSTANCE: (Kind.RESOURCE, Kind.MULTIPLE_RESOURCE),
    Kind.MULTIPLE_RESOURCE: (Kind.RESOURCE_INSTANCE,),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry: a value in bytes, or the entries inside an object instance or multiple resource."""

    kind: Kind
    id: int
    value: bytes = b""
    entries: tuple[Entry, ...] = ()


def resource(id: int, value: bytes) -> Entry:
    """Make a single resource."""
    return Entry(Kind.RESOURCE, id, value)


def multiple(id: int, values: Iterable[tuple[int, bytes]]) -> Entry:
    """Make a multiple resource of (instance id, value) pairs."""
    inside = tuple(Entry(Kind.RESOURCE_INSTANCE, i, value) for i, value in values)
    return Entry(Kind.MULTIPLE_RESOURCE, id, entries=inside)


def object_instance(id: int, entries: Sequence[Entry]) -> Entry:
    """Make an object instance."""
    return Entry(Kind.OBJECT_INSTANCE, id, entries=tuple(entries))


def encode(entries: Iterable[Entry]) -> bytes:
    """Return the entries' bytes, each with the shortest header.

    Raises:
        Lwm2mError: an id is not 0-65535, or a value has 2^24 bytes or more.
    """
    return b"".join(map(_encode, entries))


def _encode(entry: Entry) -> bytes:
    value = encode(entry.entries) if entry.kind in _INSIDE else entry.value
    size = len(value)
    if not 0 <= entry.id <= 0xFFFF or size >= 1 << 24:
        raise Lwm2mError(f"TLV cannot hold id {entry.id} with {size} B")
    wide = entry.id > 0xFF
    width = 0 if size < 8 else (size.bit_length() + 7) // 8
    head = entry.kind << 6 | wide << 5 | width << 3 | (size if width == 0 else 0)
    length = size.to_bytes(width, "big") if width else b""
    return bytes((head,)) + entry.id.to_bytes(1 + wide, "big") + length + value


def decode(data: bytes) -> tuple[Entry, ...]:
    """Read entries.

    Raises:
        Lwm2mError: they do not end, are nested as LwM2M does not allow, or are more than MAX_ENTRIES.
    """
    room = iter(range(MAX_ENTRIES))
    return _decode(data, (Kind.OBJECT_INSTANCE, Kind.RESOURCE, Kind.MULTIPLE_RESOURCE, Kind.RESOURCE_INSTANCE), room)


def _decode(data: bytes, allowed: tuple[Kind, ...], room: Iterator[int]) -> tuple[Entry, ...]:
    entries = []
    at = 0
    while at < len(data):
        head = data[at]
        kind = Kind(head >> 6)
        id_end = at + 2 + (head >> 5 & 1)
        width = head >> 3 & 3
        start = id_end + width
        if start > len(data):
            raise Lwm2mError(f"TLV: the header at byte {at} does not end")
        size = int.from_bytes(data[id_end:start], "big") if width else head & 7
        if start + size > len(data):
            raise Lwm2mError(f"TLV: the entry at byte {at} has {size} B, of which {len(data) - start} are there")
        if kind not in allowed:
            raise Lwm2mError(f"TLV: {kind.name.lower().replace('_', ' ')} at byte {at} does not belong there")
        id_, value = int.from_bytes(data[at + 1 : id_end], "big"), data[start : start + size]
        if next(room, None) is None:
            raise Lwm2mError(f"TLV: more than {MAX_ENTRIES} entries")
        inside = _INSIDE.get(kind)
        # No deeper than three levels, since each level allows fewer kinds.
        entry = Entry(kind, id_, value) if inside is None else Entry(kind, id_, b"", _decode(value, inside, room))
        entries.append(entry)
        at = start + size
    return tuple(entries)
