"""Flash a real board as a person does: copy the image onto its interface chip's volume and see what it says."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from pdmlab.errors import FlashFailed

FAIL = "FAIL.TXT"
"""Where DAPLink and ST-Link say why an image was not taken."""
TAKES_AT_MOST = 60.0
"""Seconds that an interface chip may need to program an image and show its volume again."""
_SLICE = 0.1


def flash_volume(image: bytes, volume: Path, *, board: str, timeout: float = TAKES_AT_MOST) -> None:
    """Copy an image (a raw .bin or Intel hex) onto the volume, and wait until it has been taken.

    Raises:
        FlashFailed: the copy failed, the volume says so in FAIL.TXT, or it has not taken the file in `timeout` seconds.
    """
    name = "image.hex" if image[:1] == b":" else "image.bin"
    file = volume / name
    before = _reason(volume)
    if before is not None:
        # An old failure must not be taken for ours; the chip forgets it with the next image.
        with contextlib.suppress(OSError):
            (volume / FAIL).unlink()
    try:
        with file.open("wb") as target:
            target.write(image)
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        reason = _reason(volume)
        raise FlashFailed(
            f"the image of {len(image)} B cannot be copied to {board} at {volume}: {reason or error.strerror or error}",
            hint="is the volume still mounted, and does the image fit the board?",
        ) from error
    _wait_until_taken(file, board=board, timeout=timeout)


def _wait_until_taken(file: Path, *, board: str, timeout: float) -> None:
    """Wait: the volume is shown again without the file when the image is in flash, or with FAIL.TXT."""
    volume, started = file.parent, time.monotonic()
    while True:
        reason = _reason(volume)
        if reason is not None:
            raise FlashFailed(
                f"{board} did not take the image: {reason}", hint="is it built for this board, and for its addresses?"
            )
        shown = _names(volume)
        if shown and file.name not in shown:
            return
        waited = time.monotonic() - started
        if waited >= timeout:
            what = "still shows the image as a file" if shown else "has not come back"
            raise FlashFailed(
                f"{board} may not have taken the image: its volume {volume} {what} after {waited:.0f} s",
                hint="mount the volume again: without an automatic mount nobody sees what the board says",
            )
        time.sleep(min(_SLICE, timeout))


def _names(volume: Path) -> set[str]:
    try:
        return set(os.listdir(volume))
    except OSError:  # unmounted while the chip programs
        return set()


def _reason(volume: Path) -> str | None:
    try:
        text = (volume / FAIL).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return " ".join(text.split()).removeprefix("error: ") or "it does not say why"
