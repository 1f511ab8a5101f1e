"""NVStore, Mbed's store of small numbered values in internal flash; the root of trust is one.

Its size field is 12 bits of size and 4 of owner; its master record says how many keys there may be (Mbed OS 5.12
and later; 0 before, for 16). flashrecords.py has the layout, and all that NVStore does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum

from pdmlab.errors import NoSpace, StorageError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.kv.areas import align
from pdmlab.storage.kv.flashrecord import DELETED, HEADER, SET_ONCE
from pdmlab.storage.kv.flashrecords import FlashRecords
from pdmlab.storage.kv.sotp import SotpType

MAX_KEYS = 16


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


class NVStore(FlashRecords):
    """Numbered values (at most 4095 B) over two areas of a flash, each (offset, size): sectors of 4096 B or more.

    max_keys: how many keys a store that is made has; one that is there says itself.
    """

    type = "NVStore"
    status = NvstoreError
    prefix = "NVSTORE"
    size_mask = 0x0FFF
    max_data = 4095
    min_area = 4096
    retries = 16

    def __init__(self, flash: BlockDevice, areas: Sequence[tuple[int, int]], *, max_keys: int = MAX_KEYS) -> None:
        super().__init__(flash, areas)
        self.max_keys = max_keys

    def set(self, key: int, data: bytes, *, owner: int | None = None) -> None:
        """Store data under key; owner (0 to 15) stays what it was if left out."""
        self._store(key, data, 0, owner)

    def set_once(self, key: int, data: bytes, *, owner: int | None = None) -> None:
        """Store data that nothing but reset() can change, unless a collection writes them: see decision 11."""
        self._store(key, data, SET_ONCE, owner)

    def fits(self, sizes: Mapping[int, int]) -> bool:
        """Whether values of these sizes (B) by key have room in an area, beside the other keys' that are there.

        Mbed's store does not ask: it begins to collect, and stops where the area ends.
        """
        with self._mutex:
            self._ready()
            size, to = self._size(1 - self._live), self._first
            for data in sizes.values():
                to += align(HEADER.size + data, self._unit)
            if to > size:
                return False
            for key, entry in sorted(self._table.items()):
                if key in sizes:
                    continue
                head = self.flash.read(self.areas[entry.area][0] + entry.offset, HEADER.size)
                length = HEADER.size + (HEADER.unpack(head)[1] & self.size_mask)
                if not self._fits(to, length, size):
                    return False
                to += align(length, self._unit)
            return True

    @contextlib.contextmanager
    def kept_sound(self) -> Iterator[None]:
        """Open the store anew before and after a write that was refused.

        One that Mbed's store has refused leaves the other area half written and its table pointing there; the next
        write goes over that, and may take the root of trust with it (decision 11).
        """
        with self._mutex:
            if self._opened and self._free >= self._size(self._live):
                self.deinit()
            try:
                yield
            except StorageError:
                self.deinit()
                raise

    def _master(self) -> int:
        return self.max_keys

    def _adopt(self, master: int) -> None:
        self.max_keys = master or MAX_KEYS

    def _size(self, area: int) -> int:
        return min(size for _, size in self.areas)

    def _goes_first(self, flags: int) -> bool:
        return not flags & DELETED

    def _fits(self, to: int, length: int, size: int) -> bool:
        return to + length < size


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
    keep(store, SotpType.ROT, key, once=True)
    return key


def keep(store: NVStore, key: int, data: bytes, *, once: bool = False) -> None:
    """Set a value without endangering the others: what does not fit is refused before anything is written.

    All code here that is not an application's own sets values by this; once: see set_once.

    Raises:
        NoSpace: FLASH_AREA_TOO_SMALL.
    """
    with store.kept_sound():
        if not store.fits({key: len(data)}):
            raise NoSpace(
                f"NVStore: key {key} with {len(data)} B has no room beside the others",
                code=NvstoreError.FLASH_AREA_TOO_SMALL,
                hint="remove keys, or give the store larger areas",
            )
        (store.set_once if once else store.set)(key, data)


def forget(store: NVStore, key: int) -> None:
    """Remove a value, if there is one, without endangering the others.

    Raises:
        NoSpace: FLASH_AREA_TOO_SMALL: there is no room to note that.
    """
    with store.kept_sound():
        for _ in range(2):  # a removal that brings a collection removes nothing, in Mbed, but makes room for the next
            if key not in store.iterate():
                return
            store.remove(key)
        if key in store.iterate():
            raise NoSpace(
                f"NVStore: there is no room to note that key {key} is removed",
                code=NvstoreError.FLASH_AREA_TOO_SMALL,
                hint="give the store larger areas",
            )
