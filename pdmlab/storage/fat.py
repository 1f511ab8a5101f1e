"""FAT, by ChaN's FatFs itself, as Mbed's FATFileSystem sets it up: every sector write is an erase and a program.

FatFs works on different volumes at the same time, each under its file system's mutex; only the table of
volumes is shared by the process, and has a lock of its own.
"""

from __future__ import annotations

import errno
import gc
import threading
import weakref
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from fatfs import wrapper as ff

from pdmlab.errors import StorageError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.file import File
from pdmlab.storage.filesystem import FileSystem, Kept, Stat, StatVfs, storage_error

# Recursive: the garbage collector may give a volume back while another is being claimed by the same thread.
_volumes = threading.RLock()
_VOLUMES = 10
LARGEST_SECTOR = 4096
"""The largest sector of FatFs (B), FF_MAX_SS."""
LEAST_SECTORS = 128
"""FatFs makes no volume of fewer (f_mkfs)."""
# A board without a set clock: the same files make the same image in every run.
ff.datetime = SimpleNamespace(datetime=SimpleNamespace(now=lambda: datetime(1980, 1, 1)))

# FRESULT of FatFs to errno, as Mbed's FATFileSystem translates it.
_ERRNO = {
    1: -errno.EIO,  # disk error
    2: -errno.EIO,  # internal error
    3: -errno.EIO,  # not ready
    4: -errno.ENOENT,  # no file
    5: -errno.ENOENT,  # no path
    6: -errno.ENOENT,  # invalid name
    7: -errno.EACCES,  # denied
    8: -errno.EEXIST,  # exists
    9: -errno.EBADF,  # invalid object
    10: -errno.EACCES,  # write protected
    11: -errno.ENOENT,  # invalid drive
    12: -errno.ENODEV,  # not enabled
    13: -errno.ENOENT,  # no file system
    17: -errno.ENOMEM,
    18: -errno.ENFILE,
    19: -errno.EINVAL,
}
_NO_FILESYSTEM, _ABORTED = 13, 14
_FLAGS = {
    "r": ff.PY_FA_READ,
    "r+": ff.PY_FA_READ | ff.PY_FA_WRITE,
    "w": ff.PY_FA_WRITE | ff.PY_FA_CREATE_ALWAYS,
    "w+": ff.PY_FA_READ | ff.PY_FA_WRITE | ff.PY_FA_CREATE_ALWAYS,
    "a": ff.PY_FA_WRITE | ff.PY_FA_OPEN_APPEND,
    "a+": ff.PY_FA_READ | ff.PY_FA_WRITE | ff.PY_FA_OPEN_APPEND,
    "x": ff.PY_FA_WRITE | ff.PY_FA_CREATE_NEW,
    "x+": ff.PY_FA_READ | ff.PY_FA_WRITE | ff.PY_FA_CREATE_NEW,
}


class _Refused(Exception):
    """FatFs answered with an FRESULT other than FR_OK; `sector` is the device's (B), where that is why."""

    def __init__(self, result: int, sector: int = 512) -> None:
        self.result, self.sector = result, sector


def _check(result: int) -> None:
    if result:
        raise _Refused(result)


