"""Groups of devices: /v3/device-groups, and who is in them."""

from __future__ import annotations

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, model_validator

from pdmlab.service import filters
from pdmlab.service.device_groups import COUNTED
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.devices import page_of_devices
from pdmlab.service.rest.filtering import conditions, described
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.rest.texts import Key, Text, Value
from pdmlab.service.schema import device_group_members, devices
from pdmlab.service.store import Row

router = APIRouter(tags=["Device directory"])

FIELDS: dict[str, filters.Kind] = {
    "id": "text",
    "name": "text",
    "devices_count": "number",
    "created_at": "time",
    "updated_at": "time",
}
MAX_ATTRIBUTES = 10
MOST_AT_ONCE = 1000  # devices that a call puts in or takes out


class GroupChange(BaseModel):
    """What may be changed of a group; what is not there stays."""

    name: Text | None = Field(None, min_length=1, max_length=128)
    description: Text | None = Field(None, max_length=2000)
    custom_attributes: dict[Key, Value] | None = Field(None, max_length=MAX_ATTRIBUTES)


class NewGroup(GroupChange):
    """A group as it is wanted."""

    name: Text = Field(min_length=1, max_length=128)


class Members(BaseModel):
    """One device, or several."""

    device_id: Text | None = None
    device_ids: list[Text] | None = Field(None, max_length=MOST_AT_ONCE)

    @model_validator(mode="after")
    def _some(self) -> Members:
        if not self.all:
            raise ValueError("device_id or device_ids has to name a device")
        return self

    @property
    def all(self) -> list[str]:
        """All of them."""
        return [*([self.device_id] if self.device_id else ()), *(self.device_ids or ())]


def shape(row: Row) -> Json:
    """Return a group as the API shows it."""
    return {**row, "object": "device-group", "etag": row["updated_at"]}


@router.get("/v3/device-groups", summary="List device groups", openapi_extra=described(FIELDS))
async def list_groups(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Groups of the account, each with the number of its devices."""
    wanted = filters.where(conditions(request, FIELDS), COUNTED)
    return page.select(core.store, COUNTED, [COUNTED.c.account_id == key.account_id, *wanted], shape)


@router.post("/v3/device-groups", summary="Make a device group", status_code=201, responses={409: {}})
async def post_group(core: TheCore, key: TheKey, wanted: NewGroup) -> Json:
    """Make a group of no devices; its name is the account's only one."""
    return shape(core.device_groups.add(key.account_id, **wanted.model_dump(exclude_none=True)))


@router.get("/v3/device-groups/{group_id}", summary="Get a device group")
async def get_group(core: TheCore, key: TheKey, group_id: str) -> Json:
    """One group."""
    return shape(core.device_groups.find(key.account_id, group_id))


@router.put("/v3/device-groups/{group_id}", summary="Change a device group", responses={409: {}})
async def put_group(core: TheCore, key: TheKey, group_id: str, change: GroupChange) -> Json:
    """Set what the body names."""
    given = change.model_dump(exclude_none=True)
    return shape(core.device_groups.change(key.account_id, group_id, **given))


@router.delete("/v3/device-groups/{group_id}", summary="Delete a device group", status_code=204)
async def delete_group(core: TheCore, key: TheKey, group_id: str) -> Response:
    """Delete a group; its devices stay."""
    core.device_groups.remove(key.account_id, group_id)
    return Response(status_code=204)


@router.get(
    "/v3/device-groups/{group_id}/devices",
    summary="List the devices of a group",
    openapi_extra=described(filters.DEVICE_FIELDS),
)
async def list_members(core: TheCore, key: TheKey, group_id: str, page: Page, request: Request) -> Json:
    """Devices that are in a group; filter as /v3/devices."""
    core.device_groups.find(key.account_id, group_id)
    within = device_group_members.c
    wanted = filters.where(conditions(request, filters.DEVICE_FIELDS), devices)
    mine = devices.c.id.in_(sa.select(within.device_id).where(within.group_id == group_id))
    return page_of_devices(core, page, [devices.c.account_id == key.account_id, mine, *wanted])


@router.post("/v3/device-groups/{group_id}/devices/add", summary="Put a device into a group", status_code=204)
async def add_members(core: TheCore, key: TheKey, group_id: str, wanted: Members) -> Response:
    """Put a device (`device_id`) or several (`device_ids`) into a group; all of them, or none."""
    core.device_groups.put_in(key.account_id, group_id, wanted.all)
    return Response(status_code=204)


@router.post("/v3/device-groups/{group_id}/devices/remove", summary="Take a device out of a group", status_code=204)
async def remove_members(core: TheCore, key: TheKey, group_id: str, wanted: Members) -> Response:
    """Take a device (`device_id`) or several (`device_ids`) out of a group."""
    core.device_groups.take_out(key.account_id, group_id, wanted.all)
    return Response(status_code=204)
