"""What a bootloader with its weaknesses mended keeps in secure storage: how often an image failed, which was newest.

The stock ones keep neither: mbed-bootloader counts in RAM, and no version outlives its header. Where the store cannot
be read or written, a start goes on as the stock one's would.
"""

from __future__ import annotations

import contextlib
import struct

from pdmlab.errors import StorageError
from pdmlab.storage.kv.nvstore import NVStore, keep
from pdmlab.storage.kv.sotp import SotpType

BOOT_COUNT_KEY = 14
"""NVStore's key of the counted starts; no Mbed OS, SOTP or client of 4.x uses it."""
_COUNT = struct.Struct(">QB")
_FLOOR = struct.Struct(">BQ")


class VersionFloor:
    """The newest version that has run here, in NVStore; of one generation of headers, as their numbers differ."""

    def __init__(self, store: NVStore, header_version: int) -> None:
        self._store = store
        self._header_version = header_version

    def read(self) -> int:
        """Return the version's number; 0 if none was kept, or another generation's."""
        data = _read(self._store, SotpType.MIN_FW_VERSION, _FLOOR.size)
        if data is None:
            return 0
        generation, number = _FLOOR.unpack(data)
        return int(number) if generation == self._header_version else 0

    def raise_to(self, number: int) -> None:
        """Keep a version's number if it is greater; it never goes down."""
        if number > self.read():
            _write(self._store, SotpType.MIN_FW_VERSION, _FLOOR.pack(self._header_version, number))


class BootCount:
    """How often the image of a version has started by soft resets in a row, in NVStore."""

    def __init__(self, store: NVStore) -> None:
        self._store = store

    def read(self) -> tuple[int, int]:
        """Return the version's number and the count."""
        data = _read(self._store, BOOT_COUNT_KEY, _COUNT.size)
        if data is None:
            return 0, 0
        version, count = _COUNT.unpack(data)
        return version, count

    def write(self, version: int, count: int) -> None:
        """Keep both; nothing is written if nothing has changed."""
        if (version, count) != self.read():
            _write(self._store, BOOT_COUNT_KEY, _COUNT.pack(version, count))


def _read(store: NVStore, key: int, size: int) -> bytes | None:
    try:
        data = store.get(key)
    except StorageError:
        return None
    return data if len(data) == size else None


def _write(store: NVStore, key: int, data: bytes) -> None:
    with contextlib.suppress(StorageError):
        keep(store, key, data)
