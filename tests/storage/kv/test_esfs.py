"""ESFS's bytes, its factory reset through power cuts, and files by other roots of trust."""

from __future__ import annotations

import base64
import hashlib
import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.clock import PowerLost
from pdmlab.errors import ConfigError, CorruptMedium, StorageError
from pdmlab.storage import FileSystem, HeapBlockDevice, LittleFileSystem2, SPIFBlockDevice
from pdmlab.storage.kv import Esfs, EsfsMode
from pdmlab.storage.kv.devicekey import aes_cmac
from pdmlab.storage.kv.esfsfile import EsfsKeys, seal, short_name, unseal
from tests.storage.cutmedium import CutMedium

ROOT = bytes(range(16))
ENCRYPTION, SIGNATURE = aes_cmac(ROOT, b"RoTStorageEnc128"), aes_cmac(ROOT, b"RoTStorageSgn128")
PLAIN, FACTORY = EsfsMode(0), EsfsMode.FACTORY


@pytest.fixture
def files(fs: FileSystem) -> Esfs:
    fs.reformat(HeapBlockDevice(1 << 20))
    return Esfs(fs, ROOT, random_bytes=lambda n: b"\x33" * n)


def content(files: Esfs, path: str) -> bytes:
    with files.fs.open(path) as file:
        return file.read()


def test_an_encrypted_file_is_the_clients_to_the_byte(files: Esfs) -> None:
    data = bytes(range(256)) * 2 + b"and more"
    files.set("CfgParam_mbed.EndpointName", data, metadata=[(7, b"meta"), (8, b"x" * 20)])
    name = b"CfgParam_mbed.EndpointName"
    digest = hashlib.sha256(name).digest()[:6]
    leaf = base64.b64encode(digest).decode().replace("+", "#").replace("/", "_")
    head = struct.pack("<HHH", 1, 0x0100, len(name)) + name + b"\x33" * 8
    # Where the values lie: behind two descriptions of 6 B.
    at = len(head) + 2 + 12
    head += struct.pack("<H", 2) + struct.pack("<HHH", 7, 4, at) + struct.pack("<HHH", 8, 20, at + 4)
    crypt = Cipher(algorithms.AES(ENCRYPTION), modes.CTR(b"\x33" * 8 + bytes(8))).encryptor()
    body = head + crypt.update(b"meta" + b"x" * 20 + data)
    assert content(files, f"/WORKING/{leaf}") == body + aes_cmac(SIGNATURE, body)
    found = files.read("CfgParam_mbed.EndpointName")
    assert (found.metadata, found.data, found.mode) == (((7, b"meta"), (8, b"x" * 20)), data, EsfsMode.ENCRYPTED)


def test_a_file_in_the_clear_has_no_nonce(files: Esfs) -> None:
    files.set("Cert_a", b"certificate", mode=PLAIN)
    body = struct.pack("<HHH", 1, 0, 6) + b"Cert_a" + struct.pack("<H", 0) + b"certificate"
    assert content(files, f"/WORKING/{short_name('Cert_a')}") == body + aes_cmac(SIGNATURE, body)
    assert files.get("Cert_a") == b"certificate"


def test_a_file_written_by_hand_reads_back(files: Esfs) -> None:
    files.init()
    # Version, mode, length of the name, name, no metadata, data.
    body = bytes.fromhex("0100 0000 0100") + b"n" + bytes.fromhex("0000") + b"by hand"
    with files.fs.open(f"/WORKING/{short_name('n')}", "w") as file:
        file.write(body + aes_cmac(SIGNATURE, body))
    assert files.get("n") == b"by hand"


def test_short_names_are_eight_characters_of_the_clients_base_64() -> None:
    names = [short_name(f"name{n}") for n in range(2000)]
    assert {len(name) for name in names} == {8}
    assert {"#", "_"} <= set("".join(names)) and not {"+", "/", "="} & set("".join(names))
    assert short_name("n") == "Gxax31OL"  # base 64 of 1b16b1df538b, the head of its SHA-256


