"""Update campaigns: a manifest, a filter of devices, and the way from draft to stopped.

phase: draft -> starting -> active -> stopping -> stopped -> archived; `state` says the same in the older words.
All of it is in the database: a campaign goes on where it was when the service was stopped or killed.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pdmlab.coap.transport import Address
from pdmlab.errors import PdmlabError, ServiceError
from pdmlab.service.campaign_table import CampaignTable
from pdmlab.service.campaign_words import RUNNING
from pdmlab.service.deployments import Deployments
from pdmlab.service.filters import parse, parse_time, where
from pdmlab.service.ids import timestamp
from pdmlab.service.refusal import Refused
from pdmlab.service.schema import campaign_devices, campaigns, devices
from pdmlab.service.store import Row, Rows
from pdmlab.update.manifest import SignedManifest

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.register import Registration

_log = logging.getLogger(__name__)

SHORTEST_S = 2.0
"""A campaign is active for at least this long (s): manifest-tool takes a faster one for one that did not start."""
MAX_FILTER = 8192  # characters
_EDITABLE = ("name", "description", "device_filter", "root_manifest_id", "when", "campaign_strategy")


class Campaigns(CampaignTable):
    """The campaigns of all accounts, and what keeps them going."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._deployments = Deployments(core, self._device_done)
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # -- what REST asks ----------------------------------------------------------------------------------

    def create(
        self,
        account_id: str,
        *,
        device_filter: str,
        name: str = "",
        description: str = "",
        root_manifest_id: str | None = None,
        when: str | None = None,
        campaign_strategy: str = "one-shot",
    ) -> Row:
        """Make a campaign in phase draft; return its row.

        Raises:
            ConfigError: the filter cannot be read.
            Refused: `when` is no time, or there is no such manifest (400).
        """
        at = self._store.timestamp()
        row: Row = {"id": self._store.ids.new(), "account_id": account_id, "created_at": at, "updated_at": at}
        row |= self._checked(
            account_id,
            name=name,
            description=description,
            device_filter=device_filter,
            root_manifest_id=root_manifest_id,
            when=when,
            campaign_strategy=campaign_strategy,
        )
        with self._store.begin() as db:
            db.execute(sa.insert(campaigns).values(row))
        return self.find(account_id, row["id"])

    def change(self, account_id: str, id: str, **changes: Any) -> Row:  # Any: a column's type is its own
        """Change a campaign: all of a draft, later its name and description only; return its row.

        What is sent again as it was is no change.

        Raises:
            Refused: no such campaign (404), or what may not be changed any more (403).
        """
        row = self.find(account_id, id)
        wanted = self._checked(account_id, **{k: v for k, v in changes.items() if k in _EDITABLE})
        wanted = {name: value for name, value in wanted.items() if row[name] != value}
        frozen = wanted.keys() - {"name", "description"}
        if row["phase"] != "draft" and frozen:
            raise Refused(
                403,
                f"{', '.join(sorted(frozen))} of a campaign in phase {row['phase']} cannot be changed",
                type="access_denied",
            )
        if wanted:
            self._set(id, **wanted)
        return self.find(account_id, id)

    def start(self, account_id: str, id: str) -> Row:
        """Start a draft, now or at its time; return its row, in phase starting.

        Raises:
            Refused: no such campaign (404), not a draft (409), or without a manifest (400).
        """
        row = self._in_phase(account_id, id, "draft")
        manifest_id = row["root_manifest_id"]
        der = None if manifest_id is None else self._core.firmware.manifest_data(manifest_id)
        if der is None:
            raise Refused(400, "a campaign needs a root_manifest_id to start", type="validation_error")
        manifest = SignedManifest.parse(der).manifest
        self._set(
            id,
            phase="starting",
            state="scheduled",
            started_at=self._store.timestamp(),
            manifest=der,
            version=manifest.version,
            component=manifest.component,
            payload_uri=manifest.uri,
            payload_size=manifest.payload_size,
        )
        self._schedule(row)
        return self.find(account_id, id)

    def stop(self, account_id: str, id: str) -> Row:
        """Stop a campaign; devices that have the manifest already go on by themselves. Return its row.

        Raises:
            Refused: no such campaign (404), or one that does not run (409).
        """
        self._in_phase(account_id, id, "starting", "active")
        self._set(id, phase="stopping", state="stopping")
        self._later(id, 0.0, self._stopped)
        return self.find(account_id, id)

    def archive(self, account_id: str, id: str) -> Row:
        """Put a campaign away; return its row.

        Raises:
            Refused: no such campaign (404), or one that runs (409).
        """
        self._in_phase(account_id, id, "draft", "stopped")
        self._set(id, phase="archived")
        return self.find(account_id, id)

    def delete(self, account_id: str, id: str) -> None:
        """Delete a campaign with its history.

        Raises:
            Refused: no such campaign (404), or one that runs (409).
        """
        self._in_phase(account_id, id, "draft", "stopped", "archived")
        with self._store.begin() as db:
            db.execute(sa.delete(campaigns).where(campaigns.c.id == id))

    def progress(self, id: str) -> Rows:
        """Return how far each device of a campaign is: phase, block, bytes of total, predicted seconds left."""
        return self._deployments.progress(id)

    # -- what devices do ---------------------------------------------------------------------------------

    def registered(self, registration: Registration, *, full: bool) -> None:
        """Take note that a device has registered anew (full), or updated its registration."""
        self._deployments.registered(registration, full=full)

    def told(self, registration: Registration, path: str, value: bytes) -> None:
        """Take what a device says of its update (/10252/0/2 and /3), as part of the open transaction."""
        self._deployments.told(registration, path, value)

    def served(self, peer: Address, uri: str, start: int, size: int, total: int) -> None:
        """Take note of a block of an image that goes out (B)."""
        self._deployments.served(peer, uri, start, size, total)

    def removed(self, device_id: str) -> None:
        """Take note that a device was deleted."""
        self._deployments.removed(device_id)

    # -- running ----------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Go on with what ran when the service ended."""
        running = self._store.rows(sa.select(campaigns).where(campaigns.c.phase.in_(RUNNING)))
        self._deployments.resume()
        for row in running:
            if row["phase"] == "starting":
                self._schedule(row)
            elif row["phase"] == "stopping":
                self._later(row["id"], 0.0, self._stopped)
            else:
                self._device_done(row["id"])

    async def close(self) -> None:
        """Let everything rest until the next start."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        await self._deployments.close()

    def _schedule(self, row: Row) -> None:
        when = None if row["when"] is None else parse_time(row["when"])
        self._later(row["id"], 0.0 if when is None else when.timestamp() - self._core.now(), self._activate)

    def _activate(self, id: str) -> None:
        row = self._row(id)
        if row is None or row["phase"] != "starting":
            return
        chosen = self._core.directory.list(row["account_id"], *where(parse(row["device_filter"]), devices))
        with self._store.begin():
            self._set(id, phase="active", state="deploying")
            self._deployments.enlist(row, chosen)
        self._deployments.begin(id)
        self._device_done(id)

    def _device_done(self, id: str) -> None:
        """End a campaign whose devices are all done, but not sooner than its observers can see it run."""
        left = sa.select(sa.func.count()).where(
            campaign_devices.c.campaign_id == id, campaign_devices.c.summary_status == "info"
        )
        if self._store.scalar(left):
            return
        row = self._row(id)
        started = None if row is None else parse_time(row["started_at"])
        if started is not None:
            self._later(id, started.timestamp() + SHORTEST_S - self._core.now(), self._finished)

    def _finished(self, id: str) -> None:
        row = self._row(id)
        if row is None or row["phase"] != "active":
            return
        counts = self._counts(id, campaign_devices.c.summary_status)
        words = ", ".join(f"{count} {summary}" for (summary,), count in sorted(counts.items()))
        reason = f"all devices are done: {words}" if words else "no device fits the filter"
        at = self._store.timestamp()
        self._set(id, phase="stopped", state="autostopped", finished=at, autostop_reason=reason)

    def _stopped(self, id: str) -> None:
        row = self._row(id)
        if row is None or row["phase"] != "stopping":
            return
        with self._store.begin():
            self._deployments.dismiss(id)
            self._set(id, phase="stopped", state="userstopped", finished=self._store.timestamp())

    def _later(self, id: str, seconds: float, work: Any) -> None:  # Any: a bound method of ours
        old = self._timers.pop(id, None)
        if old is not None:
            old.cancel()

        def run() -> None:
            self._timers.pop(id, None)
            try:
                work(id)
            except PdmlabError as error:
                _log.error("campaign %s stands still: %s", id, error)
                if not isinstance(error, ServiceError):
                    self._set(id, phase="stopped", state="conflict", autostop_reason=error.message)

        self._timers[id] = asyncio.get_running_loop().call_later(max(seconds, 0.0), run)

    # -- rows --------------------------------------------------------------------------------------------

    def _checked(self, account_id: str, **fields: Any) -> Row:  # Any: a column's type is its own
        """Return fields as they are kept; raise if one cannot be."""
        if "device_filter" in fields:
            if len(fields["device_filter"]) > MAX_FILTER:
                raise Refused(400, f"the device filter has more than {MAX_FILTER} characters", type="validation_error")
            parse(fields["device_filter"])
        if fields.get("when") is not None:
            when = parse_time(str(fields["when"]))
            if when is None:
                raise Refused(400, f"when is no time: {str(fields['when'])[:40]!r}", type="validation_error")
            fields["when"] = timestamp(when.timestamp())
        if fields.get("root_manifest_id") is not None:
            self._core.firmware.manifest(account_id, fields["root_manifest_id"])
        return fields
