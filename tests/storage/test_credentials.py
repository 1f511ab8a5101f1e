"""Credentials come back under their root of trust only, and survive power cuts."""

from __future__ import annotations

import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from pdmlab.clock import PowerLost
from pdmlab.errors import ConfigError, CorruptMedium, StorageError
from pdmlab.storage import CredentialStore, FileSystem, HeapBlockDevice, LittleFileSystem2, Medium, SPIFBlockDevice

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
    file = f"{store.folder}/{store.fs.listdir(store.folder)[0]}"
    with store.fs.open(file) as stored:
        data = stored.read()
    for at in range(len(data)):
        with store.fs.open(file, "w") as damaged:
            damaged.write(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(CorruptMedium):
            store.get("mbed.AccountID")


def test_files_cannot_be_swapped(store: CredentialStore) -> None:
    store.set("a", b"first")
    (name,) = store.fs.listdir(store.folder)
    store.set("b", b"second")
    (other,) = set(store.fs.listdir(store.folder)) - {name}
    store.fs.remove(f"{store.folder}/{name}")
    store.fs.rename(f"{store.folder}/{other}", f"{store.folder}/{name}")
    with pytest.raises(CorruptMedium):
        store.get("a")


def test_the_bytes_are_aes_ctr_and_cmac_under_keys_from_the_root_of_trust(store: CredentialStore) -> None:
    def cmac(key: bytes, data: bytes) -> bytes:
        mac = CMAC(algorithms.AES(key))
        mac.update(data)
        return mac.finalize()

    def derive(label: bytes) -> bytes:
        # NIST SP 800-108, 4.1: [i] || label || 00 || context || [L in bits]
        return cmac(ROOT, struct.pack(">I", 1) + label + b"\0pdmlab credentials" + struct.pack(">I", 128))

    store.set("n", b"value")
    (name,) = store.fs.listdir(store.folder)
    assert name == "1b16b1df538ba12dc3f97edbb85caa70"  # sha256 of "n"
    with store.fs.open(f"{store.folder}/{name}") as stored:
        data = stored.read()
    plain = b"\x01nvalue"
    iv = cmac(derive(b"AUTH"), plain)[:8]
    crypt = Cipher(algorithms.AES(derive(b"ENC")), modes.CTR(iv + bytes(8))).encryptor()
    sealed = struct.pack("<HHII", 20, 1, len(plain), 0) + iv + crypt.update(plain)
    assert data == sealed + cmac(derive(b"AUTH"), name.encode() + sealed)


def test_nothing_of_a_value_or_a_name_lies_on_the_medium() -> None:
    medium = Medium(1 << 20)
    fs = LittleFileSystem2("fs")
    fs.reformat(SPIFBlockDevice(medium))
    store = CredentialStore(fs, ROOT)
    store.set("mbed.BootstrapDevicePrivateKey", b"very private bytes")
    raw = medium.peek(0, medium.size)
    assert b"private" not in raw and b"Private" not in raw and ROOT not in raw
    assert "private" not in repr(store)


def test_a_power_cut_at_any_operation_leaves_the_old_value_or_the_new() -> None:
    class CutMedium(Medium):
        left = 1 << 30

        def program(self, offset: int, data: bytes) -> None:
            self._count()
            super().program(offset, data)

        def erase(self, offset: int, size: int) -> None:
            self._count()
            super().erase(offset, size)

        def _count(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise PowerLost

    seen = set()
    for cut in range(60):
        medium = CutMedium(256 << 10)
        fs = LittleFileSystem2("fs")
        fs.reformat(SPIFBlockDevice(medium))
        store = CredentialStore(fs, ROOT)
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
        assert after.list() == ["uri"]
        seen.add(after.get("uri"))
        assert after.get("uri") in (b"old", b"new")
        after.set("uri", b"newest")
        assert after.get("uri") == b"newest"
        if done:
            break
    else:
        raise AssertionError("the item was never stored")
    assert seen == {b"old", b"new"}


@pytest.mark.parametrize("name", ["", "a b", "../x", "n" * 101, "ä"])
def test_a_name_that_kcm_would_refuse_is_refused(store: CredentialStore, name: str) -> None:
    with pytest.raises(StorageError, match="KCM_STATUS_INVALID_PARAMETER, 2"):
        store.set(name, b"")


def test_a_root_of_trust_of_another_length_is_refused(fs: FileSystem) -> None:
    with pytest.raises(ConfigError, match="15 B"):
        CredentialStore(fs, bytes(15))
