"""DeviceKey, Mbed's root of trust and the keys derived from it: NIST SP 800-108 in counter mode, over AES-CMAC.

Block i (from 1) of a derived key is AES-CMAC(root of trust, u8 i | salt | u8 0 | u32 length of the key (B)). The
root of trust has 16 or 32 B; it is NVStore's key 4, or from Mbed OS 5.12 on TDBStore's reserved data.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum

from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC

from pdmlab.errors import StorageError
from pdmlab.storage.kv.flashrecords import FlashRecords
from pdmlab.storage.kv.kvstore import MbedError
from pdmlab.storage.kv.sotp import SotpType
from pdmlab.storage.kv.tdbstore import TDBStore

SIZES = (16, 32)
_BLOCK = 16
_HINTS = {
    "NOT_FOUND": "inject() a root of trust, or generate_root_of_trust()",
    "ALREADY_EXIST": "only a reset of the store that keeps it removes it",
    "INVALID_KEY_SIZE": "16 or 32 B",
    "INVALID_KEY_TYPE": "16 or 32 B",
}


class DeviceKeyError(IntEnum):
    """DEVICEKEY_* of Mbed OS (DeviceKey.h)."""

    INVALID_KEY_SIZE = -1
    INVALID_KEY_TYPE = -2
    SAVE_FAILED = -3
    ALREADY_EXIST = -4
    NOT_FOUND = -5
    READ_FAILED = -6


class DeviceKey:
    """The root of trust in a store, which is initialised, and the keys derived from it."""

    def __init__(self, store: TDBStore | FlashRecords) -> None:
        self._store = store

    def inject(self, root_of_trust: bytes) -> None:
        """Store the root of trust (16 or 32 B), once.

        Raises:
            StorageError: there is one (DEVICEKEY_ALREADY_EXIST), or its size is another (DEVICEKEY_INVALID_KEY_SIZE).
        """
        if len(root_of_trust) not in SIZES:
            raise _error(DeviceKeyError.INVALID_KEY_SIZE, f"a root of trust of {len(root_of_trust)} B")
        if self._read() is not None:
            raise _error(DeviceKeyError.ALREADY_EXIST, "there is a root of trust")
        if isinstance(self._store, TDBStore):
            self._store.reserved_data_set(root_of_trust)
        else:
            self._store.set(SotpType.ROT, root_of_trust)

    def generate_root_of_trust(self, random_bytes: Callable[[int], bytes], size: int = 32) -> None:
        """Make a root of trust of random bytes, and inject it."""
        self.inject(random_bytes(size))

    def generate_derived_key(self, salt: bytes, size: int = 16) -> bytes:
        """Return the key of 16 or 32 B for a salt; the same one each time.

        Raises:
            StorageError: there is no root of trust (DEVICEKEY_NOT_FOUND).
        """
        if size not in SIZES:
            raise _error(DeviceKeyError.INVALID_KEY_TYPE, f"a derived key of {size} B")
        root = self._read()
        if root is None:
            raise _error(DeviceKeyError.NOT_FOUND, "there is no root of trust")
        return derive(root, salt, size)

    def _read(self) -> bytes | None:
        try:
            if isinstance(self._store, TDBStore):
                return self._store.reserved_data_get()
            return self._store.get(SotpType.ROT)
        except StorageError as error:
            missing = MbedError.ITEM_NOT_FOUND if isinstance(self._store, TDBStore) else self._store.status["NOT_FOUND"]
            if error.code != missing:
                raise
            return None

    def __repr__(self) -> str:
        # The key is a secret.
        return f"<DeviceKey in {self._store!r}>"


def derive(root: bytes, salt: bytes, size: int) -> bytes:
    """Return the key of size B that DeviceKey derives from a root of trust of 16 or 32 B."""
    return counter_mode(root, salt + b"\0" + struct.pack("<I", size), size)


def counter_mode(key: bytes, fixed: bytes, size: int) -> bytes:
    """Return size B of SP 800-108's KDF in counter mode: AES-CMAC, a counter of one byte before the fixed input."""
    return b"".join(aes_cmac(key, bytes([i]), fixed) for i in range(1, -(-size // _BLOCK) + 1))[:size]


def aes_cmac(key: bytes, *pieces: bytes) -> bytes:
    """Return the AES-CMAC (16 B) over all pieces."""
    mac = CMAC(algorithms.AES(key))
    for piece in pieces:
        mac.update(piece)
    return mac.finalize()


def _error(status: DeviceKeyError, what: str) -> StorageError:
    return StorageError(
        f"DeviceKey: {what} (DEVICEKEY_{status.name}, {status.value})", code=status, hint=_HINTS.get(status.name)
    )
