from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import ConfigError, ImageRejected
from pdmlab.update.header import MAX_HEADER_SIZE, FirmwareHeader, WrappedKey, pack_ready, parse_ready
from pdmlab.update.version import Version

GOLDEN = bytes.fromhex(
    "a353025c" "00040000" "0300020000018000"  # magic, 1024 B, 1.2.3
    + "aa" * 32 + "00" * 64  # SHA-256, reserved
    + "00" "00" "3000" "0004" + "bb" * 32 + "0000"  # barrier, flags, 48, 1024, precursor, padding
    + "a353025c" "00000000"  # footer, padding
)  # fmt: skip
SIGNED = GOLDEN[:16] + b"\xcc" * 64 + GOLDEN[16:]  # the signature comes in before the SHA-256
KEY = "dd" * 16 + "ee" * 8 + "0000" + "0700000000000000"  # key, tag, padding, IV
WRAPPED = GOLDEN[:114] + b"\x50" + GOLDEN[115:150] + bytes.fromhex(KEY) + GOLDEN[152:]


def test_a_header_has_the_stock_bytes() -> None:
    header = FirmwareHeader(1024, Version(1, 2, 3), b"\xaa" * 32, b"\xbb" * 32)
    assert header.pack() == GOLDEN and len(GOLDEN) == 160
    assert FirmwareHeader.parse(GOLDEN + b"image") == header


def test_a_signed_header_has_the_stock_bytes() -> None:
    header = FirmwareHeader(1024, Version(1, 2, 3), b"\xaa" * 32, b"\xbb" * 32, signature=b"\xcc" * 64)
    assert header.pack() == SIGNED and header.length == len(SIGNED) == 224
    assert FirmwareHeader.parse(SIGNED + b"image") == header


def test_a_header_with_the_candidates_own_key_has_the_stock_bytes() -> None:
    key = WrappedKey(b"\xdd" * 16, b"\xee" * 8, 7)
    header = FirmwareHeader(1024, Version(1, 2, 3), b"\xaa" * 32, b"\xbb" * 32, wrapped_key=key)
    assert header.pack() == WRAPPED and header.length == len(WRAPPED) == 192
    assert FirmwareHeader.parse(WRAPPED + b"image") == header


@pytest.mark.parametrize("kept", range(220))
def test_a_torn_signed_header_is_rejected(kept: int) -> None:
    with pytest.raises(ImageRejected):
        FirmwareHeader.parse(SIGNED[:kept] + b"\xff" * (MAX_HEADER_SIZE - kept))


@pytest.mark.parametrize("size", [1, 63, 65])
def test_a_signature_of_another_size_goes_into_no_header(size: int) -> None:
    with pytest.raises(ConfigError):
        FirmwareHeader(1024, Version(1, 2, 3), b"\xaa" * 32, signature=bytes(size)).pack()


def test_a_ready_header_has_the_stock_bytes() -> None:
    golden = bytes.fromhex("014ed5fe" "4d41494e" "0000000000" "000000" "014ed5fe")  # fmt: skip
    assert pack_ready() == golden and parse_ready(golden) == "MAIN"


@pytest.mark.parametrize("kept", range(20))
def test_a_torn_ready_header_counts_as_none(kept: int) -> None:
    assert parse_ready(pack_ready()[:kept] + b"\xff" * (20 - kept)) is None


@pytest.mark.parametrize("kept", range(156))
def test_a_torn_header_is_rejected(kept: int) -> None:
    with pytest.raises(ImageRejected):
        FirmwareHeader.parse(GOLDEN[:kept] + b"\xff" * (160 - kept))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_header(data: bytes) -> None:
    with pytest.raises(ImageRejected):
        FirmwareHeader.parse(data)


def test_a_version_that_is_no_version_is_rejected() -> None:
    with pytest.raises(ImageRejected):
        FirmwareHeader.parse(GOLDEN[:8] + bytes(8) + GOLDEN[16:])


def test_a_header_shows_itself_with_its_digest_in_hex() -> None:
    header = FirmwareHeader(9, Version(1, 2, 3), b"\xab" * 32, wrapped_key=WrappedKey(b"k" * 16, b"t" * 8, 1))
    assert repr(header) == f"FirmwareHeader(1.2.3, 9 B, sha256={'ab' * 32}, with a key of its own)"
