"""What a programmer does with a board: whole sectors, and clear words for what it cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pdmlab.errors import BoardError, ConfigError, FlashFailed
from pdmlab.sim.board import VirtualBoard


@pytest.fixture
def board() -> Iterator[VirtualBoard]:
    with VirtualBoard("K64F", memory=True, power=False) as board:
        yield board


@pytest.mark.parametrize("kind", ["fota", "mbed", "trial"])
@pytest.mark.parametrize("short", [b"hello", b"xyz" * 100])
def test_behind_a_short_image_nothing_of_the_old_one_is_left_in_its_sector(
    board: VirtualBoard, kind: Any, short: bytes
) -> None:
    board.flash_bootloader(kind)
    board.flash_application("example", version="1.2.3", power=False)
    installed = board.installed()
    assert installed is not None and installed.version == "1.2.3"
    board.flash(short, power=False)
    assert board.installed() is None
    start = board.layout.app_offset
    assert board.media.flash.peek(start, len(short)) == short
    end = next(edge for edge in board.layout.geometry.bounds() if edge >= start + len(short))
    behind = board.media.flash.peek(start + len(short), end - start - len(short))
    assert set(behind) == {0xFF}


@pytest.mark.parametrize("kind", [None, 3, "grub"])
def test_what_is_no_bootloader_is_refused(board: VirtualBoard, kind: Any) -> None:
    with pytest.raises(ConfigError, match=f"no bootloader '{kind}'"):
        board.flash_bootloader(kind)


@pytest.mark.parametrize(
    "ask",
    [
        lambda board: board.bootloader,
        lambda board: board.sign_image(b"image"),
        lambda board: board.build("example"),
        lambda board: board.installed(),
        lambda board: board.flash(b"image"),
        lambda board: board.flash_image(),
        lambda board: board.load_flash(b""),
        lambda board: board.flash_bootloader("mbed"),
    ],
)
def test_a_closed_board_says_so(board: VirtualBoard, ask: Callable[[VirtualBoard], object]) -> None:
    board.close()
    with pytest.raises(BoardError, match="is closed"):
        ask(board)


def test_intel_hex_is_not_flashed_as_its_text(board: VirtualBoard, tmp_path: Path) -> None:
    before = board.media.flash.peek(board.layout.app_offset, 64)
    file = tmp_path / "image.hex"
    file.write_text(":020000040001F9\r\n:0400000001020304F2\r\n:00000001FF\r\n", encoding="ascii", newline="")
    with pytest.raises(FlashFailed, match=r"image\.hex is Intel HEX") as caught:
        board.flash(file)
    assert "objcopy" in caught.value.hint
    assert board.media.flash.peek(board.layout.app_offset, 64) == before
