"""File systems as a story opens them: littlefs straight over the image, and any FileSystem over a block device."""

from __future__ import annotations

from collections.abc import Callable

from littlefs import lfs
from littlefs.errors import LittleFSError

from pdmlab.errors import CorruptMedium, StorageError
from pdmlab.storage.fat import FATFileSystem
from pdmlab.storage.filesystem import FileSystem, storage_error
from pdmlab.storage.littlefs import DISK_VERSION
from pdmlab.storage.powercuts.fatcheck import faults_in_words
from pdmlab.storage.powercuts.image import Image, Operation
from pdmlab.storage.powercuts.steps import Contents, Step

_READ = lfs.LFSFileFlag(1)
_WRITE = lfs.LFSFileFlag(2 | 0x100 | 0x400)
_APPEND = lfs.LFSFileFlag(2 | 0x100)
_DIRECTORY = 2
_MOST_NAMES = 4096
_DEEPEST = 16


class _Bytes:
    """The image, as the C library reaches it: nothing here can fail, since C checks block numbers and offsets."""

    def __init__(self, image: Image) -> None:
        geometry = image.geometry
        data, unit = image.data, geometry.erase

        def read(config: object, block: int, offset: int, size: int) -> bytearray:
            start = block * unit + offset
            return data[start : start + size]

        # A closure: half of an exploration's time is in it, and it need not look anything up in self.
        self.read = self.plain_read = read
        self._data, self._image, self._block = data, image, unit
        self._blank = bytes([geometry.erase_value & 0xFF]) * geometry.erase
        self._overwrites, self._card = geometry.overwrites, geometry.erase_value < 0

    def noted_read(self, config: object, block: int, offset: int, size: int) -> bytearray:
        start = block * self._block + offset
        assert self._image.looked is not None
        self._image.looked.append((start, size))
        return self._data[start : start + size]

    def prog(self, config: object, block: int, offset: int, data: bytes) -> int:
        start = block * self._block + offset
        size = len(data)
        old = bytes(self._data[start : start + size])
        if not self._overwrites and old.count(0xFF) != size:
            data = (int.from_bytes(old, "little") & int.from_bytes(data, "little")).to_bytes(size, "little")
        self._image.journal.append(Operation("program", start, old, data))
        self._data[start : start + size] = data
        return 0

    def erase(self, config: object, block: int) -> int:
        if self._card:
            return 0
        start = block * self._block
        end = start + self._block
        self._image.journal.append(Operation("erase", start, bytes(self._data[start:end]), self._blank))
        self._data[start:end] = self._blank
        return 0

    def sync(self, config: object) -> int:
        self._image.sync()
        return 0


