"""An update campaign: what it does to each device, in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

from pdmlab.cloud.frames import PROGRESS_COLUMNS, frame_of
from pdmlab.cloud.rest import Rest
from pdmlab.errors import ServiceError, TimedOut, Unreachable

if TYPE_CHECKING:
    import pandas as pd

POLL_S = 0.25
ENDED = ("stopped", "archived", "expired")
"""Phases in which nothing happens any more."""

_WORDS = {
    "pending": "waiting: it has not been told yet",
    "updated_connector_channel": "told, and on its way",
    "failed_connector_channel_update": "could not be told",
    "deployed": "runs the new version",
    "manifestremoved": "skipped: the manifest was deleted",
    "deregistered": "left before it was done",
}

Progress = Callable[["Campaign", dict[str, Any]], None]
"""Called after each look at the campaign, with it and its metrics."""


class Campaign:
    """A campaign of the service; get it with `cloud.campaign(...)` or `cloud.campaigns()`."""

    def __init__(self, rest: Rest, id: str) -> None:
        self._rest = rest
        self.id = id

    @property
    def _path(self) -> str:
        return f"/v3/update-campaigns/{self.id}"

    @property
    def info(self) -> dict[str, Any]:
        """What the service says of it, field by field; asked anew each time."""
        return self._rest.get(self._path)

    @property
    def phase(self) -> str:
        """Draft, starting, active, stopping, stopped or archived."""
        return str(self.info["phase"])

    def start(self) -> Campaign:
        """Start it: its filter is applied now, and the devices are told."""
        self._rest.call("POST", f"{self._path}/start")
        return self

    def stop(self) -> None:
        """Stop it; devices that were told already may finish."""
        self._rest.call("POST", f"{self._path}/stop")

    def archive(self) -> None:
        """Put a stopped campaign away."""
        self._rest.call("POST", f"{self._path}/archive")

    def delete(self) -> None:
        """Delete it; one that is active has to be stopped first."""
        self._rest.call("DELETE", self._path)

    def devices(self) -> pd.DataFrame:
        """Return what became of each device: its id, the service's state, and the same in words."""
        return frame_of(
            (
                {
                    "device_id": row["device_id"],
                    "state": row["deployment_state"],
                    "outcome": row.get("description") or _WORDS.get(row["deployment_state"], row["deployment_state"]),
                    "updated_at": row["updated_at"],
                }
                for row in self._rest.items(f"{self._path}/campaign-device-metadata")
            ),
            ("device_id", "state", "outcome", "updated_at"),
        )

    def progress(self) -> pd.DataFrame:
        """Return how far each device is: what it does, bytes of the image that it has, seconds that are left."""
        return frame_of(self._rest.call("GET", f"/lab/campaigns/{self.id}/progress").json(), PROGRESS_COLUMNS)

    def metrics(self) -> dict[str, int]:
        """Return how many devices there are: total, success, failed, pending, skipped; all 0 before the start."""
        names = ("total", "success", "failed", "pending", "skipped")
        try:
            found = self._rest.get(f"{self._path}/metrics")
        except ServiceError as error:
            if error.status != 404:
                raise
            found = {}
        return {name: int(found.get(f"{name}_count") or 0) for name in names}

    def wait(self, *, timeout: float = 300.0, progress: Progress | None = None) -> pd.DataFrame:
        """Wait until it has ended, over restarts of the service; return what became of each device, as `devices` does.

        Raises:
            TimedOut: it has not ended after timeout (s); it goes on at the service.
            Unreachable: the service is still away after timeout.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                phase = self.phase
                if progress is not None:
                    progress(self, self.metrics())
                if phase in ENDED:
                    return self.devices()
            except Unreachable:
                if time.monotonic() > end:
                    raise
                time.sleep(POLL_S)
                continue
            if time.monotonic() > end:
                waiting = self.devices()
                raise TimedOut(
                    f"campaign {self.id} is still {phase} after {timeout:.0f} s; "
                    + ", ".join(f"{row.device_id}: {row.outcome}" for row in waiting.itertuples()),
                    hint="is the device registered? campaign.stop() ends it; device.queue() shows what waits",
                )
            time.sleep(POLL_S)

    def __repr__(self) -> str:
        return f"<Campaign {self.id} of {self._rest.host}>"

    def _repr_html_(self) -> str:
        info, table = self.info, self.devices()
        rows = "".join(
            f"<tr><td>{escape(str(row.device_id))}</td><td>{escape(str(row.outcome))}</td></tr>"
            for row in table.itertuples()
        )
        title = escape(f"{info['name'] or self.id}: {info['phase']}")
        return f"<table><caption>Campaign {title}</caption><tr><th>device</th><th>outcome</th></tr>{rows}</table>"
