"""SOTP's bytes, its collection, and that it and NVStore read each other's records."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.clock import PowerLost
from pdmlab.errors import CorruptMedium, NoSpace, StorageError
from pdmlab.storage import FlashIAPBlockDevice, Medium
from pdmlab.storage.kv import NVStore, Sotp, SotpType
from tests.storage.cutmedium import CutMedium

AREAS = [(0, 4096), (4096, 4096)]


def flash(medium: Medium | None = None, unit: int = 8) -> FlashIAPBlockDevice:
    return FlashIAPBlockDevice(medium or Medium(8192), part="K64F", sectors=[(2, 4096)], program_size=unit)


def record(type_and_flags: int, data: bytes) -> bytes:
    head = struct.pack("<HH", type_and_flags, len(data))
    return head + struct.pack("<I", zlib.crc32(head + data) ^ 0xFFFF_FFFF) + data


def test_the_bytes_are_the_clients() -> None:
    device = flash()
    store = Sotp(device, AREAS)
    store.set(SotpType.ROT, bytes(range(16)))
    store.set(SotpType.SAVED_TIME, struct.pack("<Q", 1_500_000_000))
    master = record(0xFFE, struct.pack("<HHI", 1, 0, 0))
    assert master[:4] == bytes.fromhex("fe0f 0800")
    expected = master + record(4, bytes(range(16))) + record(2, struct.pack("<Q", 1_500_000_000))
    assert device.read(0, len(expected)) == expected


def test_values_larger_than_nvstores_are_kept() -> None:
    medium = Medium(1 << 17)
    device = FlashIAPBlockDevice(medium, part="K64F", sectors=[(2, 65536)], program_size=8)
    Sotp(device, [(0, 65536), (65536, 65536)]).set(1, bytes(range(256)) * 100)
    assert Sotp(device, [(0, 65536), (65536, 65536)]).get(1) == bytes(range(256)) * 100


@pytest.mark.parametrize("unit", [4, 8, 32, 512])
@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=100)), max_size=60))
@settings(max_examples=10, deadline=None)
def test_it_behaves_as_a_dictionary_through_collections(unit: int, steps: list[tuple[int, bytes]]) -> None:
    device = flash(unit=unit)
    store, model = Sotp(device, AREAS), dict[int, bytes]()
    for key, data in steps:
        store.set(key, data)
        model[key] = data
    for each in (store, Sotp(device, AREAS)):
        assert {key: each.get(key) for key in each.iterate()} == model


def test_each_reads_the_others_root_of_trust() -> None:
    for write, read in ((Sotp, NVStore), (NVStore, Sotp)):
        device = flash()
        store = write(device, AREAS)
        for n in range(30):
            store.set(4, bytes([n]) * 200)
        assert read(device, AREAS).get(4) == bytes([29]) * 200
        read(device, AREAS).set(4, b"other")
        assert write(device, AREAS).get(4) == b"other"


def test_a_power_cut_at_any_program_or_erase_keeps_the_old_or_the_new() -> None:
    for cut in range(400):
        medium = CutMedium(8192)
        store = Sotp(flash(medium), AREAS)
        store.set(4, b"root of trust...")
        medium.left = cut
        value = before = after = b""
        try:
            for n in range(40):
                before, after = value, bytes([n]) * 300
                store.set(2, after)
                value = after
        except PowerLost:
            pass
        else:
            break
        medium.left = 1 << 30
        again = Sotp(flash(medium), AREAS)
        assert again.get(4) == b"root of trust..."
        assert (again.get(2) if 2 in again.iterate() else b"") in (before, after)
    else:
        raise AssertionError("the work never finished")


def test_refusals_carry_sotps_statuses() -> None:
    medium = Medium(8192)
    store = Sotp(flash(medium), AREAS)
    with pytest.raises(StorageError, match="SOTP_NOT_FOUND, 3"):
        store.get(1)
    with pytest.raises(StorageError, match="SOTP_NOT_FOUND, 3"):
        store.remove(1)
    with pytest.raises(StorageError, match="SOTP_BAD_VALUE, 5"):
        store.set(16, b"")
    store.set(1, bytes(3000))
    medium.poke(16 + 8 + 100, b"\1")
    with pytest.raises(CorruptMedium, match="SOTP_DATA_CORRUPT, 4"):
        store.get(1)
    medium.poke(16 + 8 + 100, b"\0")
    with pytest.raises(NoSpace, match="SOTP_FLASH_AREA_TOO_SMALL, 7"):
        store.set(2, bytes(3000))
    with pytest.raises(NoSpace, match="two areas of 1024 B"):
        Sotp(flash(), [(0, 512), (4096, 4096)])
    store.reset()
    assert store.keys() == []
    assert "00" * 8 not in repr(store)
