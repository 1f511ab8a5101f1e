"""A campaign's devices, one by one: manifest out, states and results in, the new version as the proof.

A device counts as updated when it has registered after its restart and /14/n/2 shows the manifest's version; one with
the older update hub, which has no object 14, when /10252/0/5 shows the image's digest, or it reports result 100.
Each step is a row's `step`, kept before anything depends on it; what a restart of the service may have missed
is read from the device. A manifest goes out again only to a device that has neither done nor begun what it says.
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
from pdmlab.service.campaign_devices import CampaignDevices
from pdmlab.service.campaign_questions import Questions, runs
from pdmlab.service.campaign_words import PATIENCE_S, RETURNED, STEP_OF_STATE, STEPS, is_failure
from pdmlab.service.progress import Progress, shown
from pdmlab.service.schema import campaign_devices as table
from pdmlab.service.schema import campaigns, devices
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Rows
from pdmlab.service.turns import Turns
from pdmlab.update import hub
from pdmlab.update.results import FotaResult, FotaState

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.register import Registration

_log = logging.getLogger(__name__)

MAX_TRIES = 3
"""Manifests sent to a device that loses them."""
AT_ONCE, TURN_S = 64, 2.0
"""Devices that are asked at the same time: more would wait for each other, and send again what is only late.

