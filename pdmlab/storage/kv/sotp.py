"""SOTP, the client's own store of small values in internal flash, from before Mbed OS had one.

Its records are NVStore's to the bit; its size field is all size, and its master record's second half-word the
revision 0. Once it was to be written one time only, hence the name; no release does that. flashrecords.py has the
layout, and all that SOTP does.
"""

from __future__ import annotations

from enum import IntEnum

from pdmlab.storage.kv.flashrecords import FlashRecords

FORMAT_REVISION = 0


class SotpType(IntEnum):
    """What the client keeps (sotp.h); ROT is also NVStore's DEVICEKEY."""

    FACTORY_DONE = 0
    RANDOM_SEED = 1
    SAVED_TIME = 2
    LAST_TIME_BACK = 3
    ROT = 4
    TRUSTED_TIME_SRV_ID = 5
    EXECUTION_MODE = 6
    OEM_TRANSFER = 7
    MIN_FW_VERSION = 8


class SotpError(IntEnum):
    """SOTP_* of the client (sotp.h)."""

    READ_ERROR = 1
    WRITE_ERROR = 2
    NOT_FOUND = 3
    DATA_CORRUPT = 4
    BAD_VALUE = 5
    BUFF_TOO_SMALL = 6
    FLASH_AREA_TOO_SMALL = 7
    OS_ERROR = 8
    BUFF_NOT_ALIGNED = 9
    ALREADY_EXISTS = 10
    MEM_ALLOC_ERROR = 11


class Sotp(FlashRecords):
    """Values by type (0 to 15) over two areas of a flash, each (offset, size in B): whole sectors of 1024 B or more."""

    type = "SOTP"
    status = SotpError
    prefix = "SOTP"
    size_mask = 0xFFFF
    max_data = 0xFFFF
    min_area = 1024
    retries = 100

    def remove(self, key: int) -> None:
        """Forget a value; the client is built with this for its tests only."""
        super().remove(key)

    def _master(self) -> int:
        return FORMAT_REVISION

    def _adopt(self, master: int) -> None:
        pass  # the revision is not looked at

    def _size(self, area: int) -> int:
        return self.areas[area][1]

    def _goes_first(self, flags: int) -> bool:
        return True

    def _is_once(self, flags: int) -> bool:
        return False  # NVStore's flag says nothing here

    def _fits(self, to: int, length: int, size: int) -> bool:
        return to + -(-length // self._unit) * self._unit < size
