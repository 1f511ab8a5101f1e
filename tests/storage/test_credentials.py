"""Credentials come back under their root of trust only, by their names and with KCM's statuses."""

from __future__ import annotations

import pytest

from pdmlab.clock import PowerLost
from pdmlab.errors import ConfigError, CorruptMedium, StorageError
from pdmlab.storage import CredentialStore, FileSystem, HeapBlockDevice, LittleFileSystem2, Medium, SPIFBlockDevice
from pdmlab.storage.credentials import KcmStatus
from tests.storage.cutmedium import CutMedium

ROOT = bytes(range(16))


@pytest.fixture
def store(fs: FileSystem) -> CredentialStore:
    fs.reformat(HeapBlockDevice(1 << 20))
    return CredentialStore(fs, ROOT)


def test_items_are_replaced_listed_and_removed(store: CredentialStore) -> None:
    assert store.list() == []
    store.set("mbed.LwM2MServerURI", b"coaps://old")
    store.set("mbed.LwM2MServerURI", b"coaps://new")
    store.set("mbed.Empty", b"")
    again = CredentialStore(store.fs, ROOT)
    assert again.list() == ["mbed.Empty", "mbed.LwM2MServerURI"]
    assert (again.get("mbed.LwM2MServerURI"), again.get("mbed.Empty")) == (b"coaps://new", b"")
    again.remove("mbed.Empty")
    assert "mbed.Empty" not in again
    with pytest.raises(StorageError, match="KCM_STATUS_ITEM_NOT_FOUND, 5"):
        again.get("mbed.Empty")
    with pytest.raises(StorageError, match="KCM_STATUS_ITEM_NOT_FOUND, 5"):
        again.remove("mbed.Empty")
    with pytest.raises(StorageError, match="KCM_STATUS_FILE_EXIST, 8"):
        again.set("mbed.LwM2MServerURI", b"", replace=False)
    again.clear()
    assert store.list() == []


def test_another_root_of_trust_opens_nothing(store: CredentialStore) -> None:
    store.set("mbed.AccountID", b"0123")
    other = CredentialStore(store.fs, bytes(16))
    for look in (lambda: other.get("mbed.AccountID"), other.list):
        with pytest.raises(CorruptMedium, match="KCM_STATUS_FILE_CORRUPTED, 14"):
            look()


