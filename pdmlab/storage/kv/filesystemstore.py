"""FileSystemStore: a value is a file of its key's name, in a folder, behind a header of 12 B.

The header is little-endian: u32 magic 0x46535354, u16 size of the header, u16 revision 1, u32 flags. A value is
written in place: what a power cut leaves of it is what the file system below leaves of a file that is written anew.
"""

from __future__ import annotations

import errno
import struct
from contextlib import ExitStack

from pdmlab.errors import CorruptMedium, StorageError
from pdmlab.storage.file import File
from pdmlab.storage.filesystem import FileSystem
from pdmlab.storage.kv.kvstore import Info, KeyIterator, KVFlag, KVStore, MbedError, SetHandle, refuse

METADATA = struct.Struct("<IHHI")
MAGIC = 0x4653_5354
REVISION = 1
DEFAULT_FOLDER = "kvstore"
_SUPPORTED = KVFlag.WRITE_ONCE | KVFlag.REQUIRE_CONFIDENTIALITY | KVFlag.REQUIRE_REPLAY_PROTECTION


class _Set(SetHandle):
    def __init__(self, key: str, size: int, flags: int, file: File) -> None:
        super().__init__(key, size, flags)
        self.file = file
        self.added = 0
        self.held = ExitStack()


class FileSystemStore(KVStore):
    """Values by key in files of a mounted file system, in one folder of it."""

    type = "FileSystemStore"

    def __init__(self, fs: FileSystem, folder: str = DEFAULT_FOLDER) -> None:
        self.fs = fs
        self.folder = "/" + folder.strip("/")
        self._mutex = fs.clock.mutex()
        self._initialised = False
        self._set: _Set | None = None

    def init(self) -> None:
        """Make the folder where it is missing."""
        self._mutex = self.fs.clock.mutex()
        with self._mutex:
            try:
                self.fs.mkdir(self.folder)
            except StorageError as error:
                if error.code != -errno.EEXIST:
                    raise self._failed(f"make {self.folder}", error) from error
            self._initialised = True

    def deinit(self) -> None:
        """Stop; the file system stays mounted."""
        self._initialised = False

    def reset(self) -> None:
        """Remove every file of the folder, write-once or not."""
        with self._mutex:
            self._ready()
            for name in self._names():
                self.fs.remove(f"{self.folder}/{name}")

    def get(self, key: str, size: int | None = None, offset: int = 0) -> bytes:
        """Return at most size bytes of a value, all if None, from offset on; nothing checks them."""
        self._check_stretch(size, offset)
        with self._mutex, self._open(key) as file:
            head, _ = self._metadata(key, file)
            there = file.size() - head
            if offset > there:
                raise refuse(self.type, MbedError.INVALID_SIZE, f"no offset {offset} in {there} B", "see get_info()")
            file.seek(head + offset)
            return file.read(there - offset if size is None else min(size, there - offset))

    def get_info(self, key: str) -> Info:
        """Return size (B) and flags of a value."""
        with self._mutex, self._open(key) as file:
            head, flags = self._metadata(key, file)
            return Info(file.size() - head, KVFlag(flags))

    def set_start(self, key: str, size: int, flags: int = 0) -> SetHandle:
        """Begin to write a file anew, with its header; the value before is gone from here on."""
        if flags & ~_SUPPORTED:
            raise refuse(self.type, MbedError.INVALID_ARGUMENT, f"flags 0x{flags:x} for {key!r}", "see KVFlag")
        with ExitStack() as stack:
            stack.enter_context(self._mutex)
            self._ready()
            if self._flags(key) & KVFlag.WRITE_ONCE:
                raise refuse(self.type, MbedError.WRITE_PROTECTED, f"{key!r} was stored write-once")
            try:
                held = _Set(key, size, flags, self.fs.open(self._path(key), "w"))
                held.file.write(METADATA.pack(MAGIC, METADATA.size, REVISION, flags))
            except StorageError as error:
                raise self._failed(f"write {key!r}", error) from error
            held.held = stack.pop_all()
            self._set = held
            return held

    def set_add_data(self, handle: SetHandle, data: bytes) -> None:
        """Write the next piece of a value."""
        held = self._held(handle)
        if held.added + len(data) > held.size:
            raise refuse(self.type, MbedError.INVALID_SIZE, f"more than {held.size} B for {held.key!r}", "as announced")
        try:
            held.file.write(data)
        except StorageError as error:
            raise self._failed(f"write {held.key!r}", error) from error
        held.added += len(data)

    def set_finalize(self, handle: SetHandle) -> None:
        """Close the file; one that is not complete is removed."""
        held = self._held(handle)
        self._set = None
        with held.held:
            try:
                held.file.close()
            except StorageError as error:
                raise self._failed(f"write {held.key!r}", error) from error
            if held.added != held.size:
                self.fs.remove(self._path(held.key))
                what = f"{held.added} B instead of {held.size} B for {held.key!r}"
                raise refuse(self.type, MbedError.INVALID_SIZE, what, "add all that was announced")

    def set(self, key: str, value: bytes, flags: int = 0) -> None:
        """Store a value under key; a value that could not be written whole is removed."""
        handle = self.set_start(key, self._check_value(value), flags)
        try:
            self.set_add_data(handle, value)
        except StorageError:
            try:
                self.set_finalize(handle)
            except StorageError:
                pass  # as in Mbed: the first failure is the one that is told
            raise
        self.set_finalize(handle)

    def remove(self, key: str) -> None:
        """Remove a file, even one whose header is damaged."""
        with self._mutex:
            self._ready()
            with self._open(key) as file:
                try:
                    flags = self._metadata(key, file)[1]
                except CorruptMedium:
                    flags = 0
            if flags & KVFlag.WRITE_ONCE:
                raise refuse(self.type, MbedError.WRITE_PROTECTED, f"{key!r} was stored write-once")
            try:
                self.fs.remove(self._path(key))
            except StorageError as error:
                raise self._failed(f"remove {key!r}", error) from error

    def iterate(self, prefix: str = "") -> KeyIterator:
        """Go through the keys that begin with prefix, in the order of the folder."""
        with self._mutex:
            self._ready()
            return _Keys([name for name in self._names() if name.startswith(prefix)])

    def _names(self) -> list[str]:
        names = self.fs.listdir(self.folder)
        return [name for name in names if self.fs.stat(f"{self.folder}/{name}").kind == "file"]

    def _flags(self, key: str) -> int:
        """Return the flags of a file; 0 if there is none, or its header is damaged."""
        try:
            with self._open(key) as file:
                return self._metadata(key, file)[1]
        except StorageError as error:
            if error.code not in (MbedError.ITEM_NOT_FOUND, MbedError.INVALID_DATA_DETECTED):
                raise
            return 0

    def _open(self, key: str) -> File:
        self._ready()
        path = self._path(key)
        try:
            return self.fs.open(path, "r")
        except StorageError as error:
            raise refuse(self.type, MbedError.ITEM_NOT_FOUND, f"there is no {key!r}") from error

    def _metadata(self, key: str, file: File) -> tuple[int, int]:
        """Return the header's size (B) and the flags."""
        raw = file.read(METADATA.size)
        magic, size, revision, flags = METADATA.unpack(raw.ljust(METADATA.size, b"\0"))
        if len(raw) < METADATA.size or magic != MAGIC or revision > REVISION:
            raise refuse(self.type, MbedError.INVALID_DATA_DETECTED, f"the file of {key!r} has no sound header")
        return size, flags

    def _path(self, key: str) -> str:
        self._check_key(key)
        return f"{self.folder}/{key}"

    def _held(self, handle: SetHandle) -> _Set:
        if not isinstance(handle, _Set) or handle is not self._set:
            raise refuse(self.type, MbedError.INVALID_ARGUMENT, f"{handle!r} is not being stored", "set_start() begins")
        return handle

    def _ready(self) -> None:
        if not self._initialised:
            raise refuse(self.type, MbedError.NOT_READY, f"the store in {self.folder} is not initialised")

    def _failed(self, what: str, error: StorageError) -> StorageError:
        return refuse(self.type, MbedError.FAILED_OPERATION, f"cannot {what}: {error.message}", error.hint)

    def __repr__(self) -> str:
        return f"<FileSystemStore in {self.folder} of {self.fs!r}>"


class _Keys(KeyIterator):
    def __init__(self, names: list[str]) -> None:
        self._names = iter(names)

    def __next__(self) -> str:
        return next(self._names)
