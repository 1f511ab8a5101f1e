from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import ImageRejected
from pdmlab.update.header import FirmwareHeader, pack_ready, parse_ready
from pdmlab.update.version import Version

GOLDEN = bytes.fromhex(
    "a353025c" "00040000" "0300020000018000"  # magic, 1024 B, 1.2.3
    + "aa" * 32 + "00" * 64  # SHA-256, reserved
    + "00" "00" "3000" "0004" + "bb" * 32 + "0000"  # barrier, flags, 48, 1024, precursor, padding
    + "a353025c" "00000000"  # footer, padding
)  # fmt: skip


def test_a_header_has_the_stock_bytes() -> None:
    header = FirmwareHeader(1024, Version(1, 2, 3), b"\xaa" * 32, b"\xbb" * 32)
    assert header.pack() == GOLDEN and len(GOLDEN) == 160
    assert FirmwareHeader.parse(GOLDEN + b"image") == header


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
