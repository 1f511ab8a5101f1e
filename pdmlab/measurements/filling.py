"""Filling a volume before it is measured: a file as large as is asked for, at next to no cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.errors import NotMeasurable
from pdmlab.storage import FATFileSystem, LittleFileSystem2

if TYPE_CHECKING:
    from pdmlab.storage.blockdevice import BlockDevice
    from pdmlab.storage.filesystem import FileSystem

MOST_FILLED = 64 << 20
"""What littlefs is filled with at most (B): every byte of it is written."""
_FILLED, _CHUNK = "/fill.bin", 64 * 1024


def fill(fs: FileSystem, device: BlockDevice, share: float) -> None:
    """Give a share of the volume's blocks (percent) to one file, in the order that the file system allocates.

    Raises:
        NotMeasurable: littlefs would have more than MOST_FILLED to write.
    """
    room = fs.statvfs()
    blocks = max(int(room.blocks * share / 100) - (room.blocks - room.free_blocks), 0)
    size = blocks * room.block_size
    if isinstance(fs, FATFileSystem):
        with fs.open(_FILLED, "w") as file:
            file.truncate(size)  # FatFs gives it clusters and writes none of them
        return
    assert isinstance(fs, LittleFileSystem2)
    if size > MOST_FILLED:
        raise NotMeasurable(f"{share:g} % of {device.size} B are too much to fill with littlefs", hint="a volume_B")
    fs.unmount()
    # The same volume, written through a cache of a whole block: the blocks are the same, and the time is not measured.
    quick = LittleFileSystem2(
        "fill", device, read_size=fs.read_size, prog_size=fs.prog_size, block_size=fs.block_size,
        cache_size=fs.block_size, lookahead_size=8 * ((room.blocks + 63) // 64),
    )  # fmt: skip
    size -= blocks * 8  # two pointers of a block's list, at most nearly, and its first block has none
    with quick.open(_FILLED, "w") as file:
        for start in range(0, size, _CHUNK):
            file.write(bytes(min(_CHUNK, size - start)))
    quick.unmount()
    fs.mount(device)