One that has not answered within TURN_S has its time, but not at the others' cost.
"""
PACKAGE = Path.parse("/10252/0/1")
STATE, RESULT = "/10252/0/2", "/10252/0/3"
_KEEP_EVERY = 16  # blocks served between two notes of how far a download is
_TOO_OLD = (FotaResult.VERSION_TOO_OLD, hub.ROLLBACK)

_SHOWN = (table.c[name] for name in ("id", "device_id", "step", "summary_status", "description", "done_B"))
_PROGRESS = Statement(
    sa.select(*_SHOWN, campaigns.c.payload_size, devices.c.endpoint_name)
    .join(campaigns, campaigns.c.id == table.c.campaign_id)
    .outerjoin(devices, devices.c.id == table.c.device_id)
    .where(table.c.campaign_id == sa.bindparam("campaign"))
    .order_by(table.c.id)
)
_SERVED = Statement(
    sa.update(table)
    .where(table.c.id == sa.bindparam("row"), table.c.step == "downloading")
    .values({"done_B": sa.bindparam("done"), "deadline": sa.bindparam("limit")})
)


class Deployments(CampaignDevices):
    """The conversations with all devices of active campaigns."""

    def __init__(self, core: Core, done: Callable[[str], None]) -> None:
        super().__init__(core, done)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns = Turns(AT_ONCE, TURN_S)
        self._ask = Questions(core)
        core.bus.hear("queue", self._news)

    def __repr__(self) -> str:
        return f"{len(self._open)} devices under way, {len(self._tasks)} of them are asked"

    # -- coming and going ----------------------------------------------------------------------------------

    def begin(self, campaign_id: str) -> None:
        """Begin with the devices of a campaign that has become active."""
        for device_id in self._open_devices(campaign_id):
            self._go_on(device_id)

    def resume(self) -> None:
        """Go on after a start of the service."""
        self._be_patient()
        for device_id in self._open_devices():
            self._go_on(device_id, look=True)
        self.arm()

    async def close(self) -> None:
        """Let everything rest."""
        self._stop_timer()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def removed(self, device_id: str) -> None:
        """End what a deleted device was to do."""
        while (row := self._row(device_id)) is not None:
            self._end(row, "fail", "deregistered", "UPD4_FAIL_104", "the device was deleted from the directory")

    # -- what devices do -----------------------------------------------------------------------------------

    def registered(self, registration: Registration, *, full: bool) -> None:
        """Go on with a device that has come, or come back; where it was not heard for a while, look at it first."""
        device_id = registration.device_id
        if device_id in self._open:
            self._go_on(device_id, look=full or self._open[device_id] != registration.peer)

    def told(self, registration: Registration, path: str, value: bytes) -> None:
        """Follow what a device says on /10252/0/2 and /3."""
        if registration.device_id not in self._open or path not in (STATE, RESULT):
            return
        row = self._row(registration.device_id)
        number = _number(value)
        if row is None or number is None or (row["step"] == "waiting" and row["tries"] == 0):
            return
        if path == RESULT:
            if number == hub.SUCCEEDED and row["step"] in RETURNED:
                self._end(row, "success", "deployed", "UPD4_SUCCESS_100", "the device reports result 100: success")
            elif number in _TOO_OLD and row["tries"] > 1:
                self._go_on(registration.device_id, look=True)  # it may have what it was sent before
            elif is_failure(number):
                self._failed(row, number)
        elif number in STEP_OF_STATE:
            self._move(row, STEP_OF_STATE[FotaState(number)])
        elif number == FotaState.IDLE and row["step"] not in ("waiting", "sending", *RETURNED):
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
                _SERVED.run(db, row=progress.row_id, done=progress.done_B, limit=now + PATIENCE_S["downloading"])

    def progress(self, campaign_id: str) -> Rows:
        """Return how far each device of a campaign is."""
        rows = self._store.rows(_PROGRESS, campaign=campaign_id)
        return [shown(row, self._progress.get(row["device_id"]), self._core.now()) for row in rows]

    # -- step by step --------------------------------------------------------------------------------------

    def _news(self, device_id: str) -> None:
        """Begin with a device whose turn has come, as another campaign has ended for it, in whichever process."""
        row = self._row(device_id) if device_id in self._open else None
        if row is not None and row["step"] == "waiting" and row["tries"] == 0:
            self._go_on(device_id)

    def _go_on(self, device_id: str, *, look: bool = False) -> None:
        old = self._tasks.get(device_id)
        if old is not None:
            if not look:
                return
            old.cancel()  # the device has registered anew: whatever it was asked, it has forgotten
        elif self._core.delivery.obstacle(device_id) is not None:
            return  # it is asked when it comes, and by the process that it comes to
        task = asyncio.get_running_loop().create_task(self._step(device_id, look))
        self._tasks[device_id] = task
        task.add_done_callback(lambda done: self._tasks.pop(device_id) if self._tasks.get(device_id) is done else None)

    async def _step(self, device_id: str, look: bool) -> None:
        try:
            async with self._turns.take():
                while (row := self._row(device_id)) is not None and self._core.delivery.obstacle(device_id) is None:
                    # A manifest that was sent, or was to be, may be there: whoever sent it has not heard of it.
                    sent = row["tries"] > 0 and row["step"] in ("waiting", "sending")
                    if row["step"] == "waiting" and not sent:
                        go_on = await self._send(row)
                    elif sent or look:
                        go_on, look = await self._look(row), False
                    else:
                        return
                    if not go_on:
                        return
        except NetworkError as error:
            _log.info("the update of device %s waits: %s", device_id, error.message)
        except ServiceError as error:
            _log.error("the update of device %s stands still: %s", device_id, error)

    async def _send(self, row: Row) -> bool:
        """Send the manifest, to a device that does not run its version; return whether the row may be done."""
        registration = self._core.registrations.find(row["device_id"])
        if registration is None:
            return False
        self._open[row["device_id"]] = registration.peer
        if row["tries"] == 0 and runs(await self._ask.version(row), row):
            self._end(row, "skipped", "deployed", "UPD4_SKIPPED_100", f"the device runs {row['version']} already")
            return True
        if not self._move(row, "sending", tries=row["tries"] + 1, generation=registration.generation):
            return True
        await self._store.written()
        message = Message(code=codes.POST, payload=bytes(row["manifest"]))  # a Content-Format would hang the device
        message.opt.uri_path = PACKAGE.segments
        try:
            answer = await self._core.delivery.ask(row["device_id"], message)
        except NetworkError as error:
            self._unsent(row, error)
            return False
        now = self._still(row)
        if now is None or now["step"] != "sending":
            return now is None  # it has told more meanwhile
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

    def _still(self, row: Row) -> Row | None:
        """Return a row as it is now; None if it is not the device's any more."""
        now = self._row(row["device_id"])
        return now if now is not None and now["id"] == row["id"] else None

    def _unsent(self, row: Row, error: NetworkError) -> None:
        now = self._still(row)
        if now is None or now["step"] != "sending":
            return
        if now["tries"] < MAX_TRIES:
            self._move(now, "waiting", description=f"{STEPS['waiting']}; the last attempt: {error.message}")
            return
        words = f"the manifest did not reach the device in {MAX_TRIES} attempts: {error.message}"
        self._end(now, "fail", "failed_connector_channel_update", "UPD4_FAIL_101", words)

    async def _look(self, row: Row) -> bool:
        """Find out where a device is that the service has not listened to for a while; return whether to go on.

        It has registered since, the service was away, or the manifest's answer did not come.
        """
        registration = self._core.registrations.find(row["device_id"])
        if registration is None:
            return False
        self._open[row["device_id"]] = registration.peer
        restarted = registration.generation > row["generation"]
        version = await self._ask.version(row)
        state, result = await self._ask.value(row, STATE), await self._ask.value(row, RESULT)
        now = self._still(row)
        if now is None:
            return True
        number, failed = _number((state or "").encode()), _number((result or "").encode())
        unheard = now["step"] in ("waiting", "sending")  # its result may be that of an earlier update
        if runs(version, row):  # which it did not when the manifest went out
            self._end(now, "success", "deployed", "UPD4_SUCCESS_100", f"the device runs {row['version']}")
        elif failed == hub.SUCCEEDED and restarted and not unheard:
            self._end(now, "success", "deployed", "UPD4_SUCCESS_100", "the device reports result 100: success")
        elif number in STEP_OF_STATE:
            self._move(now, STEP_OF_STATE[FotaState(number)], generation=registration.generation)
            return False
        elif failed is not None and is_failure(failed) and not unheard:
            self._failed(now, failed)
        elif restarted and now["step"] in RETURNED:
            told = f"with version {version}" if version else "without telling its version (/14/0/2)"
            words = f"the device restarted to install {row['version']} and came back {told}: see its bootloader's log"
            self._end(now, "fail", "failed_connector_channel_update", "UPD4_FAIL_103", words)
        elif now["tries"] < MAX_TRIES:
            return await self._send(now)
        else:
            words = f"the device lost the manifest {MAX_TRIES} times"
            self._end(now, "fail", "failed_connector_channel_update", "UPD4_FAIL_101", words)
        return True


def _number(value: bytes) -> int | None:
    text = value.decode("utf-8", "replace").strip()
    return int(text) if text.lstrip("-").isdecimal() and text.isascii() and len(text) < 8 else None
