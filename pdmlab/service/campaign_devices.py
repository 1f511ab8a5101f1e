"""The rows of a campaign's devices: at which step each is, how it ended, and how long it may go on in silence.

A row is changed only as it was when it was read: whoever is slower, in this process or another, changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.coap.transport import Address
from pdmlab.service.campaign_words import PATIENCE_S, STEPS, failure, step_event
from pdmlab.service.device_words import DeviceWords
from pdmlab.service.progress import Progress
from pdmlab.service.schema import campaign_devices as table
from pdmlab.service.schema import campaigns, devices
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core

OPEN = (
    sa.select(table, campaigns.c.manifest, campaigns.c.version, campaigns.c.component, campaigns.c.payload_uri)
    .join(campaigns, campaigns.c.id == table.c.campaign_id)
    .where(campaigns.c.phase == "active", table.c.summary_status == "info")
    .order_by(table.c.id)
)
_OF_DEVICE = Statement(OPEN.where(table.c.device_id == sa.bindparam("device")).limit(1))

COMES_BACK_S = 900.0
"""For a device to be heard of after a time in which there was no service."""

_OPEN_DEVICES = (
    sa.select(table.c.device_id)
    .join(campaigns, campaigns.c.id == table.c.campaign_id)
    .where(campaigns.c.phase == "active", table.c.summary_status == "info")
    .order_by(table.c.id)
)
_COLUMNS = """id account_id campaign_id device_id deployment_state step summary_status event_type name description
    mechanism mechanism_url tries generation done_B created_at updated_at"""
_INSERT = Statement(sa.insert(table), _COLUMNS.split())
_DEPLOYED = Statement(
    sa.update(devices).where(devices.c.id == sa.bindparam("device")).values(deployment=sa.bindparam("campaign"))
)
_FIRST = Statement(sa.select(sa.func.min(table.c.deadline)).where(table.c.summary_status == "info"))


class CampaignDevices:
    """The devices of all active campaigns; `done` hears of a campaign one of whose devices has come to an end."""

    def __init__(self, core: Core, done: Callable[[str], None]) -> None:
        self._core = core
        self._store = core.store
        self.words = DeviceWords(core)
        self._done = done
        self._open: dict[str, Address | None] = {}
        """Devices with a row that is not done, and where each was when it was last asked."""
        self._progress: dict[str, Progress] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._first = float("inf")

    def enlist(self, campaign: Row, chosen: Sequence[Row]) -> None:
        """Make the rows of a campaign's devices, as part of the open transaction."""
        at = self._store.timestamp()
        rows = [
            {
                "id": self._store.ids.new(),
                "account_id": campaign["account_id"],
                "campaign_id": campaign["id"],
                "device_id": device["id"],
                "deployment_state": "pending",
                "step": "waiting",
                "summary_status": "info",
                "event_type": step_event("waiting"),
                "name": device["name"] or "",
                "description": STEPS["waiting"],
                "mechanism": device["mechanism"],
                "mechanism_url": device["mechanism_url"],
                "tries": 0,
                "generation": 0,
                "done_B": 0,
                "created_at": at,
                "updated_at": at,
            }
            for device in chosen
        ]
        with self._store.begin() as db:
            if rows:
                _INSERT.run_many(db, rows)
                _DEPLOYED.run_many(db, [{"device": row["device_id"], "campaign": campaign["id"]} for row in rows])

    def dismiss(self, campaign_id: str) -> None:
        """Leave the devices of a campaign that is stopped to themselves."""
        open_ = sa.select(table).where(table.c.campaign_id == campaign_id, table.c.summary_status == "info")
        for row in self._store.rows(open_):
            reached = row["deployment_state"] != "pending"
            words = f"the campaign was stopped while the device was at: {STEPS[row['step']].lower()}"
            state = row["deployment_state"] if reached else "manifestremoved"
            self.end(row, "skipped", state, "UPD4_SKIPPED_101", words)

    def _open_devices(self, campaign_id: str | None = None) -> list[str]:
        """Return the devices that are not done, and keep an eye on them."""
        found = _OPEN_DEVICES if campaign_id is None else _OPEN_DEVICES.where(table.c.campaign_id == campaign_id)
        ids = [row["device_id"] for row in self._store.rows(found)]
        for device_id in ids:
            self._open.setdefault(device_id, None)
        return ids

    def _row(self, device_id: str) -> Row | None:
        row = self._store.row(_OF_DEVICE, device=device_id)
        if row is None:
            self._open.pop(device_id, None)
            self._progress.pop(device_id, None)
        return row

    def move(self, row: Row, step: str, *, description: str = "", **values: object) -> bool:
        """Bring a device to a step; False if it is elsewhere by now."""
        patience = PATIENCE_S.get(step)
        values["deadline"] = None if patience is None else self._core.now() + patience
        if step not in ("waiting", "sending"):
            values["deployment_state"] = "updated_connector_channel"
        return self._change(
            row, step=step, event_type=step_event(step), description=description or STEPS[step], **values
        )

    def _change(self, row: Row, **values: object) -> bool:
        with self._store.batch() as db:
            as_it_was = (
                table.c.id == row["id"],
                table.c.summary_status == "info",
                table.c.step == row["step"],
                table.c.tries == row["tries"],
                table.c.deadline.is_(None) if row["deadline"] is None else table.c.deadline == row["deadline"],
            )
            values["updated_at"] = self._store.timestamp()
            changed = bool(db.execute(sa.update(table).where(*as_it_was).values(**values)).rowcount)
        if changed:
            self._until(values["deadline"])
        return changed

    def failed(self, row: Row, result: int, explain: Callable[[int], tuple[str, str]] | None = None) -> None:
        """Bring a device to its end that reports a result which is a failure; explain: to an event type and words."""
        event_type, words = failure(result, row["manifest"]) if explain is None else explain(result)
        self.end(row, "fail", "failed_connector_channel_update", event_type, words, result=result)

    def end(
        self, row: Row, summary: str, state: str, event_type: str, words: str, *, result: int | None = None
    ) -> None:
        """Bring a device to its end, and to its next campaign; nothing, if it is elsewhere by now."""
        progress = self._progress.get(row["device_id"])
        done = {} if progress is None or progress.row_id != row["id"] else {"done_B": progress.done_B}
        with self._store.batch():
            changed = self._change(
                row,
                step="done",
                summary_status=summary,
                deployment_state=state,
                event_type=event_type,
                description=words[:1].upper() + words[1:],
                result=result,
                deadline=None,
                **done,
            )
            if not changed:
                return
            self._core.directory.event(
                row["account_id"],
                row["device_id"],
                event_type,
                description=words,
                data={"campaign_id": row["campaign_id"]},
            )
        self._progress.pop(row["device_id"], None)
        if summary in ("success", "fail"):
            self.words.later(row)
        self._done(row["campaign_id"])
        if self._row(row["device_id"]) is not None:  # the next campaign has waited for this one
            self._core.bus.tell("queue", row["device_id"])
        else:
            self._core.observations.unwatch(row["device_id"])

    # -- patience ------------------------------------------------------------------------------------------

    def _be_patient(self) -> None:
        """Give devices time that ran out while there was no service: one would have brought them to their end."""
        now = self._core.now()
        with self._store.begin() as db:
            late = table.c.summary_status == "info", table.c.deadline <= now
            db.execute(sa.update(table).where(*late).values(deadline=now + COMES_BACK_S))

    def arm(self) -> None:
        """Look for the first device that may run out of time."""
        self._first = float("inf")
        self._until(self._store.scalar(_FIRST))

    def _until(self, deadline: object) -> None:
        if not isinstance(deadline, float) or deadline >= self._first:
            return
        self._stop_timer()
        self._first = deadline
        left = max(deadline - self._core.now(), 0.001)
        self._timer = asyncio.get_running_loop().call_later(left, self._out_of_patience)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _out_of_patience(self) -> None:
        late = self._store.rows(OPEN.where(table.c.deadline <= self._core.now()))
        for row in late:
            words = f"nothing was heard for {PATIENCE_S.get(row['step'], 0):.0f} s, at: {STEPS[row['step']].lower()}"
            self.end(row, "fail", "failed_connector_channel_update", "UPD4_FAIL_102", words)
        self.arm()
