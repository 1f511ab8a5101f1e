"""The vendor's way: a manifest to /10252/0/1, states and results on /2 and /3 beside it, the new version as the proof.

A device counts as updated when it has registered after its restart and /14/n/2 shows the manifest's version; one with
the older update hub, which has no object 14, when /10252/0/5 shows the image's digest, or it reports result 100.
A manifest goes out again only to a device that has neither done nor begun what it says.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.errors import NetworkError
from pdmlab.lwm2m.paths import Path
from pdmlab.service.campaign_questions import runs
from pdmlab.service.campaign_words import RETURNED, STEP_OF_STATE, STEPS, is_failure
from pdmlab.service.deployment_ways import MAX_TRIES, number_of
from pdmlab.service.store import Row
from pdmlab.update import hub
from pdmlab.update.results import FotaResult, FotaState

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.deployments import Deployments

PACKAGE = Path.parse("/10252/0/1")
STATE, RESULT = "/10252/0/2", "/10252/0/3"
_TOO_OLD = (FotaResult.VERSION_TOO_OLD, hub.ROLLBACK)
_DIGEST = re.compile("[0-9a-f]{64}", re.I)
SUCCEEDED = (hub.SUCCEEDED, FotaResult.SUCCESS)
"""The FOTA client tells it of components that need no restart; a new firmware shows in the registration."""


class ByManifest:
    """Conversations with the vendor's update clients."""

    hears = frozenset((STATE, RESULT))
    looks_often = False

    def __init__(self, core: Core, deployments: Deployments) -> None:
        self._core = core
        self._rows = deployments
        self._ask = deployments.questions

    def __repr__(self) -> str:
        return "<ByManifest /10252>"

    def told(self, row: Row, path: str, number: int) -> None:
        """Follow what a device says on /10252/0/2 and /3."""
        if path == RESULT:
            if number in SUCCEEDED and row["step"] in RETURNED:
                words = f"the device reports result {number}: success"
                self._rows.end(row, "success", "deployed", "UPD4_SUCCESS_100", words)
            elif number in _TOO_OLD and row["tries"] > 1:
                self._rows.go_on(row["device_id"], look=True)  # it may have what it was sent before
            elif is_failure(number):
                self._rows.failed(row, number)
        elif number in STEP_OF_STATE:
            self._rows.move(row, STEP_OF_STATE[FotaState(number)])
        elif number == FotaState.IDLE and row["step"] not in ("waiting", "sending", *RETURNED):
            self._rows.end(
                row,
                "fail",
                "failed_connector_channel_update",
                "UPD4_FAIL_105",
                f"the device went idle and gave no result, at: {STEPS[row['step']].lower()}",
            )

    async def send(self, row: Row) -> bool:
        """Send the manifest, to a device that does not run its version; return whether the row may be done."""
        registration = self._core.registrations.find(row["device_id"])
        if registration is None:
            return False
        self._rows.found(registration)
        if row["tries"] == 0 and runs(await self._ask.version(row), row):
            words = f"the device runs {hub.version_in_words(row['version'])} already"
            self._rows.end(row, "skipped", "deployed", "UPD4_SKIPPED_100", words)
            return True
        if not self._rows.move(row, "sending", tries=row["tries"] + 1, generation=registration.generation):
            return True
        await self._core.store.written()
        manifest = self._core.firmware.for_device(row["account_id"], bytes(row["manifest"]))
        message = Message(code=codes.POST, payload=manifest)  # a Content-Format would hang the device
        message.opt.uri_path = PACKAGE.segments
        try:
            answer = await self._core.delivery.ask(row["device_id"], message)
        except NetworkError as error:
            self._unsent(row, error)
            return False
        now = self._rows.still(row)
        if now is None or now["step"] != "sending":
            return now is None  # it has told more meanwhile
        if answer.code >= 128:
            said = f"{answer.code} {answer.payload[:120].decode('utf-8', 'replace')}".strip()
            self._rows.end(
                now,
                "fail",
                "failed_connector_channel_update",
                "UPD4_FAIL_101",
                f"the device answered the manifest with {said}",
            )
            return True
        self._rows.move(now, "accepted")
        return False

    def _unsent(self, row: Row, error: NetworkError) -> None:
        now = self._rows.still(row)
        if now is None or now["step"] != "sending":
            return
        if now["tries"] < MAX_TRIES:
            self._rows.move(now, "waiting", description=f"{STEPS['waiting']}; the last attempt: {error.message}")
            return
        words = f"the manifest did not reach the device in {MAX_TRIES} attempts: {error.message}"
        self._rows.end(now, "fail", "failed_connector_channel_update", "UPD4_FAIL_101", words)

    async def look(self, row: Row) -> bool:
        """Find out where a device is that the service has not listened to for a while; return whether to go on.

        It has registered since, the service was away, or the manifest's answer did not come.
        """
        registration = self._core.registrations.find(row["device_id"])
        if registration is None:
            return False
        self._rows.found(registration)
        restarted = registration.generation > row["generation"]
        version = await self._ask.version(row)
        state, result = await self._ask.value(row, STATE), await self._ask.value(row, RESULT)
        now = self._rows.still(row)
        if now is None:
            return True
        number, failed = number_of(state), number_of(result)
        unheard = now["step"] in ("waiting", "sending")  # its result may be that of an earlier update
        if runs(version, row):  # which it did not when the manifest went out
            words = f"the device runs {hub.version_in_words(row['version'])}"
            self._rows.end(now, "success", "deployed", "UPD4_SUCCESS_100", words)
        elif failed == hub.SUCCEEDED and restarted and not unheard:
            self._rows.end(now, "success", "deployed", "UPD4_SUCCESS_100", "the device reports result 100: success")
        elif number in STEP_OF_STATE:
            self._rows.move(now, STEP_OF_STATE[FotaState(number)], generation=registration.generation)
            return False
        elif failed is not None and is_failure(failed) and not unheard:
            self._rows.failed(now, failed)
        elif restarted and now["step"] in RETURNED:
            told = _came_back(version)
            words = f"the device restarted to install {row['version']} and came back {told}: see its bootloader's log"
            self._rows.end(now, "fail", "failed_connector_channel_update", "UPD4_FAIL_103", words)
        elif now["tries"] < MAX_TRIES:
            return await self.send(now)
        else:
            words = f"the device lost the manifest {MAX_TRIES} times"
            self._rows.end(now, "fail", "failed_connector_channel_update", "UPD4_FAIL_101", words)
        return True


def _came_back(version: str | None) -> str:
    """Say what a device runs after a restart that was to install something else; the older hub tells a digest."""
    if not version:
        return "without telling its version (/14/0/2)"
    if _DIGEST.fullmatch(version):
        return f"with its old firmware (SHA-256 {version[:8]}…)"
    return f"with version {version}"
