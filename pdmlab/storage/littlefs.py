"""littlefs version 2, the C library itself, as Mbed's LittleFileSystem2 sets it up."""

from __future__ import annotations

import errno

from littlefs import UserContext, lfs
from littlefs.errors import LittleFSError

from pdmlab.errors import StorageError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.file import File
from pdmlab.storage.filesystem import FileSystem, Kept, Stat, StatVfs, storage_error
from pdmlab.storage.littlefs1 import version_1_on
from pdmlab.storage.medium import MediumFault

DISK_VERSION = 0x0002_0000
"""What boards with Mbed OS write; they refuse the newer 2.1."""
_MAJOR, _MINOR = lfs.__LFS_VERSION__
_EIO, _CORRUPT = -5, -84
_BAD_BLOCK = ("program error", "erase error", "worn out")
_TYPE_DIR = 2
_READ, _WRITE, _CREATE, _EXCLUSIVE, _TRUNCATE, _APPEND = 1, 2, 0x100, 0x200, 0x400, 0x800
_FLAGS = {
    mode: lfs.LFSFileFlag(flags)
    for mode, flags in {
        "r": _READ,
        "r+": _READ | _WRITE,
        "w": _WRITE | _CREATE | _TRUNCATE,
        "w+": _READ | _WRITE | _CREATE | _TRUNCATE,
        "a": _WRITE | _CREATE | _APPEND,
        "a+": _READ | _WRITE | _CREATE | _APPEND,
        "x": _WRITE | _CREATE | _EXCLUSIVE,
        "x+": _READ | _WRITE | _CREATE | _EXCLUSIVE,
    }.items()
}


