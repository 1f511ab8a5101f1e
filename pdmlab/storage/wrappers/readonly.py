"""A block device that takes no writes."""

from __future__ import annotations

from typing import NoReturn

from pdmlab.errors import StorageError
from pdmlab.storage.wrappers.wrapper import Wrapper

WRITE_PROTECTED = 0x80FF_0112 - (1 << 32)
"""MBED_ERROR_WRITE_PROTECTED, as a signed int."""


class ReadOnlyBlockDevice(Wrapper):
    """Reads the device below; programs and erases are refused."""

    type = "READONLY"

    def program(self, address: int, data: bytes) -> NoReturn:
        """Refuse.

        Raises:
            StorageError: MBED_ERROR_WRITE_PROTECTED.
        """
        raise self._refuse("program", address, len(data))

    def erase(self, address: int, size: int) -> NoReturn:
        """Refuse.

        Raises:
            StorageError: MBED_ERROR_WRITE_PROTECTED.
        """
        raise self._refuse("erase", address, size)

    def _refuse(self, what: str, address: int, size: int) -> StorageError:
        return StorageError(
            f"{self.type}: cannot {what} {size} B at 0x{address:x} (MBED_ERROR_WRITE_PROTECTED, {WRITE_PROTECTED})",
            code=WRITE_PROTECTED,
            hint="write to the device below it",
        )
