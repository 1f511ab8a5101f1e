"""FileSystemStore's files, and the /kv/ paths over any store."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import CorruptMedium, NoSpace, StorageError, WriteOnce
from pdmlab.sim import VirtualBoard
from pdmlab.storage import FATFileSystem, FileSystem, HeapBlockDevice, LittleFileSystem2
from pdmlab.storage.kv import (
    FileSystemStore,
    KVFlag,
    TDBStore,
    kv_attach,
    kv_detach,
    kv_get,
    kv_get_info,
    kv_iterator_close,
    kv_iterator_next,
    kv_iterator_open,
    kv_remove,
    kv_reset,
    kv_set,
)


@pytest.fixture(params=["littlefs", "FAT"])
def fs(request: pytest.FixtureRequest) -> Iterator[FileSystem]:
    fs: FileSystem = LittleFileSystem2("fs") if request.param == "littlefs" else FATFileSystem("fs")
    fs.reformat(HeapBlockDevice(1 << 20))
    yield fs
    fs.unmount()


@pytest.fixture
def store(fs: FileSystem) -> FileSystemStore:
    store = FileSystemStore(fs)
    store.init()
    return store


def tdb() -> TDBStore:
    return TDBStore(HeapBlockDevice(1 << 16, 1, 1, 4096))


@pytest.fixture
def kv() -> Iterator[TDBStore]:
    store = tdb()
    kv_attach("kv", store)
    yield store
    kv_detach("kv")


# -- files -------------------------------------------------------------------------------------------


def test_a_value_is_a_file_behind_a_header(store: FileSystemStore) -> None:
    store.set("ssid", b"lab", KVFlag.REQUIRE_CONFIDENTIALITY)
    with store.fs.open("/kvstore/ssid") as file:
        assert file.read() == b"TSSF" + struct.pack("<HHI", 12, 1, 2) + b"lab"
    with store.fs.open("/kvstore/by-hand", "w") as file:
        file.write(bytes.fromhex("54535346 0c00 0100 01000000") + b"value")
    assert (store.get("by-hand"), store.get_info("by-hand").flags) == (b"value", KVFlag.WRITE_ONCE)
    assert (store.get("by-hand", 2, 1), store.get_info("by-hand").size) == (b"al", 5)
    with pytest.raises(WriteOnce):
        store.set("by-hand", b"")
    with pytest.raises(WriteOnce):
        store.remove("by-hand")
    store.reset()
    assert store.keys() == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.binary(max_size=600)), max_size=12))
@settings(max_examples=15, deadline=None)
def test_it_behaves_as_a_dictionary(steps: list[tuple[str, bytes | None]]) -> None:
    fs = LittleFileSystem2("fs")
    fs.reformat(HeapBlockDevice(1 << 18))
    store, model = FileSystemStore(fs, "/other"), dict[str, bytes]()
    store.init()
    for key, value in steps:
        if value is not None:
            store.set(key, value)
            model[key] = value
        elif key in model:
            store.remove(key)
            del model[key]
    again = FileSystemStore(fs, "other")
    again.init()
    names = again.keys()
    assert {key: again.get(key) for key in names} == model
    fs.unmount()


def test_a_file_with_a_damaged_header_is_told_and_can_be_replaced(store: FileSystemStore) -> None:
    for content in (b"", b"TSSF", b"something else..."):
        with store.fs.open("/kvstore/key", "w") as file:
            file.write(content)
        with pytest.raises(CorruptMedium, match="MBED_ERROR_INVALID_DATA_DETECTED"):
            store.get("key")
        store.remove("key")
    with store.fs.open("/kvstore/key", "w") as file:
        file.write(b"torn")
    store.set("key", b"whole")
    assert store.get("key") == b"whole"


def test_values_that_do_not_become_complete_are_removed(store: FileSystemStore) -> None:
    handle = store.set_start("key", 5)
    store.set_add_data(handle, b"one")
    with pytest.raises(StorageError, match="MBED_ERROR_INVALID_SIZE"):
        store.set_add_data(handle, b"two")
    with pytest.raises(StorageError, match="MBED_ERROR_INVALID_SIZE"):
        store.set_finalize(handle)
    assert store.keys() == []
    with pytest.raises(StorageError, match="MBED_ERROR_FAILED_OPERATION"):
        store.set("large", bytes(2 << 20))
    assert store.keys() == []
    with pytest.raises(StorageError, match="MBED_ERROR_ITEM_NOT_FOUND"):
        store.get("key")
    with pytest.raises(StorageError, match="MBED_ERROR_NOT_READY"):
        FileSystemStore(store.fs).get("key")


# -- paths -------------------------------------------------------------------------------------------


def test_paths_reach_the_store_of_their_partition(kv: TDBStore) -> None:
    kv_set("/kv/ssid", b"lab")
    assert kv.get("ssid") == kv_get("/kv/ssid") == kv_get("kv/ssid") == kv_get("ssid") == kv_get("/k/ssid") == b"lab"
    kv_set("/kv/once", b"1", KVFlag.WRITE_ONCE)
    assert (kv_get_info("/kv/once").flags, kv_get("/kv/ssid", 2)) == (KVFlag.WRITE_ONCE, b"la")
    kv_remove("/kv/ssid")
    with pytest.raises(StorageError, match="MBED_ERROR_ITEM_NOT_FOUND"):
        kv_get("/kv/ssid")
    with pytest.raises(WriteOnce):
        kv_remove("/kv/once")
    kv_reset("/kv/")
    assert kv.keys() == []


def test_iterators_give_whole_names(kv: TDBStore) -> None:
    for name in ("ssid", "ssid2", "pass"):
        kv_set(f"/kv/{name}", b"")
    assert sorted(kv_iterator_open("/kv/")) == ["/kv/pass", "/kv/ssid", "/kv/ssid2"]
    it = kv_iterator_open("/kv/ss")
    assert {kv_iterator_next(it), kv_iterator_next(it)} == {"/kv/ssid", "/kv/ssid2"}
    with pytest.raises(StorageError, match="MBED_ERROR_ITEM_NOT_FOUND"):
        kv_iterator_next(it)
    kv_iterator_close(it)


def test_three_partitions_at_most_and_masks_of_flags(kv: TDBStore) -> None:
    kv_attach("default", tdb(), flags_mask=~KVFlag.WRITE_ONCE)
    kv_attach("third", tdb())
    try:
        with pytest.raises(StorageError, match="MBED_ERROR_OUT_OF_MEMORY"):
            kv_attach("fourth", tdb())
        for value in (b"1", b"2"):
            kv_set("/default/key", value, KVFlag.WRITE_ONCE)
        assert kv_get("/default/key") == b"2"
        with pytest.raises(StorageError, match="no partition for '/nowhere/key'") as caught:
            kv_get("/nowhere/key")
        assert "/kv/, /default/, /third/" in str(caught.value)
        with pytest.raises(StorageError, match="at most 128"):
            kv_set("/kv/" + "k" * 125, b"")
    finally:
        kv_detach("default")
        kv_detach("third")
    with pytest.raises(StorageError, match="MBED_ERROR_ITEM_NOT_FOUND"):
        kv_detach("third")
    with pytest.raises(NoSpace):
        kv_set("/kv/large", bytes(1 << 16))


def test_boards_have_partitions_of_their_own() -> None:
    def main() -> bytes:
        kv_attach("kv", tdb())
        kv_set("/kv/key", b"the board's")
        return kv_get("/kv/key")

    with VirtualBoard("K64F", id="one") as board, VirtualBoard("K64F", id="other") as other:
        assert board.run(lambda device: main()) == other.run(lambda device: main()) == b"the board's"
    with pytest.raises(StorageError, match="no partition"):
        kv_get("/kv/key")


def test_names_values_and_flags_of_the_wrong_type_are_invalid_arguments(kv: TDBStore) -> None:
    for name, value, flags in ((None, b"x", 0), (b"/kv/k", b"x", 0), ("/kv/k", "x", 0), ("/kv/k", b"x", "once")):
        with pytest.raises(StorageError, match="MBED_ERROR_INVALID_ARGUMENT"):
            kv_set(name, value, flags)  # type: ignore[arg-type]
    with pytest.raises(StorageError, match="MBED_ERROR_INVALID_ARGUMENT"):
        kv_get(3)  # type: ignore[arg-type]
    assert kv.keys() == []


def test_a_reset_of_a_word_without_a_slash_is_one_of_the_first_partition_as_in_mbed(kv: TDBStore) -> None:
    other = tdb()
    kv_attach("other", other)
    try:
        kv_set("/kv/key", b"1")
        kv_set("/other/key", b"2")
        with pytest.raises(StorageError, match="no partition"):
            kv_reset("/nix/")
        kv_reset("other")
        assert kv.keys() == [] and kv_get("/other/key") == b"2"
        kv_reset("/other/")
        assert other.keys() == []
    finally:
        kv_detach("other")


def test_the_second_store_of_a_name_is_found_once_the_first_is_detached(kv: TDBStore) -> None:
    second = tdb()
    kv_attach("kv", second)
    kv_set("/kv/key", b"in the first")
    assert kv.keys() == ["key"] and second.keys() == []
    kv_detach("kv")
    kv_set("/kv/key", b"in the second")
    assert second.keys() == ["key"]
