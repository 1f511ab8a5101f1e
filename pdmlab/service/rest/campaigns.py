"""Update campaigns: /v3/update-campaigns, and what became of each device."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from pdmlab.service import filters
from pdmlab.service.firmware import MAX_DESCRIPTION, MAX_NAME
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.rest import manifests
from pdmlab.service.rest.context import TheCore, TheKey, base_url
from pdmlab.service.rest.errors import Invalid
from pdmlab.service.rest.images import NAMED
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.schema import campaigns
from pdmlab.service.store import Row

router = APIRouter(tags=["Update"])

CAMPAIGN_FIELDS: dict[str, filters.Kind] = NAMED | {
    **dict.fromkeys(("device_filter", "root_manifest_id", "state", "phase"), "text"),
    **dict.fromkeys(("when", "started_at", "finished"), "time"),
}


class CampaignChange(BaseModel):
    """A campaign as it is wanted; state "scheduled" starts it."""

    name: str | None = Field(None, max_length=MAX_NAME)
    description: str | None = Field(None, max_length=MAX_DESCRIPTION)
    device_filter: str | None = None
    root_manifest_id: str | None = Field(None, max_length=32)
    when: str | None = Field(None, max_length=64)
    state: str | None = Field(None, max_length=32)
    campaign_strategy: Literal["one-shot"] | None = None


def shape(row: Row, base: str) -> Json:
    """Return a campaign as the API shows it; base: this API's address."""
    manifest_id = row["root_manifest_id"]
    names = (
        "id account_id name description device_filter root_manifest_id campaign_strategy phase state when started_at"
    )
    return {
        **{name: row[name] for name in [*names.split(), "finished", "created_at", "updated_at", "autostop_reason"]},
        "object": "update-campaign",
        "root_manifest_url": manifests.address(base, manifest_id) if manifest_id else None,
        "health_indicator": None,
        "etag": row["updated_at"],
    }


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
    return shape(row, base_url(request))


@router.get("/v3/update-campaigns", summary="List campaigns")
async def list_campaigns(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Campaigns of the account."""
    conditions = filters.from_parameters(request.query_params.multi_items(), CAMPAIGN_FIELDS)
    where = [campaigns.c.account_id == key.account_id, *filters.where(conditions, campaigns)]
    base = base_url(request)
    return page.select(core.store, campaigns, where, lambda row: shape(row, base))


@router.get("/v3/update-campaigns/{campaign_id}", summary="Get a campaign")
async def get_campaign(core: TheCore, key: TheKey, campaign_id: str, request: Request) -> Json:
    """One campaign."""
    return shape(core.campaigns.find(key.account_id, campaign_id), base_url(request))


@router.put("/v3/update-campaigns/{campaign_id}", summary="Change or start a campaign")
async def put_campaign(core: TheCore, key: TheKey, campaign_id: str, change: CampaignChange, request: Request) -> Json:
    """Set what the body names: all of a draft, later name and description only. State "scheduled" starts a draft."""
    given = _given(change)
    if "device_filter" in given and not str(given["device_filter"]).strip():
        raise Invalid(("device_filter", "must not be empty"))
    with core.store.begin():  # both or nothing
        row = core.campaigns.change(key.account_id, campaign_id, **given)
        if change.state == "scheduled" and row["phase"] == "draft":
            row = core.campaigns.start(key.account_id, campaign_id)
    return shape(row, base_url(request))


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


@router.get("/v3/update-campaigns/{campaign_id}/campaign-device-metadata", summary="List a campaign's devices")
async def list_metadata(core: TheCore, key: TheKey, page: Page, campaign_id: str) -> Json:
    """What became of each device."""
    return page.cut([shape_device(row) for row in core.campaigns.metadata(key.account_id, campaign_id)])


@router.get(
    "/v3/update-campaigns/{campaign_id}/campaign-device-metadata/{metadata_id}", summary="Get a campaign's device"
)
async def get_metadata(core: TheCore, key: TheKey, campaign_id: str, metadata_id: str) -> Json:
    """What became of one device."""
    rows = core.campaigns.metadata(key.account_id, campaign_id)
    return _one("campaign device", metadata_id, [shape_device(row) for row in rows])


@router.get("/v3/update-campaigns/{campaign_id}/metrics", summary="Count a campaign's devices")
async def get_metrics(core: TheCore, key: TheKey, campaign_id: str) -> Json:
    """How many succeeded, failed, wait and were skipped; 404 before the start."""
    row = core.campaigns.find(key.account_id, campaign_id)
    if row["phase"] == "draft":
        raise Refused(404, f"campaign {campaign_id} has not started")
    counts = core.campaigns.metrics(key.account_id, campaign_id)
    return {"object": "update-campaign-metrics", **counts, "created_at": row["started_at"] or row["created_at"]}


@router.get("/v3/update-campaigns/{campaign_id}/statistics", summary="List a campaign's statistics")
async def list_statistics(core: TheCore, key: TheKey, page: Page, campaign_id: str) -> Json:
    """How many devices are where: fail, success, info (under way), skipped."""
    return page.cut(_statistics(core.campaigns.statistics(key.account_id, campaign_id)))


@router.get("/v3/update-campaigns/{campaign_id}/statistics/{summary_id}", summary="Get one of the statistics")
async def get_statistics(core: TheCore, key: TheKey, campaign_id: str, summary_id: str) -> Json:
    """How many devices are there."""
    return _one("summary", summary_id, _statistics(core.campaigns.statistics(key.account_id, campaign_id)))


@router.get(
    "/v3/update-campaigns/{campaign_id}/statistics/{summary_id}/event_types", summary="List the events behind a number"
)
async def list_event_types(core: TheCore, key: TheKey, page: Page, campaign_id: str, summary_id: str) -> Json:
    """How many devices are at which event, with what it means."""
    return page.cut(_events(core.campaigns.event_types(key.account_id, campaign_id, summary_id)))


@router.get(
    "/v3/update-campaigns/{campaign_id}/statistics/{summary_id}/event_types/{event_id}", summary="Get one of the events"
)
async def get_event_type(core: TheCore, key: TheKey, campaign_id: str, summary_id: str, event_id: str) -> Json:
    """How many devices are at an event."""
    events = _events(core.campaigns.event_types(key.account_id, campaign_id, summary_id))
    return _one("event type", event_id, events)


def _statistics(rows: list[Row]) -> list[Json]:
    return [{"object": "summary_status", **row} for row in rows]


def _events(rows: list[Row]) -> list[Json]:
    return [{"object": "event-type", **row} for row in rows]


def _one(what: str, id: str, rows: list[Json]) -> Json:
    for row in rows:
        if row["id"] == id:
            return row
    raise not_found(what, id)
