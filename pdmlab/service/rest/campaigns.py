"""Update campaigns: /v3/update-campaigns, and what became of each device."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from pdmlab.service import filters
from pdmlab.service.campaign_drafts import MAX_FILTER
from pdmlab.service.core import Core
from pdmlab.service.firmware import MAX_DESCRIPTION, MAX_NAME
from pdmlab.service.rest import manifests
from pdmlab.service.rest.context import TheCore, TheKey, base_url
from pdmlab.service.rest.errors import Invalid
from pdmlab.service.rest.filtering import conditions, described
from pdmlab.service.rest.images import NAMED
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.rest.texts import Text
from pdmlab.service.schema import campaign_devices, campaigns
from pdmlab.service.store import Row

router = APIRouter(tags=["Update"])

CAMPAIGN_FIELDS: dict[str, filters.Kind] = NAMED | {
    **dict.fromkeys(("device_filter", "root_manifest_id", "state", "phase"), "text"),
    **dict.fromkeys(("when", "started_at", "finished"), "time"),
}
METADATA_FIELDS: dict[str, filters.Kind] = NAMED | dict.fromkeys(
    ("campaign", "device_id", "deployment_state", "mechanism", "mechanism_url"), "text"
)

_WITHOUT_MANIFEST = [column for column in campaigns.c if column.name != "manifest"]

State = Literal[
    "draft", "scheduled", "allocatingquota", "allocatedquota", "quotaallocationfailed", "checkingmanifest",
    "checkedmanifest", "devicefetch", "devicecopy", "devicecheck", "publishing", "deploying", "deployed",
    "manifestremoved", "expired", "stopping", "autostopped", "userstopped", "conflict",
]  # fmt: skip


class CampaignChange(BaseModel):
    """A campaign as it is wanted; state "scheduled" starts it."""

    name: Text | None = Field(None, max_length=MAX_NAME)
    description: Text | None = Field(None, max_length=MAX_DESCRIPTION)
    device_filter: Text | None = Field(
        None, max_length=MAX_FILTER, description="Which devices: a query, such as id__eq=…&state__eq=registered."
    )
    root_manifest_id: Text | None = Field(None, max_length=32)
    when: Text | None = Field(None, max_length=64, description="When a started campaign begins; at once without.")
    state: State | None = Field(None, description='"scheduled" starts a draft; anything else changes nothing.')
    campaign_strategy: Literal["one-shot"] | None = None


def shape(row: Row, base: str, failing: tuple[int, int] = (0, 0)) -> Json:
    """Return a campaign as the API shows it; base: this API's address; failing: devices that failed, of those done."""
    manifest_id = row["root_manifest_id"]
    names = (
        "id account_id name description device_filter root_manifest_id campaign_strategy phase state when started_at"
    )
    return {
        **{name: row[name] for name in [*names.split(), "finished", "created_at", "updated_at"]},
        "object": "update-campaign",
        "root_manifest_url": manifests.address(base, manifest_id) if manifest_id else None,
        "autostop_reason": row["autostop_reason"] or "",
        "health_indicator": _health(row["state"], *failing),
        "etag": row["updated_at"],
    }


def _health(state: str, failed: int, done: int) -> str:
    """Return one of the SDK's words: warning once a device has failed, error where that is the rule."""
    if state in ("conflict", "quotaallocationfailed") or failed * 2 > done:
        return "error"
    return "warning" if failed else "ok"


def _shown(core: Core, row: Row, request: Request) -> Json:
    return shape(row, base_url(request), core.campaigns.failing([row["id"]]).get(row["id"], (0, 0)))


def shape_device(row: Row) -> Json:
    """Return what became of a device, as the API shows it; the description says it in words."""
    names = "id device_id deployment_state mechanism mechanism_url name description created_at updated_at"
    return {
        **{name: row[name] for name in names.split()},
        "object": "update-campaign-device-metadata",
        "campaign": row["campaign_id"],
        "etag": row["updated_at"],
    }


@router.post("/v3/update-campaigns", summary="Make a campaign", status_code=201)
async def post_campaign(core: TheCore, key: TheKey, wanted: CampaignChange, request: Request) -> Json:
    """Make a campaign; it waits as a draft until it is started, or starts at once with state "scheduled"."""
    given = _given(wanted)
    if not str(given.get("device_filter") or "").strip():
        raise Invalid(("device_filter", "is required; id=… or state=registered, for example"))
    with core.store.begin():  # both or nothing
        row = core.campaigns.create(key.account_id, **given)
        if wanted.state == "scheduled":
            row = core.campaigns.start(key.account_id, row["id"])
    return _shown(core, row, request)


