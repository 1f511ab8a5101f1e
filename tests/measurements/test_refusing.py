"""Every wrong update ends with the stock client's result, and leaves the running image and the identity alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pdmlab import measurements
from pdmlab.measurements.refusing import GOOD
from pdmlab.sim.board import VirtualBoard
from pdmlab.update.bootloaders import Kind

FOTA = {
    "key": 23,
    "manifest, truncated": 22,
    "manifest, another schema": 28,
    "vendor id": 30,
    "class id": 31,
    "component": 39,
    "version": 27,
    "precursor": 32,
    "format": 25,
    "URI": 24,
    "digest": 26,
    "size, too small": 41,  # a block with more than is left, as the stock client says it
    "payload, truncated": 26,
    "payload, oversized": 41,
    "size, for no slot": 33,
}
HUB = {
    "key": 210,
    "manifest, truncated": 218,
    "vendor id": 215,
    "class id": 216,
    "version": 221,
    "precursor": 229,
    "format": 218,
    "URI": 302,
    "digest": 504,
    "size, too small": 504,
    "payload, truncated": 302,
    "payload, oversized": 504,
    "size, for no slot": 225,
}
EXPECTED: dict[Kind, dict[str, int]] = {"fota": FOTA, "mbed": HUB, "trial": FOTA | {"image signature": 22}}


@pytest.fixture(scope="module")
def board() -> Iterator[VirtualBoard]:
    with VirtualBoard("K64F", id="refusals", memory=True, power=False) as board:
        yield board


@pytest.mark.parametrize("bootloader", EXPECTED)
def test_a_board_refuses_what_is_wrong_and_takes_what_is_right_afterwards(
    board: VirtualBoard, bootloader: Kind
) -> None:
    rows = {row["wrong"]: row for row in measurements.refused_updates(board, bootloader)}
    good = rows.pop(GOOD)
    assert {wrong: row["result"] for wrong, row in rows.items()} == EXPECTED[bootloader]
    for wrong, row in rows.items():
        assert (row["runs"], row["same_image"], row["same_identity"]) == ("1.0.0", True, True), wrong
        assert row["means"] and f"/10252/0/3 is {row['result']}" in str(row["said"]), wrong
    assert (good["runs"], good["result"], good["same_image"], good["same_identity"]) == ("1.0.1", None, False, True)
