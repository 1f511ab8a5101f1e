"""TDBStore's bytes, its order of writes, and what it holds through collections, restarts and damage."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.storage import FlashIAPBlockDevice, HeapBlockDevice, Medium
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.kv import KVFlag, TDBStore


def flash(medium: Medium | None = None, *, unit: int = 1, sectors: list[tuple[int, int]] | None = None) -> BlockDevice:
    sectors = sectors or [(2, 4096)]
    size = sum(count * size for count, size in sectors)
    return FlashIAPBlockDevice(medium or Medium(size), part="K64F", sectors=sectors, program_size=unit)


GEOMETRIES: dict[str, Callable[[], BlockDevice]] = {
    "units of 8 B": lambda: flash(unit=8),
    "units of 1 B": lambda: flash(unit=1),
    "units of 4 B, many sectors": lambda: flash(unit=4, sectors=[(16, 512)]),
    "sectors that differ": lambda: flash(unit=4, sectors=[(4, 1024), (1, 4096)]),
    "units of 512 B": lambda: flash(unit=512, sectors=[(8, 4096)]),
    "no erase": lambda: HeapBlockDevice(8192, 1, 16, 512),
}


def crc(data: bytes) -> int:
    """The CRC bit by bit: each byte goes in lowest bit first, the register is kept highest bit first."""
    register = 0xFFFF_FFFF
    for byte in data:
        for bit in range(8):
            carry = register >> 31 ^ byte >> bit & 1
            register = (register << 1 & 0xFFFF_FFFF) ^ (0x04C1_1DB7 if carry else 0)
    return register


def record(key: bytes, data: bytes, flags: int = 0, unit: int = 1) -> bytes:
    head = struct.pack("<IHHIHHI", 0x54686683, 24, 1, flags, len(key), 0, len(data))
    body = key + data
    return (head + struct.pack("<I", crc(head + body))).ljust(-(-24 // unit) * unit, b"\xff") + body.ljust(
        -(-len(body) // unit) * unit, b"\xff"
    )


def opened(device: BlockDevice) -> TDBStore:
    store = TDBStore(device)
    store.init()
    return store


def contents(store: TDBStore) -> dict[str, bytes]:
    names = store.keys()
    return {key: store.get(key) for key in names if key != "TDBS"}


def test_an_area_written_by_hand_reads_back() -> None:
    # Reserved data and their trailer, the master record, two settings of a key, one that is deleted again.
    area = b"\xff" * 72
    area += record(b"TDBS", struct.pack("<HHI", 7, 1, 0))
    area += record(b"ssid", b"old") + record(b"gone", b"1") + record(b"ssid", b"lab", 1) + record(b"gone", b"", 1 << 31)
    device = flash()
    device.program(4096, area)
    store = opened(device)
    assert contents(store) == {"ssid": b"lab"}
    assert store.get_info("ssid").flags == KVFlag.WRITE_ONCE
    store.set("next", b"x")
    assert device.read(4096 + len(area), 29) == record(b"next", b"x")
    assert "version 7" in repr(store)


def test_the_bytes_are_mbeds() -> None:
    device = flash(unit=8)
    store = opened(device)
    store.set("key", b"value", KVFlag.REQUIRE_CONFIDENTIALITY)
    store.remove("key")
    expected = bytes.fromhex(
        # 64 B of reserved data and the trailer: never written
        "ff" * 72
        # magic, 24, revision 1, flags 0, key size 4, 0, data size 8, CRC; TDBS; version 1, revision 1, 0; to 8 B
        + "83666854 1800 0100 00000000 0400 0000 08000000"
    )
    assert device.read(0, len(expected)) == expected
    assert device.read(72, 40) == record(b"TDBS", struct.pack("<HHI", 1, 1, 0), unit=8)
    assert device.read(112, 32) == record(b"key", b"value", 2, unit=8)
    assert device.read(144, 32) == record(b"key", b"", 1 << 31, unit=8)
    assert device.read(176, 8) == b"\xff" * 8


def test_the_header_is_written_last_then_the_device_is_synced_and_read() -> None:
    calls = []

    class Watched(HeapBlockDevice):
        erase_value = 0xFF

        def program(self, address: int, data: bytes) -> None:
            calls.append(("program", address, len(data)))
            super().program(address, data)

        def sync(self) -> None:
            calls.append(("sync",))

        def read(self, address: int, size: int) -> bytes:
            calls.append(("read", address, size))
            return super().read(address, size)

    store = opened(Watched(8192, 1, 1, 4096))
    calls.clear()
    store.set("k", b"value")
    assert [call for call in calls if call[0] != "sync"][:3] == [
        ("program", 108 + 24, 1),
        ("program", 108 + 25, 5),
        ("program", 108, 24),
    ]
    after = calls[calls.index(("program", 108, 24)) + 1 :]
    assert after[0] == ("sync",)
    assert ("read", 108, 24) in after


@pytest.mark.parametrize("geometry", GEOMETRIES)
@given(st.lists(st.tuples(st.integers(0, 9), st.none() | st.binary(max_size=120)), max_size=60))
@settings(max_examples=15, deadline=None)
def test_it_behaves_as_a_dictionary_through_collections(geometry: str, steps: list[tuple[int, bytes | None]]) -> None:
    device = GEOMETRIES[geometry]()
    store, model = opened(device), dict[str, bytes]()
    for number, data in steps:
        key = f"key-{number}"
        if data is not None:
            store.set(key, data)
            model[key] = data
        elif key in model:
            store.remove(key)
            del model[key]
    assert contents(store) == model
    store.deinit()
    assert contents(opened(device)) == model
