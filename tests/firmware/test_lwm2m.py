"""The application of another vendor's board, where it cannot begin."""

from __future__ import annotations

from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.sim.board import VirtualBoard


def test_without_credentials_it_says_what_is_missing() -> None:
    with VirtualBoard("K64F", id="meter", memory=True, seed=1) as board:
        board.flash(build_image(ImageInfo("lwm2m"), load_address=board.layout.app_offset))
        board.console.expect("the image has no credentials: which server", timeout=30)
