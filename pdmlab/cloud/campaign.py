"""Update campaigns: what each does to every device, in words."""

from __future__ import annotations

import datetime
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable
from html import escape
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from urllib.parse import urlencode

from pdmlab.cloud.both import M, asked, both, now
from pdmlab.cloud.campaign_device import CampaignDevice
from pdmlab.cloud.frames import frame_of
from pdmlab.cloud.item import Collection, Item, id_of, moment, text
from pdmlab.cloud.listing import Condition, HasId, filter_of
from pdmlab.errors import ConfigError, PdmlabError, ServiceError, TimedOut, Unreachable

if TYPE_CHECKING:
    import pandas as pd

POLL_S = 0.25
ENDED = ("stopped", "archived", "expired")
"""Phases in which nothing happens any more."""
COUNTS = ("total", "success", "failed", "pending", "skipped")
DEVICE_COLUMNS = ("device_id", "state", "outcome", "updated_at")
PROGRESS_COLUMNS = (
    "device_id", "endpoint_name", "phase", "block", "block_B", "done_B", "total_B", "round_trip_ms", "left_s",
    "left_from", "description",
)  # fmt: skip

_WORDS = {
    "pending": "waiting: it has not been told yet",
    "updated_connector_channel": "told, and on its way",
    "failed_connector_channel_update": "could not be told",
    "deployed": "runs the new version",
    "manifestremoved": "skipped: the manifest was deleted",
    "deregistered": "left before it was done",
}

Progress: TypeAlias = "Callable[[Any, dict[str, int]], Awaitable[object] | object]"
"""Called after each look at a campaign, with it and its metrics; a coroutine function's result is awaited."""


