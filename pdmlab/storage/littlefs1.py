"""littlefs 1.x, as Mbed's LittleFileSystem writes it: recognised, so that nobody takes it for a damaged littlefs 2.

Its superblock is a directory in blocks 0 and 1: 16 B of header, an entry of type 0x2e with 20 B of attributes and
a name of 8 B: u32 root[2], u32 block size, u32 number of blocks, u32 version, "littlefs" (at offset 40).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pdmlab.storage.blockdevice import BlockDevice

_ENTRY = struct.Struct("<BBBB8xIII8s")
_AT = 16
_TYPE = 0x2E
_MAGIC = b"littlefs"


@dataclass(frozen=True)
class Version1:
    """What a littlefs 1.x superblock says: the version on disk, such as 1.7, and blocks of block_size B."""

    version: str
    block_size: int
    blocks: int


def version_1_in(block: bytes) -> Version1 | None:
    """Return what a block's superblock of littlefs 1.x says; None if it is none."""
    if len(block) < _AT + _ENTRY.size:
        return None
    kind, size, _, name_size, block_size, blocks, version, magic = _ENTRY.unpack_from(block, _AT)
    if magic != _MAGIC or kind != _TYPE or (size, name_size) != (20, len(_MAGIC)) or version >> 16 != 1:
        return None
    return Version1(f"{version >> 16}.{version & 0xFFFF}", block_size, blocks)


def version_1_on(device: BlockDevice, block_size: int) -> Version1 | None:
    """Return what the superblock on an initialised device says; None if there is none of littlefs 1.x.

    block_size: of the littlefs that was expected there (B); its own is looked for, too.
    """
    for start in dict.fromkeys((0, block_size, 512, 4096)):
        size = -(-(_AT + _ENTRY.size) // device.read_size) * device.read_size
        if start % device.read_size == 0 and start + size <= device.size:
            found = version_1_in(device.read(start, size))
            if found is not None:
                return found
    return None
