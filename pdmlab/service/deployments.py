"""A campaign's devices, one by one: firmware out in the way of their update client, states and results in, a proof.

Each step is a row's `step`, kept before anything depends on it; what a restart of the service may have missed
is read from the device.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError, ServiceError
from pdmlab.service.campaign_devices import CampaignDevices
from pdmlab.service.campaign_questions import Questions
from pdmlab.service.campaign_words import PATIENCE_S
from pdmlab.service.deployment_manifest import ByManifest
from pdmlab.service.deployment_object5 import ByFirmwareObject
from pdmlab.service.deployment_ways import Way, number_of
from pdmlab.service.firmware import same_payload
from pdmlab.service.progress import Progress, shown
from pdmlab.service.schema import campaign_devices as table
from pdmlab.service.schema import campaigns, devices
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Rows
from pdmlab.service.turns import Turns

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.register import Registration

_log = logging.getLogger(__name__)

AT_ONCE, TURN_S = 64, 2.0
"""Devices that are asked at the same time: more would wait for each other, and send again what is only late.

One that has not answered within TURN_S has its time, but not at the others' cost.
"""
_OBJECT, _MANIFEST = "5", "10252"
_KEEP_EVERY = 16  # blocks served between two notes of how far a download is

_SHOWN = (
    table.c[name] for name in ("id", "device_id", "step", "summary_status", "description", "done_B", "updated_at")
)
_PROGRESSES = (
    sa.select(*_SHOWN, campaigns.c.payload_size, devices.c.endpoint_name)
    .join(campaigns, campaigns.c.id == table.c.campaign_id)
    .outerjoin(devices, devices.c.id == table.c.device_id)
)
_PROGRESS = Statement(_PROGRESSES.where(table.c.campaign_id == sa.bindparam("campaign")).order_by(table.c.id))
_PROGRESS_OF = Statement(_PROGRESSES.where(table.c.id == sa.bindparam("row")))
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
        self.questions = Questions(core)
        self._by_manifest = ByManifest(core, self)
        self._by_object = ByFirmwareObject(core, self)
        core.bus.hear("queue", self._news)

    def __repr__(self) -> str:
        return f"{len(self._open)} devices under way, {len(self._tasks)} of them are asked"

    # -- coming and going ----------------------------------------------------------------------------------

    def begin(self, campaign_id: str) -> None:
        """Begin with the devices of a campaign that has become active."""
        for device_id in self._open_devices(campaign_id):
            self.go_on(device_id)

    def resume(self) -> None:
        """Go on after a start of the service."""
        self._be_patient()
        for device_id in self._open_devices():
            self.go_on(device_id, look=True)
        self.arm()

    async def close(self) -> None:
        """Let everything rest."""
        await self.words.close()
        self._stop_timer()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def removed(self, device_id: str) -> None:
        """End what a deleted device was to do."""
        while (row := self._row(device_id)) is not None:
            self.end(row, "fail", "deregistered", "UPD4_FAIL_104", "the device was deleted from the directory")

    # -- what devices do -----------------------------------------------------------------------------------

    def registered(self, registration: Registration, *, full: bool) -> None:
        """Go on with a device that has come, or come back; where it was not heard for a while, look at it first."""
        device_id = registration.device_id
        if device_id in self._open:
            look = full or self._open[device_id] != registration.peer
            quiet = device_id not in self._tasks and self._way(device_id).looks_often
            self.go_on(device_id, look=look or quiet)

    def told(self, registration: Registration, path: str, value: bytes) -> None:
        """Follow what a device says of its update."""
        way = self._way(registration.device_id) if registration.device_id in self._open else None
        if way is None or path not in way.hears:
            return
        row, number = self._row(registration.device_id), number_of(value)
        if row is not None and number is not None and not (row["step"] == "waiting" and row["tries"] == 0):
            way.told(row, path, number)

    def served(self, peer: Address, uri: str, start: int, size: int, total: int) -> None:
        """Count a block of an image that a device has fetched."""
        registration = self._core.registrations.speaking(peer)
        if registration is not None and registration.device_id in self._open:
            self.carried(registration.device_id, uri, start, size, total)

    def carried(self, device_id: str, uri: str, start: int, size: int, total: int) -> None:
        """Count a block of the image of a URI on its way to a device."""
        progress, now = self._progress.get(device_id), self._core.now()
        if progress is None or progress.uri != uri:
            row = self._row(device_id)
            if row is None or not same_payload(row["payload_uri"], uri):
                return
            progress = self._progress[device_id] = Progress(row["id"], uri, start, now)
        progress.served(start, size, total, now)
        if progress.blocks == 2:
            self._core.delivery.paces.fetches(device_id, progress.block_B)
        if progress.blocks % _KEEP_EVERY == 0 or progress.done_B == total:
            with self._store.batch() as db:
                _SERVED.run(db, row=progress.row_id, done=progress.done_B, limit=now + PATIENCE_S["downloading"])

    def anew(self, device_id: str) -> None:
        """Count the blocks to a device from the first again."""
        self._progress.pop(device_id, None)

    def progress(self, campaign_id: str) -> Rows:
        """Return how far each device of a campaign is."""
        return self._as_shown(self._store.rows(_PROGRESS, campaign=campaign_id))

    def progress_of(self, row_id: str) -> Rows:
        """Return how far the device of a campaign's row is; no row if that is gone."""
        return self._as_shown(self._store.rows(_PROGRESS_OF, row=row_id))

    def _as_shown(self, rows: Rows) -> Rows:
        paces, now = self._core.delivery.paces, self._core.now()
        return [shown(row, self._progress.get(row["device_id"]), paces.of(row["device_id"]), now) for row in rows]

    def _way(self, device_id: str) -> Way:
        """Return how a device is updated: by manifest, unless it has listed OMA's object alone."""
        listed = {row["path"].split("/")[1] for row in self._core.resources.list(device_id)}
        return self._by_object if _OBJECT in listed and _MANIFEST not in listed else self._by_manifest

    # -- step by step --------------------------------------------------------------------------------------

    def _news(self, device_id: str) -> None:
        """Begin with a device whose turn has come, as another campaign has ended for it, in whichever process."""
        row = self._row(device_id) if device_id in self._open else None
        if row is not None and row["step"] == "waiting" and row["tries"] == 0:
            self.go_on(device_id)

    def go_on(self, device_id: str, *, look: bool = False) -> None:
        """Take a device's next step, if it can be asked now; look at it first, whatever it was being asked."""
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
                way = self._way(device_id)
                while (row := self._row(device_id)) is not None and self._core.delivery.obstacle(device_id) is None:
                    # What was sent, or was to be, may be there: whoever sent it has not heard of it.
                    sent = row["tries"] > 0 and row["step"] in ("waiting", "sending")
                    if row["step"] == "waiting" and not sent:
                        go_on = await way.send(row)
                    elif sent or look:
                        go_on, look = await way.look(row), False
                    else:
                        return
                    if not go_on:
                        return
        except NetworkError as error:
            _log.info("the update of device %s waits: %s", device_id, error.message)
        except ServiceError as error:
            _log.error("the update of device %s stands still: %s", device_id, error)

    def still(self, row: Row) -> Row | None:
        """Return a row as it is now; None if it is not the device's any more."""
        now = self._row(row["device_id"])
        return now if now is not None and now["id"] == row["id"] else None

    def found(self, registration: Registration) -> None:
        """Note where a device is that is asked now."""
        self._open[registration.device_id] = registration.peer
