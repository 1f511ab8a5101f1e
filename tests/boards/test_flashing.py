"""A real board is flashed by copying onto its interface chip's volume; what the chip says is what one reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pdmlab.boards import board as boards
from pdmlab.boards import catalog, dragdrop
from pdmlab.boards.board import SerialBoard
from pdmlab.boards.detection import Found
from pdmlab.boards.dragdrop import flash_volume
from pdmlab.errors import FlashFailed


class Chip:
    """An interface chip: its volume goes away when a file has been copied, and comes back with its verdict.

    Each wait of the program under test lets it take its next step; its seconds pass at once.
    """

    def __init__(self, volume: Path, *, fail: str | None = None, comes_back: bool = True) -> None:
        self.volume, self.fail, self.comes_back = volume, fail, comes_back
        self.image: bytes | None = None
        self.now = 0.0
        self.steps = iter((self._take, self._show))
        self._write_marks()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        next(self.steps, lambda: None)()

    def _write_marks(self) -> None:
        self.volume.mkdir(exist_ok=True)
        (self.volume / "MBED.HTM").write_text("<a href='https://os.mbed.com/device/?code=0240000034544e45'>")

    def _take(self) -> None:
        (file,) = (path for path in self.volume.iterdir() if path.name.startswith("image."))
        self.image = file.read_bytes()
        for path in self.volume.iterdir():
            path.unlink()
        self.volume.rmdir()

    def _show(self) -> None:
        if self.comes_back:
            self._write_marks()
            if self.fail is not None:
                (self.volume / "FAIL.TXT").write_text(self.fail)


@pytest.fixture
def make_chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Chip]:
    def make(**options: object) -> Chip:
        chip = Chip(tmp_path / "DAPLINK", **options)
        monkeypatch.setattr(dragdrop, "time", SimpleNamespace(monotonic=chip.monotonic, sleep=chip.sleep))
        return chip

    return make


def test_an_image_is_taken_when_the_volume_is_back_without_it(make_chip: Callable[..., Chip]) -> None:
    chip = make_chip()
    flash_volume(b"\x00\x00\x03\x20firmware", chip.volume, board="K64F")
    assert chip.image == b"\x00\x00\x03\x20firmware"


def test_intel_hex_is_copied_under_a_name_that_says_so(make_chip: Callable[..., Chip]) -> None:
    names = []
    chip = make_chip()
    take = chip._take
    chip.steps = iter((lambda: (names.extend(sorted(os.listdir(chip.volume))), take()), chip._show))
    flash_volume(b":020000040000FA\n:00000001FF\n", chip.volume, board="K64F")
    assert names == ["MBED.HTM", "image.hex"]


def test_what_the_chip_says_in_fail_txt_is_what_one_reads(make_chip: Callable[..., Chip]) -> None:
    chip = make_chip(fail="error: The hex file cannot be decoded. Checksum calculation failure occurred.\r\ntype: user")
    with pytest.raises(FlashFailed) as caught:
        flash_volume(b":nonsense", chip.volume, board="K64F")
    assert caught.value.message == (
        "K64F did not take the image: The hex file cannot be decoded. Checksum calculation failure occurred. type: user"
    )
    assert caught.value.hint


def test_an_old_failure_is_not_taken_for_ours(make_chip: Callable[..., Chip]) -> None:
    chip = make_chip()
    (chip.volume / "FAIL.TXT").write_text("error: an old one")
    flash_volume(b"firmware", chip.volume, board="K64F")
    assert chip.image == b"firmware"


def test_a_volume_that_does_not_come_back_is_an_error_after_its_time(make_chip: Callable[..., Chip]) -> None:
    chip = make_chip(comes_back=False)
    with pytest.raises(FlashFailed, match=r"may not have taken .* has not come back after 60 s\nhint: mount"):
        flash_volume(b"firmware", chip.volume, board="K64F")


def test_a_volume_that_keeps_the_file_is_no_success(make_chip: Callable[..., Chip]) -> None:
    chip = make_chip()
    chip.steps = iter(())
    with pytest.raises(FlashFailed, match=r"still shows the image as a file after 5 s"):
        flash_volume(b"firmware", chip.volume, board="K64F", timeout=5)


def test_a_volume_that_is_not_there_says_what_failed(tmp_path: Path) -> None:
    with pytest.raises(FlashFailed, match=r"8 B cannot be copied to K64F at .*: No such file or directory"):
        flash_volume(b"firmware", tmp_path / "missing", board="K64F")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
class TestSerialBoard:
    @pytest.fixture
    def board(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        host_end, board_end = os.openpty()
        name = os.ttyname(board_end)
        found = Found(catalog.find("K64F"), serial_port=name, mount_point=tmp_path / "DAPLINK", target_id="0240" * 12)
        monkeypatch.setattr(boards, "find_boards", lambda: [found])
        with SerialBoard(name) as board:
            yield board
        os.close(host_end)
        os.close(board_end)

    def test_a_recognised_board_flashes_and_resets(
        self, board: SerialBoard, make_chip: Callable[..., Chip], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        resets = []
        monkeypatch.setattr(board, "reset", lambda: resets.append(True))
        chip = make_chip()
        (tmp_path / "firmware.bin").write_bytes(b"firmware")
        board.flash(tmp_path / "firmware.bin")
        assert (board.target, chip.image, resets) == ("K64F", b"firmware", [True])
        assert "DAPLINK" in board._repr_html_() and "0240" in board._repr_html_()

    def test_without_a_volume_it_says_how_to_get_one(self, board: SerialBoard, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(boards, "find_boards", list)
        with pytest.raises(FlashFailed, match=r"K64F on \S+ shows no volume .*\nhint: mount the volume"):
            board.flash(b"firmware")

    def test_a_file_that_is_not_there_is_named(self, board: SerialBoard) -> None:
        with pytest.raises(FlashFailed, match=r"nothing.bin cannot be read: No such file"):
            board.flash("nothing.bin")
