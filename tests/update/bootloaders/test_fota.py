from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from pdmlab.clock import PowerLost
from pdmlab.errors import BootFailed
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.update.bootloaders.fota import FotaBootloader
from pdmlab.update.bootloaders.interface import CORTEX_M4_SHA256, BootResult, Hardware, HashRate
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.layout import Area, FlashGeometry, FlashLayout
from pdmlab.update.manifest import Manifest
from pdmlab.update.version import Version

Medium = Callable[[str, int], Any]  # a CuttableFlash, which lives in conftest.py
K = 1024
OLD, NEW = random.Random(1).randbytes(21_000), random.Random(2).randbytes(25_003)

LAYOUT = FlashLayout(
    FlashGeometry(0, 64 * K, ((16, 4 * K),), program_size=8),
    Area("bootloader", 0, 8 * K),
    Area("header", 8 * K, K),
    Area("application", 9 * K, 47 * K),
    (Area("SOTP section 1", 56 * K, 4 * K), Area("SOTP section 2", 60 * K, 4 * K)),
    Area("candidate", 0, 64 * K),
    "SD",
)


def bootloader_of(board: Board, rate: HashRate = CORTEX_M4_SHA256) -> FotaBootloader:
    nvstore = NVStore(board.flash, [(area.offset, area.size) for area in LAYOUT.sotp])
    hardware = Hardware(LAYOUT, board.flash, board.storage, nvstore, hash_rate=rate)
    return FotaBootloader(hardware, CandidateSlot(board.storage))


class Board:
    """A board's two media and its bootloader."""

    def __init__(self, medium: Medium, part: str = "SD") -> None:
        self.flash = medium("FLASHIAP", 64 * K)
        self.storage = medium(part, 64 * K)
        self.lines: list[str] = []

    @property
    def bootloader(self) -> FotaBootloader:
        return bootloader_of(self)

    def boot(self) -> BootResult:
        self.lines = []
        return self.bootloader.boot(self.lines.append)

    def offer(
        self, image: bytes = NEW, version: str = "1.0.1", precursor: bytes = bytes(32), component: str = "MAIN"
    ) -> None:
        slot = CandidateSlot(self.storage)
        manifest = Manifest.for_image(
            image, version=version, uri="/fw", vendor_id=bytes(16), class_id=bytes(16), component=component
        )
        slot.begin(manifest, precursor=precursor)
        slot.write(0, image)
        slot.finish()

    def running(self) -> bytes:
        header = self.bootloader.active()
        assert header is not None
        image = self.flash.read(9 * K, header.size)
        assert hashlib.sha256(image).digest() == header.digest
        return image


@pytest.fixture
def board(medium: Medium) -> Board:
    board = Board(medium)
    board.bootloader.program(OLD, Version(1, 0, 0))
    return board


def test_the_active_image_boots_when_there_is_no_candidate(board: Board) -> None:
    result = board.boot()
    assert str(result) == "boots 1.0.0 (as before)"
    assert board.lines == [
        "Mbed Bootloader\r\n",
        "No Update image\r\n",
        "[DBG ] Active firmware up-to-date\r\n",
        "booting...\r\n",
    ]


def test_a_newer_candidate_is_installed_and_boots(board: Board) -> None:
    board.offer()
    result = board.boot()
    assert result.installed and result.active.version == Version(1, 0, 1) and board.running() == NEW
    assert board.lines == [
        "Mbed Bootloader\r\n",
        "[DBG ] Update active firmware\r\n",
        "[DBG ] Erase active application\r\n",
        "[DBG ] Copy application\r\n",
        "[DBG ] Verify application\r\n",
        "[DBG ] Write header\r\n",
        "[DBG ] New active firmware is valid\r\n",
        "booting...\r\n",
    ]


def test_an_installed_candidate_is_not_installed_twice(board: Board) -> None:
    board.offer()
    board.boot()
    board.flash.operations = 0
    assert not board.boot().installed and board.flash.operations == 0


