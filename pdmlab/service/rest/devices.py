"""The device directory: /v3/devices, and what happened to devices: /v3/device-events, /v3/devicelog."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from pdmlab.service import filters
from pdmlab.service.core import Core
from pdmlab.service.device_groups import MAX_OF_DEVICE
from pdmlab.service.refusal import not_found
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.filtering import conditions, described
from pdmlab.service.rest.paging import Json, Page, Paging
from pdmlab.service.rest.texts import Key, Text, Value
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

State = Literal["unenrolled", "cloud_enrolling", "bootstrapped", "registered", "deregistered"]


class DeviceChange(BaseModel):
    """What may be changed of a device; what is not there stays."""

    name: Text | None = Field(None, max_length=128)
    description: Text | None = Field(None, max_length=2000)
    custom_attributes: dict[Key, Value] | None = Field(
        None, max_length=MAX_ATTRIBUTES, description="Takes the place of all that were there."
    )
    endpoint_name: Text | None = Field(None, max_length=64)
    endpoint_type: Text | None = Field(None, max_length=64)
    host_gateway: Text | None = Field(None, max_length=32, description="The id of the gateway that it is behind.")
    device_key: Text | None = Field(None, max_length=512, description="The fingerprint of its certificate.")
    ca_id: Text | None = Field(None, max_length=500, description="The id of the certificate of its CA.")
    auto_update: bool | None = None
    groups: list[Text] | None = Field(None, max_length=MAX_OF_DEVICE, description="Ids of all groups that it is in.")


class NewDevice(DeviceChange):
    """A device that is made by hand."""

    device_class: Text | None = Field(None, max_length=32)
    vendor_id: Text | None = Field(None, max_length=255)
    serial_number: Text | None = Field(None, max_length=64)
    mechanism: Literal["connector", "direct"] | None = None
    mechanism_url: Text | None = Field(None, max_length=255)
    device_execution_mode: Literal[0, 1, 5] | None = Field(
        None, description="0: unknown, the default; 1: development; 5: production"
    )
    state: State | None = None
    issuer_fingerprint: str | None = Field(None, pattern="^[A-Fa-f0-9]{64}$")
    bootstrap_expiration_date: datetime.date | None = None
    connector_expiration_date: datetime.date | None = None
    manifest: Text | None = Field(None, max_length=255)
    deployment: Text | None = Field(None, max_length=32)


def shape(row: Row, groups: Sequence[str]) -> Json:
    """Return a device as the API shows it."""
    return {**row, "groups": groups, "object": "device", "etag": row["updated_at"]}


def shape_event(row: Row) -> Json:
    """Return a device event as the API shows it."""
    return {**row, "object": "device-event", "etag": row["created_at"]}


def page_of_devices(core: Core, page: Paging, where: Sequence[sa.ColumnElement[bool]]) -> Json:
    """Return a page of devices, each with its groups."""
    found = page.rows(core.store, devices, where, large=True)
    groups = core.device_groups.of(row["id"] for row in found["data"])
    return {**found, "data": [shape(row, groups[row["id"]]) for row in found["data"]]}


def _shown(core: Core, row: Row) -> Json:
    return shape(row, core.device_groups.of([row["id"]])[row["id"]])


@router.get("/v3/devices", summary="List devices", openapi_extra=described(filters.DEVICE_FIELDS))
async def list_devices(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Devices of the account: filter by `filter=state=registered` (encoded) or by `state__eq=registered`.

    Custom attributes are fields too: `custom_attributes__site__eq=lab`.
    """
    wanted = filters.where(conditions(request, filters.DEVICE_FIELDS), devices)
    return page_of_devices(core, page, [devices.c.account_id == key.account_id, *wanted])


@router.post("/v3/devices", summary="Make a device", status_code=201, responses={409: {}})
async def post_device(core: TheCore, key: TheKey, wanted: NewDevice) -> Json:
    """Make a device by hand; one that registers without security under its endpoint name is this one.

    It counts towards the account's allocation; no two devices that are made so have one device_key.
    """
    given = {name: value for name, value in wanted.model_dump(mode="json").items() if value is not None}
    groups = given.pop("groups", [])
    with core.store.begin():
        row = core.directory.create(key.account_id, **{"device_execution_mode": 0, **given})
        core.device_groups.set_of(key.account_id, row["id"], groups)
    return _shown(core, row)


@router.get("/v3/devices/{device_id}", summary="Get a device")
async def get_device(core: TheCore, key: TheKey, device_id: str) -> Json:
    """One device, field by field."""
    row = core.directory.find(device_id, key.account_id)
    if row is None:
        raise not_found("device", device_id)
    return _shown(core, row)


@router.put("/v3/devices/{device_id}", summary="Change a device")
async def put_device(core: TheCore, key: TheKey, device_id: str, change: DeviceChange) -> Json:
    """Set the fields that the body names."""
    wanted = _wanted(change)
    with core.store.begin() as db:
        # Held until the end: what is no change is so of what is there, not of what was there a moment ago.
        mine = devices.c.account_id == key.account_id, devices.c.id == device_id
        db.execute(sa.select(devices.c.id).where(*mine).with_for_update(key_share=True))
        row = core.directory.find(device_id, key.account_id)
        if row is None:
            raise not_found("device", device_id)
        before = _shown(core, row)
        changed = {name: value for name, value in wanted.items() if before[name] != value}
        if changed:
            if "groups" in changed:
                core.device_groups.set_of(key.account_id, device_id, changed["groups"])
            core.directory.change(device_id, **{name: value for name, value in changed.items() if name != "groups"})
            core.directory.event(key.account_id, device_id, "update.device.device-updated", changes=changed)
    return _shown(core, core.directory.find(device_id) or row)


def _wanted(change: DeviceChange) -> dict[str, Any]:
    empty: dict[str, Any] = {"custom_attributes": {}, "groups": [], "auto_update": False}
    given = change.model_dump(exclude_unset=True)
    return {name: empty.get(name) if value is None else value for name, value in given.items()}


@router.delete("/v3/devices/{device_id}", summary="Delete a device", status_code=204)
async def delete_device(core: TheCore, key: TheKey, device_id: str) -> Response:
    """Delete a device with its registration, subscriptions and queue; it can bootstrap again as a new one.

    One with a production certificate is refused (400): it goes with its enrollment.
    """
    core.directory.delete(key.account_id, device_id)
    return Response(status_code=204)


@router.get("/v3/device-events", summary="List device events", openapi_extra=described(EVENT_FIELDS))
@router.get("/v3/devicelog", summary="List device events (older path)", openapi_extra=described(EVENT_FIELDS))
async def list_events(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """What has happened to devices; events outlive their device. Filter as devices: `device_id__eq=…`."""
    wanted = filters.where(conditions(request, EVENT_FIELDS), device_events)
    where = [device_events.c.account_id == key.account_id, *wanted]
    return page.select(core.store, device_events, where, shape_event, large=True)


@router.get("/v3/device-events/{event_id}", summary="Get a device event")
@router.get("/v3/devicelog/{event_id}", summary="Get a device event (older path)")
async def get_event(core: TheCore, key: TheKey, event_id: str) -> Json:
    """One event."""
    mine = device_events.c.account_id == key.account_id
    row = core.store.row(sa.select(device_events).where(mine, device_events.c.id == event_id))
    if row is None:
        raise not_found("device event", event_id)
    return shape_event(row)
