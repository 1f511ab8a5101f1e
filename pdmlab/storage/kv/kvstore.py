"""Mbed's KVStore: named values, the flags they are stored under, and the statuses of a refusal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from types import TracebackType
from typing import ClassVar

from pdmlab.clock import Mutex
from pdmlab.errors import CorruptMedium, NoSpace, RollbackRefused, StorageError, WriteOnce

BYTES = (bytes, bytearray, memoryview)
"""What a value may be; a tuple, since a union is made anew at each look."""
MAX_KEY_SIZE = 128
"""Longest key (characters); 128 itself passes the check of names, and fails where a record is read back."""
FORBIDDEN = frozenset(' */?:;"|<>\\')


class KVFlag(IntFlag):
    """What a value may be stored under (KVStore.h)."""

    WRITE_ONCE = 1
    REQUIRE_CONFIDENTIALITY = 2
    RESERVED = 4
    """REQUIRE_INTEGRITY of Mbed OS 5.11; no store takes it today."""
    REQUIRE_REPLAY_PROTECTION = 8


class MbedError(IntEnum):
    """MBED_ERROR_* of mbed_error.h: system errors of an unknown module, 0x80FF0000 + 256 + n, as a signed int."""

    INVALID_ARGUMENT = 0x80FF_0101 - (1 << 32)
    INVALID_DATA_DETECTED = 0x80FF_0102 - (1 << 32)
    INVALID_SIZE = 0x80FF_0105 - (1 << 32)
    ITEM_NOT_FOUND = 0x80FF_0107 - (1 << 32)
    MEDIA_FULL = 0x80FF_010B - (1 << 32)
    NOT_READY = 0x80FF_010E - (1 << 32)
    FAILED_OPERATION = 0x80FF_010F - (1 << 32)
    WRITE_PROTECTED = 0x80FF_0112 - (1 << 32)
    READ_FAILED = 0x80FF_011B - (1 << 32)
    WRITE_FAILED = 0x80FF_011C - (1 << 32)
    INITIALIZATION_FAILED = 0x80FF_011D - (1 << 32)
    OUT_OF_MEMORY = 0x80FF_011F - (1 << 32)
    OUT_OF_RESOURCES = 0x80FF_0120 - (1 << 32)
    AUTHENTICATION_FAILED = 0x80FF_0145 - (1 << 32)
    RBP_AUTHENTICATION_FAILED = 0x80FF_0146 - (1 << 32)


_KINDS: dict[MbedError, type[StorageError]] = {
    MbedError.INVALID_DATA_DETECTED: CorruptMedium,
    MbedError.MEDIA_FULL: NoSpace,
    MbedError.WRITE_PROTECTED: WriteOnce,
    MbedError.AUTHENTICATION_FAILED: CorruptMedium,
    MbedError.RBP_AUTHENTICATION_FAILED: RollbackRefused,
}
_HINTS = {
    MbedError.INVALID_DATA_DETECTED: "the record is damaged; view() of the medium shows where",
    MbedError.ITEM_NOT_FOUND: "iterate() says what there is",
    MbedError.MEDIA_FULL: "remove keys, or give the store more room",
    MbedError.NOT_READY: "init() it first",
    MbedError.WRITE_PROTECTED: "it was stored write-once: only reset() of the whole store removes it",
    MbedError.AUTHENTICATION_FAILED: "the value was changed, or stored under another device key",
    MbedError.RBP_AUTHENTICATION_FAILED: "an older value was put back; set it again, or reset() the store",
}


def refuse(store: str, status: MbedError, what: str, hint: str | None = None) -> StorageError:
    """Return the error for a status; `what` says what was tried, on what."""
    return _KINDS.get(status, StorageError)(
        f"{store}: {what} (MBED_ERROR_{status.name}, {status.value})", code=status, hint=hint or _HINTS.get(status)
    )


@dataclass(frozen=True)
class Info:
    """Size (B) of a value and the flags it was stored under."""

    size: int
    flags: KVFlag


class SetHandle:
    """A value that is being stored piece by piece; the store is held for it until set_finalize()."""

    def __init__(self, key: str, size: int, flags: int) -> None:
        self.key = key
        self.size = size
        self.flags = flags

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.key!r}, {self.size} B>"


class KeyIterator(Iterator[str]):
    """Keys of a store, one after the other; the store may change meanwhile. Ends itself, or with close()."""

    def close(self) -> None:
        """Give the iterator back; a second close does nothing."""

    def __enter__(self) -> KeyIterator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class KVStore(ABC):
    """Values of bytes by key; init() before anything else, deinit() when done."""

    type: ClassVar[str]
    _mutex: Mutex

    @abstractmethod
    def init(self) -> None:
        """Make the store usable, reading what is there; a second call does nothing."""

    @abstractmethod
    def deinit(self) -> None:
        """Let what lies below go."""

    @abstractmethod
    def reset(self) -> None:
        """Forget every key, write-once ones too."""

    @abstractmethod
    def get(self, key: str, size: int | None = None, offset: int = 0) -> bytes:
        """Return at most size bytes of a value, all of it if None, from offset on.

        Raises:
            StorageError: ITEM_NOT_FOUND; INVALID_SIZE for an offset past the end or below 0; INVALID_ARGUMENT for
                a size below 0.
            CorruptMedium: the record is damaged.
        """

    @abstractmethod
    def get_info(self, key: str) -> Info:
        """Return size and flags of a value; raises as get() does."""

    @abstractmethod
    def set_start(self, key: str, size: int, flags: int = 0) -> SetHandle:
        """Begin to store a value of size bytes in pieces; nothing of it is seen before set_finalize()."""

    @abstractmethod
    def set_add_data(self, handle: SetHandle, data: bytes) -> None:
        """Write the next piece of a value."""

    @abstractmethod
    def set_finalize(self, handle: SetHandle) -> None:
        """Make a value that is complete the one of its key."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Forget a key.

        Raises:
            StorageError: ITEM_NOT_FOUND.
            WriteOnce: it was stored write-once.
        """

    @abstractmethod
    def iterate(self, prefix: str = "") -> KeyIterator:
        """Go through the keys that begin with prefix, in the store's own order."""

    def set(self, key: str, value: bytes, flags: int = 0) -> None:
        """Store a value under key; the old one stays until the new one is complete.

        Raises:
            WriteOnce: the key was stored write-once.
            NoSpace: there is no room.
        """
        handle = self.set_start(key, self._check_value(value), flags)
        self.set_add_data(handle, value)
        self.set_finalize(handle)

    def keys(self, prefix: str = "") -> list[str]:
        """List the keys that begin with prefix."""
        with self.iterate(prefix) as found:
            return list(found)

    def _check_value(self, value: bytes) -> int:
        """Return the size (B) of a value."""
        if not isinstance(value, BYTES):
            raise refuse(self.type, MbedError.INVALID_ARGUMENT, f"{type(value).__name__} is no value", "bytes")
        return len(value)

    def _check_stretch(self, size: int | None, offset: int) -> None:
        if size is None and offset == 0:
            return
        if type(offset) is not int or offset < 0:
            raise refuse(self.type, MbedError.INVALID_SIZE, f"no offset {offset!r} in a value", "0 B or more")
        if size is not None and (type(size) is not int or size < 0):
            raise refuse(self.type, MbedError.INVALID_ARGUMENT, f"{size!r} is no size to read", "0 B or more, or None")

    def _check_key(self, key: str) -> bytes:
        raw = key.encode() if isinstance(key, str) else b""
        if not 0 < len(raw) <= MAX_KEY_SIZE or FORBIDDEN & set(key) or "\0" in key:
            raise refuse(
                self.type,
                MbedError.INVALID_ARGUMENT,
                f"{key!r} is no key",
                f'1 to {MAX_KEY_SIZE} characters without space * / ? : ; " | < > \\',
            )
        return raw
