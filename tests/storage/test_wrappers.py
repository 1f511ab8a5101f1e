"""Slices, buffers and counters, over devices that keep count themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import StorageError
from pdmlab.storage import BufferedBlockDevice, HeapBlockDevice, ProfilingBlockDevice, SlicingBlockDevice
from pdmlab.storage.benchmark import find_profile


def test_a_slice_counts_negative_bounds_from_the_end() -> None:
    heap = HeapBlockDevice(16 * 512)
    tail = SlicingBlockDevice(heap, -1024)
    tail.init()
    assert (tail.size, tail.start, tail.stop) == (1024, 7168, 8192)
    tail.program(512, b"z" * 512)
    assert heap.read(7680, 512) == b"z" * 512
    with pytest.raises(StorageError, match="-4001"):
        tail.read(1024, 512)


@pytest.mark.parametrize("bounds", [(512, 512), (1024, 512), (0, 9000), (100, 1024)])
def test_a_slice_that_makes_no_sense_is_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(StorageError, match="cannot slice"):
        SlicingBlockDevice(HeapBlockDevice(16 * 512), *bounds)


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
