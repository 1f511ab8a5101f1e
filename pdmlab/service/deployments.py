"""A campaign's devices, one by one: manifest out, states and results in, the new version as the proof.

A device counts as updated when it has registered after its restart and /14/n/2 shows the manifest's version; one with
the older update hub, which has no object 14, when /10252/0/5 shows the image's digest, or it reports result 100.
Each step is a row's `step`, kept before anything depends on it; what a restart of the service may have missed
is read from the device.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError, ServiceError
from pdmlab.lwm2m.paths import Path
from pdmlab.service.campaign_devices import OPEN, CampaignDevices
from pdmlab.service.campaign_words import PATIENCE_S, RETURNED, STEP_OF_STATE, STEPS, is_failure
from pdmlab.service.progress import Progress, shown
from pdmlab.service.schema import campaign_devices as table
from pdmlab.service.schema import campaigns, devices
from pdmlab.service.store import Row, Rows
from pdmlab.update import hub
from pdmlab.update.manifest import SignedManifest
from pdmlab.update.results import FotaState

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.register import Registration

_log = logging.getLogger(__name__)

MAX_TRIES = 3
"""Manifests sent to a device that loses them."""
PACKAGE = Path.parse("/10252/0/1")
STATE, RESULT = "/10252/0/2", "/10252/0/3"
_KEEP_EVERY = 16  # blocks served between two notes of how far a download is


class Deployments(CampaignDevices):
    """The conversations with all devices of active campaigns."""

    def __init__(self, core: Core, done: Callable[[str], None]) -> None:
        super().__init__(core, done)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    # -- coming and going ----------------------------------------------------------------------------------

    def begin(self, campaign_id: str) -> None:
        """Begin with the devices of a campaign that has become active."""
        for row in self._store.rows(OPEN.where(table.c.campaign_id == campaign_id)):
            self._go_on(row["device_id"])

    def resume(self) -> None:
        """Go on after a start of the service."""
        rows = self._store.rows(OPEN)
        self._open = {row["device_id"] for row in rows}
        for row in rows:
            self._go_on(row["device_id"], look=True)
        self._arm()

    async def close(self) -> None:
        """Let everything rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def removed(self, device_id: str) -> None:
        """End what a deleted device was to do."""
        while device_id in self._open and (row := self._row(device_id)) is not None:
            self._end(row, "fail", "deregistered", "UPD4_FAIL_104", "the device was deleted from the directory")

    # -- what devices do -----------------------------------------------------------------------------------

    def registered(self, registration: Registration, *, full: bool) -> None:
        """Go on with a device that has come, or come back."""
        if registration.device_id in self._open:
            self._go_on(registration.device_id, look=full)

    def told(self, registration: Registration, path: str, value: bytes) -> None:
        """Follow what a device says on /10252/0/2 and /3."""
        if registration.device_id not in self._open or path not in (STATE, RESULT):
            return
        row = self._row(registration.device_id)
        number = _number(value)
        if row is None or row["step"] == "waiting" or number is None:
            return
        if path == RESULT:
            if number == hub.SUCCEEDED and row["step"] in RETURNED:
                self._end(row, "success", "deployed", "UPD4_SUCCESS_100", "the device reports result 100: success")
            elif is_failure(number):
                self._failed(row, number)
        elif number in STEP_OF_STATE:
            self._move(row, STEP_OF_STATE[FotaState(number)])
        elif number == FotaState.IDLE and row["step"] not in ("sending", *RETURNED):
            self._end(
                row,
                "fail",
                "failed_connector_channel_update",
                "UPD4_FAIL_105",
                f"the device went idle and gave no result, at: {STEPS[row['step']].lower()}",
            )

    def served(self, peer: Address, uri: str, start: int, size: int, total: int) -> None:
        """Count a block of an image on its way to a device."""
        registration = self._core.registrations.at(peer)
        if registration is None or registration.device_id not in self._open:
            return
        device_id, now = registration.device_id, self._core.now()
        progress = self._progress.get(device_id)
        if progress is None or progress.uri != uri:
            row = self._row(device_id)
            if row is None or row["payload_uri"] != uri:
                return
            progress = self._progress[device_id] = Progress(row["id"], uri, start, now)
        progress.served(start, size, total, now)
        if progress.blocks % _KEEP_EVERY == 0 or progress.done_B == total:
            with self._store.batch() as db:
                limit = now + PATIENCE_S["downloading"]
                db.execute(
                    sa.update(table)
                    .where(table.c.id == progress.row_id, table.c.step == "downloading")
                    .values(done_B=progress.done_B, deadline=limit)
                )

    def progress(self, campaign_id: str) -> Rows:
        """Return how far each device of a campaign is."""
        rows = self._store.rows(
            sa.select(table, campaigns.c.payload_size, devices.c.endpoint_name)
            .join(campaigns, campaigns.c.id == table.c.campaign_id)
            .outerjoin(devices, devices.c.id == table.c.device_id)
            .where(table.c.campaign_id == campaign_id)
            .order_by(table.c.id)
        )
        return [shown(row, self._progress.get(row["device_id"]), self._core.now()) for row in rows]

    # -- step by step --------------------------------------------------------------------------------------

    def _next(self, device_id: str) -> None:
        self._go_on(device_id)

    def _go_on(self, device_id: str, *, look: bool = False) -> None:
        old = self._tasks.get(device_id)
        if old is not None:
            if not look:
                return
            old.cancel()  # the device has registered anew: whatever it was asked, it has forgotten
        task = asyncio.get_running_loop().create_task(self._step(device_id, look))
        self._tasks[device_id] = task
        task.add_done_callback(lambda done: self._tasks.pop(device_id) if self._tasks.get(device_id) is done else None)

    async def _step(self, device_id: str, look: bool) -> None:
        try:
            while (row := self._row(device_id)) is not None and self._core.delivery.obstacle(device_id) is None:
                if row["step"] == "waiting" or (row["step"] == "sending" and look):
                    look = False
                    if not await self._send(row):
                        return
                elif look:
                    look = False
                    await self._look(row)
                else:
                    return
        except NetworkError as error:
            _log.info("the update of device %s waits: %s", device_id, error.message)
        except ServiceError as error:
            _log.error("the update of device %s stands still: %s", device_id, error)

    async def _send(self, row: Row) -> bool:
        """Send the manifest; return whether the device may be looked at for another row."""
        registration = self._core.registrations.find(row["device_id"])
        if registration is None:
            return False
        if await self._runs(row) == row["version"]:
            self._end(row, "skipped", "deployed", "UPD4_SKIPPED_100", f"the device runs {row['version']} already")
            return True
        self._move(row, "sending", tries=row["tries"] + 1, generation=registration.generation)
        await self._store.written()
        message = Message(code=codes.POST, payload=bytes(row["manifest"]))  # a Content-Format would hang the device
        message.opt.uri_path = PACKAGE.segments
        try:
            answer = await self._core.delivery.ask(row["device_id"], message)
        except NetworkError as error:
            self._unsent(row, error)
            return False
        now = self._row(row["device_id"])
        if now is None or now["id"] != row["id"] or now["step"] != "sending":
            return False  # it has told more meanwhile
        if answer.code >= 128:
            said = f"{answer.code} {answer.payload[:120].decode('utf-8', 'replace')}".strip()
            self._end(
                now,
                "fail",
                "failed_connector_channel_update",
                "UPD4_FAIL_101",
                f"the device answered the manifest with {said}",
            )
            return True
        self._move(now, "accepted")
        return False

    def _unsent(self, row: Row, error: NetworkError) -> None:
        now = self._row(row["device_id"])
        if now is None or now["id"] != row["id"] or now["step"] != "sending":
            return
        if now["tries"] < MAX_TRIES:
            self._move(now, "waiting", description=f"{STEPS['waiting']}; the last attempt: {error.message}")
            return
        words = f"the manifest did not reach the device in {MAX_TRIES} attempts: {error.message}"
        self._end(now, "fail", "failed_connector_channel_update", "UPD4_FAIL_101", words)

    async def _look(self, row: Row) -> None:
        """Find out where a device is that has registered since, or that the service has not listened to for a while."""
        registration = self._core.registrations.find(row["device_id"])
        if registration is None:
            return
        restarted = registration.generation > row["generation"]
        version = await self._runs(row)
        state, result = await self._value(row, STATE), await self._value(row, RESULT)
        now = self._row(row["device_id"])
        if now is None or now["id"] != row["id"]:
            return
        if version == row["version"]:  # which it was not when the manifest went out
            self._end(now, "success", "deployed", "UPD4_SUCCESS_100", f"the device runs {version}")
            return
        number = _number((state or "").encode())
        failed = _number((result or "").encode())
        if failed == hub.SUCCEEDED and restarted:
            self._end(now, "success", "deployed", "UPD4_SUCCESS_100", "the device reports result 100: success")
        elif failed is not None and is_failure(failed) and number in (FotaState.UNINITIALISED, FotaState.IDLE, None):
            self._failed(now, failed)
        elif number in STEP_OF_STATE:
            self._move(now, STEP_OF_STATE[FotaState(number)], generation=registration.generation)
        elif restarted and now["step"] in RETURNED:
            runs = f"with version {version}" if version else "without telling its version (/14/0/2)"
            words = f"the device restarted to install {row['version']} and came back {runs}: see its bootloader's log"
            self._end(now, "fail", "failed_connector_channel_update", "UPD4_FAIL_103", words)
        elif now["tries"] < MAX_TRIES:
            self._move(now, "waiting", description="the device has lost the manifest: it is sent again")
            self._open.add(row["device_id"])
            await self._send_again(row["device_id"])
        else:
            words = f"the device lost the manifest {MAX_TRIES} times"
            self._end(now, "fail", "failed_connector_channel_update", "UPD4_FAIL_101", words)

    async def _send_again(self, device_id: str) -> None:
        row = self._row(device_id)
        if row is not None:
            await self._send(row)

    async def _runs(self, row: Row) -> str | None:
        """Return the version that the device runs of the campaign's component; None if it does not tell.

        It stands in the instance of object 14 that has the component's name. A device of the update hub tells a digest.
        """
        device_id, instance = row["device_id"], 0
        listed = self._core.resources.list(device_id)
        paths = {each["path"] for each in listed}
        if hub.PACKAGE_NAME in paths and not any(path.startswith("/14/") for path in paths):
            digest = SignedManifest.parse(row["manifest"]).manifest.installed_digest.hex()
            told = await self._value(row, hub.PACKAGE_NAME)
            return row["version"] if (told or "").lower() == digest else told
        for each in listed:
            ids = each["path"].split("/")[1:]
            named = len(ids) == 3 and ids[0] == "14" and ids[2] == "0"
            if named and (each["value"] or b"").decode("utf-8", "replace") == row["component"]:
                instance = int(ids[1])
        return await self._value(row, f"/14/{instance}/2")

    async def _value(self, row: Row, path: str) -> str | None:
        """Return a value as text, asked of the device itself; None if it has none."""
        message = Message(code=codes.GET)
        message.opt.uri_path = Path.parse(path).segments
        answer = await self._core.delivery.ask(row["device_id"], message)
        if answer.code >= 128:
            return None
        payload: bytes = answer.payload
        return payload.decode("utf-8", "replace").strip()


def _number(value: bytes) -> int | None:
    text = value.decode("utf-8", "replace").strip()
    return int(text) if text.lstrip("-").isdecimal() and text.isascii() and len(text) < 8 else None
