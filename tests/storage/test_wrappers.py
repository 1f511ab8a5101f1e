"""Wrappers do what Mbed's do: slices, buffers, chains, partitions, counters."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab import explain
from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage import (
    BufferedBlockDevice,
    ChainingBlockDevice,
    FATFileSystem,
    FlashIAPBlockDevice,
    HeapBlockDevice,
    LittleFileSystem2,
    MBRBlockDevice,
    Medium,
    MediumFaults,
    ProfilingBlockDevice,
    ReadOnlyBlockDevice,
    SDBlockDevice,
    SlicingBlockDevice,
    SPIFBlockDevice,
)
from pdmlab.storage.benchmark import find_profile
from pdmlab.storage.blockdevice import BlockDevice
from tests.tools import program


def test_a_slice_counts_negative_bounds_from_the_end() -> None:
    heap = HeapBlockDevice(16 * 512)
    tail = SlicingBlockDevice(heap, -1024)
    tail.init()
    assert (tail.size, tail.start, tail.stop) == (1024, 7168, 8192)
    tail.program(512, b"z" * 512)
    assert heap.read(7680, 512) == b"z" * 512
    with pytest.raises(StorageError, match="-4001"):
        tail.read(1024, 512)


@given(st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=96)), max_size=30), st.booleans())
def test_a_buffered_device_reads_as_plain_bytes_do(writes: list[tuple[int, bytes]], synced: bool) -> None:
    heap = HeapBlockDevice(4096)
    buffered, model = BufferedBlockDevice(heap), bytearray(4096)
    buffered.init()
    for address, data in writes:
        data = data[: 4096 - address]
        buffered.program(address, data)
        model[address : address + len(data)] = data
        assert buffered.read(0, 4096) == model
    if synced:
        buffered.sync()
        assert heap.read(0, 4096) == model


def test_a_buffer_turns_small_programs_into_one() -> None:
    profile = ProfilingBlockDevice(HeapBlockDevice(4096))
    buffered = BufferedBlockDevice(profile)
    buffered.init()
    for n in range(512):
        buffered.program(n, b"x")
    assert profile.snapshot() == {
        "reads": 1, "programs": 1, "erases": 0, "read_bytes": 512, "programmed_bytes": 512, "erased_bytes": 0,
    }  # fmt: skip


def test_only_what_succeeded_is_counted() -> None:
    profile = ProfilingBlockDevice(HeapBlockDevice(4096))
    profile.init()
    with pytest.raises(StorageError):
        profile.program(4096, bytes(512))
    profile.erase(0, 1024)
    assert (profile.programs, profile.erases, profile.erased_bytes) == (0, 1, 1024)
    profile.reset()
    assert not any(profile.snapshot().values())


def test_a_buffer_hands_whole_units_down_in_one_program_and_reads_none_of_them() -> None:
    profile = ProfilingBlockDevice(HeapBlockDevice(1 << 16))
    buffered = BufferedBlockDevice(profile)
    buffered.init()
    buffered.program(1024, b"w" * 2048)
    assert (profile.reads, profile.programs, profile.programmed_bytes) == (0, 1, 2048)
    buffered.program(100, b"part" * 200)  # 412 B fill a unit, 388 B stay
    assert (profile.reads, profile.programs) == (2, 2)
    assert buffered.read(0, 3072) == bytes(100) + b"part" * 200 + bytes(124) + b"w" * 2048
    buffered.deinit()
    assert (profile.programs, profile.programmed_bytes) == (3, 3072)


def test_a_stack_of_devices_knows_its_counter() -> None:
    profile = ProfilingBlockDevice(HeapBlockDevice(4096))
    assert find_profile(SlicingBlockDevice(BufferedBlockDevice(profile), 512)) is profile
    assert find_profile(SlicingBlockDevice(HeapBlockDevice(4096), 512)) is None


# -- Mbed's rules ------------------------------------------------------------------------------------


def code_of(work: object, *args: object) -> int:
    with pytest.raises(StorageError) as caught:
        work(*args)  # type: ignore[operator]
    assert caught.value.hint
    assert f", {caught.value.code})" in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    ("bounds", "why"),
    [((512, 512), "it would be empty"), ((1024, 512), "0x400 to 0x200 of 0x2000"), ((0, 9000), "0x0 to 0x2328"),
     ((100, 1024), "0x64 lies inside an erase unit of 512 B"), ((0, 700), "0x2bc lies inside"),
     ((-9000, 0), "to 0x2000 of 0x2000")],
)  # fmt: skip
def test_a_slice_that_does_not_fit_says_why(bounds: tuple[int, int], why: str) -> None:
    with pytest.raises(StorageError, match=why) as caught:
        SlicingBlockDevice(HeapBlockDevice(16 * 512), *bounds)
    assert caught.value.code == -4001


def test_a_slice_refuses_its_own_misaligned_reads_before_the_card_can() -> None:
    card = SDBlockDevice(Medium(1 << 20, erase_value=0))
    part = SlicingBlockDevice(card, 4096, 8192)
    part.init()
    assert code_of(part.read, 1, 512) == code_of(part.program, 0, bytes(100)) == -4001
    assert code_of(card.read, 1, 512) == -5003
    assert code_of(part.erase, 4096, 512) == code_of(part.read, 4096, 512) == code_of(part.read, 0, -512) == -4001


@pytest.mark.parametrize("kind", [BufferedBlockDevice, MBRBlockDevice, lambda device: ChainingBlockDevice([device])])
def test_some_wrappers_refuse_everything_before_init_and_count_it(kind: Callable[[BlockDevice], BlockDevice]) -> None:
    heap = HeapBlockDevice(16 * 512)
    MBRBlockDevice.partition(heap, 1, 0x83, 0)
    device = kind(heap)
    assert device.size == 0
    device.deinit()  # of what was never initialised: nothing
    for work, arguments in (
        (device.read, (0, 512)), (device.program, (0, bytes(512))), (device.erase, (0, 512)), (device.sync, ())
    ):  # fmt: skip
        assert code_of(work, *arguments) == -4001
    device.init()
    device.init()
    device.deinit()
    device.program(512, b"x" * 512)
    assert device.read(512, 512) == b"x" * 512
    device.deinit()
    assert code_of(device.read, 0, 512) == -4001


def test_only_a_buffer_hands_trims_down() -> None:
    trims: list[tuple[int, int]] = []

    class Trimmed(HeapBlockDevice):
        def trim(self, address: int, size: int) -> None:
            trims.append((address, size))

    for wrap in (ProfilingBlockDevice, ReadOnlyBlockDevice, lambda device: SlicingBlockDevice(device, 512)):
        wrap(Trimmed(4096)).trim(512, 512)
    assert not trims
    buffered = BufferedBlockDevice(Trimmed(4096))
    buffered.init()
    buffered.trim(512, 512)
    assert trims == [(512, 512)]


def test_a_read_only_device_answers_write_protected() -> None:
    heap = HeapBlockDevice(4096)
    device = ReadOnlyBlockDevice(heap)
    device.init()
    heap.program(0, b"x" * 512)
    assert device.read(0, 512) == b"x" * 512
    for work, arguments in ((device.program, (0, bytes(512))), (device.erase, (0, 512))):
        assert code_of(work, *arguments) == -2130771694 == 0x80FF0112 - (1 << 32)
    assert "MBED_ERROR_WRITE_PROTECTED" in repr(explain(-2130771694))
    device.deinit()


def test_a_buffer_keeps_what_could_not_be_written() -> None:
    medium = Medium(4096)
    flash = FlashIAPBlockDevice(medium, part="K64F", sectors=[(1, 4096)], program_size=8)
    buffered = BufferedBlockDevice(flash)
    buffered.init()
    buffered.program(3, b"abc")
    MediumFaults.of(medium).bad_block(0)
    assert code_of(buffered.sync) == -4001
    assert buffered.read(3, 3) == b"abc"
    medium.faults = None
    buffered.sync()
    assert medium.peek(0, 8) == b"\xff\xff\xffabc\xff\xff"


def test_an_erase_forgets_a_kept_unit_that_begins_where_it_ends_as_mbeds_does() -> None:
    heap = HeapBlockDevice(4096)
    buffered = BufferedBlockDevice(heap)
    buffered.init()
    buffered.program(1024, b"kept")
    buffered.erase(0, 512)
    assert buffered.read(1024, 4) == b"kept"
    buffered.erase(512, 512)  # 1024 is not in it
    assert buffered.read(1024, 4) == bytes(4)


# -- chains ------------------------------------------------------------------------------------------


def test_a_chain_takes_the_largest_units_and_a_common_erase_value() -> None:
    card, chip = SDBlockDevice(Medium(1 << 20, erase_value=0)), SPIFBlockDevice(Medium(1 << 20))
    chain = ChainingBlockDevice([card, chip])
    chain.init()
    assert (chain.read_size, chain.program_size, chain.erase_size, chain.size) == (512, 512, 4096, 2 << 20)
    assert (chain.get_erase_size(0), chain.get_erase_size((1 << 20) - 1)) == (512, 512)
    assert (chain.get_erase_size(1 << 20), chain.get_erase_size(2 << 20)) == (4096, 4096)
    assert chain.erase_value == -1
    chips = ChainingBlockDevice([chip, chip])
    chips.init()
    assert chips.erase_value == 0xFF
    chain.erase((1 << 20) - 512, 512 + 4096)
    chain.program((1 << 20) - 512, b"y" * 1024)
    assert card.read((1 << 20) - 512, 512) == chip.read(0, 512) == b"y" * 512
    assert "SD" in repr(chain) and "SPIF" in repr(chain)


def test_units_that_do_not_fit_each_other_are_refused_where_mbed_halts() -> None:
    chain = ChainingBlockDevice([HeapBlockDevice(3 * 768, 768, 768, 768), HeapBlockDevice(4096)])
    with pytest.raises(StorageError, match=r"read_sizes of 768, 512 B do not fit .*\n.*Mbed halts"):
        chain.init()
    with pytest.raises(ConfigError, match="a chain of no devices"):
        ChainingBlockDevice([])


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["read", "program", "erase", "sync"]),
        st.integers(0, 40),
        st.integers(0, 12),
        st.binary(min_size=1, max_size=1),
    ),
    max_size=25,
)


@given(st.lists(st.sampled_from([512, 1024, 2048]), min_size=1, max_size=4), OPERATIONS)
def test_a_chain_is_one_device(erase_sizes: list[int], operations: list[tuple[str, int, int, bytes]]) -> None:
    """Against a plain array: a device may lie anywhere in it, and a refusal changes nothing."""
    devices = [
        FlashIAPBlockDevice(Medium(4096), sectors=[(4096 // size, size)], program_size=256) for size in erase_sizes
    ]
    chain = ChainingBlockDevice(devices)
    chain.init()
    model = bytearray(b"\xff" * chain.size)
    for what, block, count, fill in operations:
        address, size = 256 * block, 256 * count
        try:
            if what == "read":
                assert chain.read(address, size) == model[address : address + size]
            elif what == "program":
                chain.program(address, fill * size)
                for at in range(address, address + size):
                    model[at] &= fill[0]
            elif what == "erase":
                chain.erase(address, size)
                model[address : address + size] = b"\xff" * size
            else:
                chain.sync()
        except StorageError:
            assert what != "read" or address + size > chain.size
            assert what != "erase" or not chain.is_valid_erase(address, size)
            assert what != "program" or not chain.is_valid_program(address, size)
            assert what != "sync"
    assert b"".join(device.medium.peek(0, 4096) for device in devices) == model


# -- partitions --------------------------------------------------------------------------------------


def card_with_two_partitions(path: Path | None = None) -> tuple[Medium, SDBlockDevice]:
    medium = Medium(8 << 20, erase_value=0, path=path)
    card = SDBlockDevice(medium)
    MBRBlockDevice.partition(card, 1, 0x0C, 0, 4 << 20)
    MBRBlockDevice.partition(card, 2, 0x83, 4 << 20)
    return medium, card


def test_a_table_lies_in_the_last_66_bytes_of_the_first_512() -> None:
    medium, card = card_with_two_partitions()
    head = medium.peek(0, 512)
    assert head[:446] == b"\xff" * 446 and head[510:] == b"\x55\xaa"
    assert head[446:462] == bytes.fromhex("00 000200 0c 800000 01000000 ff1f0000")
    assert head[462:478] == bytes.fromhex("00 800100 83 000001 00200000 00200000")
    assert head[478:510] == bytes(32)
    first, second = MBRBlockDevice(card, 1), MBRBlockDevice(card, 2)
    first.init()
    second.init()
    assert (first.partition_start, first.partition_stop, first.partition_type) == (512, 4 << 20, 0x0C)
    assert (second.partition_start, second.partition_stop, second.partition_type) == (4 << 20, 8 << 20, 0x83)
    second.program(0, b"z" * 512)
    assert medium.peek(4 << 20, 512) == b"z" * 512
    assert code_of(first.read, first.size, 512) == -4001


def test_sfdisk_reads_a_table_and_mtools_and_fsck_what_is_in_its_partition(tmp_path: Path) -> None:
    sfdisk, mtype, fsck, path = program("sfdisk"), program("mtype"), program("fsck.fat"), tmp_path / "card.img"
    medium, card = card_with_two_partitions(path)
    fs = FATFileSystem("fs")
    partition = MBRBlockDevice(card, 1)
    partition.init()
    fs.reformat(partition)
    with fs.open("/hello.txt", "w") as file:
        file.write(b"from partition 1")
    fs.unmount()
    medium.close()
    told = subprocess.run([sfdisk, "--json", path], capture_output=True, text=True, timeout=30)
    assert told.returncode == 0, told.stderr
    table = json.loads(told.stdout)["partitiontable"]
    assert (table["label"], table["unit"]) == ("dos", "sectors")
    assert [(row["start"], row["size"], row["type"]) for row in table["partitions"]] == [
        (1, 8191, "c"), (8192, 8192, "83"),
    ]  # fmt: skip
    verified = subprocess.run([sfdisk, "--verify", path], capture_output=True, text=True, timeout=30)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    read = subprocess.run([mtype, "-i", f"{path}@@512", "::hello.txt"], capture_output=True, timeout=30)
    assert read.stdout == b"from partition 1"
    (tmp_path / "one.img").write_bytes(path.read_bytes()[512 : 4 << 20])
    check = subprocess.run([fsck, "-n", tmp_path / "one.img"], capture_output=True, text=True, timeout=30)
    assert check.returncode == 0, check.stdout


def test_a_table_that_sfdisk_made_is_read(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    path.write_bytes(bytes(8 << 20))
    script = "label: dos\nstart=2048, size=4096, type=c, bootable\nstart=8192, type=83\n"
    subprocess.run([program("sfdisk"), "-q", path], input=script, text=True, check=True, timeout=30)
    medium = Medium(8 << 20, erase_value=0, path=path)
    card = SDBlockDevice(medium)
    for number, start, size, kind in ((1, 2048, 4096, 0x0C), (2, 8192, 8192, 0x83)):
        part = MBRBlockDevice(card, number)
        part.init()
        assert (part.partition_start, part.size, part.partition_type) == (start * 512, size * 512, kind)
    assert code_of(MBRBlockDevice(card, 3).init) == -3102
    medium.close()


@pytest.mark.parametrize(
    ("spoil", "code", "why"),
    [
        (lambda head: head.__setitem__(510, 0x54), -3101, "no master boot record"),
        (lambda head: head.__setitem__(446, 0x01), -3102, "its status is 0x01"),
        (lambda head: head.__setitem__(450, 0x00), -3102, "there is none"),
        (lambda head: head.__setitem__(450, 0x05), -3102, "0x05 is an extended one"),
        (lambda head: head.__setitem__(450, 0x0F), -3102, "0x0f is an extended one"),
        (lambda head: head.__setitem__(460, 0xFF), -3102, "not whole erase units of the device"),
    ],
)
def test_a_partition_that_cannot_be_is_refused_with_mbeds_code(
    spoil: Callable[[bytearray], None], code: int, why: str
) -> None:
    medium, card = card_with_two_partitions()
    head = bytearray(medium.peek(0, 512))
    spoil(head)
    medium.poke(0, bytes(head))
    first = MBRBlockDevice(card, 1)
    with pytest.raises(StorageError, match=why) as caught:
        first.init()
    assert (caught.value.code, first.size) == (code, 0)
    assert code_of(first.read, 0, 512) == -4001  # a failed init is none


def test_the_status_0x80_of_a_bootable_partition_is_good() -> None:
    medium, card = card_with_two_partitions()
    medium.poke(446, b"\x80")
    MBRBlockDevice(card, 1).init()


def test_partitions_do_not_overlap_and_leave_room_for_the_table() -> None:
    _, card = card_with_two_partitions()
    for arguments, why in (
        ((3, 0x83, 2 << 20, 5 << 20), "partition 3 would overlap partition 1"),
        ((3, 0x83, 9 << 20, 10 << 20), "0x900000 to 0xa00000 cannot be a partition"),
        ((3, 0x83, 700, 4096), "0x2bc to 0x1000 cannot be a partition"),
        ((5, 0x83, 0, 4096), "there is no partition 5"),
        ((1, 300, 0, 4096), "cannot be of type 300"),
    ):
        with pytest.raises(StorageError, match=why) as caught:
            MBRBlockDevice.partition(card, *arguments)
        assert caught.value.code == -4001 and caught.value.hint
    with pytest.raises(StorageError, match="no room for a master boot record"):
        MBRBlockDevice.partition(HeapBlockDevice(256, 1, 1, 256), 1, 0x83, 0)
    with pytest.raises(StorageError, match="no room for a master boot record"):
        MBRBlockDevice.partition(HeapBlockDevice(8192, 1024, 1024, 1024), 1, 0x83, 0)
    MBRBlockDevice.partition(card, 1, 0x0B, 0, 1 << 20)  # a partition may take its own place again


def test_a_volume_without_partitions_becomes_one_with_a_table_of_its_own() -> None:
    """Its boot sector ends in 0x55AA too; what lies in the table's place is code."""
    card = SDBlockDevice(Medium(1 << 20, erase_value=0))
    fs = FATFileSystem("fs")
    fs.reformat(card)
    fs.unmount()
    boot = bytearray(card.medium.peek(0, 512))
    boot[446:510] = b"\x33" * 64
    card.medium.poke(0, bytes(boot))
    card.init()
    assert code_of(MBRBlockDevice(card, 1).init) == -3102
    MBRBlockDevice.partition(card, 2, 0x83, -4096)
    part = MBRBlockDevice(card, 2)
    part.init()
    assert (part.partition_start, part.size) == ((1 << 20) - 4096, 4096)
    assert code_of(MBRBlockDevice(card, 1).init) == -3102


