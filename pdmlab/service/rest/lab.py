"""What only this service has: what it heard and said, what waits, and what is observed. For looking, under /lab."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from pdmlab.capture import LoggedMessage
from pdmlab.capture.view import Messages
from pdmlab.service.refusal import not_found
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json

router = APIRouter(prefix="/lab", tags=["Lab"])


Limit = Annotated[int, Query(ge=1, le=100_000, description="The latest.")]
After = Annotated[int, Query(ge=-1, description="Those with a greater `number` only: for following the log.")]


@router.get("/log", summary="List CoAP messages")
async def get_log(core: TheCore, key: TheKey, limit: Limit = 10_000, after: After = -1) -> list[Json]:
    """Messages between the service and the account's devices, oldest first; none where the service keeps no log.

    For the service's own account also those of whom nobody knows yet: they may be any account's.
    """
    rows = [] if core.log is None else await _rows(core.log, core.log, after)
    known = {row.device for row in rows} - {""}
    mine = {device for device in known if core.directory.account_of(device) == key.account_id}
    mine |= {""} if key.account_id == core.account_id else set()
    return [asdict(row) for row in rows if row.device in mine][-limit:]


@router.get("/log/{device_id}", summary="List a device's CoAP messages")
async def get_device_log(
    core: TheCore, key: TheKey, device_id: str, limit: Limit = 10_000, after: After = -1
) -> list[Json]:
    """Messages between the service and a device, over all its addresses, bootstrap included; oldest first."""
    if core.directory.find(device_id, key.account_id) is None:
        raise not_found("device", device_id)
    rows = [] if core.log is None else await _rows(core.log, core.log.of_device(device_id), after)
    return [asdict(row) for row in rows[-limit:]]


async def _rows(log: Messages, messages: Messages, after: int) -> list[LoggedMessage]:
    if log.mark <= after + 1:
        return []  # whoever follows it asks again and again
    # In a thread: decoding ten thousand takes half a second, and devices do not wait for that.
    return await asyncio.to_thread(messages.since(after + 1).rows)


@router.get("/queue", summary="List what waits")
async def get_queues(core: TheCore, key: TheKey) -> list[Json]:
    """What waits for the account's devices, and why: requests, observations to be made, manifests of campaigns."""
    return core.requests.queue(account_id=key.account_id)


@router.get("/queue/{device_id}", summary="List what waits for a device")
async def get_queue(core: TheCore, key: TheKey, device_id: str) -> list[Json]:
    """What waits for a device, each kind in the order in which it will get it, why it waits and until when."""
    if core.directory.find(device_id, key.account_id) is None:
        raise not_found("device", device_id)
    return core.requests.queue(device_id)


@router.get("/observations/{device_id}", summary="List a device's observations")
async def get_observations(core: TheCore, key: TheKey, device_id: str) -> list[Json]:
    """Which token means which path, and how many keys want it."""
    if core.directory.find(device_id, key.account_id) is None:
        raise not_found("device", device_id)
    return core.observations.table(device_id)


@router.get("/campaigns/{campaign_id}/progress", summary="List how far a campaign's devices are")
async def get_progress(core: TheCore, key: TheKey, campaign_id: str) -> list[Json]:
    """Of each device: what it does, bytes of the image that it has, and how long the rest will take (s)."""
    core.campaigns.find(key.account_id, campaign_id)
    return core.campaigns.progress(campaign_id)
