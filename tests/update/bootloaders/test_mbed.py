"""mbed-bootloader: its console to the letter, path by path, its weaknesses as they are and mended, its slots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pdmlab.clock import PowerLost
from pdmlab.errors import BootFailed, ConfigError, ImageRejected, StorageError
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.mbed import WEAKNESSES
from pdmlab.update.header_v2 import FirmwareHeaderV2, device_key
from pdmlab.update.layout import Area, FlashLayout
from tests.update.bootloaders.boards import LAYOUT, NEW, OLD, OLD_DIGEST, ROOT_OF_TRUST, K, MbedBoard, Medium
from tests.update.bootloaders.test_fota import INTERNAL

OLD_VERSION = 1_000_000  # what a programmer's header has for 1.0.0
UPDATE = """\
[DBG ] Update active firmware
[DBG ] Erase active application
[DBG ] Write header
[DBG ] Copy application
[DBG ] Verify application
[DBG ] New active firmware is valid
"""


def said(board: MbedBoard) -> str:
    assert board.text.count("\n") == board.text.count("\r\n")
    return board.text.replace("\r\n", "\n")


def golden(*lines: str) -> str:
    return "Mbed Bootloader\n" + "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def hangs(board: MbedBoard, reason: bootloaders.ResetReason = "power-on") -> str:
    with pytest.raises(BootFailed) as caught:
        board.boot(reason)
    return caught.value.message


@pytest.fixture
def board(medium: Medium) -> MbedBoard:
    return MbedBoard(medium)


# -- the console, path by path -------------------------------------------------------------------------


def test_without_a_stored_image_the_application_starts(board: MbedBoard) -> None:
    result = board.boot()
    assert str(result) == f"boots {OLD_VERSION} (as before)" and result.refused is None
    assert said(board) == golden("No Update image", "[DBG ] Active firmware up-to-date", "booting...")


def test_a_newer_image_is_installed_and_starts(board: MbedBoard) -> None:
    board.offer(campaign=bytes(range(16)))
    result = board.boot()
    assert (result.installed, result.active.version_number, board.running()) == (True, 1_700_000_000, NEW)
    assert said(board) == golden(UPDATE, "booting...")
    header = FirmwareHeaderV2.parse_internal(board.flash.read(8 * K, 112))
    assert (header.size, header.campaign) == (len(NEW), bytes(range(16)))


@pytest.mark.parametrize("version", [OLD_VERSION - 1, OLD_VERSION])
def test_an_equal_version_is_called_older_too(board: MbedBoard, version: int) -> None:
    board.offer(version=version)
    assert board.boot().refused == "Update image is older"
    assert said(board) == golden("Update image is older", "[DBG ] Active firmware up-to-date", "booting...")


def test_a_corrupted_image_is_passed_over(board: MbedBoard) -> None:
    board.offer(digest=bytes(32))
    assert board.boot().refused == "Update image integrity check failed"
    assert said(board) == golden(
        "Update image integrity check failed", "[DBG ] Active firmware up-to-date", "booting..."
    )


def test_an_image_that_is_too_large_is_hashed_first(medium: Medium) -> None:
    board = MbedBoard(medium, layout=replace(LAYOUT, application_limit=24_000))
    board.offer()
    assert board.boot().refused == "Update image too large"
    assert said(board) == golden("Update image too large", "[DBG ] Active firmware up-to-date", "booting...")
    board.offer(digest=bytes(32))
    assert board.boot().refused == "Update image integrity check failed"


def test_an_image_that_fits_but_whose_sectors_do_not_is_erased_for_nothing(medium: Medium) -> None:
    board = MbedBoard(medium, layout=replace(LAYOUT, application_limit=26_000))
    board.offer()
    before = board.flash.contents()
    assert "Firmware update failed" in hangs(board)
    assert board.flash.contents() == before
    assert said(board) == golden(
        "[DBG ] Update active firmware",
        "[DBG ] Erase active application",
        "[DBG ] Firmware size rounded up to the nearest sector boundary is larger than the maximum application size",
        "[DBG ] Firmware update failed",
        "Failed to jump to application!",
    )


def test_a_slot_that_cannot_be_read_to_its_end_fails_the_check(board: MbedBoard) -> None:
    board.offer()
    key = device_key(ROOT_OF_TRUST)
    header = FirmwareHeaderV2(1 << 40, 1_700_000_000, bytes(32)).pack_external(key)
    board.storage.program(0, header.ljust(512, b"\xff"))
    assert board.boot().refused == "Update image integrity check failed"
    assert said(board) == golden(
        "[DBG ] ARM_UCP_Read returned 0 bytes",
        "Update image integrity check failed",
        "[DBG ] Active firmware up-to-date",
        "booting...",
    )


def test_a_corrupted_application_without_a_stored_image_hangs(board: MbedBoard) -> None:
    board.damage(12 * K)
    assert hangs(board) == (
        "Failed to jump to application! Active: Active firmware integrity check failed; candidate: No Update image"
    )
    assert said(board) == golden(
        "[DBG ] Active firmware integrity check failed",
        "No Update image",
        "[ERR ] Active firmware invalid",
        "Failed to jump to application!",
    )


def test_an_application_that_was_never_programmed_fails_the_check(medium: Medium) -> None:
    board = MbedBoard(medium, programmed=False)
    hangs(board)
    assert said(board).splitlines()[1] == "[DBG ] Active firmware integrity check failed"


def test_a_header_of_no_bytes_is_an_empty_slot_and_takes_any_image(board: MbedBoard) -> None:
    empty = FirmwareHeaderV2(0, 5, bytes(32)).pack_internal()
    content = board.flash.contents()
    board.flash.restore(content[: 8 * K] + empty + content[8 * K + 112 :])
    board.offer(version=1)
    assert board.boot().installed
    assert said(board) == golden("[DBG ] Active firmware slot is empty", UPDATE, "booting...")


def test_an_image_of_another_board_is_none(board: MbedBoard) -> None:
    board.offer()
    head = FirmwareHeaderV2(len(NEW), 1_700_000_000, OLD_DIGEST).pack_external(device_key(bytes(16)))
    board.storage.program(0, head.ljust(512, b"\xff"))
    assert board.boot().refused is None and "No Update image\r\n" in board.lines


def test_a_board_without_a_root_of_trust_knows_no_stored_image(board: MbedBoard) -> None:
    board.offer()
    board.nvstore.reset()
    board.program(OLD, "1.0.0")
    assert board.boot().refused is None and "No Update image\r\n" in board.lines


def test_a_build_without_serial_output_says_nothing(medium: Medium) -> None:
    board = MbedBoard(medium, options={"show_serial_output": False})
    board.offer()
    assert board.boot().installed and board.text == ""


# -- slots ---------------------------------------------------------------------------------------------


def test_the_newest_of_several_slots_is_installed_whichever_it_lies_in(medium: Medium) -> None:
    for versions, best in (((5, 9, 7), 1), ((9, 7, 5), 0), ((5, 7, 9), 2)):
        board = MbedBoard(medium, locations=3)
        images = [NEW[: 20_000 - 8 * at] for at in range(3)]
        for at, version in enumerate(versions):
            board.offer(images[at], 1_700_000_000 + version, at)
        assert board.boot().installed and board.running() == images[best]


def test_each_slot_has_its_word(medium: Medium) -> None:
    board = MbedBoard(medium, locations=3)
    board.offer(NEW[:16_000], 5, 0)
    board.offer(NEW[:16_000], 1_700_000_000, 2, digest=bytes(32))
    board.boot()
    assert said(board).splitlines()[1:4] == [
        "Update image is older", "No Update image", "Update image integrity check failed",
    ]  # fmt: skip
    states = [(slot.name, slot.state) for slot in board.bootloader.slots()]
    assert states == [
        ("active", "whole"), ("candidate 0", "whole"), ("candidate 1", "empty"), ("candidate 2", "corrupt"),
    ]  # fmt: skip


def test_in_internal_flash_slots_have_internal_headers(medium: Medium) -> None:
    board = MbedBoard(medium, layout=INTERNAL, locations=2)
    board.offer(slot=1)
    header = FirmwareHeaderV2.parse_internal(board.flash.read(0x1A000 + 0x8000, 112))
    assert header.version == 1_700_000_000
    assert board.boot().installed and board.running() == NEW


def test_a_header_in_sectors_of_its_own_is_erased_before(medium: Medium) -> None:
    layout = FlashLayout(
        LAYOUT.geometry,
        Area("bootloader", 0, 8 * K),
        Area("header", 8 * K, 8 * K),
        Area("application", 16 * K, 40 * K),
        LAYOUT.sotp,
        LAYOUT.candidate,
        "SD",
    )
    board = MbedBoard(medium, layout=layout)
    board.offer()
    assert board.boot().installed and board.running() == NEW
    assert "[DBG ] Erasing header separately from active application\r\n" in board.lines


# -- its weaknesses, and each mended -------------------------------------------------------------------


def mended(medium: Medium, *names: str, **others: Any) -> MbedBoard:
    return MbedBoard(medium, options={"fixed": list(names)}, **others)


def crash(board: MbedBoard, times: int) -> None:
    """Start by that many soft resets, each of which the application makes before it comes up."""
    for _ in range(times):
        board.boot("software")


def bad_image(board: MbedBoard) -> None:
    """Install an image that crashes, and let it."""
    board.boot()
    board.offer()
    assert board.boot("software").installed
    crash(board, 3)


def test_a_bad_image_is_copied_again_for_ever(board: MbedBoard) -> None:
    bad_image(board)
    for _ in range(3):
        assert board.boot("software").installed
        assert said(board) == golden("[DBG ] Failed to boot active application", UPDATE, "booting...")


def test_from_power_on_three_starts_end_in_a_reset_and_the_fourth_hangs(board: MbedBoard) -> None:
    board.boot("power-on")  # nothing is counted: retained RAM holds nothing of it
    for count in range(3):
        board.boot("software")  # the first notes the version
        assert board.retained == {"heapVersion": 1_000_000, "bootCounter": count}
    hangs(board, "software")


def test_mended_a_bad_image_is_not_copied_again(medium: Medium) -> None:
    board = mended(medium, "recopy")
    bad_image(board)
    for _ in range(3):
        result = board.boot("software")
        assert not result.installed and result.refused == "Update image failed to boot before"


def test_without_a_stored_image_a_bad_one_hangs_after_three_starts_and_mended_starts_on(medium: Medium) -> None:
    for board in (MbedBoard(medium), mended(medium, "recopy")):
        crash(board, 3)
        board.boot("software") if board.options else hangs(board, "software")
        assert "[DBG ] Failed to boot active application\r\n" in board.lines


def test_an_application_that_comes_up_is_not_counted(board: MbedBoard) -> None:
    for _ in range(9):
        board.boot("software")
        board.bootloader.confirm()


def test_the_reset_button_is_not_counted(board: MbedBoard) -> None:
    for _ in range(9):
        board.boot("pin")


def test_another_version_is_counted_anew(board: MbedBoard) -> None:
    crash(board, 3)
    board.program(NEW, "1.0.1")
    crash(board, 3)
    assert board.retained == {"heapVersion": 1_000_001, "bootCounter": 2}


def test_as_many_starts_as_the_build_says_are_tried(medium: Medium) -> None:
    board = MbedBoard(medium, options={"max_boot_retries": 5})
    crash(board, 5)
    hangs(board, "software")


def test_a_hang_begins_to_count_anew(board: MbedBoard) -> None:
    crash(board, 3)
    hangs(board, "software")
    board.boot("software")


def test_the_count_is_lost_with_the_power(board: MbedBoard) -> None:
    crash(board, 3)
    assert not board.boot("power-on").refused
    crash(board, 3)


def test_mended_the_count_stays(medium: Medium) -> None:
    board = mended(medium, "counter")
    crash(board, 3)
    board.boot("power-on")
    hangs(board, "software")
    hangs(board, "power-on")
    board.bootloader.confirm()
    board.boot("power-on")


def test_with_a_corrupted_application_an_older_image_is_installed(board: MbedBoard) -> None:
    board.offer(version=5)
    board.damage(12 * K)
    assert board.boot().active.version_number == 5


def test_mended_it_is_not(medium: Medium) -> None:
    board = mended(medium, "rollback")
    board.boot()
    board.offer(version=5)
    board.damage(12 * K)
    assert "candidate: Update image is older" in hangs(board)
    board.damage(8 * K)  # the header's magic as well: its version is kept elsewhere
    assert "candidate: Update image is older" in hangs(board)
    board.offer()
    assert board.boot().installed


def test_the_header_is_written_before_the_image(board: MbedBoard) -> None:
    board.offer()
    board.flash.operations, board.flash.cut_at = 0, 8
    with pytest.raises(PowerLost):
        board.boot()
    assert FirmwareHeaderV2.parse_internal(board.flash.read(8 * K, 112)).version == 1_700_000_000
    assert board.flash.read(9 * K, 64) == b"\xff" * 64
    board.flash.cut_at = None
    assert board.boot().installed  # as long as the slot still holds it


def test_mended_it_is_written_after_it(medium: Medium) -> None:
    board = mended(medium, "header-first")
    board.offer()
    board.flash.operations, board.flash.cut_at = 0, 8
    with pytest.raises(PowerLost):
        board.boot()
    with pytest.raises(ImageRejected):
        FirmwareHeaderV2.parse_internal(board.flash.read(8 * K, 112))
    board.flash.cut_at = None
    assert board.boot().installed and board.running() == NEW
    lines = said(board).splitlines()
    assert lines.index("[DBG ] Write header") > lines.index("[DBG ] Verify application")


def test_mended_an_equal_version_is_called_what_it_is(medium: Medium) -> None:
    board = mended(medium, "equal")
    board.offer(version=OLD_VERSION)
    assert board.boot().refused == "Update image is the active one"
    board.offer(version=OLD_VERSION - 1)
    assert board.boot().refused == "Update image is older"


def fail_once(board: MbedBoard) -> None:
    """Let the flash refuse one program."""
    program, refused = board.flash.program, []

    def refuse(at: int, data: bytes) -> None:
        if at > 9 * K and not refused:
            refused.append(at)
            raise StorageError("the flash refuses", code=-4001)
        program(at, data)

    board.flash.program = refuse


def test_a_copy_that_fails_is_not_tried_again(board: MbedBoard) -> None:
    board.offer()
    fail_once(board)
    assert "candidate: Firmware update failed" in hangs(board)
    assert said(board).count("[DBG ] Update active firmware") == 1
    assert said(board).endswith("[DBG ] Firmware update failed\nFailed to jump to application!\n")


@pytest.mark.parametrize("options", [{"fixed": ["one-copy"]}, {"max_copy_retries": 2}])
def test_mended_or_told_to_it_is(medium: Medium, options: dict[str, Any]) -> None:
    board = MbedBoard(medium, options=options)
    board.offer()
    fail_once(board)
    assert board.boot().installed and said(board).count("[DBG ] Update active firmware") == 2


def test_without_its_card_nothing_starts(board: MbedBoard) -> None:
    board.storage.deinit()
    assert hangs(board).startswith("Failed to initialize update storage")
    assert said(board) == golden("Failed to initialize update storage")


def test_mended_the_application_starts_without_it(medium: Medium) -> None:
    board = mended(medium, "storage")
    board.storage.deinit()
    board.boot()
    assert said(board) == golden(
        "Failed to initialize update storage", "[DBG ] Active firmware up-to-date", "booting..."
    )


def test_all_is_mended_at_once_and_an_update_goes_through(medium: Medium) -> None:
    board = MbedBoard(medium, options={"fixed": True})
    board.boot()
    board.offer()
    assert board.boot("software").installed and board.running() == NEW
    assert all(name in repr(board.bootloader) for name in WEAKNESSES)


@pytest.mark.parametrize(
    "options",
    [
        {"fixed": ["all"]},
        {"fixed": "recopy"},
        {"max_boot_retries": 0},
        {"max_boot_retries": True},
        {"max_copy_retries": 256},
        {"show_serial_output": 0},
        {"encrypted": True},
    ],
)
def test_options_that_it_has_not_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        bootloaders.check_options("mbed", options)
    assert caught.value.hint


# -- power cuts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["SD", "QSPIF"])
@pytest.mark.parametrize("torn", [0.0, 0.4, 0.999])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_cut_installation_is_made_good_as_long_as_the_slot_holds_the_image(
    medium: Medium, part: str, torn: float, fixed: bool
) -> None:
    board = MbedBoard(medium, part, options={"fixed": fixed})
    board.boot()
    board.offer()
    flash, storage = board.flash.contents(), board.storage.contents()
    board.flash.operations = 0
    board.boot()
    for cut in range(board.flash.operations):
        board.flash.restore(flash)
        board.storage.restore(storage)
        board.flash.torn, board.flash.cut_at = torn, cut
        with pytest.raises(PowerLost):
            board.boot()
        board.flash.cut_at = None
        board.boot()
        assert board.running() == NEW, f"replay: part={part} torn={torn} fixed={fixed} cut={cut}"