class FATFileSystem(FileSystem):
    """A FAT volume without a partition table; sectors are max(512, erase size) B, at most 4096."""

    type = "FAT"
    version = "FatFs R0.16"

    def __init__(self, name: str = "fs", bd: BlockDevice | None = None) -> None:
        self._disk: Disk | None = None
        self._volume: Any = None  # a ff.Partition, which ships no types
        self._release: weakref.finalize[..., FATFileSystem] | None = None
        super().__init__(name, bd)

    @property
    def volume(self) -> ff.Partition:
        """FatFs' volume; files keep it alive."""
        return self._volume

    @property
    def sector(self) -> int:
        """Sector size of the mounted volume (B)."""
        assert self._disk is not None
        return self._disk.ioctl_get_sector_size()

    def _claim(self, device: BlockDevice) -> None:
        self._forget()
        disk = self.disk(device)
        with _volumes:
            slots = vars(ff)["__diskio_wrapper_disks"]
            if len(slots) >= _VOLUMES:
                gc.collect()  # boards that were switched off without unmounting
            if len(slots) >= _VOLUMES:
                raise StorageError(
                    f"FatFs has no volume left for {self.name} (ENFILE, {-errno.ENFILE})",
                    code=-errno.ENFILE,
                    hint=f"unmount one: a process mounts at most {_VOLUMES} FAT volumes",
                )
            volume = ff.Partition(disk)
        self._disk, self._volume = disk, volume
        self._release = weakref.finalize(self, _give_back, volume)

    def disk(self, device: BlockDevice) -> Disk:
        """Return what FatFs reaches the device by."""
        return Disk(device, self.kept)

    def _mount(self, device: BlockDevice) -> None:
        self._claim(device)
        try:
            _check(ff.pyf_mount(self._volume.fs, self._volume.pname, 1))
        except _Refused:
            self._forget()
            raise

    def _unmount(self) -> None:
        self._forget()

    def _forget(self) -> None:
        if self._release is not None:
            self._release()
        self._disk = self._volume = self._release = None

    def _format(self, device: BlockDevice) -> None:
        self._claim(device)
        assert self._disk is not None
        sector = self._disk.ioctl_get_sector_size()
        try:
            # As in Mbed: two blocks first, so that no other file system is found there.
            head = 2 * device.get_erase_size(0)
            device.erase(0, head)
            if device.erase_value < 0:
                for start in range(0, head, device.program_size):
                    device.program(start, b"\xff" * device.program_size)
            if result := ff.pyf_mkfs(self._volume.pname, workarea_size=sector):
                raise _Refused(result, sector)
        finally:
            self._forget()

    def path(self, path: str) -> bytes:
        """Return the path as FatFs takes it."""
        try:
            return bytes(self._volume.pname) + b"/" + path.strip("/").encode("cp437")
        except UnicodeEncodeError:
            raise _Refused(6) from None

    def _open(self, path: str, mode: str) -> File:
        return _FatFile(self, path, mode)

    def _stat(self, path: str) -> Stat:
        if not path.strip("/"):
            return Stat("/", "dir", 0)
        info = ff.FILINFO_Handle()
        _check(ff.pyf_stat(self.path(path), info))
        return _entry(info)

    def _remove(self, path: str) -> None:
        _check(ff.pyf_unlink(self.path(path)))

    def _rename(self, old: str, new: str) -> None:
        _check(ff.pyf_rename(self.path(old), self.path(new)))

    def _mkdir(self, path: str) -> None:
        _check(ff.pyf_mkdir(self.path(path)))

    def _listdir(self, path: str) -> list[str]:
        directory, info = ff.DIR_Handle(), ff.FILINFO_Handle()
        _check(ff.pyf_opendir(directory, self.path(path)))
        names = []
        while True:
            _check(ff.pyf_readdir(directory, info))
            if not info.get_name():
                break
            names.append(info.get_name())
        ff.pyf_closedir(directory)
        return names

    def _statvfs(self) -> StatVfs:
        device = self._mounted_device("measure")
        return _room(device)

    def _translate(self, error: Exception, what: str) -> StorageError | None:
        if isinstance(error, ff.FatFSException):
            error = _Refused(error.code)
        if not isinstance(error, _Refused):
            return None
        if error.result == _ABORTED:
            return StorageError(
                f"cannot {what}: the device's size does not suit FAT12 or FAT16 (EINVAL, {-errno.EINVAL})",
                code=-errno.EINVAL,
                hint=f"sectors of {error.sector} B: {LEAST_SECTORS * error.sector // 1024} KiB to just under "
                f"{error.sector >> 7} GiB; a SlicingBlockDevice makes a device smaller",
            )
        code = _ERRNO.get(error.result, -error.result)
        return storage_error(code, what, corrupt=error.result == _NO_FILESYSTEM)


def _give_back(volume: ff.Partition) -> None:
    # Callbacks were refused by taking the disk out of the table: f_mount(NULL) needs it there.
    with _volumes:
        vars(ff)["__diskio_wrapper_disks"].setdefault(volume.pdev, volume.disk)
        volume.unmount()


def _entry(info: ff.FILINFO_Handle) -> Stat:
    return Stat(info.get_name(), "dir" if info.is_directory() else "file", info.get_size())


