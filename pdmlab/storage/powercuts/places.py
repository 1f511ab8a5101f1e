"""What lies where in a file system: names for the addresses that operations go to."""

from __future__ import annotations

from pdmlab.storage.powercuts.image import Image, Operation
from pdmlab.storage.powercuts.story import Places


def in_littlefs(image: Image) -> Places:
    """Name blocks by their number; the superblock's pair by its name."""
    block = image.geometry.erase

    def place(operation: Operation) -> str:
        number = operation.address // block
        return f"the root pair (block {number})" if number < 2 else f"block {number}"

    return place


def in_fat(image: Image) -> Places:
    """Name the regions of a FAT volume (Microsoft FAT specification, 2): from the boot sector on the image."""
    boot = bytes(image.data[:64])
    sector = int.from_bytes(boot[11:13], "little")
    if sector not in (512, 1024, 2048, 4096):
        return lambda operation: ""
    table = int.from_bytes(boot[14:16], "little") * sector
    root = table + boot[16] * int.from_bytes(boot[22:24], "little") * sector
    data = root + -(-int.from_bytes(boot[17:19], "little") * 32 // sector) * sector

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
