"""What the client and Mbed's stores keep in the files of a volume, by name and size; never what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pdmlab.errors import CorruptMedium, StorageError
from pdmlab.storage.credentials import item_name
from pdmlab.storage.fat import FATFileSystem
from pdmlab.storage.filesystem import FileSystem
from pdmlab.storage.kv import esfs, esfsfile, filesystemstore
from pdmlab.storage.kv.image import Image, Volume
from pdmlab.storage.littlefs import LittleFileSystem2

MOST_FILES = 1000
"""A view lists no more files of a volume."""
OLD_FOLDER = "/kcm"
"""Where credentials lay before they were files of ESFS; nothing reads them any more."""


@dataclass(frozen=True)
class Stored:
    """A stored item: what keeps it, its name, size of its value (B, None if torn), whether it is as it was written.

    intact: yes or no, or why nobody can say.
    """

    store: str
    name: str
    file: str
    size: int | None
    encrypted: bool
    factory: bool
    intact: str


@dataclass(frozen=True)
class Listed:
    """A file of a volume: where the volume begins (B), the path in it, and its size (B)."""

    volume: int
    path: str
    size: int


def look_into(image: Image, volume: Volume, root_of_trust: bytes | None) -> tuple[list[Listed], list[Stored]]:
    """Mount a volume of an image; return its files, at most MOST_FILES, and what client and stores keep in some.

    Raises:
        CorruptMedium: it cannot be mounted.
    """
    fs: FileSystem
    if volume.kind == "FAT":
        fs = FATFileSystem("image")
    else:
        fs = LittleFileSystem2("image", block_size=volume.unit, read_size=16, prog_size=16, cache_size=256)
    fs.mount(image.part(volume))
    try:
        keys = esfsfile.EsfsKeys(root_of_trust) if root_of_trust is not None and len(root_of_trust) == 16 else None
        found = [
            _esfs(fs, f"{folder}/{leaf}", keys) for folder in (esfs.WORKING, esfs.BACKUP) for leaf in _files(fs, folder)
        ]
        found += [_kvstore(fs, leaf) for leaf in _files(fs, f"/{filesystemstore.DEFAULT_FOLDER}")]
        found += [
            Stored("pdmlab, before ESFS", leaf, f"{OLD_FOLDER}/{leaf}", None, True, False, "not read any more")
            for leaf in _files(fs, OLD_FOLDER)
        ]
        listed = [Listed(volume.offset, path, size) for path, size in islice(_walk(fs, "/"), MOST_FILES)]
        return listed, found
    finally:
        fs.unmount()


def _esfs(fs: FileSystem, path: str, keys: esfsfile.EsfsKeys | None) -> Stored:
    raw = _content(fs, path)
    name = esfsfile.stored_name(raw)
    mode = esfsfile.EsfsMode(int.from_bytes(raw[2:4], "little"))
    intact, size = "needs the SOTP dump", esfsfile.data_size(raw)
    if name is None or size is None:
        intact = "no: torn"
    elif keys is not None:
        try:
            esfsfile.unseal(raw, keys)
            intact = "yes"
        except CorruptMedium:
            intact = "no: damaged, or stored under another root of trust"
    is_encrypted, is_factory = bool(mode & esfsfile.EsfsMode.ENCRYPTED), bool(mode & esfsfile.EsfsMode.FACTORY)
    return Stored("ESFS", item_name(name or "?"), path, size, is_encrypted, is_factory, intact)


def _kvstore(fs: FileSystem, leaf: str) -> Stored:
    path = f"/{filesystemstore.DEFAULT_FOLDER}/{leaf}"
    raw = _content(fs, path)
    head = filesystemstore.METADATA.unpack(raw[: filesystemstore.METADATA.size].ljust(12, b"\0"))
    sound = len(raw) >= filesystemstore.METADATA.size and head[0] == filesystemstore.MAGIC
    size = len(raw) - head[1] if sound else None
    return Stored(
        "FileSystemStore", leaf, path, size, False, False, "has no check" if sound else "no: its header is wrong"
    )


def _content(fs: FileSystem, path: str) -> bytes:
    with fs.open(path, "r") as file:
        return file.read()


def _walk(fs: FileSystem, folder: str) -> Iterator[tuple[str, int]]:
    """Give path and size (B) of every file; what cannot be read is passed over."""
    folders = [folder]
    while folders:
        folder = folders.pop()
        try:
            stats = [fs.stat(f"{folder.rstrip('/')}/{name}") for name in sorted(fs.listdir(folder))]
        except StorageError:
            continue
        yield from ((f"{folder.rstrip('/')}/{found.name}", found.size) for found in stats if found.kind == "file")
        folders += [f"{folder.rstrip('/')}/{found.name}" for found in reversed(stats) if found.kind == "dir"]


def _files(fs: FileSystem, folder: str) -> list[str]:
    try:
        return [name for name in sorted(fs.listdir(folder)) if fs.stat(f"{folder}/{name}").kind == "file"]
    except StorageError:
        return []