class LittleFileSystem2(FileSystem):
    """A littlefs volume; sizes (B) are Mbed's defaults, raised to the device's own units.

    read_size, prog_size: Mbed always takes the device's own (LittleFileSystem2.cpp, mount()); larger ones are to try.

    relocate: whether littlefs is told that a block is bad (LFS_ERR_CORRUPT) when the part refuses to program or
    erase it, and moves away. Mbed's own port hands the driver's code through, which ends the call; so does the
    default here. Blocks that fail silently are found by reading back, and left, either way.
    """

    type = "LFS"
    version = f"littlefs {_MAJOR}.{_MINOR}, disk {DISK_VERSION >> 16}.{DISK_VERSION & 0xFFFF}"

    def __init__(
        self,
        name: str = "fs",
        bd: BlockDevice | None = None,
        *,
        read_size: int = 0,
        prog_size: int = 0,
        block_size: int = 512,
        cache_size: int = 64,
        lookahead_size: int = 64,
        block_cycles: int = 1024,
        relocate: bool = False,
    ) -> None:
        self.read_size, self.prog_size, self.block_size = read_size, prog_size, block_size
        self.cache_size, self.lookahead_size, self.block_cycles = cache_size, lookahead_size, block_cycles
        self.relocate = relocate
        self._lfs = lfs.LFSFilesystem()
        # C links open files into a list: they must live until they are closed or the volume is given up.
        self.handles: set[lfs.LFSFile] = set()
        super().__init__(name, bd)

    @property
    def state(self) -> lfs.LFSFilesystem:
        """The C library's own state."""
        return self._lfs

    def _config(self, device: BlockDevice) -> lfs.LFSConfig:
        read = max(device.read_size, self.read_size)
        program = max(device.program_size, self.prog_size)
        block = max(device.erase_size, self.block_size)
        count = device.size // block
        return lfs.LFSConfig(
            self.context(device, block),
            read_size=read,
            prog_size=program,
            block_size=block,
            block_count=count,
            block_cycles=self.block_cycles,
            cache_size=max(self.cache_size, program, read),
            lookahead_size=min(self.lookahead_size, 8 * ((count + 63) // 64)),
            disk_version=DISK_VERSION,
        )

    def context(self, device: BlockDevice, block_size: int) -> UserContext:
        """Return what the C library reaches the device by."""
        return _Context(device, self.kept, block_size, relocate=self.relocate)

    def _mount(self, device: BlockDevice) -> None:
        self._forget()
        self._c_config = self._config(device)  # C keeps a pointer to it
        try:
            lfs.mount(self._lfs, self._c_config)
        except LittleFSError as error:
            old = version_1_on(device, self._c_config.block_size) if self.kept.error is None else None
            if old is None:
                raise
            raise StorageError(
                f"cannot mount {self.name}: a littlefs {old.version} is on it, not a damaged littlefs 2 (EINVAL, -22)",
                code=-errno.EINVAL,
                hint="read it with the board that wrote it (LittleFileSystem of Mbed OS), or reformat() it",
            ) from error

    def _unmount(self) -> None:
        self.handles.clear()
        lfs.unmount(self._lfs)

    def _format(self, device: BlockDevice) -> None:
        self._forget()
        self._c_config = self._config(device)
        lfs.format(self._lfs, self._c_config)

    def _forget(self) -> None:
        self._lfs = lfs.LFSFilesystem()
        self.handles = set()

    def _open(self, path: str, mode: str) -> File:
        return _LittleFile(self, path, mode)

    def _stat(self, path: str) -> Stat:
        found = lfs.stat(self._lfs, path, "utf-8")
        # The C library leaves a directory's size as it found the memory.
        return Stat(found.name, "dir", 0) if found.type == _TYPE_DIR else Stat(found.name, "file", found.size)

    def _remove(self, path: str) -> None:
        lfs.remove(self._lfs, path, "utf-8")

    def _rename(self, old: str, new: str) -> None:
        lfs.rename(self._lfs, old, new, "utf-8")

    def _mkdir(self, path: str) -> None:
        lfs.mkdir(self._lfs, path, "utf-8")

    def _listdir(self, path: str) -> list[str]:
        directory = lfs.dir_open(self._lfs, path, "utf-8")
        try:
            names = []
            while (entry := lfs.dir_read(self._lfs, directory, "utf-8")) is not None:
                if entry.name not in (".", ".."):
                    names.append(entry.name)
            return names
        finally:
            lfs.dir_close(self._lfs, directory)

    def _statvfs(self) -> StatVfs:
        volume = lfs.fs_stat(self._lfs)
        return StatVfs(volume.block_size, volume.block_count, volume.block_count - lfs.fs_size(self._lfs))

    def _translate(self, error: Exception, what: str) -> StorageError | None:
        if not isinstance(error, LittleFSError):
            return None
        # A volume of another size or version answers EINVAL to a mount.
        foreign = what.startswith("mount ") and error.code == -22
        return storage_error(error.code, what, corrupt=foreign)


class _Context(UserContext):
    """The device, as the C library reaches it; a read cannot fail there, so it answers zeros and is kept."""

    def __init__(self, device: BlockDevice, kept: Kept, block_size: int, *, relocate: bool) -> None:
        self._read, self._program, self._erase, self._sync = device.read, device.program, device.erase, device.sync
        self._kept = kept
        self._block_size = block_size
        self._relocate = relocate

    def read(  # type: ignore[override]  # the stubs promise more than C needs: any bytes
        self, config: lfs.LFSConfig, block: int, offset: int, size: int
    ) -> bytes:
        if self._kept.error is None:
            try:
                return self._read(block * self._block_size + offset, size)
            except BaseException as error:
                self._kept.error = error
        return bytes(size)

    def prog(self, config: lfs.LFSConfig, block: int, offset: int, data: bytes) -> int:
        if self._kept.error is None:
            try:
                self._program(block * self._block_size + offset, data)
                return 0
            except BaseException as error:
                return self._failed(error)
        return _EIO

    def erase(self, config: lfs.LFSConfig, block: int) -> int:
        if self._kept.error is None:
            try:
                self._erase(block * self._block_size, self._block_size)
                return 0
            except BaseException as error:
                return self._failed(error)
        return _EIO

    def sync(self, config: lfs.LFSConfig) -> int:
        if self._kept.error is None:
            try:
                self._sync()
                return 0
            except BaseException as error:
                self._kept.error = error
        return _EIO

    def _failed(self, error: BaseException) -> int:
        """Answer to C what a failed program or erase is: the end of the call, or a block to move away from."""
        fault = error.__cause__ or error.__context__
        if self._relocate and isinstance(fault, MediumFault) and fault.kind in _BAD_BLOCK:
            return _CORRUPT
        self._kept.error = error
        return _EIO


class _LittleFile(File):
    _fs: LittleFileSystem2

    def __init__(self, fs: LittleFileSystem2, path: str, mode: str) -> None:
        super().__init__(fs, path)
        self._handle = lfs.file_open(fs.state, path, _FLAGS[mode], "utf-8")
        fs.handles.add(self._handle)

    def _read(self, size: int) -> bytes:
        return lfs.file_read(self._fs.state, self._handle, size)

    def _write(self, data: bytes) -> int:
        return lfs.file_write(self._fs.state, self._handle, data)

    def _seek(self, offset: int, whence: int) -> int:
        return lfs.file_seek(self._fs.state, self._handle, offset, whence)

    def _tell(self) -> int:
        return lfs.file_tell(self._fs.state, self._handle)

    def _size(self) -> int:
        return lfs.file_size(self._fs.state, self._handle)

    def _sync(self) -> None:
        lfs.file_sync(self._fs.state, self._handle)

    def _truncate(self, size: int) -> None:
        lfs.file_truncate(self._fs.state, self._handle, size)

    def _close(self) -> None:
        self._fs.handles.discard(self._handle)
        lfs.file_close(self._fs.state, self._handle)
