"""Encrypted blocks and payloads: AES-CCM as the stock client has it, held against CCM made of AES alone."""

from __future__ import annotations

import hashlib
import hmac
import tracemalloc

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import ConfigError, ImageRejected, ManifestRejected
from pdmlab.update.header import WrappedKey
from pdmlab.update.manifest import Manifest, PayloadFormat, PayloadMetadata, SignedManifest
from pdmlab.update.payloads import unpacker
from pdmlab.update.payloads.blocks import BLOCK_DATA, BLOCK_SIZE, BlockCipher, sealed_size, unwrap_key, wrap_key
from pdmlab.update.payloads.encrypted import EncryptedUnpacker, Encryptor, encrypt, with_key
from pdmlab.update.results import FotaResult

KEY, OTHER = bytes(range(16)), bytes(range(1, 17))
DEVICE_KEY = b"\x27" * 16
IMAGE = hashlib.shake_256(b"image").digest(5000)


def ccm(key: bytes, nonce: bytes, data: bytes) -> tuple[bytes, bytes]:
    """AES-CCM by RFC 3610, without further data: the encrypted data, and a tag of 8 bytes."""
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    size = 15 - len(nonce)
    blocks = bytes([8 * ((8 - 2) // 2) + size - 1]) + nonce + len(data).to_bytes(size, "big")
    blocks += data + bytes(-len(data) % 16)
    tag = bytes(16)
    for at in range(0, len(blocks), 16):
        tag = aes.update(bytes(a ^ b for a, b in zip(tag, blocks[at : at + 16], strict=True)))
    stream = b"".join(
        aes.update(bytes([size - 1]) + nonce + number.to_bytes(size, "big")) for number in range(len(data) // 16 + 2)
    )
    return (
        bytes(a ^ b for a, b in zip(data, stream[16:], strict=False)),
        bytes(a ^ b for a, b in zip(tag[:8], stream[:8], strict=True)),
    )


def manifest(payload: bytes, image: bytes = IMAGE, size: int | None = None) -> Manifest:
    return Manifest(
        bytes(16), bytes(16), "1.0.1", hashlib.sha256(payload).digest(), len(payload), "/fw",
        format=PayloadFormat.ENCRYPTED_RAW,
        metadata=PayloadMetadata(len(image) if size is None else size, hashlib.sha256(image).digest()),
    )  # fmt: skip


def unpack(unpacked: EncryptedUnpacker, payload: bytes, step: int = 512) -> bytes:
    pieces = [piece for at in range(0, len(payload), step) for piece in unpacked.feed(payload[at : at + step])]
    return b"".join(pieces) + b"".join(unpacked.finish())


PAYLOAD = encrypt(IMAGE, KEY)


# -- blocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 15, 16, 17, BLOCK_DATA])
@pytest.mark.parametrize("index", [0, 1, 300])
def test_a_block_is_a_tag_and_the_data_under_a_counter_in_little_endian(size: int, index: int) -> None:
    data = IMAGE[:size]
    sealed, tag = ccm(KEY, (1 + index).to_bytes(8, "little"), data)
    assert BlockCipher(KEY).seal(index, data) == tag + sealed
    assert BlockCipher(KEY).open(index, tag + sealed) == data


def test_under_the_devices_own_key_the_counter_begins_at_0() -> None:
    key = hmac.digest(DEVICE_KEY, b"01FOTA00563be98a", "sha256")[:16]
    sealed, tag = ccm(key, bytes(8), b"data")
    assert BlockCipher.of_device(DEVICE_KEY).seal(0, b"data") == tag + sealed


def test_a_candidates_key_is_wrapped_under_one_derived_from_the_devices() -> None:
    derived = hmac.digest(DEVICE_KEY, b"\x01FOTA\0\x56\x3b\xe9\x8a\x94\xfd\x0d\xc0\x65\x80", "sha256")[:16]
    iv = (1 << 64) - 1
    sealed, tag = ccm(derived, iv.to_bytes(8, "little"), KEY)
    assert wrap_key(KEY, DEVICE_KEY, iv) == WrappedKey(sealed, tag, iv)
    assert unwrap_key(WrappedKey(sealed, tag, iv), DEVICE_KEY) == KEY
    with pytest.raises(ImageRejected):
        unwrap_key(WrappedKey(sealed, tag, iv), OTHER)


@pytest.mark.parametrize("block", [b"", bytes(7), BlockCipher(KEY).seal(1, b"x"), BlockCipher(OTHER).seal(0, b"x")])
def test_a_block_of_another_place_or_key_does_not_open(block: bytes) -> None:
    with pytest.raises(ImageRejected, match="block 0"):
        BlockCipher(KEY).open(0, block)


def test_keys_have_16_bytes_and_are_not_shown() -> None:
    for make in (BlockCipher, BlockCipher.of_device):
        with pytest.raises(ConfigError, match="16"):
            make(bytes(32))
    assert repr(BlockCipher(KEY)) == "<BlockCipher: AES-128-CCM-8, counter from 1>"
    signed = SignedManifest(manifest(PAYLOAD), b"", b"", KEY)
    assert KEY.hex() not in repr(signed) and repr(KEY)[2:-1] not in repr(signed)


# -- payloads ----------------------------------------------------------------------------------------


@given(
    size=st.one_of(st.integers(1, 40), st.integers(BLOCK_DATA - 2, BLOCK_DATA + 2), st.integers(2000, 3100)),
    pieces=st.sampled_from([1, 100, 1016, 1024, 4000]),
    step=st.sampled_from([1, 512, 1024, 5000]),
)
@settings(max_examples=60, deadline=None)
def test_an_image_comes_out_as_it_went_in_however_it_is_cut(size: int, pieces: int, step: int) -> None:
    image = IMAGE[:size]
    encryptor = Encryptor(KEY)
    payload = b"".join(encryptor.feed(image[at : at + pieces]) for at in range(0, size, pieces)) + encryptor.finish()
    assert len(payload) == encryptor.size == sealed_size(size)
    assert encryptor.digest.digest() == hashlib.sha256(payload).digest() and payload == encrypt(image, KEY)
    assert unpack(EncryptedUnpacker(manifest(payload, image), KEY), payload, step) == image


def test_candidates_under_the_manifests_key_are_the_payload_itself() -> None:
    cipher = BlockCipher(KEY)
    blocks = [IMAGE[at : at + BLOCK_DATA] for at in range(0, len(IMAGE), BLOCK_DATA)]
    assert b"".join(cipher.seal(index, block) for index, block in enumerate(blocks)) == PAYLOAD


@pytest.mark.parametrize("position", [0, 1, 500, BLOCK_DATA - 1, BLOCK_DATA, 2 * BLOCK_DATA, 3000, 4999])
def test_it_goes_on_with_the_block_that_holds_the_position(position: int) -> None:
    unpacked = EncryptedUnpacker(manifest(PAYLOAD), KEY)
    start = unpacked.resumes_at(position)
    assert start == position // BLOCK_DATA * BLOCK_SIZE
    assert IMAGE[:position] + unpack(unpacked, PAYLOAD[start:]) == IMAGE


def test_another_key_is_a_failure_of_cryptography_told_at_the_end() -> None:
    unpacked = EncryptedUnpacker(manifest(PAYLOAD), OTHER)
    assert not list(unpacked.feed(PAYLOAD))
    with pytest.raises(ManifestRejected, match="the key is not its own") as caught:
        list(unpacked.finish())
    assert caught.value.result == FotaResult.CRYPTO


@pytest.mark.parametrize("at", [0, 7, 8, 1500, len(PAYLOAD) - 1])
def test_another_payload_is_corrupted_and_gives_nothing_from_there_on(at: int) -> None:
    changed = PAYLOAD[:at] + bytes([PAYLOAD[at] ^ 1]) + PAYLOAD[at + 1 :]
    unpacked = EncryptedUnpacker(manifest(PAYLOAD), KEY)
    image = b"".join(unpacked.feed(changed))
    assert image == IMAGE[: at // BLOCK_SIZE * BLOCK_DATA]
    with pytest.raises(ManifestRejected) as caught:
        list(unpacked.finish())
    assert caught.value.result == FotaResult.PAYLOAD_CORRUPTED


def test_blocks_in_another_order_do_not_open() -> None:
    swapped = PAYLOAD[BLOCK_SIZE : 2 * BLOCK_SIZE] + PAYLOAD[:BLOCK_SIZE] + PAYLOAD[2 * BLOCK_SIZE :]
    with pytest.raises(ManifestRejected) as caught:
        unpack(EncryptedUnpacker(manifest(PAYLOAD), KEY), swapped)
    assert caught.value.result == FotaResult.PAYLOAD_CORRUPTED


@pytest.mark.parametrize("end", [0, 5, BLOCK_SIZE, len(PAYLOAD) - 1])
def test_a_payload_that_ends_early_is_corrupted(end: int) -> None:
    with pytest.raises(ManifestRejected) as caught:
        unpack(EncryptedUnpacker(manifest(PAYLOAD), KEY), PAYLOAD[:end])
    assert caught.value.result == FotaResult.PAYLOAD_CORRUPTED


def test_after_a_resumption_a_block_that_does_not_open_is_a_failure_of_cryptography() -> None:
    unpacked = EncryptedUnpacker(manifest(PAYLOAD), OTHER)
    start = unpacked.resumes_at(2 * BLOCK_DATA)
    with pytest.raises(ManifestRejected) as caught:
        unpack(unpacked, PAYLOAD[start:])
    assert caught.value.result == FotaResult.CRYPTO


@pytest.mark.parametrize("size", [1, len(IMAGE) - 1, len(IMAGE) + 1])
def test_sizes_that_do_not_go_together_are_refused_before_anything_is_fetched(size: int) -> None:
    with pytest.raises(ManifestRejected, match="encrypted") as caught:
        EncryptedUnpacker(manifest(PAYLOAD, size=size), KEY)
    assert caught.value.result == FotaResult.PAYLOAD_CORRUPTED


def test_the_key_behind_the_manifest_opens_its_payload() -> None:
    der = manifest(PAYLOAD).sign(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ManifestRejected, match="no key") as caught:
        unpacker(SignedManifest.parse(der), lambda at, size: b"")
    assert caught.value.result == FotaResult.MANIFEST_MALFORMED
    unpacked = unpacker(SignedManifest.parse(with_key(der, KEY)), lambda at, size: b"")
    assert isinstance(unpacked, EncryptedUnpacker) and unpack(unpacked, PAYLOAD) == IMAGE


def test_a_key_of_zeros_is_an_internal_error() -> None:
    der = manifest(PAYLOAD).sign(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ManifestRejected, match="zeros") as caught:
        unpacker(SignedManifest.parse(with_key(der, bytes(16))), lambda at, size: b"")
    assert caught.value.result == FotaResult.INTERNAL


def test_a_megabyte_is_opened_in_the_memory_of_a_few_blocks() -> None:
    image, digest = bytes(range(256)) * 4096, hashlib.sha256()
    payload = encrypt(image, KEY)
    unpacked = EncryptedUnpacker(manifest(payload, image), KEY)
    blocks = [payload[at : at + 512] for at in range(0, len(payload), 512)]
    tracemalloc.start()
    try:
        for block in blocks:
            for piece in unpacked.feed(block):
                digest.update(piece)
        for piece in unpacked.finish():
            digest.update(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert digest.digest() == hashlib.sha256(image).digest()
    assert peak < 12 * BLOCK_SIZE, f"{peak} B for blocks of {BLOCK_SIZE} B"
