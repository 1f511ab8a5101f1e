"""A littlefs 1.x volume is recognised by its superblock and named, wherever it is met."""

from __future__ import annotations

import struct

import pytest

from pdmlab.errors import CorruptMedium, StorageError
from pdmlab.storage import HeapBlockDevice, LittleFileSystem2, Medium, SDBlockDevice, mount_or_format
from pdmlab.storage.kv import view
from pdmlab.storage.littlefs1 import version_1_in


def superblock(block_size: int = 512, blocks: int = 2048, version: int = 0x0001_0007) -> bytes:
    """Revision, size of the directory, tail (none), then the entry, whose magic is at offset 40."""
    raw = struct.pack("<IIII", 2, 0x34, 3, 2) + bytes([0x2E, 20, 0, 8])
    raw += struct.pack("<IIIII", 3, 2, block_size, blocks, version) + b"littlefs" + struct.pack("<I", 0xDEADBEEF)
    assert raw[40:48] == b"littlefs"
    return raw.ljust(block_size, b"\xff")


def card(first: bytes, second: bytes = b"") -> SDBlockDevice:
    medium = Medium(1 << 20, erase_value=0)
    medium.poke(0, first)
    medium.poke(512, second)
    return SDBlockDevice(medium)


@pytest.mark.parametrize("device", [card(superblock()), card(b"\0" * 512, superblock())], ids=["first", "second"])
def test_mounting_it_names_it_and_hints(device: SDBlockDevice) -> None:
    with pytest.raises(StorageError, match=r"a littlefs 1.7 is on it, not a damaged littlefs 2 .EINVAL, -22") as caught:
        LittleFileSystem2("fs").mount(device)
    assert not isinstance(caught.value, CorruptMedium)
    assert "reformat()" in str(caught.value)


def test_nothing_formats_it_unasked_and_whoever_asks_may() -> None:
    device = card(superblock())
    fs = LittleFileSystem2("fs")
    with pytest.raises(StorageError, match=r"littlefs 1\.7"):
        mount_or_format(fs, device)
    assert device.medium.peek(40, 8) == b"littlefs"
    fs.reformat(device)
    assert fs.listdir() == []
    fs.unmount()


def test_what_is_damaged_or_blank_is_still_called_so() -> None:
    for content in (b"", b"littlefs" * 64):
        with pytest.raises(CorruptMedium):
            LittleFileSystem2("fs").mount(card(content))
    with pytest.raises(CorruptMedium):
        LittleFileSystem2("fs").mount(HeapBlockDevice(1 << 16))


@pytest.mark.parametrize("change", [b"", superblock(version=0x0002_0000), superblock()[:44], superblock()[1:]])
def test_other_bytes_are_no_superblock_of_version_1(change: bytes) -> None:
    assert version_1_in(change) is None
    fs = LittleFileSystem2("fs")
    fs.reformat(device := HeapBlockDevice(1 << 16))
    fs.unmount()
    device.init()
    assert version_1_in(device.read(0, 512)) is None
    device.deinit()


def test_the_viewer_names_it_too() -> None:
    seen = view(superblock().ljust(1 << 20, b"\xff"))
    assert [(volume.kind, volume.size, volume.unit) for volume in seen.volumes] == [("littlefs 1.x", 1 << 20, 512)]
    assert "disk 1.7" in repr(seen) and "corrupt" not in repr(seen)
