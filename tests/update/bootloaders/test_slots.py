"""Whoever looks at a board's slots sees the update storage too, whether the application has opened it or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pdmlab.errors import StorageError
from pdmlab.sim import VirtualBoard
from pdmlab.storage.kv.sotp import SotpType
from pdmlab.update.bootloaders.interface import KINDS, Kind, Slot


def look(device: Any) -> Sequence[Slot]:
    return device.bootloader.slots()


STATES: dict[Kind, list[str]] = {
    "fota": ["whole", "empty"],
    "mbed": ["whole", "empty"],
    "trial": ["whole", "empty", "whole"],  # it keeps a copy of what runs
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_is_looked_at_and_left_as_it_was(kind: Kind) -> None:
    def never_opened(device: Any) -> Sequence[Slot]:
        seen = look(device)
        with pytest.raises(StorageError, match=r"before init\(\)"):
            device.block_device.read(0, 512)
        return seen

    def opened(device: Any) -> Sequence[Slot]:
        device.block_device.init()
        seen = look(device)
        device.block_device.read(0, 512)
        return seen

    with VirtualBoard("K64F", memory=True, bootloader=kind) as board:
        board.run(lambda device: device.nvstore.set(SotpType.ROT, bytes(16)))
        for application in (never_opened, opened):
            assert [slot.state for slot in board.run(application)] == STATES[kind]


def test_a_card_that_is_out_is_unreadable_and_says_why() -> None:
    with VirtualBoard("K64F", memory=True) as board:
        board.faults.pull_card()
        active, candidate = board.run(look)
        assert (active.state, candidate.state) == ("whole", "unreadable") and candidate.detail