def test_blocks_of_a_table_are_erase_units_where_those_are_larger() -> None:
    medium = Medium(1 << 20)
    chip = SPIFBlockDevice(medium)
    MBRBlockDevice.partition(chip, 1, 0x83, 0, 64 << 10)
    assert medium.peek(446, 16)[8:] == (1).to_bytes(4, "little") + (15).to_bytes(4, "little")
    part = MBRBlockDevice(chip, 1)
    part.init()
    assert (part.partition_start, part.size, part.erase_size) == (4096, 60 << 10, 4096)
    fs = LittleFileSystem2("fs")
    fs.reformat(part)
    with fs.open("/a", "w") as file:
        file.write(b"x" * 5000)
    fs.unmount()
    LittleFileSystem2("fs", SlicingBlockDevice(chip, 4096, 64 << 10)).stat("/a")


def test_a_partition_can_be_sliced_before_anybody_knows_its_size() -> None:
    _, card = card_with_two_partitions()
    half = SlicingBlockDevice(MBRBlockDevice(card, 2), 1 << 20, -512)
    assert half.size == 0 and code_of(half.read, 0, 512) == -4001
    half.init()
    assert half.size == (3 << 20) - 512


def test_a_fat_sector_over_4096_b_is_named() -> None:
    with pytest.raises(StorageError, match=r"FAT cannot use sectors of 16384 B .*\n.*at most 4096 B") as caught:
        FATFileSystem("fs").reformat(HeapBlockDevice(1 << 20, 512, 512, 16384))
    assert caught.value.code == -22


@pytest.mark.parametrize(
    "make",
    [
        ReadOnlyBlockDevice,
        BufferedBlockDevice,
        ProfilingBlockDevice,
        MBRBlockDevice,
        lambda no: ChainingBlockDevice([no]),
    ],
)
def test_a_wrapper_refuses_what_is_no_block_device(make: Callable[[object], object]) -> None:
    with pytest.raises(ConfigError, match="None is no block device"):
        make(None)


def test_a_slice_before_the_device_shows_its_negative_start() -> None:
    with pytest.raises(StorageError, match="-0x7000 to 0x8000 of 0x8000") as caught:
        SlicingBlockDevice(HeapBlockDevice(0x8000), -0xF000)
    assert "0xffff" not in str(caught.value)