class Campaign(Item[M]):
    """A campaign of the service; get it with `cloud.campaign(...)` or `cloud.campaigns()`."""

    PATH = "/v3/update-campaigns"
    SHOWN = ("name", "phase", "state", "device_filter", "started_at", "finished", "autostop_reason")

    description = text("What people say of it.")
    device_filter = text("Which devices it is for.")
    started_at = moment("When it was started (UTC).")
    finished = moment("When it ended (UTC).")

    @asked
    async def phase(self) -> str:
        """Draft, starting, active, stopping, stopped or archived; asked anew each time."""
        return str((await self._info())["phase"])

    async def _do(self, action: str) -> None:
        await self._rest.call("POST", f"{self._path}/{action}")

    @both
    async def start(self) -> Self:
        """Start it: its filter is applied now, and the devices are told."""
        await self._do("start")
        return self

    @both
    async def stop(self) -> None:
        """Stop it; devices that were told already may finish."""
        await self._do("stop")

    @both
    async def archive(self) -> None:
        """Put a stopped campaign away."""
        await self._do("archive")

    async def _devices(self) -> pd.DataFrame:
        path, rows = f"{self._path}/campaign-device-metadata", []
        async for page in self._rest.pages(path, {}):
            rows += [
                {
                    "device_id": row["device_id"],
                    "state": row["deployment_state"],
                    "outcome": row.get("description") or _WORDS.get(row["deployment_state"], row["deployment_state"]),
                    "updated_at": row["updated_at"],
                }
                for row in page["data"]
            ]
        return frame_of(rows, DEVICE_COLUMNS)

    @both
    async def devices(self) -> pd.DataFrame:
        """Return what became of each device: its id, the service's state, and the same in words."""
        return await self._devices()

    @both
    async def progress(self) -> pd.DataFrame:
        """Return how far each device is: what it does, bytes of the image that it has, seconds that are left.

        left_from says where the seconds are from: predicted of size, block size and round trip, measured, or both.
        """
        return frame_of(await self._rest.get_list(f"/lab/campaigns/{self.id}/progress"), PROGRESS_COLUMNS)

    @both
    async def device(self, device: HasId | str) -> CampaignDevice:
        """Return a device closely: why it ended so, its slots, its bootloader's log, as the service knows them.

        Raises:
            ServiceError: it is not in the campaign (404).
        """
        return CampaignDevice(await self._rest.get(f"/lab/campaigns/{self.id}/devices/{id_of(device)}"))

    @both
    async def ask(self, device: HasId | str) -> CampaignDevice:
        """Ask a device now for its slots and its bootloader's log, and return it as `device` does.

        Raises:
            ServiceError: it is not in the campaign (404), cannot be asked just now (409), or does not answer (504).
        """
        path = f"/lab/campaigns/{self.id}/devices/{id_of(device)}/words"
        return CampaignDevice(await self._rest.post(path))

    @both
    async def slots(self, device: HasId | str) -> pd.DataFrame:
        """Return what lies in a device's slots, a row a slot, as it told last; raises as `device` does."""
        told = await self._rest.get(f"/lab/campaigns/{self.id}/devices/{id_of(device)}")
        return CampaignDevice(told).slots()

    async def _metrics(self) -> dict[str, int]:
        try:
            found = await self._rest.get(f"{self._path}/metrics")
        except ServiceError as error:
            if error.status != 404:
                raise
            found = {}
        return {name: int(found.get(f"{name}_count") or 0) for name in COUNTS}

    @both
    async def metrics(self) -> dict[str, int]:
        """Return how many devices there are: total, success, failed, pending, skipped; all 0 before the start."""
        return await self._metrics()

    @both
    async def statistics(self) -> pd.DataFrame:
        """Return how many devices are at which event, and what that means: a row an event."""
        rows = []
        async for summaries in self._rest.pages(f"{self._path}/statistics", {}):
            for summary in summaries["data"]:
                path = f"{self._path}/statistics/{summary['id']}/event_types"
                async for events in self._rest.pages(path, {}):
                    rows += events["data"]
        return frame_of(rows, ("summary_status", "event_type", "count", "description"))

    @both
    async def wait(self, *, timeout: float = 300.0, progress: Progress | None = None) -> pd.DataFrame:
        """Wait until it has ended, over restarts of the service; return what became of each device, as `devices` does.

        Raises:
            TimedOut: it has not ended after timeout (s); it goes on at the service.
            Unreachable: the service is still away after timeout.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                phase = str((await self._info())["phase"])
                if progress is not None:
                    said = progress(self, await self._metrics())
                    if inspect.isawaitable(said):
                        await said
                if phase in ENDED:
                    return await self._devices()
            except Unreachable:
                if time.monotonic() > end:
                    raise
                await self._rest.sleep(POLL_S)
                continue
            if time.monotonic() > end:
                waiting: Any = await self._devices()
                raise TimedOut(
                    f"campaign {self.id} is still {phase} after {timeout:.0f} s; "
                    + ", ".join(f"{row.device_id}: {row.outcome}" for row in waiting.itertuples()),
                    hint="is the device registered? campaign.stop() ends it; device.queue() shows what waits",
                )
            await self._rest.sleep(POLL_S)

    def _repr_html_(self) -> str:
        info = self._latest()
        title = escape(f"{info.get('name') or self.id}: {info.get('phase')}")
        rows = ""
        if self._rest.blocks and not self._rest.closed:
            try:
                table: Any = now(self._devices())
            except PdmlabError:
                table = frame_of((), DEVICE_COLUMNS)
            rows = "".join(
                f"<tr><td>{escape(str(row.device_id))}</td><td>{escape(str(row.outcome))}</td></tr>"
                for row in table.itertuples()
            )
        return f"<table><caption>Campaign {title}</caption><tr><th>device</th><th>outcome</th></tr>{rows}</table>"


class Campaigns(Collection[Campaign[M], M]):
    """The account's campaigns: `cloud.campaigns(phase="active")`."""

    ITEM = Campaign
    COLUMNS = ("id", "name", "phase", "state", "device_filter", "started_at", "finished", "autostop_reason")

    async def _make(
        self,
        manifest: HasId | str,
        devices: Iterable[HasId | str] | HasId | str,
        name: str | None,
        start: bool,
        when: datetime.datetime | None,
        conditions: dict[str, Condition],
    ) -> Campaign[M]:
        chosen = [devices] if isinstance(devices, str | HasId) else list(devices)
        wanted = filter_of(conditions)
        if chosen:
            wanted["id__in"] = ",".join(map(id_of, chosen))
        if not wanted:
            raise ConfigError(
                "the campaign says nothing of which devices it is for",
                hint='give devices=device, or conditions such as state="registered"',
            )
        made = await self._create(
            {
                "name": name or f"update of {datetime.datetime.now():%Y-%m-%d %H:%M:%S}",
                "device_filter": urlencode(wanted),
                "root_manifest_id": id_of(manifest),
                "when": when.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z") if when else None,
            }
        )
        if start:
            await made._do("start")
        return made

    @both
    async def create(
        self,
        /,
        manifest: HasId | str,
        *,
        devices: Iterable[HasId | str] | HasId | str = (),
        name: str | None = None,
        start: bool = True,
        when: datetime.datetime | None = None,
        **conditions: Condition,
    ) -> Campaign[M]:
        """Update devices, named or chosen by conditions (state="registered", vendor_id="…"), at once or `when` it is.

        Raises:
            ConfigError: neither devices nor conditions say which are meant.
        """
        return await self._make(manifest, devices, name, start, when, conditions)
