"""What the trial bootloader does next, as a function of what lies where: no other state decides it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pdmlab.update.header import FirmwareHeader
from pdmlab.update.version import Version

Step = Literal["start", "try", "start again", "install", "revert", "restore", "nothing"]
"""start      the active image is confirmed
try          it is new: note the trial, then start it
start again  it had its trial and was not confirmed, but there is nothing to go back to, and nothing newer
install      see that a trial can be noted, keep the active image, then copy the candidate over it
revert       copy the previous image over one that was not confirmed
restore      there is no whole active image: copy the best of the others
nothing      nothing may start"""
Source = Literal["candidate", "previous"]


@dataclass(frozen=True)
class Choice:
    """A step, and where it copies from."""

    step: Step
    source: Source | None = None


def choose(
    active: FirmwareHeader | None,
    candidate: FirmwareHeader | None,
    previous: FirmwareHeader | None,
    floor: int,
    tried: bytes | None,
) -> Choice:
    """Choose the next step.

    active: of an image that was verified just now; None if there is none.
    candidate, previous: what their headers claim; they are verified before anything is copied, and chosen no more if
    they are not what they claim.
    floor: least version number that may run. tried: SHA-256 of the last image that was started on trial.
    """
    if active is None:
        return _restore(candidate, previous, floor, tried)
    confirmed = active.version_number <= floor
    had_its_trial = not confirmed and active.digest == tried
    if had_its_trial and can_go_back(active, previous, floor):
        return Choice("revert", "previous")
    if candidate is not None and refusal(candidate, active, floor, tried) is None and candidate.digest != active.digest:
        return Choice("install", "candidate")
    return Choice("start again" if had_its_trial else "start" if confirmed else "try")


def can_go_back(active: FirmwareHeader, previous: FirmwareHeader | None, floor: int) -> bool:
    """Whether the image that is kept may come instead of one that is not confirmed.

    Not if nobody has confirmed it either, as when a newer image came after one that could not be put back: the two
    would take turns for ever. Without a counter (0) that is not known.
    """
    return (
        previous is not None
        and previous.digest != active.digest
        and (previous.version_number == floor or (not floor and previous.version < active.version))
    )


def _restore(
    candidate: FirmwareHeader | None, previous: FirmwareHeader | None, floor: int, tried: bytes | None
) -> Choice:
    sources: list[tuple[Source, FirmwareHeader]] = []
    if candidate is not None and may_run(candidate, floor):
        sources.append(("candidate", candidate))
    if previous is not None and may_run(previous, floor):
        sources.append(("previous", previous))
    if not sources:
        return Choice("nothing")
    # One that was not confirmed comes last: better than nothing at all, since it is signed and not older.
    name, _ = max(sources, key=lambda each: (not is_rejected(each[1], floor, tried), each[1].version_number))
    return Choice("restore", name)


def may_run(header: FirmwareHeader | None, floor: int) -> bool:
    """Whether an image's version is not below the counter."""
    return header is not None and header.version_number >= floor


def is_rejected(header: FirmwareHeader, floor: int, tried: bytes | None) -> bool:
    """Whether an image had its trial and was never confirmed, or was there before a programmer went back."""
    return header.digest == tried and header.version_number > floor


def refusal(candidate: FirmwareHeader, active: FirmwareHeader | None, floor: int, tried: bytes | None) -> str | None:
    """Say why a candidate is not installed, going by what its header claims; None if nothing speaks against it.

    The very image that runs is no candidate, and not refused either.
    """
    if active is not None and candidate.digest == active.digest:
        return None
    if not may_run(candidate, floor):
        return f"{candidate.version} is below {version_of(floor)}, the least that may run"
    if active is not None and candidate.version <= active.version:
        return f"{candidate.version} is not newer than {active.version}"
    if is_rejected(candidate, floor, tried):
        return f"{candidate.version} was not confirmed, and is not tried again"
    return None


def version_of(number: int) -> str:
    """Return a version number as people read it."""
    return str(Version.from_number(number)) if number else "any version"