def test_a_changed_byte_anywhere_in_a_file_is_noticed(store: CredentialStore) -> None:
    store.set("mbed.AccountID", b"0123456789abcdef")
    file = f"/WORKING/{store.fs.listdir('/WORKING')[0]}"
    with store.fs.open(file) as stored:
        data = stored.read()
    for at in range(len(data)):
        with store.fs.open(file, "w") as damaged:
            damaged.write(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(CorruptMedium):
            store.list()
        with pytest.raises(StorageError):  # not found, where the name in it is another one
            store.get("mbed.AccountID")


def test_a_torn_file_is_told_can_be_removed_and_set_again(store: CredentialStore) -> None:
    store.set("mbed.AccountID", b"0123456789abcdef")
    file = f"/WORKING/{store.fs.listdir('/WORKING')[0]}"
    with store.fs.open(file) as stored:
        data = stored.read()
    for size in range(len(data)):
        with store.fs.open(file, "w") as torn:
            torn.write(data[:size])
        with pytest.raises(CorruptMedium, match=r"KCM_STATUS_(STORAGE_ERROR, 11|FILE_CORRUPTED, 14)"):
            store.get("mbed.AccountID")
    store.remove("mbed.AccountID")
    store.set("mbed.AccountID", b"again", replace=False)
    assert store.get("mbed.AccountID") == b"again"


def test_files_cannot_be_swapped(store: CredentialStore) -> None:
    store.set("a", b"first")
    (name,) = store.fs.listdir("/WORKING")
    store.set("b", b"second")
    (other,) = set(store.fs.listdir("/WORKING")) - {name}
    store.fs.remove(f"/WORKING/{name}")
    store.fs.rename(f"/WORKING/{other}", f"/WORKING/{name}")
    with pytest.raises(StorageError, match="KCM_STATUS_ITEM_NOT_FOUND, 5"):
        store.get("a")


def test_kinds_of_items_have_their_prefix_and_only_secrets_are_encrypted(store: CredentialStore) -> None:
    items = {
        "mbed.BootstrapDevicePrivateKey": b"PrvKey_mbed.BootstrapDevicePrivateKey",
        "mbed.BootstrapDeviceCert": b"Cert_mbed.BootstrapDeviceCert",
        "mbed.LwM2MServerURI": b"CfgParam_mbed.LwM2MServerURI",
    }
    for name in items:
        store.set(name, b"what it says")
    raw = {}
    for leaf in store.fs.listdir("/WORKING"):
        with store.fs.open(f"/WORKING/{leaf}") as file:
            data = file.read()
        length = int.from_bytes(data[4:6], "little")
        raw[data[6 : 6 + length]] = (int.from_bytes(data[2:4], "little"), b"what it says" in data)
    assert raw == {
        items["mbed.BootstrapDevicePrivateKey"]: (0x0100, False),
        items["mbed.BootstrapDeviceCert"]: (0, True),
        items["mbed.LwM2MServerURI"]: (0x0100, False),
    }
    assert store.list() == sorted(items)


def test_a_factory_reset_brings_back_what_the_factory_stored(store: CredentialStore) -> None:
    store.set("mbed.EndpointName", b"desk-1", factory=True)
    store.set("mbed.LwM2MServerURI", b"coap://there")
    store.set("mbed.EndpointName", b"renamed")
    store.factory_reset()
    assert store.list() == ["mbed.EndpointName"]
    assert store.get("mbed.EndpointName") == b"desk-1"
    store.clear()
    assert store.list() == []


def test_nothing_of_a_value_lies_on_the_medium() -> None:
    medium = Medium(1 << 20)
    fs = LittleFileSystem2("fs")
    fs.reformat(SPIFBlockDevice(medium))
    store = CredentialStore(fs, ROOT)
    store.set("mbed.BootstrapDevicePrivateKey", b"very private bytes")
    raw = medium.peek(0, medium.size)
    assert b"private" not in raw and ROOT not in raw
    assert "private" not in repr(store)


def test_a_power_cut_while_an_item_is_replaced_leaves_the_old_one_the_new_one_or_a_torn_one_that_is_told() -> None:
    seen = set()
    for cut in range(60):
        medium = CutMedium(256 << 10)
        fs = LittleFileSystem2("fs")
        fs.reformat(SPIFBlockDevice(medium))
        store = CredentialStore(fs, ROOT)
        store.set("other", b"stays")
        store.set("uri", b"old")
        medium.left = cut
        done = False
        try:
            store.set("uri", b"new")
            done = True
        except PowerLost:
            pass
        medium.left = 1 << 30
        after = CredentialStore(LittleFileSystem2("fs", SPIFBlockDevice(medium)), ROOT)
        assert after.get("other") == b"stays"
        try:
            seen.add(after.get("uri"))
        except CorruptMedium:
            seen.add(b"torn")
        except StorageError as error:
            assert error.code == KcmStatus.ITEM_NOT_FOUND
            seen.add(b"gone")
        after.set("uri", b"newest")
        assert after.get("uri") == b"newest"
        if done:
            break
    else:
        raise AssertionError("the item was never stored")
    # The client removes an item before it stores the new one, in a file that is there before what is in it.
    assert seen == {b"old", b"gone", b"torn", b"new"}


@pytest.mark.parametrize("name", ["", "a b", "../x", "n" * 101, "ä"])
def test_a_name_that_kcm_would_refuse_is_refused(store: CredentialStore, name: str) -> None:
    with pytest.raises(StorageError, match="KCM_STATUS_INVALID_PARAMETER, 2"):
        store.set(name, b"")


def test_a_root_of_trust_of_another_length_is_refused(fs: FileSystem) -> None:
    with pytest.raises(ConfigError, match="15 B"):
        CredentialStore(fs, bytes(15))
