"""What lies where in a file system: names for the addresses that operations go to."""

from __future__ import annotations

from pdmlab.storage.kv.areas import MAGIC
from pdmlab.storage.powercuts.fatcheck import FatVolume
from pdmlab.storage.powercuts.image import Image, Operation
from pdmlab.storage.powercuts.story import Places


def in_littlefs(image: Image) -> Places:
    """Name blocks by their number; the superblock's pair by its name."""
    block = image.geometry.erase

    def place(operation: Operation) -> str:
        number = operation.address // block
        return f"the root pair (block {number})" if number < 2 else f"block {number}"

    return place


def in_securestore(image: Image) -> Places:
    """Name the two stores below."""

    def place(operation: Operation) -> str:
        return "the rollback protection store" if operation.address < image.size // 2 else "the store of values"

    return place


def in_tdbstore(image: Image) -> Places:
    """Name the two areas, and the master records and headers in them."""
    half = image.size // 2

    def place(operation: Operation) -> str:
        number, offset = divmod(operation.address, half)
        if operation.kind == "erase":
            return f"area {number}"
        if operation.new[:4] == MAGIC.to_bytes(4, "little"):
            return f"a header in area {number}"
        return f"key or data in area {number}" if offset >= 64 else f"the reserved data of area {number}"

    return place


def in_fat(image: Image) -> Places:
    """Name the regions of the FAT volume on an image."""
    volume = FatVolume(image.data)
    if not volume.sound:
        return lambda operation: ""
    table, root, data = volume.table, volume.root, volume.data

    def place(operation: Operation) -> str:
        at = operation.address
        if at < table:
            return "the boot sector"
        if at < root:
            return "the allocation table"
        if at < data:
            return "the root directory"
        is_directory = any(each.startswith(b".          ") for each in (operation.old, operation.new))
        return "a directory" if is_directory else "file data"

    return place
