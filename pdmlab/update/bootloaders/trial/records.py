"""What the trial bootloader remembers: the least version that may run, and the image that has had its trial.

Both are records of NVStore in internal flash, which are there whole or not at all, and stay when a card is pulled.
There is no other state: everything else is read from the images themselves.
"""

from __future__ import annotations

import hashlib

from pdmlab.errors import NoSpace, StorageError
from pdmlab.storage.kv.nvstore import NVStore, NvstoreError, keep
from pdmlab.storage.kv.sotp import SotpType

TRIED = 9
"""NVStore's key of the last image that was started on trial: its SHA-256. Free in sotp.h and in nvstore.h."""
MARK_SIZE = 16
_DIGEST_SIZE, _FLOOR_SIZE = 32, 8


class TrialRecords:
    """The two records, over the board's NVStore; each is read once a start."""

    def __init__(self, nvstore: NVStore) -> None:
        self._nvstore = nvstore
        self._known: dict[int, bytes | None] = {}

    @property
    def floor(self) -> int:
        """The least version number that may run: the last confirmed image's; 0 if there was none."""
        return int.from_bytes(self._get(SotpType.MIN_FW_VERSION) or b"", "little")

    @floor.setter
    def floor(self, number: int) -> None:
        if number != self.floor:
            self._set(SotpType.MIN_FW_VERSION, number.to_bytes(_FLOOR_SIZE, "little"))

    @property
    def tried(self) -> bytes | None:
        """The SHA-256 of the last image that was started on trial; None if there was none."""
        return self._get(TRIED) or None

    @tried.setter
    def tried(self, digest: bytes) -> None:
        if digest != self.tried:
            self._set(TRIED, digest)

    def forget_trial(self) -> None:
        """Forget which image was on trial."""
        self._set(TRIED, b"")

    def make_ready(self) -> None:
        """See to it, before a new image is installed, that its trial and its confirmation can be noted.

        The room for both is there, and the store takes a record now: that no image is on trial.

        Raises:
            StorageError: they cannot be noted.
        """
        if not self._nvstore.fits({TRIED: _DIGEST_SIZE, SotpType.MIN_FW_VERSION: _FLOOR_SIZE}):
            raise NoSpace("NVStore is full of others' records", code=NvstoreError.FLASH_AREA_TOO_SMALL)
        self.forget_trial()

    def _set(self, key: int, data: bytes) -> None:
        self._known.pop(key, None)
        keep(self._nvstore, key, data)

    def _get(self, key: int) -> bytes | None:
        if key not in self._known:
            try:
                self._known[key] = self._nvstore.get(key)
            except StorageError as error:
                if error.code != NvstoreError.NOT_FOUND:
                    raise
                self._known[key] = None
        return self._known[key]


def programmer_mark(digest: bytes) -> bytes:
    """Return what a programmer at the debug port writes behind an active header: this image counts as confirmed.

    Only the debug port can: an update's header is written by the bootloader, without it. Whoever has the debug port can
    erase the counter as well.
    """
    return hashlib.sha256(b"programmed at the debug port" + digest).digest()[:MARK_SIZE]
