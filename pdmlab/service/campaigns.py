"""Update campaigns: a manifest, a filter of devices, and the way from draft to stopped.

phase: draft -> starting -> active -> stopping -> stopped -> archived; `state` says the same in the older words.
All of it is in the database: a campaign goes on where it was when the service was stopped or killed, in whichever
process. Each step is claimed by a change of its row, so that it is taken once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pdmlab.coap.transport import Address
from pdmlab.errors import PdmlabError, ServiceError
from pdmlab.service.campaign_drafts import CampaignDrafts
from pdmlab.service.campaign_words import RUNNING
from pdmlab.service.deployment_offer import How
from pdmlab.service.deployments import Deployments
from pdmlab.service.described import Described
from pdmlab.service.device_words import DeviceWords
from pdmlab.service.filters import parse, parse_time, where
from pdmlab.service.refusal import Refused
from pdmlab.service.schema import campaign_devices, campaigns, devices
from pdmlab.service.store import Row, Rows

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.register import Registration

_log = logging.getLogger(__name__)

SHORTEST_S = 2.0
"""A campaign is active for at least this long (s): manifest-tool takes a faster one for one that did not start."""
LOOK_EVERY_S = 60.0
"""Between two looks at what runs: whoever was to take a step may have ended, or the database may have been away."""


class Campaigns(CampaignDrafts):
    """The campaigns of all accounts, and what keeps them going."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.prefer: How = "pull"
        """How a device with object 5 gets an image that could either be fetched or be sent."""
        self._deployments = Deployments(core, self._device_done)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ended: set[str] = set()  # campaigns one of whose devices has come to its end
        self._looking: asyncio.Task[None] | None = None
        core.bus.hear("campaign", lambda id: self._later(id, 0.0, self._attend))

    def __repr__(self) -> str:
        return f"<Campaigns, {self._deployments!r}>"

    # -- what REST asks ----------------------------------------------------------------------------------

    def start(self, account_id: str, id: str) -> Row:
        """Start a draft, now or at its time; return its row, in phase starting.

        Raises:
            Refused: no such campaign (404), not a draft (409), or without a manifest (400).
        """
        while True:
            row = self.find(account_id, id)
            if row["phase"] != "draft":
                raise self._wrong_phase(row, "draft")
            manifest_id = row["root_manifest_id"]
            der = None if manifest_id is None else self._core.firmware.manifest_data(manifest_id)
            if der is None:
                raise Refused(400, "a campaign needs a root_manifest_id to start", type="validation_error")
            manifest = Described.of(der)
            if self._enter(
                id,
                "draft",
                as_read=[campaigns.c.root_manifest_id == manifest_id],
                phase="starting",
                state="scheduled",
                started_at=self._store.timestamp(),
                manifest=der,
                version=manifest.version,
                component=manifest.component,
                payload_uri=manifest.payload_uri,
                payload_size=manifest.payload_size,
            ):
                return self.find(account_id, id)
            # Another process has changed the row meanwhile: started it, deleted it, or given it another manifest.

    def stop(self, account_id: str, id: str) -> Row:
        """Stop a campaign; devices that have the manifest already go on by themselves. Return its row.

        Raises:
            Refused: no such campaign (404), or one that does not run (409).
        """
        return self._must_enter(account_id, id, "starting", "active", phase="stopping", state="stopping")

    def archive(self, account_id: str, id: str) -> Row:
        """Put a campaign away; return its row.

        Raises:
            Refused: no such campaign (404), or one that runs (409).
        """
        return self._must_enter(account_id, id, "draft", "stopped", phase="archived")

    def delete(self, account_id: str, id: str) -> None:
        """Delete a campaign with its history.

        Raises:
            Refused: no such campaign (404), or one that runs (409).
        """
        row = self.find(account_id, id)
        with self._store.begin() as db:
            here = campaigns.c.id == id, campaigns.c.phase.not_in(RUNNING)
            if not db.execute(sa.delete(campaigns).where(*here)).rowcount:
                raise self._wrong_phase(row, "draft", "stopped", "archived")

    def progress(self, id: str) -> Rows:
        """Return how far each device of a campaign is: phase, block, bytes of total, predicted seconds left."""
        return self._deployments.progress(id)

    def progress_of(self, row_id: str) -> Rows:
        """Return the same of one of a campaign's devices, by its row's id; nothing if that is gone."""
        return self._deployments.progress_of(row_id)

    @property
    def words(self) -> DeviceWords:
        """What devices say of their slots and bootloaders."""
        return self._deployments.words

    # -- what devices do ---------------------------------------------------------------------------------

    def registered(self, registration: Registration, *, full: bool) -> None:
        """Take note that a device has registered anew (full), or updated its registration."""
        self._deployments.registered(registration, full=full)

    def told(self, registration: Registration, path: str, value: bytes) -> None:
        """Take what a device says of its update, as part of the open transaction."""
        self._deployments.told(registration, path, value)

    def served(self, peer: Address, uri: str, start: int, size: int, total: int) -> None:
        """Take note of a block of an image that goes out (B)."""
        self._deployments.served(peer, uri, start, size, total)

    def removed(self, device_id: str) -> None:
        """Take note that a device was deleted."""
        self._deployments.removed(device_id)

    # -- running ----------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Go on with what ran when the service ended, and with what another process leaves."""
        self._deployments.resume()
        self._look()

    async def close(self) -> None:
        """Let everything rest until the next start."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._deployments.close()

    def _look(self, _: str = "") -> None:
        """See to all that runs, now and then."""
        self._later("", LOOK_EVERY_S, self._look)
        for row in self._store.rows(sa.select(campaigns.c.id).where(campaigns.c.phase.in_(RUNNING))):
            if row["id"] not in self._timers:
                self._later(row["id"], 0.0, self._attend)
        self._deployments.arm()

    def _attend(self, id: str) -> None:
        """Do what a campaign's phase asks for; another process may do it first."""
        row = self._row(id)
        if row is None or row["phase"] not in RUNNING:
            return
        if row["phase"] == "starting":
            when = None if row["when"] is None else parse_time(row["when"])
            self._later(id, 0.0 if when is None else when.timestamp() - self._core.now(), self._activate)
        elif row["phase"] == "stopping":
            self._stopped(id)
        elif self._store.row(_left(id)) is not None:
            self._deployments.begin(id)
        else:  # but not sooner than its observers can see it run
            started = parse_time(row["started_at"])
            assert started is not None
            self._later(id, started.timestamp() + SHORTEST_S - self._core.now(), self._finished)

    def _activate(self, id: str) -> None:
        row = self._row(id)
        if row is None or row["phase"] != "starting":
            return
        chosen = self._core.directory.list(row["account_id"], *where(parse(row["device_filter"]), devices))
        with self._store.begin():
            if self._enter(id, "starting", phase="active", state="deploying"):
                self._deployments.enlist(row, chosen)

    def _device_done(self, id: str) -> None:
        """See whether that was a campaign's last device, once it is written: another process may have the others."""
        self._ended.add(id)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_at_ended())

    async def _look_at_ended(self) -> None:
        while self._ended:
            try:
                await self._store.written()
                ended, self._ended = self._ended, set()
                for id in ended:
                    if self._store.row(_left(id)) is None:
                        self._later(id, 0.0, self._attend)
            except ServiceError as error:
                _log.error("campaigns wait for the database: %s", error)
                return

    def _finished(self, id: str) -> None:
        counts = self._counts(id, campaign_devices.c.summary_status)
        words = ", ".join(f"{count} {summary}" for (summary,), count in sorted(counts.items()))
        reason = f"all devices are done: {words}" if words else "no device fits the filter"
        self._enter(
            id,
            "active",
            phase="stopped",
            state="autostopped",
            finished=self._store.timestamp(),
            autostop_reason=reason,
        )

    def _stopped(self, id: str) -> None:
        with self._store.begin():
            at, reason = self._store.timestamp(), "the campaign was stopped by a call"
            if self._enter(id, "stopping", phase="stopped", state="userstopped", finished=at, autostop_reason=reason):
                self._deployments.dismiss(id)

    def _later(self, id: str, seconds: float, work: Callable[[str], None]) -> None:
        old = self._timers.pop(id, None)
        if old is not None:
            old.cancel()

        def run() -> None:
            self._timers.pop(id, None)
            try:
                work(id)
            except ServiceError as error:
                _log.error("campaign %s waits: %s", id, error)
            except PdmlabError as error:
                _log.error("campaign %s stands still: %s", id, error)
                self._enter(id, *RUNNING, phase="stopped", state="conflict", autostop_reason=error.message)

        self._timers[id] = asyncio.get_running_loop().call_later(max(seconds, 0.0), run)


def _left(campaign_id: str) -> sa.Select[Any]:
    """Return what finds a device of a campaign that is not done."""
    c = campaign_devices.c
    return sa.select(c.id).where(c.campaign_id == campaign_id, c.summary_status == "info").limit(1)
