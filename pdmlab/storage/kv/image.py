"""The bytes of a medium, wherever they are: a file, a device, a medium; and what lies in them, by its own marks."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage.blockdevice import BD_ERROR_DEVICE_ERROR, BlockDevice
from pdmlab.storage.littlefs1 import version_1_in
from pdmlab.storage.medium import Medium

Source = str | Path | bytes | BlockDevice | Medium
_SECTOR = 512
_LFS_BLOCKS = (0, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_FAT_SECTORS = (512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Volume:
    """A file system or table that an image shows: where (B), what it is, and the unit (B) it works in."""

    kind: str
    offset: int
    size: int
    unit: int
    readable: bool
    detail: str = ""
    whole: int = 0
    """How large it says that it is (B); 0 if it does not."""


class Image(BlockDevice):
    """An image as a device that cannot be written."""

    type = "IMAGE"

    def __init__(self, data: bytes | mmap.mmap, *, offset: int = 0, size: int | None = None, unit: int = 1) -> None:
        super().__init__()
        self._data, self._offset, self._unit = data, offset, unit
        self._size = len(data) - offset if size is None else size

    @property
    def size(self) -> int:
        """Size of the image (B)."""
        return self._size

    @property
    def erase_size(self) -> int:
        """The unit of what lies in it (B)."""
        return self._unit

    def read(self, address: int, size: int) -> bytes:
        """Read bytes."""
        self._require(self.is_valid_read(address, size), "read", address, size)
        return self._data[self._offset + address : self._offset + address + size]

    def program(self, address: int, data: bytes) -> None:
        """Refuse."""
        raise _read_only()

    def erase(self, address: int, size: int) -> None:
        """Refuse."""
        raise _read_only()

    def part(self, volume: Volume) -> Image:
        """Return the stretch of a volume, in its units."""
        unit = volume.unit
        return Image(
            self._data, offset=self._offset + volume.offset, size=volume.size // unit * unit, unit=max(unit, 1)
        )


def _read_only() -> StorageError:
    return StorageError(
        f"an image is only looked at (BD_ERROR_DEVICE_ERROR, {BD_ERROR_DEVICE_ERROR})",
        code=BD_ERROR_DEVICE_ERROR,
        hint="write to the part itself, or to a Medium with this path",
    )


@contextmanager
def opened(source: Source) -> Iterator[Image]:
    """Open an image; a file is mapped, not read.

    Raises:
        ConfigError: there is no such file, or nothing is in it.
    """
    if isinstance(source, bytes):
        yield Image(source)
    elif isinstance(source, Medium):
        yield Image(source.peek(0, source.size))
    elif isinstance(source, BlockDevice):
        yield Image(source.read(0, source.size))
    else:
        if not isinstance(source, str | Path):
            hint = "a file, bytes, a block device or a medium: of a store, view(store.bd) or view(store.flash)"
            raise ConfigError(f"{source!r} is no image", hint=hint)
        path = Path(source)
        try:
            file = path.open("rb")
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}", hint="name an image file") from error
        with file:
            if path.stat().st_size == 0:
                raise ConfigError(f"{path} is empty", hint="name an image with something in it")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                yield Image(mapped)


def find_volumes(image: Image) -> list[Volume]:
    """Return the partition table and the file systems that an image begins with."""
    found = _partitions(image)
    return found or _at(image, 0, image.size)


def _partitions(image: Image) -> list[Volume]:
    head = _head(image, 0)
    if head[510:512] != b"\x55\xaa" or head[0:1] in (b"\xeb", b"\xe9"):
        return []
    volumes = []
    for number in range(4):
        entry = head[446 + 16 * number : 462 + 16 * number]
        status, kind = entry[0], entry[4]
        start, count = (each * _SECTOR for each in struct.unpack_from("<II", entry, 8))
        if status not in (0, 0x80) or not kind or not count:
            continue
        size = min(count, image.size - start)
        detail = f"partition {number + 1}, type 0x{kind:02x}"
        if size <= 0:
            volumes.append(
                Volume("MBR partition", start, count, _SECTOR, False, f"{detail}, past the end of the image")
            )
            continue
        inside = _at(image, start, size) or [Volume("unknown", start, size, _SECTOR, False)]
        volumes += [replace(v, detail=", ".join(filter(None, (detail, v.detail)))) for v in inside]
    return [Volume("MBR", 0, _SECTOR, _SECTOR, False, f"{len(volumes)} partitions"), *volumes] if volumes else []


def _at(image: Image, start: int, size: int) -> list[Volume]:
    for block in _LFS_BLOCKS:  # the first or the second block has the superblock
        head = _head(image, start + block) if block < size else b""
        old = version_1_in(head)
        if old is not None:
            detail = f"disk {old.version}; what runs here is littlefs 2, a different file system"
            name = f"littlefs {old.version.partition('.')[0]}.x"
            return [Volume(name, start, old.block_size * old.blocks, old.block_size, False, detail)]
        if head[8:16] == b"littlefs":
            version, unit, count = struct.unpack_from("<III", head, 20)
            detail = f"disk {version >> 16}.{version & 0xFFFF}, {count} blocks of {unit} B"
            length = min(unit * count, size)
            return [Volume("littlefs 2", start, length, unit, version >> 16 == 2 and unit > 0, detail, unit * count)]
    head = _head(image, start)
    unit = int.from_bytes(head[11:13], "little")
    if head[510:512] == b"\x55\xaa" and head[0:1] in (b"\xeb", b"\xe9") and unit in _FAT_SECTORS:
        name = next((text.decode() for text in (head[82:90], head[54:62]) if text.startswith(b"FAT")), "FAT")
        whole = unit * (int.from_bytes(head[19:21], "little") or int.from_bytes(head[32:36], "little"))
        return [Volume("FAT", start, size, unit, True, f"{name.strip()}, sectors of {unit} B", whole)]
    return []


def _head(image: Image, offset: int) -> bytes:
    return image.read(offset, min(_SECTOR, image.size - offset)) if offset < image.size else b""