class LittlefsVolume:
    """littlefs on an image, with the geometry's units and a cache of max(64 B, units), as littlefs's own tests have it.

    The contents are read through a second mount of the same bytes, whose cache holds a whole block: reading is then
    twice as fast, and says the same.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._bytes = _Bytes(image)
        self._writer, self._reader = lfs.LFSFilesystem(), lfs.LFSFilesystem()
        cache = max(64, image.geometry.read, image.geometry.program)
        self._config = self._configure(cache)
        self._wide = self._configure(max(cache, image.geometry.erase))
        self._mounted = False

    def _configure(self, cache: int) -> lfs.LFSConfig:
        geometry = self._image.geometry
        count = geometry.size // geometry.erase
        return lfs.LFSConfig(
            self._bytes,
            read_size=geometry.read,
            prog_size=geometry.program,
            block_size=geometry.erase,
            block_count=count,
            block_cycles=1024,
            cache_size=cache,
            lookahead_size=min(64, 8 * ((count + 63) // 64)),
            disk_version=DISK_VERSION,
        )

    def format(self) -> None:
        """Make an empty volume."""
        lfs.format(self._writer, self._config)

    def mount(self) -> lfs.LFSFilesystem:
        """Mount the volume for writing, where that has not been done; reading it has a mount of its own."""
        if not self._mounted:
            _in_c("mount", lambda: lfs.mount(self._writer, self._config))
            self._mounted = True
        return self._writer

    def close(self) -> None:
        """Unmount the volume, which writes nothing."""
        if self._mounted:
            self._mounted = False
            lfs.unmount(self._writer)

    def take(self, step: Step, data: bytes, before: Contents) -> None:
        """Take a step; a file is synced and closed before it returns."""
        verb, fs, name = step.verb, self.mount(), step.name
        try:
            if verb == "write":
                self._write(name, _WRITE, 0, data)
            elif verb == "append":
                self._write(name, _APPEND, len(before.get(name) or b""), data)
            elif verb == "mkdir":
                lfs.mkdir(fs, name)
            elif verb == "rename":
                lfs.rename(fs, name, step.to)
            else:
                lfs.remove(fs, name)
        except LittleFSError as error:
            raise storage_error(error.code, str(step)) from None

    def _write(self, name: str, flags: lfs.LFSFileFlag, offset: int, data: bytes) -> None:
        fs = self._writer
        handle = lfs.file_open(fs, name, flags)
        try:
            if offset:
                lfs.file_seek(fs, handle, offset, 0)
            lfs.file_write(fs, handle, data)
            lfs.file_sync(fs, handle)
        finally:
            lfs.file_close(fs, handle)

    def settle(self) -> Contents | str | None:
        """Finish what a cut has left half done: moves and orphans, which littlefs does before its first write."""
        journal = self._image.journal
        mark = len(journal)
        _in_c("make consistent", lambda: lfs.fs_mkconsistent(self.mount()))
        written = journal[mark:]
        if not written:
            return None
        for _, address, old, _ in reversed(written):
            self._image.put(address, old)
        try:
            return self.contents()
        except StorageError as error:
            return error.message
        finally:
            self._image.redo(written)

    def flaw(self) -> str:
        """Know of none."""
        return ""

    def contents(self) -> Contents:
        """Read the whole tree: names, kinds, and all bytes of all files."""
        if self._image.looked is not None:
            self._bytes.read = self._bytes.noted_read
        fs, there = self._reader, Contents()
        _in_c("mount", lambda: lfs.mount(fs, self._wide))
        try:
            waiting = [""]
            while waiting:
                above = waiting.pop()
                directory = lfs.dir_open(fs, above or "/")
                try:
                    while (entry := lfs.dir_read(fs, directory)) is not None:
                        name = entry.name
                        if name == "." or name == "..":
                            continue
                        path = f"{above}/{name}"
                        if entry.type == _DIRECTORY:
                            waiting.append(path)
                            there[path] = None
                            continue
                        handle = lfs.file_open(fs, path, _READ)
                        there[path] = lfs.file_read(fs, handle, entry.size)
                        lfs.file_close(fs, handle)
                finally:
                    lfs.dir_close(fs, directory)
        except LittleFSError as error:
            raise storage_error(error.code, "read the tree") from None
        finally:
            lfs.unmount(fs)
            self._bytes.read = self._bytes.plain_read
        return there


def _in_c(what: str, work: Callable[[], object]) -> None:
    try:
        work()
    except LittleFSError as error:
        raise storage_error(error.code, what, corrupt=True) from None


def open_littlefs(image: Image) -> LittlefsVolume:
    """Return the littlefs volume of an image, which is mounted when it is first written to, and for each reading."""
    volume = image.kept.get("littlefs")
    if not isinstance(volume, LittlefsVolume):
        volume = image.kept["littlefs"] = LittlefsVolume(image)
    return volume


def format_littlefs(image: Image) -> None:
    """Make an empty littlefs volume on an image."""
    LittlefsVolume(image).format()


def open_fat(image: Image) -> MountedFiles:
    """Mount the FAT volume of an image."""
    return MountedFiles(FATFileSystem("fat"), image)


def format_fat(image: Image) -> None:
    """Make an empty FAT volume on an image."""
    fs = FATFileSystem("fat")
    fs.reformat(image)
    fs.unmount()


class MountedFiles:
    """Any FileSystem of pdmlab's on an image, FAT among them."""

    def __init__(self, fs: FileSystem, image: Image) -> None:
        self._fs, self._image, self._most = fs, image, image.size
        fs.mount(image)

    def close(self) -> None:
        """Unmount it, if a failure has not done so."""
        if self._fs.mounted:
            self._fs.unmount()

    def take(self, step: Step, data: bytes, before: Contents) -> None:
        """Take a step; a file is synced and closed before it returns. FAT does not sync the device, as on a board."""
        fs, name = self._fs, step.name
        if step.verb in ("write", "append"):
            exists = step.verb == "append" and name in before
            with fs.open(name, "r+" if exists else "w") as file:
                if exists:
                    file.seek(len(before[name] or b""))
                file.write(data)
                file.sync()
        elif step.verb == "mkdir":
            fs.mkdir(name)
        elif step.verb == "rename":
            fs.rename(name, step.to)
        else:
            fs.remove(name)

    def settle(self) -> Contents | None:
        """Do nothing."""
        return None

    def flaw(self) -> str:
        """Name lost and shared clusters."""
        return faults_in_words(self._image.data) if isinstance(self._fs, FATFileSystem) else ""

    def contents(self) -> Contents:
        """Read the whole tree: names, kinds, and all bytes of all files."""
        there, waiting = Contents(), [""]
        while waiting:
            above = waiting.pop()
            for name in self._fs.listdir(above or "/"):
                path = f"{above}/{name}"
                if self._fs.stat(path).kind == "dir":
                    waiting.append(path)
                    there[path] = None
                else:
                    there[path] = self._read(path)
                if len(there) > _MOST_NAMES or path.count("/") > _DEEPEST:
                    raise CorruptMedium("the tree has no end: a directory leads back into itself")
        return there

    def _read(self, path: str) -> bytes:
        with self._fs.open(path, "r") as file:
            return file.read(min(file.size(), self._most + 1))  # a torn entry may claim any size