@given(
    st.binary(max_size=600),
    st.sampled_from([PLAIN, EsfsMode.ENCRYPTED, FACTORY | EsfsMode.ENCRYPTED]),
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(min_size=1, max_size=50)), max_size=3),
)
@settings(max_examples=60)
def test_what_is_sealed_comes_back(data: bytes, mode: EsfsMode, metadata: list[tuple[int, bytes]]) -> None:
    raw = b"".join(seal(b"name", data, mode, metadata, EsfsKeys(ROOT), b"\x01" * 8))
    found = unseal(raw, EsfsKeys(ROOT))
    assert (found.name, found.data, found.mode, found.metadata) == ("name", data, mode, tuple(metadata))
    with pytest.raises(CorruptMedium, match="ESFS_CMAC_DOES_NOT_MATCH, 11"):
        unseal(raw, EsfsKeys(bytes(16)))


@given(st.binary(max_size=80), st.integers(0, 79))
@settings(max_examples=200)
def test_no_bytes_make_it_fail_otherwise_than_by_its_own_errors(raw: bytes, at: int) -> None:
    sealed = b"".join(seal(b"name", b"some data", EsfsMode.ENCRYPTED, [(1, b"m")], EsfsKeys(ROOT), bytes(8)))
    for torn in (raw, sealed[: at % len(sealed)], sealed[:at] + raw + sealed[at:] if raw else raw):
        with pytest.raises(CorruptMedium):
            unseal(torn, EsfsKeys(ROOT))


def test_calls_that_cannot_be_are_named(files: Esfs) -> None:
    files.set("name", b"1")
    for work, status in (
        (lambda: files.set("name", b"2"), "ESFS_EXISTS, 5"),
        (lambda: files.get("other"), "ESFS_NOT_EXISTS, 6"),
        (lambda: files.remove("other"), "ESFS_NOT_EXISTS, 6"),
        (lambda: files.set("", b""), "ESFS_INVALID_PARAMETER, 1"),
        (lambda: files.set("n" * 1025, b""), "ESFS_INVALID_PARAMETER, 1"),
        (lambda: files.set("meta", b"", metadata=[(1, b"")]), "ESFS_INVALID_PARAMETER, 1"),
        (lambda: files.set("meta", b"", metadata=[(1, b"x")] * 4), "ESFS_INVALID_PARAMETER, 1"),
    ):
        with pytest.raises(StorageError, match=status):
            work()
    taken = f"/WORKING/{short_name('taken')}"
    files.fs.rename(f"/WORKING/{short_name('name')}", taken)
    with pytest.raises(StorageError, match="ESFS_HASH_CONFLICT, 7"):
        files.set("taken", b"")
    with files.fs.open(taken, "w") as file:
        file.write(struct.pack("<HHH", 2, 0, 5) + b"taken" + bytes(40))
    with pytest.raises(CorruptMedium, match="ESFS_INVALID_FILE_VERSION, 10"):
        files.get("taken")
    with pytest.raises(ConfigError, match="15 B"):
        Esfs(files.fs, bytes(15))


def test_a_reset_leaves_nothing(files: Esfs) -> None:
    files.set("a", b"1", mode=FACTORY)
    files.set("b", b"2")
    files.reset()
    assert list(files.iterate()) == [] and files.fs.listdir("/WORKING") == files.fs.listdir("/BACKUP") == []


def test_a_factory_reset_that_loses_its_power_goes_on_at_the_next_start() -> None:
    for cut in range(100):
        medium = CutMedium(256 << 10)
        fs = LittleFileSystem2("fs")
        fs.reformat(SPIFBlockDevice(medium))
        files = Esfs(fs, ROOT)
        files.set("factory", b"original", mode=FACTORY)
        files.remove("factory")
        files.set("factory", b"changed")
        files.set("own", b"data")
        medium.left = cut
        done = False
        try:
            files.factory_reset()
            done = True
        except PowerLost:
            pass
        medium.left = 1 << 30
        after = Esfs(LittleFileSystem2("fs", SPIFBlockDevice(medium)), ROOT)
        found = {file.name: file.data for file in after.list()}
        begun = found == {"factory": b"original"}
        assert begun or found == {"factory": b"changed", "own": b"data"}
        assert "fr_on" not in (after.fs.listdir("/BACKUP/FR") if "FR" in after.fs.listdir("/BACKUP") else [])
        if done:
            assert begun
            break
    else:
        raise AssertionError("the reset never finished")
