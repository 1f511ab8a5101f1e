"""What people and age do to a board between two of its own steps; each takes a rig, and says what has happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pdmlab.errors import ConfigError

if TYPE_CHECKING:
    from pdmlab.measurements.update_cuts.rig import UpdateRig

DAMAGE = 32
"""Bytes that a damage takes."""


def _need_card(rig: UpdateRig) -> None:
    if rig.setup.storage != "SD":
        raise ConfigError(f"a {rig.setup.name} has no card", hint="its candidate lies on a soldered part")


def pull_card(rig: UpdateRig) -> str:
    """Take the card out."""
    _need_card(rig)
    rig.storage.seated = False
    return "the card is out"


def seat_card(rig: UpdateRig) -> str:
    """Put the card in."""
    _need_card(rig)
    rig.storage.seated = True
    return "the card is in"


def format_card(rig: UpdateRig) -> str:
    """Write a new file system, as a PC does: what lay in the update storage is gone with a full format."""
    _need_card(rig)
    wipe_storage(rig)
    return "everything on the card is gone"


def wipe_storage(rig: UpdateRig) -> str:
    """Make the update storage blank."""
    area, blank = rig.layout.candidate, b"\0" if rig.setup.storage == "SD" else b"\xff"
    rig.trace.change(rig.storage, area.offset, blank * area.size)
    return "everything in the update storage is gone"


def spoil_active(rig: UpdateRig) -> str:
    """Clear bytes in the middle of the application."""
    rig.trace.change(rig.flash, rig.layout.app_offset + rig.image_B // 2, bytes(DAMAGE))
    return f"{DAMAGE} B of the application are 0"


def spoil_candidate(rig: UpdateRig) -> str:
    """Clear bytes in the middle of the candidate."""
    at, _ = rig.candidate_at()
    rig.trace.change(rig.storage, at + rig.image_B // 2, bytes(DAMAGE))
    return f"{DAMAGE} B of the candidate are 0"


def wear_flash(rig: UpdateRig) -> str:
    """Let the flash refuse the next program in the second half of the application."""
    rig.flash.refuse_from, rig.flash.refuse_end = rig.layout.app_offset + rig.image_B // 2, rig.flash.size
    rig.flash.refusals = 1
    return "the flash will refuse one program in the application"


def wear_nvstore(rig: UpdateRig) -> str:
    """Let the flash refuse every program in NVStore's areas from now on."""
    areas = rig.layout.sotp
    rig.flash.refuse_from, rig.flash.refuse_end = min(a.offset for a in areas), max(a.end for a in areas)
    rig.flash.refusals = 1 << 30
    return "the flash refuses every program in NVStore"


MISHAPS: dict[str, Callable[[UpdateRig], str]] = {
    "pull-card": pull_card,
    "seat-card": seat_card,
    "format-card": format_card,
    "wipe-storage": wipe_storage,
    "spoil-active": spoil_active,
    "spoil-candidate": spoil_candidate,
    "wear-flash": wear_flash,
    "wear-nvstore": wear_nvstore,
}
