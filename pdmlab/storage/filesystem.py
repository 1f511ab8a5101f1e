"""What every file system of a board offers, and how the C code beneath is called.

The C libraries call back into Python to reach the device. An exception there (a pulled card, a power cut)
cannot pass through C: it is kept, further callbacks are refused, and it is raised again when the C call has
returned. What the library then holds in RAM may be wrong, so the volume is mounted afresh at its next use, and
files that were open are lost.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NoReturn, TypeVar

from pdmlab.clock import Clock, Mutex, PowerLost, WallClock
from pdmlab.errors import CorruptMedium, NoSpace, NotMounted, StorageError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.file import File
from pdmlab.storage.mcu import processor_of

T = TypeVar("T")

NOT_MOUNTED = -errno.ENODEV
# The numbers of Mbed's POSIX layer on Linux and in littlefs; newlib numbers a few otherwise.
_ERRNO_NAMES = {
    -2: "ENOENT", -5: "EIO", -9: "EBADF", -12: "ENOMEM", -13: "EACCES", -14: "EFAULT", -17: "EEXIST",
    -19: "ENODEV", -20: "ENOTDIR", -21: "EISDIR", -22: "EINVAL", -23: "ENFILE", -27: "EFBIG", -28: "ENOSPC",
    -36: "ENAMETOOLONG", -39: "ENOTEMPTY", -61: "ENOATTR", -84: "EILSEQ",
}  # fmt: skip
_HINTS = {
    -2: "list the directory to see what is there",
    -13: "the file is read-only or open, the directory is not empty, or the directory or the volume is full",
    -28: "remove files, or use a larger part",
    -84: "reformat() it; what was on it is lost",
}


@dataclass(frozen=True)
class Stat:
    """A file or directory: name without path, kind, size (B)."""

    name: str
    kind: Literal["file", "dir"]
    size: int


@dataclass(frozen=True)
class StatVfs:
    """Room of a volume, in blocks of block_size B."""

    block_size: int
    blocks: int
    free_blocks: int


def storage_error(code: int, what: str, *, corrupt: bool = False) -> StorageError:
    """Return the error for a negative errno; `what` says what was tried, on what."""
    name = _ERRNO_NAMES.get(code, "unknown error")
    kind = NoSpace if code == -28 else CorruptMedium if corrupt or code == -84 else StorageError
    return kind(
        f"cannot {what} ({name}, {code})",
        code=code,
        hint=_HINTS[-84 if corrupt else code] if corrupt or code in _HINTS else None,
    )


class Kept:
    """The first exception of a device callback, for when C has returned.

    Callbacks catch anything at all, since nothing may pass through C, and do nothing once there is an error.
    """

    __slots__ = ("error",)

    def __init__(self) -> None:
        self.error: BaseException | None = None


class FileSystem(ABC):
    """A volume under a name; paths are absolute in it, with or without a leading slash."""

    type: ClassVar[str]
    """What stock case names call it: FAT or LFS."""
    version: str

    def __init__(self, name: str, device: BlockDevice | None = None) -> None:
        self.name = name
        self.generation = 0
        self._device: BlockDevice | None = None
        self.kept = Kept()
        self._stale = False
        self._clock: Clock = device.clock if device is not None else WallClock()
        self.mutex: Mutex = self._clock.mutex()
        self.call_ns = processor_of(device).ns("file")
        if device is not None:
            try:
                self.mount(device)
            except StorageError:
                self._device = None  # as in Mbed: the first use says that it is not mounted

    @property
    def mounted(self) -> bool:
        """Whether a device is mounted."""
        return self._device is not None

    @property
    def clock(self) -> Clock:
        """The clock of the device."""
        return self._clock

    @property
    def device(self) -> BlockDevice:
        """The mounted device.

        Raises:
            NotMounted: there is none.
        """
        return self._mounted_device("name the device")

    def mount(self, device: BlockDevice) -> None:
        """Initialise the device and mount what is on it.

        Raises:
            CorruptMedium: there is no such file system on it; reformat() makes one.
        """
        if self._device is not None:
            raise StorageError(
                f"{self.name} is mounted already (EINVAL, {-errno.EINVAL})",
                code=-errno.EINVAL,
                hint="unmount() it first",
            )
        self._use(device)
        with self.mutex:
            device.init()
            try:
                self._in_c(lambda: self._mount(device), "mount", self.name)
            except BaseException as error:
                if not isinstance(error, PowerLost):
                    device.deinit()
                raise
            self._device, self._stale = device, False

    def unmount(self) -> None:
        """Let the device go; files that are open are lost."""
        with self.mutex:
            device = self._mounted_device("unmount")
            self._device = None
            self.generation += 1
            try:
                if not self._stale:
                    self._in_c(self._unmount, "unmount", self.name)
            finally:
                device.deinit()

    def reformat(self, device: BlockDevice | None = None) -> None:
        """Make an empty file system on device (the mounted one if none is given) and mount it."""
        target = device or self._device
        if target is None:
            raise _not_mounted(self.name, "reformat")
        if self._device is not None:
            self.unmount()
        self._use(target)
        with self.mutex:
            target.init()
            try:
                self._in_c(lambda: self._format(target), "format", self.name)
            finally:
                target.deinit()
        self.mount(target)

    def open(self, path: str, mode: str = "r") -> File:
        """Open a file of bytes: r, r+, w, w+, a, a+ or x, as in C."""
        if mode.replace("b", "") not in MODES:
            raise StorageError(
                f"no mode {mode!r} (EINVAL, {-errno.EINVAL})", code=-errno.EINVAL, hint="r, r+, w, w+, a, a+, x or x+"
            )
        return self.run(lambda: self._open(path, mode.replace("b", "")), "open", path)

    def stat(self, path: str) -> Stat:
        """Return name, kind and size of a file or directory."""
        return self.run(lambda: self._stat(path), "stat", path)

    def remove(self, path: str) -> None:
        """Remove a file or an empty directory."""
        self.run(lambda: self._remove(path), "remove", path)

    def rename(self, old: str, new: str) -> None:
        """Give a file or directory another name."""
        self.run(lambda: self._rename(old, new), "rename", f"{old} to {new}")

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        self.run(lambda: self._mkdir(path), "make directory", path)

    def listdir(self, path: str = "/") -> list[str]:
        """Return the names in a directory, in the order of the medium."""
        return self.run(lambda: self._listdir(path), "list", path)

    def statvfs(self) -> StatVfs:
        """Return how much room there is."""
        return self.run(self._statvfs, "measure", self.name)

    def run(self, work: Callable[[], T], verb: str, subject: str, file: File | None = None) -> T:
        """Hold the volume for one call into C, of an open file if one is given, and raise what its callbacks kept."""
        mutex = self.mutex
        mutex.acquire_and_charge(self.call_ns)
        try:
            self.begin(verb, subject, file)
            return self._in_c(work, verb, subject)
        finally:
            mutex.release()

    def begin(self, verb: str, subject: str, file: File | None = None) -> None:
        """Mount afresh a volume that failed, and refuse a call of one that is not mounted, or a file not open."""
        device = self._device
        if device is None:
            raise _not_mounted(self.name, f"{verb} {subject}")
        if self._stale:
            self._in_c(lambda: self._mount(device), "mount", f"{self.name} again")
            self._stale = False
        if file is not None:
            file.require_open(verb)

    def fail(self, error: Exception, verb: str, subject: str) -> NoReturn:
        """Raise what an exception out of a call into C stands for."""
        raised = self._translate(error, f"{verb} {subject}") if self.kept.error is None else self.give_up()
        if raised is None:
            raise error
        raised.__suppress_context__ = True  # `from None` would take its cause away
        raise raised

    def give_up(self) -> BaseException:
        """Forget what the library holds in RAM, and return what a callback kept."""
        kept, self.kept.error = self.kept.error, None
        assert kept is not None
        self._stale = True
        self.generation += 1
        self._forget()
        return kept

    @abstractmethod
    def _mount(self, device: BlockDevice) -> None: ...

    @abstractmethod
    def _unmount(self) -> None: ...

    @abstractmethod
    def _format(self, device: BlockDevice) -> None: ...

    @abstractmethod
    def _open(self, path: str, mode: str) -> File: ...

    @abstractmethod
    def _stat(self, path: str) -> Stat: ...

    @abstractmethod
    def _remove(self, path: str) -> None: ...

    @abstractmethod
    def _rename(self, old: str, new: str) -> None: ...

    @abstractmethod
    def _mkdir(self, path: str) -> None: ...

    @abstractmethod
    def _listdir(self, path: str) -> list[str]: ...

    @abstractmethod
    def _statvfs(self) -> StatVfs: ...

    @abstractmethod
    def _forget(self) -> None:
        """Drop what the library holds in RAM, without touching the device."""

    @abstractmethod
    def _translate(self, error: Exception, what: str) -> StorageError | None:
        """Return the StorageError for an exception of the library's own, or None."""

    def _in_c(self, work: Callable[[], T], verb: str, subject: str) -> T:
        try:
            result = work()
        except Exception as error:
            self.fail(error, verb, subject)
        if self.kept.error is not None:
            raise self.give_up()
        return result

    def _use(self, device: BlockDevice) -> None:
        if device.clock is not self._clock:
            self._clock = device.clock
            self.mutex = self._clock.mutex()
        self.call_ns = processor_of(device).ns("file")

    def _mounted_device(self, what: str) -> BlockDevice:
        if self._device is None:
            raise _not_mounted(self.name, what)
        return self._device

    def __repr__(self) -> str:
        return f"<{self.version} {self.name!r} on {self._device!r}>"


MODES = frozenset({"r", "r+", "w", "w+", "a", "a+", "x", "x+"})


def _not_mounted(name: str, what: str) -> NotMounted:
    return NotMounted(
        f"cannot {what}: {name} is not mounted (ENODEV, {NOT_MOUNTED})",
        code=NOT_MOUNTED,
        hint="mount(block_device) it, or reformat(block_device) a blank one",
    )


def mount_or_format(fs: FileSystem, device: BlockDevice) -> bool:
    """Mount the device, making an empty file system where there is none; return whether it was made."""
    try:
        fs.mount(device)
    except CorruptMedium:
        fs.reformat(device)
        return True
    return False
