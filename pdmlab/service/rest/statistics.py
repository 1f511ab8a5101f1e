"""What a campaign's devices have come to, counted: metrics, statistics and the events behind them."""

from __future__ import annotations

from fastapi import APIRouter

from pdmlab.service.campaign_words import SUMMARIES
from pdmlab.service.core import Core
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.store import Row

router = APIRouter(tags=["Update"])


@router.get("/v3/update-campaigns/{campaign_id}/metrics", summary="Count a campaign's devices")
async def get_metrics(core: TheCore, key: TheKey, campaign_id: str) -> Json:
    """How many succeeded, failed, wait and were skipped; 404 before the start."""
    row = core.campaigns.find(key.account_id, campaign_id)
    if row["started_at"] is None:
        raise Refused(404, f"campaign {campaign_id} has not started")
    counts = core.campaigns.metrics(key.account_id, campaign_id)
    return {"object": "update-campaign-metrics", **counts, "created_at": row["started_at"]}


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
    return page.cut(_events(core, key.account_id, campaign_id, summary_id))


@router.get(
    "/v3/update-campaigns/{campaign_id}/statistics/{summary_id}/event_types/{event_id}", summary="Get one of the events"
)
async def get_event_type(core: TheCore, key: TheKey, campaign_id: str, summary_id: str, event_id: str) -> Json:
    """How many devices are at an event."""
    return _one("event type", event_id, _events(core, key.account_id, campaign_id, summary_id))


def _statistics(rows: list[Row]) -> list[Json]:
    return [{"object": "summary_status", **row} for row in rows]


def _events(core: Core, account_id: str, campaign_id: str, summary_id: str) -> list[Json]:
    if summary_id not in SUMMARIES:
        raise not_found("summary", summary_id)
    rows = core.campaigns.event_types(account_id, campaign_id, summary_id)
    return [{"object": "event-type", **row} for row in rows]


def _one(what: str, id: str, rows: list[Json]) -> Json:
    for row in rows:
        if row["id"] == id:
            return row
    raise not_found(what, id)