@router.get("/v3/update-campaigns", summary="List campaigns", openapi_extra=described(CAMPAIGN_FIELDS))
async def list_campaigns(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Campaigns of the account."""
    wanted = filters.where(conditions(request, CAMPAIGN_FIELDS), campaigns)
    where = [campaigns.c.account_id == key.account_id, *wanted]
    found = page.rows(core.store, campaigns, where, _WITHOUT_MANIFEST)
    base, failing = base_url(request), core.campaigns.failing(row["id"] for row in found["data"])
    return {**found, "data": [shape(row, base, failing.get(row["id"], (0, 0))) for row in found["data"]]}


@router.get("/v3/update-campaigns/{campaign_id}", summary="Get a campaign")
async def get_campaign(core: TheCore, key: TheKey, campaign_id: str, request: Request) -> Json:
    """One campaign."""
    return _shown(core, core.campaigns.find(key.account_id, campaign_id), request)


@router.put("/v3/update-campaigns/{campaign_id}", summary="Change or start a campaign")
async def put_campaign(core: TheCore, key: TheKey, campaign_id: str, change: CampaignChange, request: Request) -> Json:
    """Set what the body names: all of a draft, later name and description only (403). State "scheduled" starts a draft.

    One that runs already is left alone then; for one that has stopped it is too late (409).
    """
    given = _given(change)
    if "device_filter" in given and not str(given["device_filter"]).strip():
        raise Invalid(("device_filter", "must not be empty"))
    with core.store.begin():  # both or nothing
        row = core.campaigns.change(key.account_id, campaign_id, **given)
        if change.state == "scheduled" and row["phase"] not in ("starting", "active"):
            row = core.campaigns.start(key.account_id, campaign_id)
    return _shown(core, row, request)


def _given(change: CampaignChange) -> dict[str, Any]:
    """Return what the body names: null is a value for what may be missing, and nothing for the rest."""
    given = change.model_dump(exclude_unset=True, exclude={"state"})
    return {name: value for name, value in given.items() if value is not None or name in ("when", "root_manifest_id")}


@router.delete("/v3/update-campaigns/{campaign_id}", summary="Delete a campaign", status_code=204)
async def delete_campaign(core: TheCore, key: TheKey, campaign_id: str) -> Response:
    """Delete a campaign that does not run; 409 for one that does."""
    core.campaigns.delete(key.account_id, campaign_id)
    return Response(status_code=204)


@router.post("/v3/update-campaigns/{campaign_id}/start", summary="Start a campaign", status_code=202)
async def start_campaign(core: TheCore, key: TheKey, campaign_id: str) -> Response:
    """Start a draft, now or at its time."""
    core.campaigns.start(key.account_id, campaign_id)
    return Response(status_code=202)


@router.post("/v3/update-campaigns/{campaign_id}/stop", summary="Stop a campaign", status_code=202)
async def stop_campaign(core: TheCore, key: TheKey, campaign_id: str) -> Response:
    """Stop a campaign; devices that have the manifest already go on by themselves."""
    core.campaigns.stop(key.account_id, campaign_id)
    return Response(status_code=202)


@router.post("/v3/update-campaigns/{campaign_id}/archive", summary="Archive a campaign", status_code=202)
async def archive_campaign(core: TheCore, key: TheKey, campaign_id: str) -> Response:
    """Put a campaign away."""
    core.campaigns.archive(key.account_id, campaign_id)
    return Response(status_code=202)


@router.get(
    "/v3/update-campaigns/{campaign_id}/campaign-device-metadata",
    summary="List a campaign's devices",
    openapi_extra=described(METADATA_FIELDS),
)
async def list_metadata(core: TheCore, key: TheKey, page: Page, campaign_id: str, request: Request) -> Json:
    """What became of each device."""
    core.campaigns.find(key.account_id, campaign_id)
    c = campaign_devices.c
    shown = sa.select(*c, c.campaign_id.label("campaign")).where(c.campaign_id == campaign_id).subquery()
    return page.select(
        core.store, shown, filters.where(conditions(request, METADATA_FIELDS), shown), shape_device, large=True
    )


@router.get(
    "/v3/update-campaigns/{campaign_id}/campaign-device-metadata/{metadata_id}", summary="Get a campaign's device"
)
async def get_metadata(core: TheCore, key: TheKey, campaign_id: str, metadata_id: str) -> Json:
    """What became of one device."""
    return shape_device(core.campaigns.device(key.account_id, campaign_id, metadata_id))
