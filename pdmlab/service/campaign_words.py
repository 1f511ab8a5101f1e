"""The words of campaigns: phases, the older states beside them, steps of a device, and what each event means."""

from __future__ import annotations

from typing import Final, Literal

from pdmlab.errors import ManifestRejected
from pdmlab.update import hub, object5
from pdmlab.update.manifest import SignedManifest
from pdmlab.update.results import FotaResult, FotaState

Phase = Literal["draft", "starting", "active", "stopping", "stopped", "archived"]
Summary = Literal["info", "success", "fail", "skipped"]

RUNNING: Final = ("starting", "active", "stopping")
SUMMARIES: Final = ("fail", "success", "info", "skipped")

STEPS: Final = {
    "waiting": "Waits until the device can be asked",
    "sending": "Sends the manifest",
    "accepted": "The device has the manifest and checks it",
    "download approval": "The device asks its application whether it may download",
    "downloading": "The device downloads the image",
    "install approval": "The device asks its application whether it may install",
    "installing": "The device prepares the installation",
    "rebooting": "The device restarts into its bootloader",
    "done": "Nothing more is to be done",
}

STEP_OF_STATE: Final = {
    FotaState.PROCESSING_MANIFEST: "accepted",
    FotaState.AWAITING_DOWNLOAD_APPROVAL: "download approval",
    FotaState.DOWNLOADING: "downloading",
    FotaState.DOWNLOADED: "downloading",
    FotaState.AWAITING_INSTALL_APPROVAL: "install approval",
    FotaState.UPDATING: "installing",
    FotaState.REBOOTING: "rebooting",
}

PATIENCE_S: Final = {"accepted": 900.0, "downloading": 3600.0, "installing": 900.0, "rebooting": 900.0}
"""How long a step may go on without a sign of life (s); the others have no end: people are asked there."""

RETURNED: Final = ("installing", "rebooting")
"""Steps after which a device that registers has been through its bootloader."""

EVENTS: Final = {
    "UPD4_INFO_100": "Waiting for the device",
    "UPD4_INFO_101": "Manifest sent",
    "UPD4_INFO_102": "Update under way on the device",
    "UPD4_SUCCESS_100": "The device runs the new version",
    "UPD4_SKIPPED_100": "The device runs that version already",
    "UPD4_SKIPPED_101": "The campaign was stopped before the device was done",
    "UPD4_FAIL_101": "The device did not take the manifest",
    "UPD4_FAIL_102": "Nothing was heard of the device for too long",
    "UPD4_FAIL_103": "The device came back with another version",
    "UPD4_FAIL_104": "The device was deleted",
    "UPD4_FAIL_105": "The device gave up and did not say why",
    "UPD4_FAIL_106": "The firmware is nothing for this device",
    "UPD4_FAIL_107": "The device did not begin to install",
}
"""Event types of the service's own.

A failure that a device reports is UPD4_FAIL_ and its result, 21 to 49, or UPD3_FAIL_ and a result of the older update
hub, which supports protocol 3: its numbers, 101 to 510, would be taken for the service's own. UPD5_FAIL_ and a number
from 2 on is a result of OMA's firmware object, /5/0/5.
"""


def step_event(step: str) -> str:
    """Return the event type of a device that is at a step."""
    if step in ("waiting", "sending"):
        return "UPD4_INFO_100"
    return "UPD4_INFO_101" if step == "accepted" else "UPD4_INFO_102"


def event_id(event_type: str) -> str:
    """Return an event type's id, as the API has it: upd_fail_101 for UPD4_FAIL_101."""
    return event_type.lower().replace("upd4_", "upd_", 1)


def event_title(event_type: str) -> str:
    """Return what an event type means, in a few words."""
    if event_type in EVENTS:
        return EVENTS[event_type]
    number = event_type.rpartition("_")[2]
    try:
        if event_type.startswith("UPD5"):
            meaning = object5.explain(int(number))[0]
        else:
            meaning = hub.explain(int(number))[0] if event_type.startswith("UPD3") else FotaResult(int(number)).meaning
    except ValueError:
        return f"The device reports result {number}"
    return meaning[:1].upper() + meaning[1:]


def is_failure(result: int) -> bool:
    """Whether a number on /10252/0/3 says that an update failed: one of the FOTA client's, or of the update hub's."""
    return result > FotaResult.SUCCESS and result != hub.SUCCEEDED


def advice_first(result: int, manifest: bytes | None) -> str:
    """Return what to try before a result's own advice, given the manifest that was sent; "" where that is nothing."""
    if result != FotaResult.MANIFEST_MALFORMED or not manifest:
        return ""
    try:
        sent = SignedManifest.parse(bytes(manifest)).manifest
    except ManifestRejected:
        return ""
    if sent.installed_signature:
        return ""
    return "if the board starts signed images only (bootloader trial), sign the image too: --sign-image (-m); else "


def failure(result: int, manifest: bytes | None = None) -> tuple[str, str]:
    """Return the event type and the explanation in words of what a device reports on /10252/0/3.

    manifest: the one that it was sent
    """
    if hub.is_hub_result(result):
        meaning, advice = hub.explain(result)
        return f"UPD3_FAIL_{result}", f"result {result} ({meaning}): {advice}"
    try:
        known = FotaResult(result)
    except ValueError:
        return f"UPD4_FAIL_{result}", f"the device reports result {result}, which is none that we know"
    return f"UPD4_FAIL_{result}", f"result {known}: {advice_first(result, manifest)}{known.advice}"


def object5_failure(result: int) -> tuple[str, str]:
    """Return the event type and the explanation in words of what a device reports on /5/0/5."""
    meaning, advice = object5.explain(result)
    return f"UPD5_FAIL_{result}", f"result {result} ({meaning}): {advice}"
