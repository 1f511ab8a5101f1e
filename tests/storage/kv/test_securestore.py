"""SecureStore's bytes and guards, and the device key under it, against published vectors."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.clock import PowerLost
from pdmlab.errors import CorruptMedium, RollbackRefused, StorageError, WriteOnce
from pdmlab.storage import FlashIAPBlockDevice, HeapBlockDevice, LittleFileSystem2, Medium
from pdmlab.storage.kv import DeviceKey, FileSystemStore, KVFlag, KVStore, SecureStore, Sotp, TDBStore
from pdmlab.storage.kv.devicekey import aes_cmac, counter_mode, derive

SECRET = KVFlag.REQUIRE_CONFIDENTIALITY
NEWEST = KVFlag.REQUIRE_REPLAY_PROTECTION
ROOT = bytes(range(32))


def heap() -> HeapBlockDevice:
    return HeapBlockDevice(16384, 1, 1, 4096)


def secure(*, rbp: bool = True) -> SecureStore:
    store = SecureStore(TDBStore(heap()), TDBStore(heap()) if rbp else None, random_bytes=lambda n: b"\x11" * n)
    store.init()
    inner = store.rbp or store.underlying
    assert isinstance(inner, TDBStore)
    DeviceKey(inner).inject(ROOT)
    return store


def copy_of(store: KVStore, key: str) -> tuple[bytes, int]:
    return store.get(key), store.get_info(key).flags


# -- keys --------------------------------------------------------------------------------------------

RFC4493_KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
RFC4493_MESSAGE = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)


@pytest.mark.parametrize(
    ("length", "mac"),
    [
        (0, "bb1d6929e95937287fa37d129b756746"),
        (16, "070a16b46b4d4144f79bdd9dd04a287c"),
        (40, "dfa66747de9ae63030ca32611497c827"),
        (64, "51f0bebf7e3b9d92fc49741779363cfe"),
    ],
)
def test_cmac_is_rfc_4493s(length: int, mac: str) -> None:
    message = RFC4493_MESSAGE[:length]
    assert aes_cmac(RFC4493_KEY, message).hex() == mac
    assert aes_cmac(RFC4493_KEY, message[:7], message[7:]).hex() == mac


def test_cmac_with_256_bits_is_sp_800_38bs() -> None:
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    assert aes_cmac(key, b"").hex() == "028962f61b7bf89efc6b551f4667d983"
    assert aes_cmac(key, RFC4493_MESSAGE[:16]).hex() == "28a7023f452e8f82bd4bf28d8c37c35c"


def test_counter_mode_is_that_of_nists_own_vector() -> None:
    # CAVP, KDFCTR: PRF CMAC_AES128, counter of 8 bits before the fixed input, 128 bits, count 0.
    fixed = bytes.fromhex(
        "c16e6e02c5a3dcc8d78b9ac1306877761310455b4e41469951d9e6c2245a"
        "064b33fd8c3b01203a7824485bf0a64060c4648b707d2607935699316ea5"
    )
    key = counter_mode(bytes.fromhex("dff1e50ac0b69dc40f1051d46c2b069c"), fixed, 16)
    assert key.hex() == "8be8f0869b3c0ba97b71863d1b9f7813"


@pytest.mark.parametrize("root", [ROOT, ROOT[:16]])
@pytest.mark.parametrize("size", [16, 32])
def test_derived_keys_are_sp_800_108_in_counter_mode(root: bytes, size: int) -> None:
    # Counter of one byte before the salt, a zero byte, and the length in bytes, little-endian.
    blocks = [aes_cmac(root, bytes([i]) + b"salt" + b"\0" + struct.pack("<I", size)) for i in (1, 2)]
    assert derive(root, b"salt", size) == b"".join(blocks)[:size]
    assert derive(root, b"salt", 16) != derive(root, b"salt", 32)[:16], "the length is part of it"


@pytest.mark.parametrize("kind", ["TDBStore", "SOTP"])
def test_a_root_of_trust_is_injected_once(kind: str) -> None:
    store: TDBStore | Sotp
    flash = FlashIAPBlockDevice(Medium(8192), part="K64F", sectors=[(2, 4096)])
    store = TDBStore(heap()) if kind == "TDBStore" else Sotp(flash, [(0, 4096), (4096, 4096)])
    store.init()
    key = DeviceKey(store)
    with pytest.raises(StorageError, match="DEVICEKEY_NOT_FOUND, -5"):
        key.generate_derived_key(b"salt")
    with pytest.raises(StorageError, match="DEVICEKEY_INVALID_KEY_SIZE, -1"):
        key.inject(bytes(24))
    key.generate_root_of_trust(lambda n: ROOT[:n])
    with pytest.raises(StorageError, match="DEVICEKEY_ALREADY_EXIST, -4"):
        key.inject(bytes(16))
    with pytest.raises(StorageError, match="DEVICEKEY_INVALID_KEY_TYPE, -2"):
        key.generate_derived_key(b"salt", 24)
    assert DeviceKey(store).generate_derived_key(b"salt") == derive(ROOT, b"salt", 16)
    assert ROOT[:4].hex() not in repr(key)


# -- values ------------------------------------------------------------------------------------------


def test_the_bytes_are_metadata_ciphertext_and_cmac() -> None:
    store = secure()
    store.set("key", b"a value of more than one block", SECRET | NEWEST)
    raw = store.underlying.get("key")
    iv = b"\x11" * 8
    metadata = struct.pack("<HHII", 20, 1, 30, 2 | 8) + iv
    encryption, authentication = derive(ROOT, b"ENCkey", 16), derive(ROOT, b"AUTHkey", 16)
    crypt = Cipher(algorithms.AES(encryption), modes.CTR(iv + bytes(8))).encryptor()
    body = metadata + crypt.update(b"a value of more than one block")
    cmac = aes_cmac(authentication, b"key" + body)
    assert raw == body + cmac
    assert store.underlying.get_info("key").flags == 0, "the flags for security stay above"
    assert store.rbp is not None and store.rbp.get("key") == cmac


def test_without_confidentiality_a_value_is_authenticated_only() -> None:
    store = secure()
    store.set("key", b"readable")
    raw = store.underlying.get("key")
    assert raw[:20] == struct.pack("<HHII", 20, 1, 8, 0) + bytes(8) and raw[20:28] == b"readable"
    assert store.rbp is not None and store.rbp.keys() == []
    assert (store.get("key"), store.get("key", 4, 2), store.get_info("key").size) == (b"readable", b"adab", 8)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=300), st.sampled_from([0, 2, 8, 10])), max_size=12)
)
@settings(max_examples=20, deadline=None)
def test_it_behaves_as_a_dictionary(steps: list[tuple[str, bytes, int]]) -> None:
    store, model = secure(), dict[str, tuple[bytes, int]]()
    for key, value, flags in steps:
        flags |= model.get(key, (b"", 0))[1] & NEWEST
        store.set(key, value, flags)
        model[key] = (value, flags)
    names = store.keys()
    assert {key: copy_of(store, key) for key in names} == model
    for key in model:
        store.remove(key)
    assert store.keys() == []


def test_any_changed_byte_is_noticed() -> None:
    store = secure(rbp=False)
    store.set("key", b"value", SECRET)
    raw = store.underlying.get("key")
    for at in range(len(raw)):
        store.underlying.set("key", raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with pytest.raises(StorageError):
            store.get("key")
    store.underlying.set("key", raw)
    assert store.get("key") == b"value"
    store.underlying.set("other", raw)
    with pytest.raises(CorruptMedium, match="MBED_ERROR_AUTHENTICATION_FAILED"):
        store.get("other")


def test_another_root_of_trust_opens_nothing() -> None:
    store = secure()
    store.set("key", b"value", SECRET)
    inner = TDBStore(heap())
    inner.init()
    DeviceKey(inner).inject(bytes(32))
    stranger = SecureStore(store.underlying, device_key=DeviceKey(inner))
    stranger.init()
    with pytest.raises(CorruptMedium, match="MBED_ERROR_AUTHENTICATION_FAILED"):
        stranger.get("key")


def test_a_value_that_is_put_back_is_refused() -> None:
    store = secure()
    store.set("key", b"old", NEWEST)
    old = store.underlying.get("key")
    store.set("key", b"new", NEWEST)
    new = store.underlying.get("key")
    store.underlying.set("key", old)
    with pytest.raises(RollbackRefused, match="MBED_ERROR_RBP_AUTHENTICATION_FAILED"):
        store.get("key")
    store.underlying.set("key", new)
    assert store.get("key") == b"new"
    store.underlying.remove("key")
    with pytest.raises(RollbackRefused, match="is not there"):
        store.get("key")


def test_a_value_without_its_protection_is_refused() -> None:
    store, bare = secure(), secure(rbp=False)
    bare.set("key", b"forged")
    store.set("key", b"guarded", NEWEST)
    store.underlying.set("key", bare.underlying.get("key"))
    with pytest.raises(RollbackRefused, match="lost its protection"):
        store.get("key")
    with pytest.raises(StorageError, match="MBED_ERROR_INVALID_ARGUMENT"):
        fresh = secure()
        fresh.set("key", b"guarded", NEWEST)
        fresh.set("key", b"unguarded")


def test_a_write_once_value_stays() -> None:
    store = secure()
    store.set("key", b"first", KVFlag.WRITE_ONCE)
    with pytest.raises(WriteOnce):
        store.set("key", b"second")
    with pytest.raises(WriteOnce):
        store.remove("key")
    assert store.rbp is not None and store.rbp.get_info("key").flags == KVFlag.WRITE_ONCE
    store.reset()
    assert store.keys() == [] and store.rbp.keys() == []


def test_values_that_cannot_be_authenticated_can_be_removed() -> None:
    store = secure()
    store.set("key", b"value")
    raw = store.underlying.get("key")
    store.underlying.set("key", raw[:-1] + b"?")
    with pytest.raises(CorruptMedium):
        store.get("key")
    store.remove("key")
    assert store.keys() == []


def test_it_works_over_files_too() -> None:
    fs = LittleFileSystem2("fs")
    fs.reformat(HeapBlockDevice(1 << 18))
    guard = TDBStore(heap())
    store = SecureStore(FileSystemStore(fs), guard)
    store.init()
    DeviceKey(guard).inject(ROOT)
    store.set("key", b"value", SECRET | NEWEST)
    assert store.get("key") == b"value"
    assert fs.listdir("/kvstore") == ["key"]
    fs.unmount()


def test_without_a_device_key_the_error_says_what_to_do() -> None:
    store = SecureStore(TDBStore(heap()))
    with pytest.raises(StorageError, match="MBED_ERROR_NOT_READY"):
        store.get("key")
    store.init()
    with pytest.raises(StorageError, match="MBED_ERROR_FAILED_OPERATION") as caught:
        store.set("key", b"value")
    assert "inject() a root of trust" in str(caught.value)


def test_pieces_of_whole_blocks_are_one_value_and_others_are_not_as_in_mbed() -> None:
    store = secure()
    for pieces, readable in (([b"x" * 16, b"y" * 32, b"tail"], True), ([b"x" * 5, b"y" * 20], False)):
        handle = store.set_start("key", sum(map(len, pieces)), SECRET)
        for piece in pieces:
            store.set_add_data(handle, piece)
        store.set_finalize(handle)
        assert (store.get("key") == b"".join(pieces)) is readable
        assert store.get("key")[: len(pieces[0])] == pieces[0]


def test_nothing_of_a_value_lies_on_the_medium(tmp_path: Path) -> None:
    device = heap()
    store = SecureStore(TDBStore(device), TDBStore(heap()))
    store.init()
    assert isinstance(store.rbp, TDBStore)
    DeviceKey(store.rbp).inject(ROOT)
    store.set("key", b"very private bytes", SECRET)
    assert b"private" not in device.read(0, device.size) and "private" not in repr(store)


# -- what is odd is Mbed's own: see docs/decisions/0011 --------------------------------------------


def test_a_power_cut_between_the_value_and_its_guard_leaves_a_value_that_is_refused() -> None:
    class NoPower(TDBStore):
        on = True

        def set(self, key: str, value: bytes, flags: int = 0) -> None:
            if not self.on:
                raise PowerLost
            super().set(key, value, flags)

    guard = NoPower(heap())
    store = SecureStore(TDBStore(heap()), guard)
    store.init()
    DeviceKey(guard).inject(ROOT)
    store.set("key", b"old", NEWEST)
    guard.on = False
    with pytest.raises(PowerLost):
        store.set("key", b"new", NEWEST)
    guard.on = True
    with pytest.raises(RollbackRefused):
        store.get("key")
    store.set("key", b"again", NEWEST)
    assert store.get("key") == b"again"


def test_a_write_once_value_removed_below_is_written_again_and_refused_when_read() -> None:
    store = secure()
    store.set("key", b"first", KVFlag.WRITE_ONCE)
    fresh = SecureStore(TDBStore(heap()), store.rbp)  # the flash below was erased, and the board restarted
    fresh.init()
    fresh.set("key", b"second")
    with pytest.raises(RollbackRefused, match="lost its protection"):
        fresh.get("key")
    with pytest.raises(WriteOnce):
        fresh.set("key", b"third", KVFlag.WRITE_ONCE)
