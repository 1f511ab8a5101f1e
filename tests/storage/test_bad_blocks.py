"""Each block of a part fails in turn, in each way: littlefs moves away, if it is told or reads back; FAT does not."""

from __future__ import annotations

import pytest

from pdmlab.errors import PdmlabError, StorageError
from pdmlab.storage import (
    FATFileSystem,
    FileSystem,
    FlashIAPBlockDevice,
    LittleFileSystem2,
    Medium,
    MediumFaults,
    SDBlockDevice,
)
from pdmlab.storage.faultcode import BlockFault

BLOCK = 512
BLOCKS = 32
FILES = 5
SILENT: list[BlockFault] = ["prognoop", "erasenoop"]
REFUSED: list[BlockFault] = ["progerror", "eraseerror"]


def flash() -> FlashIAPBlockDevice:
    return FlashIAPBlockDevice(Medium(BLOCKS * BLOCK), sectors=[(BLOCKS, BLOCK)], program_size=8)


def fill(fs: FileSystem, version: int) -> None:
    """Make directories with a file each, or write the files anew."""
    for n in range(FILES):
        if not version:
            fs.mkdir(f"/d{n}")
        with fs.open(f"/d{n}/file", "w") as file:
            file.write(contents(n, version))


def contents(n: int, version: int) -> bytes:
    return bytes([65 + n + version]) * (100 + 150 * n)


def holds(fs: FileSystem, version: int) -> bool:
    return all(fs.open(f"/d{n}/file").read() == contents(n, version) for n in range(FILES))


@pytest.mark.parametrize("kind", SILENT + REFUSED)
def test_littlefs_that_is_told_of_a_bad_block_moves_away_from_each(kind: BlockFault) -> None:
    """As littlefs's own tests do: all blocks but the two of the superblock, one bad at a time."""
    met = 0
    for block in range(2, BLOCKS):
        device = flash()
        faults = MediumFaults.of(device.medium)
        faults.bad_block(block, kind)
        fs = LittleFileSystem2("fs", relocate=True)
        fs.reformat(device)
        for version in range(3):
            fill(fs, version)
        fs.unmount()
        fs.mount(device)
        assert holds(fs, 2)
        met += faults.met > 0
        fs.unmount()
    assert met > BLOCKS // 3  # the blocks were in use


@pytest.mark.parametrize("kind", SILENT)
def test_as_mbed_ports_it_littlefs_finds_silent_blocks_by_reading_back(kind: BlockFault) -> None:
    for block in range(2, BLOCKS):
        device = flash()
        MediumFaults.of(device.medium).bad_block(block, kind)
        fs = LittleFileSystem2("fs")
        fs.reformat(device)
        for version in range(3):
            fill(fs, version)
        assert holds(fs, 2)
        fs.unmount()


@pytest.mark.parametrize("kind", REFUSED)
def test_as_mbed_ports_it_a_refused_block_ends_the_call_and_keeps_what_was_there(kind: BlockFault) -> None:
    """Its port answers -4001 where littlefs understands only LFS_ERR_CORRUPT."""
    refusals = 0
    for block in range(2, BLOCKS):
        device = flash()
        fs = LittleFileSystem2("fs")
        fs.reformat(device)
        fill(fs, 0)
        MediumFaults.of(device.medium).bad_block(block, kind)
        try:
            fill(fs, 1)
        except StorageError as error:
            assert error.code == -4001
            refusals += 1
        for n in range(FILES):
            assert fs.open(f"/d{n}/file").read() in (contents(n, 0), contents(n, 1))
        fs.unmount()
    assert refusals > BLOCKS // 5


@pytest.mark.parametrize("kind", ["progerror", "prognoop"])
def test_fat_moves_away_from_nothing(kind: BlockFault) -> None:
    """A refused block is an error each time, and a silent one lost data that nobody notices before it is read."""
    errors = losses = 0
    for block in range(2, 40):
        medium = Medium(64 << 10, erase_value=0)
        fs = FATFileSystem("fs")
        fs.reformat(SDBlockDevice(medium))
        MediumFaults.of(medium).bad_block(block, kind)
        try:
            fill(fs, 0)
        except StorageError as error:
            assert error.code == -5011
            errors += 1
            continue
        fs.unmount()
        medium.faults = None
        try:
            fs.mount(SDBlockDevice(medium))
            losses += not holds(fs, 0)
            fs.unmount()
        except PdmlabError:
            losses += 1
    assert (errors > 5 and not losses) if kind == "progerror" else (losses > 5 and not errors)


def test_a_read_error_is_the_drivers_and_goes_when_the_block_is_read_again() -> None:
    device = flash()
    fs = LittleFileSystem2("fs", relocate=True)
    fs.reformat(device)
    fill(fs, 0)
    faults = MediumFaults.of(device.medium)
    for block in range(2, BLOCKS):
        faults.bad_block(block, "readerror")
    with pytest.raises(StorageError, match="read error at 0x") as caught:
        holds(fs, 0)
    assert caught.value.code == -4001
    device.medium.faults = None
    assert holds(fs, 0)
    fs.unmount()


def test_relocation_is_for_bad_blocks_and_not_for_a_part_that_is_gone() -> None:
    device = flash()
    fs = LittleFileSystem2("fs", relocate=True)
    fs.reformat(device)
    fill(fs, 0)
    MediumFaults.of(device.medium).lose_contact()
    with pytest.raises(StorageError) as caught:
        fill(fs, 1)
    assert caught.value.code == -4001
    MediumFaults.of(device.medium).restore_contact()
    assert holds(fs, 0)
    fs.unmount()


def test_a_worn_out_part_is_left_block_by_block_until_it_is_full() -> None:
    device = flash()
    MediumFaults.of(device.medium, seed=4).limit_endurance(30, "progerror", spread=50)
    fs = LittleFileSystem2("fs", relocate=True, block_cycles=20)
    fs.reformat(device)
    version = 0
    with pytest.raises(StorageError) as caught:
        while version < 10_000:
            for n in range(FILES):
                if not version:
                    fs.mkdir(f"/d{n}")
                with fs.open(f"/d{n}/file", "w") as file:
                    file.write(contents(n, version % 10))
            version += 1
    assert caught.value.code == -28  # no block is left
    worn = sum(cycles >= 15 for cycles in device.medium.wear.values())
    assert worn > BLOCKS // 2  # it levelled the wear before it gave up
