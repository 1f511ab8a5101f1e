"""Why a device's update ended as it did: what its result is, what it is likely to come from, and what to do."""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import Final, NamedTuple

from pdmlab.service.campaign_words import EVENTS, advice_first
from pdmlab.update import hub, object5
from pdmlab.update.results import FotaResult

ADVICE: Final = {
    "UPD4_FAIL_101": "look at the device's messages: is it awake, and does its update client run? then start another"
    " campaign",
    "UPD4_FAIL_102": "look whether the device is there, and at its console; it may still end the update by itself",
    "UPD4_FAIL_103": "its bootloader did not install the candidate, or went back: its log and its slots say why",
    "UPD4_FAIL_104": "nothing: it is not in the directory any more",
    "UPD4_FAIL_105": "look at the device's console, and at what it last refused",
    "UPD4_FAIL_106": "make an image for this board, and a manifest with its vendor and class ids",
    "UPD4_FAIL_107": "look at the device's console; its application may have to allow the installation",
    "UPD4_SKIPPED_100": "nothing: it runs what the campaign leads to",
    "UPD4_SKIPPED_101": "start another campaign for what is left",
}
"""For events of the service's own."""


class Reason(NamedTuple):
    """result: the device's number, or None. In words: meaning, cause (the likely one, or ""), advice."""

    result: int | None
    meaning: str
    cause: str
    advice: str


def reason(event_type: str, result: int | None, manifest: bytes | None = None) -> Reason | None:
    """Return why a device's update ended so; None where nothing has to be explained. manifest: the one it was sent."""
    cause = _causes().get(event_type, "")
    if event_type in ADVICE:
        return Reason(result, EVENTS.get(event_type, ""), cause, ADVICE[event_type])
    kind, _, number = event_type.partition("_FAIL_")
    if not number.isdecimal():
        return None
    told = int(number)
    if kind == "UPD3":
        meaning, advice = hub.explain(told)
    elif kind == "UPD5":
        meaning, advice = object5.explain(told)
    else:
        try:
            known = FotaResult(told)
        except ValueError:
            return Reason(told, "a result that no list has", "", "look at the device's console")
        first = advice_first(told, manifest)
        meaning, advice = known.meaning, first + known.advice
        cause = "the board's bootloader takes signed images only, and the manifest signs none" if first else cause
    return Reason(told, meaning, cause, advice)


@functools.cache
def _causes() -> dict[str, str]:
    return tomllib.loads(resources.files(__package__).joinpath("campaign_causes.toml").read_text(encoding="utf-8"))
