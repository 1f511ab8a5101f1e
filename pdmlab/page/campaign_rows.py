"""A device's row in a campaign, and what it opens to: why its update ended so, its slots, its bootloader's log."""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import quote

from pdmlab.cloud.campaign_device import CampaignDevice
from pdmlab.errors import ServiceError
from pdmlab.page import words
from pdmlab.page.api import Api
from pdmlab.page.seat import READ_ONLY

MOST = 5
"""Rows that are open at once; the first one closes as a further one is opened."""
ROW = """
<q-tr :props="props" :class="props.row.open ? 'open' : ''">
  <q-td key="endpoint" :props="props"><span class="who">
    <button type="button" class="turn" :aria-expanded="props.row.open ? 'true' : 'false'"
      :aria-label="`Slots, bootloader and reason of ${props.row.endpoint}`"
      @click="$parent.$emit('turn', props.row.id)">{{ props.row.open ? "▾" : "▸" }}</button>
    <a :href="`/devices/${props.row.id}`">{{ props.row.endpoint }}</a></span></q-td>
  <q-td key="phase" :props="props"><span :class="props.row.look">{{ props.row.phase }}</span></q-td>
  <q-td key="bar" :props="props"><span class="meter" role="progressbar" aria-valuemin="0" aria-valuemax="100"
    :aria-label="`Image fetched by ${props.row.endpoint}`" :aria-valuenow="props.row.part"
    ><i :class="props.row.tone" :style="`width: ${props.row.part}%`"></i></span>
    <span class="under"><span>{{ props.row.bytes }}</span>
      <span :title="props.row.how">{{ props.row.left }}</span></span>
    <span class="narrow">{{ props.row.description }}</span>
  </q-td>
  <q-td key="description" :props="props">{{ props.row.description }}</q-td>
</q-tr>
<q-tr v-if="props.row.open" class="opened"><q-td colspan="100%">
  <div class="closely">
    <div v-html="props.row.panel"></div>
    <div class="asking"><button type="button" class="plain-button" :disabled="props.row.obstacle !== ''"
      @click="$parent.$emit('ask', props.row.id)">Ask the device now</button>
      <span class="quiet">{{ props.row.obstacle || props.row.told }}</span></div>
  </div></q-td></q-tr>
"""
"""Of ui.table, one for each device. `panel` is HTML in which whatever a device said is escaped."""
_FROM = {
    "predicted": "predicted from size, block size and round trip",
    "measured": "measured from the blocks that have come",
    "predicted and measured": "predicted from size, block size and round trip, and measured from the first blocks",
}


class Opened:
    """The rows that are open, and what the service tells of their devices."""

    def __init__(self, api: Api, campaign_id: str) -> None:
        self._api = api
        self._path = f"/lab/campaigns/{campaign_id}/devices"
        self.told: dict[str, dict[str, Any] | None] = {}  # Any: whatever JSON can hold

    def turn(self, device_id: str) -> None:
        """Open a row, or close it."""
        if device_id in self.told:
            del self.told[device_id]
            return
        if len(self.told) >= MOST:
            del self.told[next(iter(self.told))]
        self.told[device_id] = None

    async def look(self) -> None:
        """Ask the service for what is open."""
        for device_id in list(self.told):
            try:
                told = await self._api.get(f"{self._path}/{quote(device_id, safe='')}")
            except ServiceError as error:
                if error.status != 404:
                    raise
                self.told.pop(device_id, None)
                continue
            if device_id in self.told:  # it may have been closed meanwhile
                self.told[device_id] = told

    async def ask(self, device_id: str) -> None:
        """Ask a device for its slots and its log now. Raises as `Api.call` does."""
        await self._api.call("POST", f"{self._path}/{quote(device_id, safe='')}/words")


def rows_of(rows: list[dict[str, Any]], opened: Opened, *, may_ask: bool) -> list[dict[str, Any]]:
    """Return devices' rows as the table takes them; those that share an endpoint name show the end of their ids."""
    names = Counter(row["endpoint_name"] for row in rows)
    return [row_of(row, opened, may_ask=may_ask, shared=names[row["endpoint_name"]] > 1) for row in rows]


def row_of(row: dict[str, Any], opened: Opened, *, may_ask: bool, shared: bool = False) -> dict[str, Any]:
    """Return a device's row as the table takes it; shared: whether another one has its endpoint name, too."""
    name, total, done = row["endpoint_name"], row["total_B"] or 0, row["done_B"] or 0
    told = opened.told.get(row["device_id"])
    left = words.duration(row["left_s"])
    return {
        "id": row["device_id"],
        "endpoint": f"{name} …{row['device_id'][-8:]}" if name and shared else name or row["device_id"],
        "phase": str(row["phase"]).replace("_", " "),
        "look": f"state {tone(row['phase']) or 'quiet'}",
        "part": round(100 * done / total, 1) if total else 0,
        "tone": tone(row["phase"]),
        "bytes": f"{done:,} of {total:,} B" if total else "size not known",
        "left": f"{left} left, {row['left_from']}" if left and row["left_from"] else "",
        "how": _how(row),
        "description": row["description"] or "",
        "open": row["device_id"] in opened.told,
        "panel": "" if told is None else CampaignDevice(told).panel(),
        "obstacle": "" if told is None else READ_ONLY if not may_ask else str(told["obstacle"] or ""),
        "told": ""
        if told is None or not told["told_at"]
        else f"asked {words.lately(told['told_at'])} UTC, service clock",
    }


def _how(row: dict[str, Any]) -> str:
    said = _FROM.get(row["left_from"], "")
    trip = row["round_trip_ms"]
    pace = "" if trip is None else f": blocks of {row['block_B']:,} B, round trip {trip:,.1f} ms"
    return said + pace if said else ""


def tone(phase: str) -> str:
    """Return how a phase looks."""
    return {"success": "good", "fail": "bad"}.get(phase, "")
