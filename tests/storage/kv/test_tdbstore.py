"""TDBStore's bytes, its order of writes, and what it holds through collections, restarts and damage."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pdmlab.errors import ConfigError, CorruptMedium, NoSpace, StorageError, WriteOnce
from pdmlab.storage import FlashIAPBlockDevice, HeapBlockDevice, LittleFileSystem2, Medium
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.kv import FileSystemStore, KVFlag, KVStore, MbedError, SecureStore, TDBStore
from pdmlab.storage.kv.devicekey import DeviceKey


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


def over_files() -> KVStore:
    fs = LittleFileSystem2("fs")
    fs.reformat(HeapBlockDevice(1 << 17))
    return FileSystemStore(fs)


@pytest.fixture(params=["TDBStore", "SecureStore", "FileSystemStore"])
def make_store(request: pytest.FixtureRequest) -> Callable[[], KVStore]:
    makers: dict[str, Callable[[], KVStore]] = {
        "TDBStore": lambda: TDBStore(flash()),
        "SecureStore": lambda: SecureStore(TDBStore(flash())),
        "FileSystemStore": over_files,
    }

    def make() -> KVStore:
        store = makers[request.param]()
        store.init()
        if isinstance(store, SecureStore) and isinstance(store.underlying, TDBStore):
            DeviceKey(store.underlying).inject(bytes(16))
        return store

    return make


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


class StoreAgainstADictionary(RuleBasedStateMachine):
    """Values, pieces, removals, resets and restarts, on an area that is collected every few steps."""

    def __init__(self) -> None:
        super().__init__()
        self.device = flash(unit=8, sectors=[(8, 1024)])
        self.store = opened(self.device)
        self.model: dict[str, bytes] = {}
        self.once: set[str] = set()
        self.unfinished = self.torn = False

    def perform(self, change: Callable[[], None]) -> None:
        """Change the store; Mbed's refuses once where a restart has left a record that was never finished.

        That is the first record that would lie on what the other left: one that ends before it is taken.
        """
        areas, live, free = self.store._areas, self.store._live, self.store._free
        left = areas.read(live, free, areas.size - free)
        try:
            change()
        except CorruptMedium:
            assert self.torn and left.strip(b"\xff"), "on blank flash nothing is refused"
            self.torn = False
            change()
        self.unfinished = False

    @rule(key=st.sampled_from("abcdef"), value=st.binary(max_size=200), once=st.booleans())
    def set(self, key: str, value: bytes, once: bool) -> None:
        if key in self.once:
            with pytest.raises(WriteOnce):
                self.store.set(key, value)
            return
        once = once and not self.once
        self.perform(lambda: self.store.set(key, value, KVFlag.WRITE_ONCE if once else 0))
        self.model[key] = value
        self.once |= {key} if once else set()

    @rule(key=st.sampled_from("abcdef"), pieces=st.lists(st.binary(max_size=40), max_size=4))
    def set_in_pieces(self, key: str, pieces: list[bytes]) -> None:
        def change() -> None:
            handle = self.store.set_start(key, len(value))
            for piece in pieces:
                self.store.set_add_data(handle, piece)
            self.store.set_finalize(handle)

        value = b"".join(pieces)
        if key not in self.once:
            self.perform(change)
            self.model[key] = value
            assert self.store.get(key, 10, len(value) // 2) == value[len(value) // 2 :][:10]

    @rule(key=st.sampled_from("abcdef"), piece=st.binary(max_size=40))
    def begin_to_set(self, key: str, piece: bytes) -> None:
        if key not in self.once and not self.torn:
            self.store.set_add_data(self.store.set_start(key, len(piece) + 1), piece)
            self.unfinished = True

    @rule(key=st.sampled_from("abcdef"))
    def remove(self, key: str) -> None:
        if key in self.once:
            with pytest.raises(WriteOnce):
                self.store.remove(key)
        elif key in self.model:
            self.perform(lambda: self.store.remove(key))
            del self.model[key]
        else:
            with pytest.raises(StorageError, match="MBED_ERROR_ITEM_NOT_FOUND"):
                self.store.remove(key)

    @rule()
    def reset(self) -> None:
        self.store.reset()
        self.model.clear()
        self.once.clear()
        self.unfinished = self.torn = False

    @rule()
    def restart(self) -> None:
        self.store.deinit()
        self.store = opened(self.device)
        self.torn = self.torn or self.unfinished

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert contents(self.store) == self.model


TestStoreAgainstADictionary = StoreAgainstADictionary.TestCase
TestStoreAgainstADictionary.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_reserved_data_are_written_once_and_survive_collections() -> None:
    device = flash(unit=8)
    store = opened(device)
    with pytest.raises(StorageError, match="MBED_ERROR_ITEM_NOT_FOUND"):
        store.reserved_data_get()
    store.reserved_data_set(b"root of trust...")
    expected = b"root of trust..." + b"\xff" * 48 + struct.pack("<HHI", 8, 16, crc(b"root of trust..."))
    for area in (0, 4096):
        assert device.read(area, 72) == expected
    with pytest.raises(StorageError, match="MBED_ERROR_WRITE_FAILED"):
        store.reserved_data_set(b"another")
    for n in range(60):
        store.set("k", bytes([n]) * 200)
    assert opened(device).reserved_data_get() == b"root of trust..."
    assert device.read(0, 72) == device.read(4096, 72) == expected
    with pytest.raises(StorageError, match="at most 64"):
        store.reserved_data_set(bytes(65))
    store.reset()
    with pytest.raises(StorageError, match="MBED_ERROR_ITEM_NOT_FOUND"):
        store.reserved_data_get()


def test_a_collection_copies_then_writes_the_master_record_of_the_next_version() -> None:
    device = flash(unit=8)
    store = opened(device)
    while device.read(4096, 4096) == b"\xff" * 4096:
        store.set("k", bytes(100))
    assert device.read(4096 + 72, 40) == record(b"TDBS", struct.pack("<HHI", 2, 1, 0), unit=8)
    assert device.read(4096 + 112, 24) == record(b"k", bytes(100), unit=8)[:24]
    assert device.read(72, 40) == record(b"TDBS", struct.pack("<HHI", 1, 1, 0), unit=8), "the old area stays"


def test_iterators_see_what_changes_and_there_are_sixteen() -> None:
    store = opened(flash())
    for key in ("one", "two", "on", "three"):
        store.set(key, b"")
    assert sorted(store.keys("on")) == ["on", "one"]
    order = store.keys()
    assert [crc(key.encode()) for key in order] == sorted((crc(key.encode()) for key in order), reverse=True)
    with store.iterate() as keys:
        first = next(keys)
        store.remove(first)
        assert list(keys) == order[1:]
    open_ones = [store.iterate() for _ in range(16)]
    with pytest.raises(StorageError, match="MBED_ERROR_OUT_OF_RESOURCES"):
        store.iterate()
    open_ones[0].close()
    assert "three" in list(store.iterate())


@pytest.mark.parametrize("key", ["", "a b", "a/b", "a*", "a" * 129, 'a"'])
def test_a_key_that_mbed_would_refuse_is_refused(key: str) -> None:
    with pytest.raises(StorageError, match="MBED_ERROR_INVALID_ARGUMENT"):
        opened(flash()).set(key, b"")


def test_calls_that_cannot_be_are_named() -> None:
    store = TDBStore(flash())
    with pytest.raises(StorageError, match="MBED_ERROR_NOT_READY"):
        store.get("k")
    store.init()
    with pytest.raises(StorageError, match="MBED_ERROR_INVALID_ARGUMENT"):
        store.set("k", b"", 4)
    handle = store.set_start("k", 3)
    with pytest.raises(StorageError, match="MBED_ERROR_INVALID_SIZE"):
        store.set_add_data(handle, b"four")
    store.set_add_data(handle, b"two")
    store.set_finalize(handle)
    with pytest.raises(StorageError, match="MBED_ERROR_INVALID_ARGUMENT"):
        store.set_finalize(handle)
    with pytest.raises(StorageError, match="MBED_ERROR_INVALID_SIZE"):
        store.get("k", offset=4)
    with pytest.raises(NoSpace, match="MBED_ERROR_MEDIA_FULL"):
        store.set("large", bytes(4000))
    for sectors in ([(3, 1024)], [(4, 1024), (1, 8192)], [(2, 64)]):
        with pytest.raises(StorageError, match="MBED_ERROR_INITIALIZATION_FAILED"):
            TDBStore(flash(sectors=sectors)).init()


def test_a_device_that_fails_is_told_with_its_cause() -> None:
    class Failing(HeapBlockDevice):
        erase_value = 0xFF
        broken = False

        def program(self, address: int, data: bytes) -> None:
            if self.broken:
                raise StorageError("the part is gone", code=-4001)
            super().program(address, data)

    device = Failing(8192, 1, 1, 4096)
    store = opened(device)
    store.set("k", b"kept")
    device.broken = True
    with pytest.raises(StorageError, match=r"the part is gone .MBED_ERROR_WRITE_FAILED") as caught:
        store.set("k", b"lost")
    assert caught.value.code == MbedError.WRITE_FAILED
    device.broken = False
    assert contents(opened(device)) == {"k": b"kept"}


def test_a_damaged_record_is_told_and_a_start_reads_as_far_as_it() -> None:
    medium = Medium(8192)
    store = opened(flash(medium))
    for key in ("first", "second", "third"):
        store.set(key, b"value")
    at = medium.peek(0, 4096).index(b"secondvalue")
    medium.poke(at + 8, b"!")
    with pytest.raises(CorruptMedium, match="MBED_ERROR_INVALID_DATA_DETECTED"):
        store.get("second")
    assert store.get("third") == b"value"
    assert contents(opened(flash(medium))) == {"first": b"value"}


# -- what is odd is Mbed's own: see docs/decisions/0011 --------------------------------------------


def test_after_a_restart_over_an_unfinished_set_the_next_one_fails_and_the_one_after_it_works() -> None:
    device = flash()
    store = opened(device)
    store.set("k", b"kept")
    store.set_add_data(store.set_start("torn", 4), b"data")
    store = opened(device)
    with pytest.raises(CorruptMedium, match="MBED_ERROR_INVALID_DATA_DETECTED"):
        store.set("next", b"value")
    assert contents(store) == {"k": b"kept"}
    store.set("next", b"value")
    assert contents(store) == {"k": b"kept", "next": b"value"}


def test_after_a_restart_the_master_record_counts_as_a_key_and_is_collected() -> None:
    device = flash(unit=8)
    opened(device).set("k", b"v")
    store = opened(device)
    assert sorted(store.keys()) == ["TDBS", "k"]
    while device.read(4096, 4096) == b"\xff" * 4096:
        store.set("k", bytes(100))
    copied = device.read(4096 + 112, 4096 - 112)
    assert record(b"TDBS", struct.pack("<HHI", 1, 1, 0), unit=8) in copied


def test_a_record_that_would_end_where_its_area_does_is_refused() -> None:
    store = opened(flash())
    room = 4096 - 108 - 25
    with pytest.raises(CorruptMedium, match="MBED_ERROR_INVALID_DATA_DETECTED"):
        store.set("k", bytes(room))
    store.set("k", bytes(room - 1))
    assert len(store.get("k")) == room - 1


def test_a_key_of_128_characters_is_taken_and_cannot_be_read_back() -> None:
    store = opened(flash())
    store.set("k" * 127, b"v")
    with pytest.raises(CorruptMedium):
        store.set("k" * 128, b"v")
    assert store.keys() == ["k" * 127]


def test_of_versions_that_have_wrapped_the_older_area_may_be_chosen() -> None:
    for versions, live in (((1, 2), b"1"), ((3, 2), b"0"), ((0xFFFF, 0), b"0"), ((0, 0xFFFF), b"0"), ((0, 1), b"0")):
        device = flash()
        for area, version in enumerate(versions):
            records = record(b"TDBS", struct.pack("<HHI", version, 1, 0)) + record(b"k", b"%d" % area)
            device.program(area * 4096 + 72, records)
        assert opened(device).get("k") == live


def test_a_stretch_before_a_value_is_refused_and_shows_no_byte_of_the_key(make_store: Callable[[], KVStore]) -> None:
    store = make_store()
    store.set("a", b"value")
    for offset in (-1, -6, 6, 1.0, None):
        with pytest.raises(StorageError) as caught:
            store.get("a", 1, offset)  # type: ignore[arg-type]
        assert caught.value.code == MbedError.INVALID_SIZE
    for size in (-1, 2.5, "all"):
        with pytest.raises(StorageError) as caught:
            store.get("a", size)  # type: ignore[arg-type]
        assert caught.value.code == MbedError.INVALID_ARGUMENT
    assert store.get("a", 1, 4) == b"e" and store.get("a", 0) == b""


def test_a_key_that_is_no_text_and_a_value_that_is_no_bytes_are_refused(make_store: Callable[[], KVStore]) -> None:
    store = make_store()
    for key, value in ((None, b"x"), (7, b"x"), ("k", "text"), ("k", None), ("k", 5)):
        with pytest.raises(StorageError) as caught:
            store.set(key, value)  # type: ignore[arg-type]
        assert caught.value.code == MbedError.INVALID_ARGUMENT
    assert store.keys() == []
    store.set("k", bytearray(b"text"))
    assert store.get("k") == b"text"


def test_a_store_over_no_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="None is no block device"):
        TDBStore(None)  # type: ignore[arg-type]
