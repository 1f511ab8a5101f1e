"""A rig's NVStore: full of old records, or of an application's live ones; and the counter that it holds."""

from __future__ import annotations

from pdmlab.errors import StorageError
from pdmlab.storage.kv.flashrecord import HEADER
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.storage.kv.sotp import SotpType

_OTHERS = (11, 10, 7, 6, 5, 3, 2, 1)
_NOBODYS = 15
"""Keys that an application takes, and one that nobody does."""


def fill_with_old(nvstore: NVStore, size: int) -> None:
    """Leave so little room in an area of size (B) that the next records but two move the others, the identity too."""
    while (room := size - nvstore._free) > 88:
        nvstore.set(SotpType.RANDOM_SEED, bytes(min(200, room - 80)))


def fill_with_live(nvstore: NVStore, room: int) -> None:
    """Set an application's own records until so much room (B) is left beside all that is live."""
    left = {_NOBODYS: room - HEADER.size} if room else {}
    for key in _OTHERS:
        sizes = range(NVStore.max_data - 7, -1, -8)
        size = next((each for each in sizes if nvstore.fits({key: each, **left})), None)
        if size is None:
            return
        nvstore.set(key, b"a" * size)


def counter(nvstore: NVStore) -> int:
    """Return the least version number that may run, by the trial bootloader; 0 if there is none."""
    try:
        return int.from_bytes(nvstore.get(SotpType.MIN_FW_VERSION), "little")
    except StorageError:
        return 0
