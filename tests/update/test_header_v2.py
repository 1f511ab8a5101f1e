from __future__ import annotations

import hashlib
import hmac
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import ConfigError, ImageRejected
from pdmlab.update.header_v2 import OFF_MBED_ROOT_OF_TRUST, FirmwareHeaderV2, device_key

HEADER = FirmwareHeaderV2(1024, 1_600_000_000, b"\xaa" * 32, bytes(range(16)))
COMMON = bytes.fromhex(
    "5a51b3d4" "00000002" "000000005f5e1000" "0000000000000400" + "aa" * 32 + "00" * 32
)  # fmt: skip
KEY = device_key(OFF_MBED_ROOT_OF_TRUST)


def _internal() -> bytes:
    body = COMMON + bytes(range(16)) + bytes(4)
    return body + zlib.crc32(body).to_bytes(4, "big")


def _external() -> bytes:
    body = COMMON + bytes.fromhex("0000000000000400" + "aa" * 32 + "00" * 32) + bytes(range(16)) + bytes(56)
    return body + hmac.new(KEY, body, hashlib.sha256).digest() + bytes(32)


def test_an_internal_header_has_the_stock_bytes() -> None:
    assert HEADER.pack_internal() == _internal() and len(_internal()) == 112
    assert FirmwareHeaderV2.parse_internal(_internal() + b"image") == HEADER


def test_an_external_header_has_the_stock_bytes() -> None:
    assert HEADER.pack_external(KEY) == _external() and len(_external()) == 296
    assert FirmwareHeaderV2.parse_external(_external() + b"image", KEY) == HEADER


def test_the_device_key_is_the_label_under_the_root_of_trust() -> None:
    root = bytes(range(16))
    right = hmac.new(root, b"StorageEnc256HMACSHA256SIGNATURE", hashlib.sha256).digest()
    assert device_key(root) == right and len(right) == 32
    with pytest.raises(ConfigError, match="16 bytes, not 32"):
        device_key(bytes(32))


@pytest.mark.parametrize("kept", range(112))
def test_a_torn_internal_header_is_rejected(kept: int) -> None:
    with pytest.raises(ImageRejected):
        FirmwareHeaderV2.parse_internal(_internal()[:kept] + b"\xff" * (112 - kept))


@pytest.mark.parametrize("kept", range(264))
def test_a_torn_external_header_is_rejected(kept: int) -> None:
    with pytest.raises(ImageRejected):
        FirmwareHeaderV2.parse_external(_external()[:kept] + b"\xff" * (296 - kept), KEY)


@pytest.mark.parametrize("bit", range(0, 112 * 8, 3))
def test_no_bit_of_an_internal_header_can_turn(bit: int) -> None:
    turned = bytearray(_internal())
    turned[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ImageRejected):
        FirmwareHeaderV2.parse_internal(bytes(turned))


def test_what_is_wrong_with_a_header_is_said() -> None:
    for data, said in (
        (_internal()[:100], "has 112 B, here are 100"),
        (b"\xff" * 112, "magic 0xffffffff, not 0x5a51b3d4"),
        (_internal()[:4] + bytes([0, 0, 0, 3]) + _internal()[8:], "of version 3, not 2"),
        (_internal()[:30] + b"\0" + _internal()[31:], "its CRC-32 is"),
    ):
        with pytest.raises(ImageRejected, match=said):
            FirmwareHeaderV2.parse_internal(data)


def test_another_board_s_header_is_rejected() -> None:
    with pytest.raises(ImageRejected, match="not one of this board's device key"):
        FirmwareHeaderV2.parse_external(_external(), device_key(bytes(16)))


def test_what_a_header_cannot_hold_is_refused() -> None:
    for header in (
        FirmwareHeaderV2(1 << 64, 1, bytes(32)),
        FirmwareHeaderV2(1, -1, bytes(32)),
        FirmwareHeaderV2(1, 1, bytes(31)),
        FirmwareHeaderV2(1, 1, bytes(32), bytes(15)),
    ):
        with pytest.raises(ConfigError):
            header.pack_internal()
        with pytest.raises(ConfigError):
            header.pack_external(KEY)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_no_header(data: bytes) -> None:
    with pytest.raises(ImageRejected):
        FirmwareHeaderV2.parse_internal(data)
    with pytest.raises(ImageRejected):
        FirmwareHeaderV2.parse_external(data, KEY)


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.binary(min_size=32, max_size=32))
def test_a_header_comes_back_as_it_was(size: int, version: int, digest: bytes) -> None:
    header = FirmwareHeaderV2(size, version, digest)
    assert FirmwareHeaderV2.parse_internal(header.pack_internal()) == header
    assert FirmwareHeaderV2.parse_external(header.pack_external(KEY), KEY) == header


def test_a_header_shows_itself_with_its_digest_in_hex() -> None:
    assert repr(FirmwareHeaderV2(9, 1, b"\xab" * 32)) == f"FirmwareHeaderV2(1, 9 B, sha256={'ab' * 32})"
