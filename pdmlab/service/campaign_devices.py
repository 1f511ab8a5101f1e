"""The rows of a campaign's devices: at which step each is, how it ended, and how long it may go on in silence."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.service.campaign_words import PATIENCE_S, STEPS, failure, step_event
from pdmlab.service.progress import Progress
from pdmlab.service.schema import campaign_devices as table
from pdmlab.service.schema import campaigns, devices
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core

OPEN = (
    sa.select(table, campaigns.c.manifest, campaigns.c.version, campaigns.c.component, campaigns.c.payload_uri)
    .join(campaigns, campaigns.c.id == table.c.campaign_id)
    .where(campaigns.c.phase == "active", table.c.summary_status == "info")
    .order_by(table.c.id)
)
_OF_DEVICE = OPEN.where(table.c.device_id == sa.bindparam("device")).limit(1)


class CampaignDevices(ABC):
    """The devices of all active campaigns; `done` hears of a campaign one of whose devices has come to an end."""

    def __init__(self, core: Core, done: Callable[[str], None]) -> None:
        self._core = core
        self._store = core.store
        self._done = done
        self._open: set[str] = set()  # devices with a row that is not done
        self._progress: dict[str, Progress] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enlist(self, campaign: Row, chosen: Sequence[Row]) -> None:
        """Make the rows of a campaign's devices, as part of the open transaction."""
        at = self._store.timestamp()
        rows = [
            {
                "id": self._store.ids.new(),
                "account_id": campaign["account_id"],
                "campaign_id": campaign["id"],
                "device_id": device["id"],
                "step": "waiting",
                "event_type": step_event("waiting"),
                "name": device["name"] or "",
                "description": STEPS["waiting"],
                "mechanism": device["mechanism"],
                "mechanism_url": device["mechanism_url"],
                "created_at": at,
                "updated_at": at,
            }
            for device in chosen
        ]
        with self._store.begin() as db:
            if rows:
                db.execute(sa.insert(table), rows)
            for device in chosen:
                db.execute(sa.update(devices).where(devices.c.id == device["id"]).values(deployment=campaign["id"]))
        self._open |= {device["id"] for device in chosen}

    def dismiss(self, campaign_id: str) -> None:
        """Leave the devices of a campaign that is stopped to themselves."""
        for row in self._store.rows(sa.select(table).where(table.c.campaign_id == campaign_id)):
            if row["summary_status"] == "info":
                reached = row["deployment_state"] != "pending"
                words = f"the campaign was stopped while the device was at: {STEPS[row['step']].lower()}"
                state = row["deployment_state"] if reached else "manifestremoved"
                self._end(row, "skipped", state, "UPD4_SKIPPED_101", words, tell=False)

    @abstractmethod
    def _next(self, device_id: str) -> None:
        """Begin with a device's next campaign, which has waited for the one before."""

    def _row(self, device_id: str) -> Row | None:
        row = self._store.row(_OF_DEVICE, device=device_id)
        if row is None:
            self._open.discard(device_id)
            self._progress.pop(device_id, None)
        return row

    def _move(self, row: Row, step: str, *, description: str = "", **values: object) -> None:
        patience = PATIENCE_S.get(step)
        values["deadline"] = None if patience is None else self._core.now() + patience
        if step not in ("waiting", "sending"):
            values["deployment_state"] = "updated_connector_channel"
        with self._store.batch() as db:
            db.execute(
                sa.update(table)
                .where(table.c.id == row["id"])
                .values(
                    step=step,
                    event_type=step_event(step),
                    description=description or STEPS[step],
                    updated_at=self._store.timestamp(),
                    **values,
                )
            )
        self._arm()

    def _failed(self, row: Row, result: int) -> None:
        event_type, words = failure(result)
        self._end(row, "fail", "failed_connector_channel_update", event_type, words, result=result)

    def _end(
        self,
        row: Row,
        summary: str,
        state: str,
        event_type: str,
        words: str,
        *,
        result: int | None = None,
        tell: bool = True,
    ) -> None:
        progress = self._progress.pop(row["device_id"], None)
        done = {} if progress is None else {"done_B": progress.done_B}
        with self._store.batch() as db:
            db.execute(
                sa.update(table)
                .where(table.c.id == row["id"])
                .values(
                    step="done",
                    summary_status=summary,
                    deployment_state=state,
                    event_type=event_type,
                    description=words[:1].upper() + words[1:],
                    result=result,
                    deadline=None,
                    updated_at=self._store.timestamp(),
                    **done,
                )
            )
            self._core.directory.event(
                row["account_id"],
                row["device_id"],
                event_type,
                description=words,
                data={"campaign_id": row["campaign_id"]},
            )
        if tell:
            self._done(row["campaign_id"])
        if self._row(row["device_id"]) is not None:
            self._next(row["device_id"])

    # -- patience ------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        first = self._store.scalar(sa.select(sa.func.min(table.c.deadline)).where(table.c.summary_status == "info"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if first is not None:
            left = max(first - self._core.now(), 0.001)
            self._timer = asyncio.get_running_loop().call_later(left, self._out_of_patience)

    def _out_of_patience(self) -> None:
        late = self._store.rows(OPEN.where(table.c.deadline <= self._core.now()))
        for row in late:
            words = f"nothing was heard for {PATIENCE_S.get(row['step'], 0):.0f} s, at: {STEPS[row['step']].lower()}"
            self._end(row, "fail", "failed_connector_channel_update", "UPD4_FAIL_102", words)
        self._arm()
