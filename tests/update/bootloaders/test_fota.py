"""The 4.x bootloader: what it installs, refuses and prints, and what a power cut at any operation leaves."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from pdmlab.clock import PowerLost
from pdmlab.errors import BootFailed, ConfigError
from pdmlab.storage.kv.nvstore import root_of_trust
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.interface import HashRate
from pdmlab.update.header import FirmwareHeader, pack_ready
from pdmlab.update.layout import Area, FlashLayout
from pdmlab.update.pages import ChecksummedPages, EncryptedPages
from pdmlab.update.payloads.blocks import BlockCipher, wrap_key
from pdmlab.update.version import Version
from tests.update.bootloaders.boards import LAYOUT, NEW, OLD, ROOT_OF_TRUST, FotaBoard, K, Medium

START = "[BOOT] Bootloader build at: SIMULATED\r\n[BOOT] Searching for candidate image...\r\n"
PROGRESS = (2, 6, 10, 16, 20, 26, 30, 36, 40, 45, 51, 55, 61, 65, 71, 75, 81, 86, 90, 96, 100)
"""What is said of 25,003 B in pieces of 512 B."""
INSTALL = (
    "[BOOT] Validating image...\r\n[BOOT] Image is valid.\r\n"
    "[BOOT] Candidate verification successful. Starting installation to flash...\r\n"
    + "".join(f"[BOOT] Flashing {percent}%\r\n" for percent in PROGRESS)
    + "[BOOT] Install done\r\n[BOOT] check_and_install_update 0.\r\n"
)  # fmt: skip
CHECK = "[BOOT] Validating image on flash...\r\n"
INTERNAL = FlashLayout(
    replace(LAYOUT.geometry, size=256 * K, sectors=((64, 4 * K),)),
    Area("bootloader", 0, 0x8000),
    Area("header", 0x8000, 0x200),
    Area("application", 0x8200, 0x18000 - 0x8200),
    (Area("SOTP section 1", 0x18000, 4 * K), Area("SOTP section 2", 0x19000, 4 * K)),
    Area("candidate", 0x1A000, 0x10000),
    "FLASHIAP",
)
"""The order of areas in the 4.x layout for K64F, in a smaller flash."""


def end(version: str, address: int = 9 * K) -> str:
    return (
        f"[BOOT] Current FW version is {version}\r\n"
        f"[BOOT] All clear. Jumping to application (at address 0x{address:x}).\r\n"
    )


@pytest.fixture
def board(medium: Medium) -> FotaBoard:
    return FotaBoard(medium)


# -- the console, path by path -------------------------------------------------------------------------


def test_without_a_candidate_the_application_starts(board: FotaBoard) -> None:
    assert str(board.boot()) == "boots 1.0.0 (as before)"
    assert board.text == START + "[BOOT] Candidate not found\r\n" + CHECK + end("1.0.0")


def test_a_newer_candidate_is_installed_and_starts(board: FotaBoard) -> None:
    board.offer()
    result = board.boot()
    assert (result.installed, result.active.version_text, board.running()) == (True, "1.0.1", NEW)
    assert board.text == START + INSTALL + CHECK + "[BOOT] New active firmware is valid\r\n" + end("1.0.1")


def test_a_cut_installation_is_made_good_without_comparing_anything(board: FotaBoard) -> None:
    board.offer()
    board.flash.operations, board.flash.cut_at = 0, 30
    with pytest.raises(PowerLost):
        board.boot()
    board.flash.cut_at = None
    assert board.boot().installed and board.running() == NEW
    refused = (
        "[BOOT] Validating image...\r\n[BOOT] Image is valid.\r\n"
        "[ERR ] Precursor doesn't match installed digest\r\n[BOOT] check_and_install_update -32.\r\n"
        + CHECK + "[ERR ] failed read_installed_fw_header...\r\n"
    )  # fmt: skip
    assert board.text == START + refused + INSTALL + CHECK + "[BOOT] New active firmware is valid\r\n" + end("1.0.1")


def test_an_application_that_is_not_whole_does_not_start(board: FotaBoard) -> None:
    board.damage(12 * K)
    with pytest.raises(BootFailed, match="Validating installed firmware failed: the image's SHA-256"):
        board.boot()
    failed = "[ERR ] Hash mismatch!\r\n[ERR ] Validating installed firmware failed\r\n[ERR ] PANIC!\r\n"
    assert board.text == START + "[BOOT] Candidate not found\r\n" + CHECK + failed


def test_an_empty_board_does_not_start(medium: Medium) -> None:
    board = FotaBoard(medium, programmed=False)
    with pytest.raises(BootFailed, match="no firmware header v3: magic 0xffffffff"):
        board.boot()
    assert board.text.endswith(
        CHECK
        + "[ERR ] failed read_installed_fw_header...\r\n"
        + "[ERR ] Validating installed firmware failed\r\n[ERR ] PANIC!\r\n"
    )


# -- what is refused, and leaves the flash as it was ---------------------------------------------------


def refused(board: FotaBoard, status: int, words: str) -> str:
    before = board.flash.contents()
    result = board.boot()
    assert not result.installed and result.refused and board.running() == OLD
    assert board.flash.contents() == before
    assert f"[ERR ] {words}\r\n[BOOT] check_and_install_update -{status}.\r\n" in board.text
    assert result.refused.startswith(words)
    return result.refused


@pytest.mark.parametrize("version", ["1.0.0", "0.9.9"])
def test_an_equal_or_older_candidate_is_refused(board: FotaBoard, version: str) -> None:
    board.offer(version=version)
    assert f"{version}, installed is 1.0.0" in refused(board, 27, "Candidate version is not newer than installed")


@pytest.mark.parametrize("component", ["METER", "MAINX", "MAI", "main"])
def test_a_candidate_for_another_component_is_refused(board: FotaBoard, component: str) -> None:
    board.offer(component=component)
    assert component in refused(board, 39, "Unexpected component candidate found")


@pytest.mark.parametrize("precursor", [bytes(32), b"x" * 32, hashlib.sha256(NEW).digest()])
def test_a_candidate_made_for_another_image_is_refused(board: FotaBoard, precursor: bytes) -> None:
    board.offer(precursor=precursor)
    assert precursor.hex() in refused(board, 32, "Precursor doesn't match installed digest")


def test_a_corrupted_candidate_is_refused(board: FotaBoard) -> None:
    board.offer()
    page = board.storage.read(4096, 512)
    board.storage.program(4096, bytes([page[0] ^ 1]) + page[1:])
    refused(board, 26, "Hash mismatch - corrupted candidate")


def test_a_candidate_that_does_not_fit_the_application_is_refused(board: FotaBoard) -> None:
    board.offer(image=bytes(range(256)) * 190)
    assert "48640 B in 48128 B" in refused(board, 33, "Candidate does not fit the application's area")


def forge(board: FotaBoard, header: bytes, image: bytes = NEW) -> None:
    """Lay ready header, a header of any bytes and an image into the slot (SD: units of 512 B)."""
    board.storage.program(0, pack_ready().ljust(512, b"\xff") + header.ljust(512, b"\xff"))
    board.storage.program(1024, image.ljust(len(image) + -len(image) % 512, b"\xff"))


def header(**changed: Any) -> FirmwareHeader:
    whole = FirmwareHeader(len(NEW), Version(1, 0, 1), hashlib.sha256(NEW).digest(), hashlib.sha256(OLD).digest())
    return replace(whole, **changed)


def test_what_is_forged_as_the_client_writes_it_is_installed(board: FotaBoard) -> None:
    forge(board, header().pack())
    assert board.boot().installed


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (b"\xff" * 160, ""),
        (header().pack()[:152] + bytes(8), ""),
        (header().pack()[:114] + b"\x31\0" + header().pack()[116:], ""),
        (header(signature=b"s" * 64).pack(), "a build with image signatures"),
    ],
)
def test_a_header_that_is_none_is_refused(board: FotaBoard, packed: bytes, said: str) -> None:
    forge(board, packed)
    assert said in refused(board, 41, "Header parsing failed. ret -41")


def test_an_image_larger_than_its_slot_is_refused_before_anything_is_read(board: FotaBoard) -> None:
    forge(board, header(size=0xFFFF_FFFF).pack())
    refused(board, 36, "Storage end address exceeded")


def test_versions_are_compared_as_numbers_whatever_they_mean(board: FotaBoard) -> None:
    board.flash.restore(
        board.flash.contents()[: 8 * K]
        + board.flash.contents()[8 * K :][:8]
        + (5).to_bytes(8, "little")
        + board.flash.contents()[8 * K + 16 :]
    )
    packed = header().pack()
    forge(board, packed[:8] + (5).to_bytes(8, "little") + packed[16:])
    refused(board, 27, "Candidate version is not newer than installed")
    forge(board, packed[:8] + (6).to_bytes(8, "little") + packed[16:])
    result = board.boot()
    assert result.installed and (result.active.version_number, result.active.version_text) == (6, "6")


@pytest.mark.parametrize("kept", range(20))
def test_a_torn_ready_header_is_no_candidate(board: FotaBoard, kept: int) -> None:
    board.offer()
    board.storage.program(0, (pack_ready()[:kept] + b"\xff" * (20 - kept)).ljust(512, b"\xff"))
    before = board.flash.contents()
    assert board.boot().refused is None and board.flash.contents() == before
    assert "[BOOT] Candidate not found\r\n" in board.lines


# -- pages and keys ------------------------------------------------------------------------------------


def encrypted(*, wrapped: bool = True) -> EncryptedPages:
    if not wrapped:
        return EncryptedPages(BlockCipher.of_device(ROOT_OF_TRUST), resume=False)
    key = bytes(range(16, 32))
    return EncryptedPages(BlockCipher(key), wrapped_key=wrap_key(key, ROOT_OF_TRUST, 7))


def test_a_candidate_in_pages_is_installed(board: FotaBoard) -> None:
    board.offer(pages=ChecksummedPages())
    assert board.boot().installed and board.running() == NEW


@pytest.mark.parametrize("wrapped", [True, False])
def test_an_encrypted_candidate_is_for_bootloaders_that_are_built_for_it(medium: Medium, wrapped: bool) -> None:
    plain, board = FotaBoard(medium), FotaBoard(medium, options={"encrypted": True})
    for each in (plain, board):
        root_of_trust(each.nvstore, lambda n: ROOT_OF_TRUST[:n])
        each.offer(pages=encrypted(wrapped=wrapped))
    refused(plain, 25, "Encrypted candidate image - not supported")
    assert board.boot().installed and board.running() == NEW


def test_such_a_bootloader_takes_no_others(medium: Medium) -> None:
    board = FotaBoard(medium, options={"encrypted": True})
    board.offer()
    refused(board, 25, "Non-encrypted image found, but this is not allowed for this candidate type.")


def test_a_candidate_under_another_boards_key_is_refused(medium: Medium) -> None:
    board = FotaBoard(medium, options={"encrypted": True})
    root_of_trust(board.nvstore, lambda n: bytes(n))
    board.offer(pages=encrypted())
    refused(board, 43, "decrypt data failed, ret -43")


# -- its weakness --------------------------------------------------------------------------------------


def older_beside_a_damaged_application(medium: Medium, **options: Any) -> FotaBoard:
    board = FotaBoard(medium, options=options)
    board.boot()
    board.offer(version="0.9.0", precursor=bytes(32))
    board.damage(12 * K)
    return board


def test_with_a_damaged_application_an_older_candidate_is_installed(medium: Medium) -> None:
    board = older_beside_a_damaged_application(medium)
    result = board.boot()
    assert result.installed and result.active.version_text == "0.9.0"


@pytest.mark.parametrize("fixed", [True, ["rollback"]])
def test_mended_it_is_not(medium: Medium, fixed: object) -> None:
    board = older_beside_a_damaged_application(medium, fixed=fixed)
    with pytest.raises(BootFailed, match="Candidate version is older than one that was installed here"):
        board.boot()
    board.offer(version="1.0.0", precursor=bytes(32))  # what was there, from anywhere
    assert board.boot().installed


def test_mended_a_cut_installation_is_still_made_good(medium: Medium) -> None:
    board = FotaBoard(medium, options={"fixed": True})
    board.boot()
    board.offer()
    board.flash.operations, board.flash.cut_at = 0, 40
    with pytest.raises(PowerLost):
        board.boot()
    board.flash.cut_at = None
    assert board.boot().installed and board.running() == NEW


@pytest.mark.parametrize(
    "options", [{"fixed": ["recopy"]}, {"fixed": "rollback"}, {"fixed": 1}, {"encrypted": 1}, {"speed": 2}]
)
def test_options_that_it_has_not_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        bootloaders.check_options("fota", options)


# -- the medium, and what it costs ---------------------------------------------------------------------


def test_an_installed_candidate_is_not_installed_twice(board: FotaBoard) -> None:
    board.offer()
    board.boot()
    board.flash.operations = 0
    assert not board.boot().installed and board.flash.operations == 0


def test_the_active_header_is_the_first_part_alone(board: FotaBoard) -> None:
    board.offer()
    board.boot()
    assert board.flash.read(8 * K, 112) == header().pack()[:112]
    assert board.flash.read(8 * K + 112, K - 112) == b"\xff" * (K - 112)
    active = board.bootloader.active()
    assert active is not None and active.digest == hashlib.sha256(NEW).digest()


def test_flash_that_does_not_keep_what_is_written_is_noticed(board: FotaBoard) -> None:
    board.offer()
    program = board.flash.program
    board.flash.program = lambda at, data: program(at, data[:-1] + b"?")
    with pytest.raises(BootFailed):
        board.boot()
    assert board.lines.count("[ERR ] flash readback verification failed\r\n") == 2


def test_a_medium_that_cannot_be_read_is_said_and_the_application_starts(board: FotaBoard) -> None:
    board.storage.deinit()
    result = board.boot()
    assert not result.installed and board.running() == OLD
    assert "[ERR ] Storage initialization failed!\r\n" in board.lines


def test_hashing_costs_the_device_time(board: FotaBoard) -> None:
    rate, before = HashRate(1_000_000, "for this test"), board.flash.clock.now()
    bootloaders.build("fota", board.hardware(rate)).active()
    assert board.flash.clock.now() - before >= 21_000_000


def test_slots_say_what_lies_there(board: FotaBoard) -> None:
    active, candidate = board.bootloader.slots()
    assert (active.state, candidate.state) == ("whole", "empty")
    board.offer()
    assert [slot.state for slot in board.bootloader.slots()] == ["whole", "whole"]
    board.damage(12 * K)
    board.storage.program(0, b"\xff" * 512)
    active, candidate = board.bootloader.slots()
    assert (active.state, candidate.state, candidate.detail) == ("corrupt", "incomplete", "not marked as whole")


def test_in_the_layout_of_the_4x_builds_everything_lies_in_internal_flash(medium: Medium) -> None:
    board = FotaBoard(medium, layout=INTERNAL)
    board.offer()
    assert board.flash.read(0x1A000, 24) == pack_ready() + b"\xff" * 4
    assert board.flash.read(0x1A018, 160) == header().pack()
    assert board.flash.read(0x1A018 + 160, len(NEW)) == NEW
    assert board.boot().installed and board.running() == NEW
    assert board.text.endswith(end("1.0.1", 0x8200))


# -- power cuts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["SD", "QSPIF", "FLASHIAP"])
@pytest.mark.parametrize("torn", [0.0, 0.3, 0.999])
def test_a_cut_at_any_flash_operation_ends_with_the_new_image(medium: Medium, part: str, torn: float) -> None:
    old, new = OLD[:3000], NEW[:5003]
    board = FotaBoard(medium, part, programmed=False)
    board.program(old, "1.0.0")
    board.offer(new, precursor=hashlib.sha256(old).digest())
    flash, storage = board.flash.contents(), board.storage.contents()
    board.flash.operations = 0
    board.boot()
    total = board.flash.operations
    assert total > 8
    # Two cuts: one in the installation, one in the start that makes it good.
    for first in range(total):
        for second in (None, *range(first % 13, total, 13)):
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
            assert board.running() == new, f"replay: part={part} torn={torn} cuts={first},{second}"
