"""What FatFs does not notice about a FAT12 or FAT16 volume: clusters that are lost, or of two files at once.

The layout is that of Microsoft's FAT specification, 3 (boot sector), 4 (table) and 6 (directories).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

_FREE, _BAD12 = 0, 0xFF7
_DELETED, _LONG, _VOLUME, _DIRECTORY = 0xE5, 0x0F, 0x08, 0x10
_ENTRY = 32
_MOST_CLUSTERS_12 = 4085


class FatVolume:
    """The regions of a FAT volume's bytes, and the chains in it; `sound` is false where there is no such volume."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data
        self.sector = self._number(11, 2)
        self.sound = self.sector in (512, 1024, 2048, 4096) and data[13] > 0 and len(data) > self.sector
        if not self.sound:
            return
        entries, total = self._number(17, 2), self._number(19, 2) or self._number(32, 4)
        self.cluster = data[13] * self.sector
        self.table = self._number(14, 2) * self.sector
        self.root = self.table + data[16] * self._number(22, 2) * self.sector
        self.data = self.root + -(-entries * _ENTRY // self.sector) * self.sector
        self.clusters = max((total * self.sector - self.data) // self.cluster, 0)

    def faults(self) -> tuple[int, int]:
        """Return how many clusters are allocated but of no file, and how many are of two."""
        used: dict[int, int] = {}
        for start in self._starts(self._root_entries, depth=0):
            for cluster in self._chain(start):
                used[cluster] = used.get(cluster, 0) + 1
        allocated = {n for n in range(2, self.clusters + 2) if self._next(n) not in (_FREE, self._bad)}
        return len(allocated - used.keys()), sum(times > 1 for times in used.values())

    def _starts(self, entries: bytes, depth: int) -> Iterator[int]:
        """Give the first cluster of every file and directory below."""
        for at in range(0, len(entries) - _ENTRY + 1, _ENTRY):
            entry = entries[at : at + _ENTRY]
            if entry[0] == 0:
                return
            kind = entry[11]
            if entry[0] in (_DELETED, ord(".")) or kind == _LONG or kind & _VOLUME:
                continue
            start = int.from_bytes(entry[26:28], "little")
            if not start:
                continue
            yield start
            if kind & _DIRECTORY and depth < 16:
                yield from self._starts(b"".join(map(self._bytes, self._chain(start))), depth + 1)

    def _chain(self, start: int) -> list[int]:
        chain: list[int] = []
        cluster = start
        while 2 <= cluster < self.clusters + 2 and len(chain) <= self.clusters:
            chain.append(cluster)
            cluster = self._next(cluster)
        return chain

    def _next(self, cluster: int) -> int:
        if not self._is_12:
            return self._number(self.table + 2 * cluster, 2)
        pair = self._number(self.table + cluster * 3 // 2, 2)
        return pair >> 4 if cluster % 2 else pair & 0xFFF

    @cached_property
    def _is_12(self) -> bool:
        return self.clusters < _MOST_CLUSTERS_12

    @property
    def _bad(self) -> int:
        return _BAD12 if self._is_12 else 0xFFF7

    @property
    def _root_entries(self) -> bytes:
        return bytes(self._data[self.root : self.data])

    def _bytes(self, cluster: int) -> bytes:
        start = self.data + (cluster - 2) * self.cluster
        return bytes(self._data[start : start + self.cluster])

    def _number(self, at: int, size: int) -> int:
        return int.from_bytes(self._data[at : at + size], "little")


def faults_in_words(data: bytes | bytearray) -> str:
    """Return what is wrong with the volume's clusters; empty if nothing is."""
    volume = FatVolume(data)
    lost, shared = volume.faults() if volume.sound else (0, 0)
    said = [f"{lost} clusters are lost: allocated, and of no file"] if lost else []
    said += [f"{shared} clusters are of two files at once"] if shared else []
    return "; ".join(said)