def refused(board: Board) -> str:
    before = board.flash.contents()
    result = board.boot()
    assert not result.installed and result.refused and board.running() == OLD
    assert board.flash.contents() == before and f"{result.refused}\r\n" in board.lines
    return result.refused


@pytest.mark.parametrize("version", ["1.0.0", "0.9.9"])
def test_an_equal_or_older_candidate_is_refused(board: Board, version: str) -> None:
    board.offer(version=version)
    assert refused(board) == "Update image is older"


def test_a_candidate_for_another_component_is_refused(board: Board) -> None:
    board.offer(component="METER")
    assert refused(board) == "Update image is for component METER"


def test_a_candidate_made_for_another_precursor_is_refused(board: Board) -> None:
    board.offer(precursor=b"x" * 32)
    assert refused(board) == "Update image is for another active firmware"


def test_a_candidate_made_for_this_precursor_is_installed(board: Board) -> None:
    board.offer(precursor=hashlib.sha256(OLD).digest())
    assert board.boot().installed


def test_a_corrupted_candidate_is_refused(board: Board) -> None:
    board.offer()
    page = board.storage.read(4096, 512)
    board.storage.program(4096, bytes([page[0] ^ 1]) + page[1:])
    assert refused(board) == "Update image integrity check failed"


def test_a_candidate_that_does_not_fit_the_application_is_refused(board: Board) -> None:
    board.offer(image=bytes(range(256)) * 190)
    assert refused(board) == "Update image too large"


def test_a_corrupted_active_image_does_not_boot_and_says_why(board: Board) -> None:
    content = bytearray(board.flash.contents())
    content[12 * K] ^= 1
    board.flash.restore(bytes(content))
    with pytest.raises(BootFailed, match="Failed to jump to application! Active: Active firmware integrity"):
        board.boot()
    assert board.lines[1] == "[DBG ] Active firmware integrity check failed\r\n"
    assert board.lines[-2:] == ["[ERR ] Active firmware invalid\r\n", "Failed to jump to application!\r\n"]


def test_an_empty_board_does_not_boot(medium: Medium) -> None:
    board = Board(medium)
    with pytest.raises(BootFailed):
        board.boot()
    assert board.lines[1] == "[DBG ] Active firmware slot is empty\r\n"


def test_flash_that_does_not_keep_what_is_written_is_noticed(board: Board) -> None:
    board.offer()
    program = board.flash.program
    board.flash.program = lambda at, data: program(at, data[:-1] + b"?")
    with pytest.raises(BootFailed):
        board.boot()
    assert "[DBG ] Firmware update failed\r\n" in board.lines


def test_hashing_costs_the_device_time(board: Board) -> None:
    rate, before = HashRate(1_000_000, "for this test"), board.flash.clock.now()
    bootloader_of(board, rate).active()
    assert board.flash.clock.now() - before >= 21_000_000


@pytest.mark.parametrize("part", ["SD", "QSPIF", "FLASHIAP"])
@pytest.mark.parametrize("torn", [0.0, 0.3, 0.999])
def test_a_cut_at_any_flash_operation_ends_with_the_old_or_the_new_image(
    medium: Medium, part: str, torn: float
) -> None:
    board = Board(medium, part)
    board.bootloader.program(OLD, Version(1, 0, 0))
    board.offer(precursor=hashlib.sha256(OLD).digest())
    flash, storage = board.flash.contents(), board.storage.contents()
    board.flash.operations = 0
    board.boot()
    total = board.flash.operations
    assert total > 8
    # Two cuts: one in the installation, one in the start that makes it good.
    for first in range(total):
        for second in (None, *range(0, total, 3)):
            board.flash.restore(flash)
            board.storage.restore(storage)
            board.flash.torn = torn
            for cut in (first, second):
                if cut is None:
                    continue
                board.flash.cut_at, board.flash.operations = cut, 0
                try:
                    board.boot()
                except PowerLost:
                    pass
            board.flash.cut_at = None
            board.boot()
            assert board.running() == NEW, f"replay: part={part} torn={torn} cuts={first},{second}"
