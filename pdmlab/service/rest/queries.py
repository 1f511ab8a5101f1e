"""Filters that are kept under a name: /v3/device-queries."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from pdmlab.service import filters
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.filtering import conditions, described
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.rest.texts import Text
from pdmlab.service.schema import device_queries
from pdmlab.service.store import Row

router = APIRouter(tags=["Device directory"])

FIELDS: dict[str, filters.Kind] = {
    "id": "text",
    "name": "text",
    "query": "text",
    "created_at": "time",
    "updated_at": "time",
}


_ABOUT = "As a filter: `state=registered&custom_attributes__site=lab`."


class NewQuery(BaseModel):
    """A query as it is wanted."""

    name: Text = Field(max_length=200)
    query: Text = Field(max_length=1000, description=_ABOUT)


class QueryChange(BaseModel):
    """What may be changed of a query; what is not there stays, as the vendor's SDK has it."""

    name: Text | None = Field(None, max_length=200)
    query: Text | None = Field(None, max_length=1000, description=_ABOUT)


def shape(row: Row) -> Json:
    """Return a query as the API shows it: as it was written."""
    return {**row, "object": "device-query", "etag": row["updated_at"]}


@router.get("/v3/device-queries", summary="List device queries", openapi_extra=described(FIELDS))
async def list_queries(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Queries of the account."""
    wanted = filters.where(conditions(request, FIELDS), device_queries)
    return page.select(core.store, device_queries, [device_queries.c.account_id == key.account_id, *wanted], shape)


@router.post("/v3/device-queries", summary="Keep a device query", status_code=201)
async def post_query(core: TheCore, key: TheKey, wanted: NewQuery) -> Json:
    """Keep a filter of the directory under a name; one that no device could be compared with is refused."""
    return shape(core.queries.add(key.account_id, wanted.name, wanted.query))


@router.get("/v3/device-queries/{query_id}", summary="Get a device query")
async def get_query(core: TheCore, key: TheKey, query_id: str) -> Json:
    """One query."""
    return shape(core.queries.find(key.account_id, query_id))


@router.put("/v3/device-queries/{query_id}", summary="Change a device query")
async def put_query(core: TheCore, key: TheKey, query_id: str, change: QueryChange) -> Json:
    """Set what the body names."""
    return shape(core.queries.change(key.account_id, query_id, **change.model_dump(exclude_none=True)))


@router.delete("/v3/device-queries/{query_id}", summary="Delete a device query", status_code=204)
async def delete_query(core: TheCore, key: TheKey, query_id: str) -> Response:
    """Delete a query."""
    core.queries.remove(key.account_id, query_id)
    return Response(status_code=204)
