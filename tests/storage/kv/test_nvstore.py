"""NVStore's bytes, its collection, and what power cuts leave of it."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pdmlab.clock import PowerLost
from pdmlab.errors import ConfigError, CorruptMedium, NoSpace, StorageError, WriteOnce
from pdmlab.storage import FlashIAPBlockDevice, Medium, NVStore, root_of_trust
from pdmlab.storage.kv.nvstore import forget, keep

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


def record(key: int, size_and_owner: int, data: bytes) -> bytes:
    head = struct.pack("<HH", key, size_and_owner)
    return head + struct.pack("<I", crc(head + data)) + data


def test_an_area_written_by_hand_reads_back() -> None:
    device = flash()
    area = record(0xFFE, 8, struct.pack("<HHI", 7, 16, 0))
    for key, data in ((5, b"abcd"), (6, b"gone"), (5, b"newest!!"), (0x8000 | 6, b"")):
        area += record(key, len(data), data).ljust(-(-(8 + len(data)) // 8) * 8, b"\xff")
    device.program(4096, area)
    store = NVStore(device, AREAS)
    assert (store.keys(), store.get(5)) == ([5], b"newest!!")
    store.set(1, b"x")
    assert device.read(4096 + len(area), 9) == record(1, 1, b"x")


def test_the_bytes_are_mbeds() -> None:
    device = flash()
    NVStore(device, AREAS).set(5, b"abc", owner=2)

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
        self.until_restart: set[int] = set()

    def erasures(self) -> int:
        return sum(self.medium.wear.values())

    def reopen(self) -> None:
        self.medium.left = 1 << 30
        self.store = NVStore(flash(self.medium), AREAS)
        self.until_restart.clear()

    def perform(self, change: Callable[[], None], key: int, value: bytes | None, cut: int | None) -> None:
        after = {k: v for k, v in self.model.items() if k != key}
        if value is not None:
            after[key] = value
        self.medium.left = 1 << 30 if cut is None else cut
        erased = self.erasures()
        try:
            change()
        except PowerLost:
            self.reopen()
            if self.contents() != after:
                assert self.contents() == self.model
                return
        if value is None and key in self.contents() and self.erasures() != erased:
            after[key] = self.model[key]  # Mbed's: a removal whose turn brings a collection removes nothing
        self.model = after

    def contents(self) -> dict[int, bytes]:
        keys = self.store.keys()
        return {key: self.store.get(key) for key in keys}

    @rule(key=KEYS, value=st.binary(max_size=150), cut=CUTS)
    def set(self, key: int, value: bytes, cut: int | None) -> None:
        if key in self.once | self.until_restart:
            with pytest.raises(WriteOnce):
                self.store.set(key, value)
        else:
            self.perform(lambda: self.store.set(key, value), key, value, cut)

    @rule(key=st.integers(12, 15), value=st.binary(max_size=20))
    def set_once(self, key: int, value: bytes) -> None:
        if key not in self.once | self.until_restart:
            erased = self.erasures()
            self.perform(lambda: self.store.set_once(key, value), key, value, None)
            # Mbed's: a collection writes the new record without its flag.
            (self.once if self.erasures() == erased else self.until_restart).add(key)

    @rule(key=KEYS, cut=CUTS)
    def remove(self, key: int, cut: int | None) -> None:
        if key in self.model and key not in self.once | self.until_restart:
            self.perform(lambda: self.store.remove(key), key, None, cut)

    @rule()
    def restart(self) -> None:
        self.reopen()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        self.medium.left = 1 << 30
        assert self.contents() == self.model


TestNVStoreUnderPowerCuts = NVStoreUnderPowerCuts.TestCase
TestNVStoreUnderPowerCuts.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


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


def test_a_store_of_other_keys_says_how_many_it_may_have() -> None:
    medium = Medium(8192)
    NVStore(flash(medium), AREAS, max_keys=40).set(39, b"far")
    again = NVStore(flash(medium), AREAS)
    assert (again.get(39), again.max_keys) == (b"far", 40)
    with pytest.raises(StorageError, match="NVSTORE_BAD_VALUE, -5"):
        again.set(40, b"")


def test_a_write_is_tried_sixteen_times() -> None:
    class Stubborn(FlashIAPBlockDevice):
        failures = 0

        def program(self, address: int, data: bytes) -> None:
            if self.failures:
                self.failures -= 1
                raise StorageError("busy", code=-4001)
            super().program(address, data)

    device = Stubborn(Medium(8192), part="K64F", sectors=[(2, 4096)], program_size=8)
    store = NVStore(device, AREAS)
    store.init()
    device.failures = 15
    store.set(1, b"patience")
    assert store.get(1) == b"patience"
    device.failures = 16
    with pytest.raises(StorageError, match="NVSTORE_WRITE_ERROR, -2"):
        store.set(1, b"more")


# -- what Mbed's own steps lose: see docs/decisions/0011 -------------------------------------------


def nearly_full(medium: Medium) -> NVStore:
    store = NVStore(flash(medium), AREAS)
    for _ in range(9):
        store.set(1, bytes(430))
    return store


def test_a_removal_whose_turn_brings_a_collection_removes_nothing() -> None:
    store = nearly_full(Medium(8192))
    store.set(2, bytes(104))  # to 8 B before the end, which a removal's record takes
    store.remove(2)
    assert store.keys() == [1, 2]
    store.remove(2)
    assert store.keys() == [1]


def test_a_set_once_whose_turn_brings_a_collection_is_not_set_once_after_a_restart() -> None:
    medium = Medium(8192)
    store = nearly_full(medium)
    store.set_once(3, bytes(430))
    with pytest.raises(WriteOnce):
        store.set(3, b"changed")
    again = NVStore(flash(medium), AREAS)
    again.set(3, b"changed")
    assert again.get(3) == b"changed"


def test_records_that_do_not_fit_are_refused_and_the_next_set_before_a_restart_is_lost() -> None:
    medium = Medium(8192)
    store = NVStore(flash(medium), AREAS)
    store.set(1, bytes(3000))
    with pytest.raises(NoSpace, match="NVSTORE_FLASH_AREA_TOO_SMALL, -7"):
        store.set(2, bytes(3000))
    assert store.get(1) == bytes(3000)
    again = NVStore(flash(medium), AREAS)
    assert again.keys() == [1]
    again.set(1, b"small")
    again.set(2, bytes(3000))
    assert again.get(1) == b"small"
    store = NVStore(flash(medium), AREAS)
    with pytest.raises(NoSpace):
        store.set(3, b"\x55" * 3000)
    store.set(1, b"\xaa" * 3)  # over what the refused collection left in the other area
    with pytest.raises(CorruptMedium):
        store.get(1)


def test_a_record_longer_than_an_area_reaches_the_next_sector() -> None:
    medium = Medium(3 * 4096)
    device = FlashIAPBlockDevice(medium, part="K64F", sectors=[(3, 4096)], program_size=8)
    store = NVStore(device, AREAS)
    store.set(1, b"\x55" * 4090)
    assert medium.peek(8192, 18) == b"\x55" * 18
    assert medium.peek(8192 + 24, 8) == b"\xff" * 8
    assert NVStore(device, AREAS).get(1) == b"\x55" * 4090


def test_of_versions_that_have_wrapped_the_older_area_may_be_chosen() -> None:
    for versions, live in (((1, 2), b"1"), ((3, 2), b"0"), ((0xFFFF, 0), b"0"), ((0, 0xFFFF), b"0"), ((0, 1), b"0")):
        device = flash()
        for area, version in enumerate(versions):
            master = record(0xFFE, 8, struct.pack("<HHI", version, 16, 0))
            device.program(area * 4096, master + record(5, 1, b"%d" % area).ljust(16, b"\xff"))
        assert NVStore(device, AREAS).get(5) == live


def test_an_owner_a_key_and_data_that_cannot_be_are_bad_values() -> None:
    store = NVStore(flash(), AREAS)
    for key, data, owner in ((1, b"x", 99), (1, b"x", -1), ("a", b"x", 1), (1, "text", 1), (1, 5, None)):
        with pytest.raises(StorageError, match="NVSTORE_BAD_VALUE"):
            store.set(key, data, owner=owner)  # type: ignore[arg-type]
    assert store.keys() == []
    store.set(1, b"x", owner=15)
    assert store.get(1) == b"x"


@pytest.mark.parametrize("areas", [[(0, 4096), (0, 4096)], [(4096, 4096), (0, 8192)], [(-4096, 4096), (0, 4096)]])
def test_areas_that_share_flash_are_refused(areas: list[tuple[int, int]]) -> None:
    with pytest.raises(ConfigError, match="share flash"):
        NVStore(flash(), areas)


# -- values set without endangering the others -------------------------------------------------------------

ROT = bytes(range(16))


def with_a_record_of(size: int) -> NVStore:
    store = NVStore(flash(), AREAS)
    store.set_once(4, ROT)
    store.set(11, bytes(size))
    return store


@pytest.mark.parametrize("size", range(3944, 4048, 8))
def test_values_that_are_kept_never_cost_another_one_its_own(size: int) -> None:
    store, held = with_a_record_of(size), {4: ROT, 11: bytes(size)}
    for key, data in ((9, bytes(range(32))), (8, b"8 bytes."), (9, b""), (8, b"and more"), (9, bytes(32)), (8, b"")):
        fits = store.fits({key: len(data)})
        try:
            keep(store, key, data)
        except NoSpace:
            assert not fits
        else:
            assert fits
            held[key] = data
        for again in (store, NVStore(store.flash, AREAS)):
            assert {each: again.get(each) for each in again.iterate()} == held
        with contextlib.suppress(NoSpace):
            forget(store, 9)
            held.pop(9, None)


@pytest.mark.parametrize("size", range(4000, 4040, 8))
def test_they_are_set_anew_after_a_set_of_the_applications_own_that_was_refused(size: int) -> None:
    store = with_a_record_of(size)
    with pytest.raises(NoSpace):
        for number in range(1000):  # Mbed's own: it stops in the middle of the collection
            store.set(7, bytes([number % 256]) * 48)
    with contextlib.suppress(NoSpace):
        keep(store, 8, b"8 bytes.")
    assert NVStore(store.flash, AREAS).get(4) == ROT and store.get(4) == ROT


def test_a_value_that_the_flash_refuses_does_not_hide_the_next_one() -> None:
    store = with_a_record_of(100)
    program, store.flash.program = store.flash.program, _refuse  # type: ignore[method-assign]
    with pytest.raises(StorageError, match="refuses"):
        keep(store, 8, b"8 bytes.")
    store.flash.program = program  # type: ignore[method-assign]
    keep(store, 9, b"later")
    assert NVStore(store.flash, AREAS).get(9) == b"later"


def _refuse(address: int, data: bytes) -> None:
    raise StorageError("the flash refuses", code=-4001)


def test_a_root_of_trust_that_has_no_room_is_refused_whole() -> None:
    store = NVStore(flash(), AREAS)
    store.set(11, bytes(4048))
    with pytest.raises(NoSpace):
        root_of_trust(store, bytes)
    assert store.keys() == [11] and NVStore(store.flash, AREAS).get(11) == bytes(4048)
