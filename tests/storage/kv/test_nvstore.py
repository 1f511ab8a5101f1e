"""NVStore's bytes, its collection, and what power cuts leave of it."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pdmlab.clock import PowerLost
from pdmlab.errors import CorruptMedium, NoSpace, StorageError, WriteOnce
from pdmlab.storage import FlashIAPBlockDevice, Medium, NVStore, root_of_trust

AREAS = [(0, 4096), (4096, 4096)]
KEYS = st.integers(0, 15)
CUTS = st.none() | st.integers(0, 12)


def flash(medium: Medium | None = None) -> FlashIAPBlockDevice:
    return FlashIAPBlockDevice(medium or Medium(8192), part="K64F", sectors=[(2, 4096)], program_size=8)


def crc(data: bytes) -> int:
    """CRC-32 bit by bit, as Mbed's records have it: reflected, from all ones, not inverted at the end."""
    value = 0xFFFF_FFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB8_8320 if value & 1 else 0)
    return value


def test_the_bytes_are_mbeds() -> None:
    device = flash()
    NVStore(device, AREAS).set(5, b"abc", owner=2)

    def record(key: int, size_and_owner: int, data: bytes) -> bytes:
        head = struct.pack("<HH", key, size_and_owner)
        return head + struct.pack("<I", crc(head + data)) + data

    master = record(0xFFE, 8, struct.pack("<HHI", 1, 16, 0))
    assert device.read(0, 40) == master + record(5, 0x2003, b"abc") + b"\xff" * 13


def test_a_store_comes_back_after_a_reset_and_remembers_removals() -> None:
    device = flash()
    store = NVStore(device, AREAS)
    store.set(5, b"old")
    store.set(5, b"new")
    store.set(6, b"gone")
    store.remove(6)
    again = NVStore(device, AREAS)
    assert (again.keys(), again.get(5)) == ([5], b"new")
    with pytest.raises(StorageError, match="NVSTORE_NOT_FOUND, -3"):
        again.get(6)


@given(st.lists(st.tuples(st.integers(0, 15), st.none() | st.binary(max_size=200)), max_size=80))
@settings(max_examples=40)
def test_it_behaves_as_a_dictionary_through_collections(steps: list[tuple[int, bytes | None]]) -> None:
    device = flash()
    store, model = NVStore(device, AREAS), dict[int, bytes]()
    for key, data in steps:
        if data is not None:
            store.set(key, data)
            model[key] = data
        elif key in model:
            store.remove(key)
            del model[key]
    for each in (store, NVStore(device, AREAS)):
        stored = each.keys()
        assert {key: each.get(key) for key in stored} == model


class CutMedium(Medium):
    """Loses its power after so many programs and erases; the one that is cut tears."""

    left = 1 << 30

    def program(self, offset: int, data: bytes) -> None:
        if self._is_cut():
            super().program(offset, data[: len(data) // 16 * 8])
            raise PowerLost
        super().program(offset, data)

    def erase(self, offset: int, size: int) -> None:
        if self._is_cut():
            super().erase(offset, size // 2)
            raise PowerLost
        super().erase(offset, size)

    def _is_cut(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_a_power_cut_at_any_program_or_erase_keeps_the_old_or_the_new() -> None:
    for cut in range(400):
        medium = CutMedium(8192)
        store = NVStore(flash(medium), AREAS)
        store.set(4, b"root of trust...")
        medium.left = cut
        value = b""
        before = after = b""
        try:
            for n in range(60):
                before, after = value, bytes([n]) * 300
                store.set(7, after)
                value = after
        except PowerLost:
            pass
        else:
            assert cut > 60
            break
        medium.left = 1 << 30
        again = NVStore(flash(medium), AREAS)
        assert again.get(4) == b"root of trust..."
        found = again.get(7) if again.keys() == [4, 7] else b""
        assert found in (before, after)
    else:
        raise AssertionError("the work never finished")


class NVStoreUnderPowerCuts(RuleBasedStateMachine):
    """A store against a dictionary: each step may lose its power anywhere, and then holds the old or the new."""

    def __init__(self) -> None:
        super().__init__()
        self.medium = CutMedium(8192)
        self.store = NVStore(flash(self.medium), AREAS)
        self.model: dict[int, bytes] = {}
        self.once: set[int] = set()

    def perform(self, change: Callable[[], None], key: int, value: bytes | None, cut: int | None) -> None:
        after = {k: v for k, v in self.model.items() if k != key}
        if value is not None:
            after[key] = value
        self.medium.left = 1 << 30 if cut is None else cut
        try:
            change()
        except PowerLost:
            self.medium.left = 1 << 30
            self.store = NVStore(flash(self.medium), AREAS)
            if self.contents() != after:
                assert self.contents() == self.model
                return
        self.model = after

    def contents(self) -> dict[int, bytes]:
        keys = self.store.keys()
        return {key: self.store.get(key) for key in keys}

    @rule(key=KEYS, value=st.binary(max_size=150), cut=CUTS)
    def set(self, key: int, value: bytes, cut: int | None) -> None:
        if key in self.once:
            with pytest.raises(WriteOnce):
                self.store.set(key, value)
        else:
            self.perform(lambda: self.store.set(key, value), key, value, cut)

    @rule(key=st.integers(12, 15), value=st.binary(max_size=20))
    def set_once(self, key: int, value: bytes) -> None:
        if key not in self.once:
            self.perform(lambda: self.store.set_once(key, value), key, value, None)
            self.once.add(key)

    @rule(key=KEYS, cut=CUTS)
    def remove(self, key: int, cut: int | None) -> None:
        if key in self.model and key not in self.once:
            self.perform(lambda: self.store.remove(key), key, None, cut)

    @rule()
    def restart(self) -> None:
        self.store = NVStore(flash(self.medium), AREAS)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        self.medium.left = 1 << 30
        assert self.contents() == self.model


TestNVStoreUnderPowerCuts = NVStoreUnderPowerCuts.TestCase
TestNVStoreUnderPowerCuts.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_a_full_store_refuses_and_keeps_what_it_has() -> None:
    store = NVStore(flash(), AREAS)
    store.set(1, bytes(3000))
    with pytest.raises(NoSpace):
        store.set(2, bytes(3000))
    assert store.get(1) == bytes(3000)
    store.set(1, b"small")
    store.set(2, bytes(3000))


def test_the_root_of_trust_is_made_once_and_goes_with_its_sectors() -> None:
    medium = Medium(8192)
    first = root_of_trust(NVStore(flash(medium), AREAS), lambda n: b"\x01" * n)
    store = NVStore(flash(medium), AREAS)
    assert root_of_trust(store, lambda n: b"\x02" * n) == first == b"\x01" * 16
    with pytest.raises(WriteOnce):
        store.set(4, b"another")
    medium.poke(0, b"\xff" * 8192)
    assert root_of_trust(NVStore(flash(medium), AREAS), lambda n: b"\x02" * n) == b"\x02" * 16
    assert "01" * 4 not in repr(store)


def test_a_record_damaged_under_the_running_store_is_corrupt() -> None:
    medium = Medium(8192)
    store = NVStore(flash(medium), AREAS)
    store.set(3, b"data")
    medium.poke(0, bytes(4096))
    with pytest.raises(CorruptMedium, match="NVSTORE_DATA_CORRUPT, -4"):
        store.get(3)
