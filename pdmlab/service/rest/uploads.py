"""Firmware images that come in chunks: /v3/firmware-images/upload-jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, Field

from pdmlab.service import filters
from pdmlab.service.firmware import MAX_DESCRIPTION, MAX_NAME
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.images import NAMED
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.schema import upload_jobs
from pdmlab.service.store import Row

router = APIRouter(tags=["Update"])

JOB_FIELDS: dict[str, filters.Kind] = NAMED | {"status": "text", "firmware_image_id": "text"}


class JobChange(BaseModel):
    """An upload job as it is wanted."""

    name: str | None = Field(None, max_length=MAX_NAME)
    description: str | None = Field(None, max_length=MAX_DESCRIPTION)
    datafile_encryption: bool | None = None


def shape_job(row: Row) -> Json:
    """Return an upload job as the API shows it."""
    return {
        **row,
        "object": "upload-job",
        "complete": row["status"] != "in_progress",
        "etag": row["updated_at"],
    }


def shape_chunk(row: Row) -> Json:
    """Return what is known of a chunk, as the API shows it."""
    return {
        "object": "upload-info",
        "id": row["number"],
        "upload_job_id": row["upload_job_id"],
        "hash": row["hash"],
        "length": row["length"],
        "created_at": row["created_at"],
        "updated_at": row["created_at"],
        "etag": row["created_at"],
    }


@router.post("/v3/firmware-images/upload-jobs", summary="Begin an upload in chunks", status_code=201)
async def post_job(core: TheCore, key: TheKey, wanted: JobChange) -> Json:
    """Begin an upload of an image in chunks."""
    return shape_job(core.firmware.add_job(key.account_id, wanted.name or "", description=wanted.description or ""))


@router.get("/v3/firmware-images/upload-jobs", summary="List uploads in chunks")
async def list_jobs(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Uploads of the account, finished ones too."""
    conditions = filters.from_parameters(request.query_params.multi_items(), JOB_FIELDS)
    where = [upload_jobs.c.account_id == key.account_id, *filters.where(conditions, upload_jobs)]
    return page.select(core.store, upload_jobs, where, shape_job)


@router.get("/v3/firmware-images/upload-jobs/{job_id}", summary="Get an upload in chunks")
async def get_job(core: TheCore, key: TheKey, job_id: str) -> Json:
    """One upload; firmware_image_id is there once it is complete."""
    return shape_job(core.firmware.job(key.account_id, job_id))


@router.put("/v3/firmware-images/upload-jobs/{job_id}", summary="Change an upload in chunks")
async def put_job(core: TheCore, key: TheKey, job_id: str, change: JobChange) -> Json:
    """Set name or description."""
    given = change.model_dump(include={"name", "description"}, exclude_none=True)
    return shape_job(core.firmware.update_job(key.account_id, job_id, **given))


@router.delete("/v3/firmware-images/upload-jobs/{job_id}", summary="Give an upload in chunks up", status_code=204)
async def delete_job(core: TheCore, key: TheKey, job_id: str) -> Response:
    """Let the chunks go; an image that they have become stays."""
    core.firmware.delete_job(key.account_id, job_id)
    return Response(status_code=204)


@router.post("/v3/firmware-images/upload-jobs/{job_id}/chunks", summary="Upload a chunk", status_code=201)
async def post_chunk(
    core: TheCore,
    key: TheKey,
    job_id: str,
    request: Request,
    content_md5: Annotated[str | None, Header(description="MD5 of the chunk in base64.")] = None,
) -> Json:
    """Append the body to the upload; an empty body ends it, and makes the image."""
    core.firmware.job(key.account_id, job_id)
    return shape_chunk(core.firmware.add_chunk(key.account_id, job_id, await request.body(), content_md5))


@router.get("/v3/firmware-images/upload-jobs/{job_id}/chunks", summary="List an upload's chunks")
async def list_chunks(core: TheCore, key: TheKey, page: Page, job_id: str) -> Json:
    """What has come so far."""
    core.firmware.job(key.account_id, job_id)
    return page.cut([shape_chunk(row) for row in core.firmware.chunks(job_id)])
