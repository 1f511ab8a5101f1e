"""The installed bytes decide what runs; bytes that name nothing end in a hard fault on the console."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdmlab.errors import BootFailed, FlashFailed, ImageRejected
from pdmlab.firmware import registry
from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.sim import VirtualBoard


def test_bytes_that_name_nothing_are_a_hard_fault_as_mbed_prints_it(board: VirtualBoard) -> None:
    vectors = (0x2003_0000).to_bytes(4, "little") + (0x0001_0601).to_bytes(4, "little")
    board.flash(vectors + bytes(range(256)) * 64)
    with pytest.raises(ImageRejected, match="the image names no application"):
        board.wait_for_end(20)
    console = board.console
    console.expect("All clear. Jumping to application")
    console.expect(r"^\+\+ MbedOS Fault Handler \+\+")
    console.expect("^FaultType: HardFault")
    console.expect("^PC   : 00010600")
    console.expect("^Error Status: 0x80FF013D Code: 317 Module: 255")
    assert board.installed() is None and "nothing that could start" in repr(board)


def test_a_board_with_a_bad_image_keeps_it_until_it_is_flashed_again(desk: VirtualBoard) -> None:
    desk.flash(b"\x00" * 1024)
    with VirtualBoard("K64F", id="desk1") as again:
        again.console.expect("FaultType: HardFault")
        again.flash_application("idle", version="1.2.3")
        again.console.expect("pdmlab idle 1.2.3")


def test_the_image_decides_and_not_who_flashed_it(board: VirtualBoard) -> None:
    board.flash(build_image(ImageInfo("idle", "3.1.4", "77"), load_address=0x10400))
    board.console.expect(r"pdmlab idle 3.1.4 \(build 77\) on K64F")
    assert str(board.machine.image) == "idle 3.1.4 (build 77)"


def test_an_application_that_this_process_does_not_know_is_named(board: VirtualBoard) -> None:
    board.flash(build_image(ImageInfo("blinky"), load_address=0x10400))
    board.console.expect("Error Message: ImageRejected: the image names the application 'blinky'")
    with pytest.raises(ImageRejected, match="does not know"):
        board.wait_for_end(20)


def test_an_application_of_no_name_is_refused_before_anything_is_flashed(board: VirtualBoard) -> None:
    with pytest.raises(ImageRejected, match=r"'fs-singel'.*\nhint: known are fs-single"):
        board.flash_application("fs-singel")
    assert str(board.installed()) == "idle 1.0.0 (build 0)"


def test_a_function_that_was_registered_can_be_named_by_an_image(board: VirtualBoard) -> None:
    registry.register("registered", lambda device: device.uart.write("registered runs\r\n"))
    board.flash_application("registered")
    board.console.expect("registered runs")


def test_an_image_comes_from_a_file_as_well(board: VirtualBoard, tmp_path: Path) -> None:
    file = tmp_path / "firmware.bin"
    file.write_bytes(board.build("idle", version="2.0.0"))
    board.flash(file)
    board.console.expect("pdmlab idle 2.0.0")
    board.flash(str(file))
    board.console.expect("pdmlab idle 2.0.0")


@pytest.mark.parametrize("image", [b"", bytes(2 << 20), "missing.bin"])
def test_an_image_that_cannot_be_written_leaves_the_board_as_it_was(board: VirtualBoard, image: bytes | str) -> None:
    with pytest.raises(FlashFailed, match=r"image is empty|does not fit|missing.bin cannot be read: No such file"):
        board.flash(image)
    assert board.powered
    board.console.write_line("version")
    board.console.expect("idle 1.0.0")


def test_flashing_leaves_the_root_of_trust_alone(board: VirtualBoard) -> None:
    board.run(lambda device: device.nvstore.set(5, b"root of trust"))
    board.flash_application("idle")
    assert board.run(lambda device: device.nvstore.get(5)) == b"root of trust"


def test_a_corrupted_application_does_not_start(board: VirtualBoard) -> None:
    board.faults.corrupt_application()
    board.reset()
    board.console.expect("Hash mismatch!")
    board.console.expect("PANIC!")
    with pytest.raises(BootFailed):
        board.wait_for_end(20)
