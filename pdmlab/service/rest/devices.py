"""The device directory: /v3/devices, and what happened to devices: /v3/device-events, /v3/devicelog."""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, StringConstraints

from pdmlab.service import filters
from pdmlab.service.refusal import not_found
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.schema import device_events, devices
from pdmlab.service.store import Row

router = APIRouter(tags=["Device directory"])

EVENT_FIELDS: dict[str, filters.Kind] = {
    "id": "text",
    "device_id": "text",
    "event_type": "text",
    "event_type_category": "text",
    "description": "text",
    "state_change": "flag",
    "date_time": "time",
    "created_at": "time",
}

MAX_ATTRIBUTES = 5

Attribute = Annotated[str, StringConstraints(max_length=128)]


class DeviceChange(BaseModel):
    """What may be changed of a device; what is not there stays."""

    name: str | None = Field(None, max_length=128)
    description: str | None = Field(None, max_length=2000)
    custom_attributes: dict[Attribute, Attribute] | None = Field(None, max_length=MAX_ATTRIBUTES)
    endpoint_name: str | None = Field(None, max_length=64)
    endpoint_type: str | None = Field(None, max_length=64)
    host_gateway: str | None = Field(None, max_length=32)
    device_key: str | None = Field(None, max_length=512)
    ca_id: str | None = Field(None, max_length=500)
    auto_update: bool | None = None
    groups: list[Attribute] | None = None


def shape(row: Row) -> Json:
    """Return a device as the API shows it."""
    return {**row, "object": "device", "etag": row["updated_at"]}


def shape_event(row: Row) -> Json:
    """Return a device event as the API shows it."""
    return {**row, "object": "device-event", "etag": row["created_at"]}


@router.get("/v3/devices", summary="List devices")
async def list_devices(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Devices of the account: filter by `filter=state=registered` (encoded) or by `state__eq=registered`."""
    conditions = filters.from_parameters(request.query_params.multi_items())
    where = [devices.c.account_id == key.account_id, *filters.where(conditions, devices)]
    return page.select(core.store, devices, where, shape)


@router.get("/v3/devices/{device_id}", summary="Get a device")
async def get_device(core: TheCore, key: TheKey, device_id: str) -> Json:
    """One device, field by field."""
    row = core.directory.find(device_id, key.account_id)
    if row is None:
        raise not_found("device", device_id)
    return shape(row)


@router.put("/v3/devices/{device_id}", summary="Change a device")
async def put_device(core: TheCore, key: TheKey, device_id: str, change: DeviceChange) -> Json:
    """Set the fields that the body names."""
    row = core.directory.find(device_id, key.account_id)
    if row is None:
        raise not_found("device", device_id)
    wanted = _wanted(change)
    changed = {name: value for name, value in wanted.items() if row[name] != value}
    if changed:
        with core.store.begin():
            core.directory.change(device_id, **changed)
            core.directory.event(key.account_id, device_id, "update.device.device-updated", changes=changed)
    return shape(core.directory.find(device_id) or row)


def _wanted(change: DeviceChange) -> dict[str, Any]:
    empty: dict[str, Any] = {"custom_attributes": {}, "groups": [], "auto_update": False}
    given = change.model_dump(exclude_unset=True)
    return {name: empty.get(name) if value is None else value for name, value in given.items()}


@router.delete("/v3/devices/{device_id}", summary="Delete a device", status_code=204)
async def delete_device(core: TheCore, key: TheKey, device_id: str) -> Response:
    """Delete a device with its registration, subscriptions and queue; it can bootstrap again as a new one."""
    if not core.directory.remove(key.account_id, device_id):
        raise not_found("device", device_id)
    return Response(status_code=204)


@router.get("/v3/device-events", summary="List device events")
@router.get("/v3/devicelog", summary="List device events (older path)")
async def list_events(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """What has happened to devices; events outlive their device. Filter as devices: `device_id__eq=…`."""
    conditions = filters.from_parameters(request.query_params.multi_items(), EVENT_FIELDS)
    where = [device_events.c.account_id == key.account_id, *filters.where(conditions, device_events)]
    return page.select(core.store, device_events, where, shape_event)


@router.get("/v3/device-events/{event_id}", summary="Get a device event")
@router.get("/v3/devicelog/{event_id}", summary="Get a device event (older path)")
async def get_event(core: TheCore, key: TheKey, event_id: str) -> Json:
    """One event."""
    mine = device_events.c.account_id == key.account_id
    row = core.store.row(sa.select(device_events).where(mine, device_events.c.id == event_id))
    if row is None:
        raise not_found("device event", event_id)
    return shape_event(row)