class Disk:
    """The device, as FatFs reaches it: nothing may be raised here, and FatFs cannot be told of a failure.

    After one, sectors read as zeros and writes are dropped until the call has returned.
    """

    def __init__(self, device: BlockDevice, kept: Kept) -> None:
        self._size = device.size
        self._read, self._program, self._erase = device.read, device.program, device.erase
        self._kept = kept
        self.sector = max(512, device.erase_size)
        if self.sector > LARGEST_SECTOR:
            raise StorageError(
                f"FAT cannot use sectors of {self.sector} B (EINVAL, {-errno.EINVAL})",
                code=-errno.EINVAL,
                hint=f"erase units of at most {LARGEST_SECTOR} B; use LittleFileSystem2 on this device",
            )

    def ioctl_get_sector_count(self) -> int:
        return self._size // self.sector

    def ioctl_get_sector_size(self) -> int:
        return self.sector

    def ioctl_get_block_size(self) -> int:
        return 1

    def ioctl_sync(self) -> None:
        """Do nothing: Mbed answers OK to CTRL_SYNC without a sync of the device."""

    def read(self, sector: int, size: int) -> bytes:
        if self._kept.error is None:
            try:
                return self._read(sector * self.sector, size)
            except BaseException as error:
                self._kept.error = error
        return bytes(size)

    def write(self, sector: int, size: int, data: bytes) -> None:
        if self._kept.error is None:
            try:
                self._erase(sector * self.sector, size)
                self._program(sector * self.sector, data)
            except BaseException as error:
                self._kept.error = error


class _FatFile(File):
    _fs: FATFileSystem

    def __init__(self, fs: FATFileSystem, path: str, mode: str) -> None:
        super().__init__(fs, path)
        # FatFs writes to its volume's state through the file: it must not be freed before.
        self._volume = fs.volume
        self._sector = fs.sector
        self._handle = ff.FIL_Handle()
        _check(ff.pyf_open(self._handle, fs.path(path), _FLAGS[mode]))
        self._length = fs._stat(path).size if mode[0] in "ra" else 0
        self._position = self._length if mode[0] == "a" else 0

    def _read(self, size: int) -> bytes:
        data: bytes
        result, data = ff.pyf_read(self._handle, size)
        if result:
            raise _Refused(result)
        self._position += len(data)
        return data

    def _write(self, data: bytes) -> int:
        start, size = self._position, len(data)
        _, written = ff.pyf_write(self._handle, data)
        self._position = end = start + written
        if end > self._length:
            self._length = end
        if written < size:
            raise storage_error(-errno.ENOSPC, f"write {self.path}: {written} of {size} B had room")
        # Mbed builds FatFs with flush-on-new-sector: a write that holds a whole sector also writes the
        # directory entry (ff.cpp, f_write). fatfs-ng is built without, so it is done here.
        sector = self._sector
        if size >= sector and end - -(-start // sector) * sector >= sector:
            _check(ff.pyf_sync(self._handle))
        return size

    def _seek(self, offset: int, whence: int) -> int:
        position = offset + (0, self._position, self._length)[whence]
        if position < 0:
            raise _Refused(19)
        _check(ff.pyf_lseek(self._handle, position))
        self._position = position
        return position

    def _tell(self) -> int:
        return self._position

    def _size(self) -> int:
        return self._length

    def _sync(self) -> None:
        _check(ff.pyf_sync(self._handle))

    def _truncate(self, size: int) -> None:
        _check(ff.pyf_lseek(self._handle, size))
        _check(ff.pyf_truncate(self._handle))
        self._length = size
        self._position = min(self._position, size)
        _check(ff.pyf_lseek(self._handle, self._position))

    def _close(self) -> None:
        _check(ff.pyf_close(self._handle))


def _room(device: BlockDevice) -> StatVfs:
    """Count free clusters in the allocation table (Microsoft FAT specification, 3.1 and 4), as f_getfree does."""
    sector = max(512, device.erase_size)
    boot = device.read(0, sector)

    def number(offset: int, size: int) -> int:
        return int.from_bytes(boot[offset : offset + size], "little")

    bytes_per_sector, cluster = number(11, 2), boot[13]
    reserved, tables, entries = number(14, 2), boot[16], number(17, 2)
    total = number(19, 2) or number(32, 4)
    table = number(22, 2) or number(36, 4)
    root = -(-entries * 32 // bytes_per_sector)
    clusters = (total - reserved - tables * table - root) // cluster
    bits = 12 if clusters < 4085 else 16 if clusters < 65525 else 32
    length = -(-(clusters + 2) * bits // 8)
    fat = device.read(reserved * bytes_per_sector, -(-length // sector) * sector)[:length]
    if bits == 12:
        pairs = int.from_bytes(fat, "little")
        free = sum(not (pairs >> 12 * n) & 0xFFF for n in range(2, clusters + 2))
    else:
        step = bits // 8
        mask = 0x0FFF_FFFF if bits == 32 else 0xFFFF
        free = sum(not int.from_bytes(fat[n * step : (n + 1) * step], "little") & mask for n in range(2, clusters + 2))
    return StatVfs(bytes_per_sector * cluster, clusters, free)
