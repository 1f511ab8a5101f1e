"""TDBStore's table in RAM: where the newest record of each key lies, by falling CRC of the keys."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pdmlab.storage.kv.crc import crc32_unreflected


@dataclass
class Entry:
    """CRC of a key, and where its newest record lies (offset in the live area, B)."""

    hash: int
    offset: int


@dataclass(frozen=True)
class Place:
    """Where a key is in the table, or would be: then there is no offset."""

    index: int
    hash: int
    offset: int | None


class Cursor:
    """A place in the table that stays at its key when others come and go before it."""

    def __init__(self) -> None:
        self.index = 0


class RamTable:
    """Entries, and the cursors that go over them."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self.cursors: list[Cursor] = []

    def find(self, key: bytes, key_at: Callable[[int], bytes]) -> Place:
        """Return a key's place; key_at reads the key of the record at an offset, since CRCs may collide."""
        hash = crc32_unreflected(key)
        index = bisect_left(self._entries, -hash, key=lambda entry: -entry.hash)
        while index < len(self._entries) and self._entries[index].hash == hash:
            offset = self._entries[index].offset
            if key_at(offset) == key:
                return Place(index, hash, offset)
            index += 1
        return Place(index, hash, None)

    def put(self, place: Place, offset: int) -> None:
        """Let a key's newest record be the one at offset."""
        if place.offset is not None:
            self._entries[place.index].offset = offset
            return
        self._entries.insert(place.index, Entry(place.hash, offset))
        self._shift(place.index, 1)

    def delete(self, place: Place) -> None:
        """Forget a key."""
        del self._entries[place.index]
        self._shift(place.index, -1)

    def clear(self) -> None:
        """Forget every key."""
        self._entries.clear()

    def _shift(self, index: int, by: int) -> None:
        for cursor in self.cursors:
            if index < cursor.index:
                cursor.index += by

    def __getitem__(self, index: int) -> Entry:
        return self._entries[index]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
