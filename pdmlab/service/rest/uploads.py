"""Firmware images that come in chunks: /v3/firmware-images/upload-jobs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask

from pdmlab.service import filters
from pdmlab.service.firmware import MAX_DESCRIPTION, MAX_NAME
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.filtering import conditions, described
from pdmlab.service.rest.images import NAMED
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.rest.texts import Text
from pdmlab.service.schema import upload_chunks, upload_jobs
from pdmlab.service.store import Row
from pdmlab.service.uploads import MAX_CHUNK, MAX_CHUNKS

router = APIRouter(tags=["Update"])

_TURNS = 8
JOBS = "/v3/firmware-images/upload-jobs"
JOB_FIELDS: dict[str, filters.Kind] = NAMED | {"status": "text", "firmware_image_id": "text", "complete": "flag"}
CHUNK_FIELDS: dict[str, filters.Kind] = {
    **dict.fromkeys(("id", "length"), "number"),
    **dict.fromkeys(("created_at", "updated_at", "etag"), "time"),
    "hash": "text",
}

_BODY: dict[str, Any] = {  # Any: what JSON holds
    "requestBody": {
        "description": f"At most {MAX_CHUNK >> 20} MiB; nothing, to end the upload.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class JobChange(BaseModel):
    """An upload job as it is wanted."""

    name: Text | None = Field(None, max_length=MAX_NAME)
    description: Text | None = Field(None, max_length=MAX_DESCRIPTION)
    datafile_encryption: bool | None = Field(
        None, description="Whether the image is to be encrypted for devices; said when an upload begins."
    )


def shape_job(row: Row) -> Json:
    """Return an upload job as the API shows it."""
    names = "id account_id name description status firmware_image_id created_at updated_at"
    return {
        **{name: row[name] for name in names.split()},
        "object": "upload-job",
        "datafile_encryption": row["datafile_encryption"],
        "complete": row["status"] != "in_progress",
        "etag": row["updated_at"],
    }


def shape_chunk(row: Row) -> Json:
    """Return what is known of a chunk, as the API shows it; its hash is the Content-MD5 that came with it."""
    return {
        "object": "upload-info",
        "id": row["number"],
        "upload_job_id": row["upload_job_id"],
        "hash": row["md5"],
        "length": row["length"],
        "created_at": row["created_at"],
        "updated_at": row["created_at"],
        "etag": row["created_at"],
    }


@router.post(JOBS, summary="Begin an upload in chunks", status_code=201, responses={409: {}})
async def post_job(core: TheCore, key: TheKey, wanted: JobChange) -> Json:
    """Begin an upload of an image in chunks."""
    encrypt = bool(wanted.datafile_encryption)
    return shape_job(
        core.uploads.add(key.account_id, wanted.name or "", description=wanted.description or "", encrypt=encrypt)
    )


@router.get(JOBS, summary="List uploads in chunks", openapi_extra=described(JOB_FIELDS))
async def list_jobs(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Uploads of the account, finished ones too."""
    c = upload_jobs.c
    shown = sa.select(*c, (c.status != "in_progress").label("complete")).where(c.status != "receiving").subquery()
    where = [shown.c.account_id == key.account_id, *filters.where(conditions(request, JOB_FIELDS), shown)]
    return page.select(core.store, shown, where, shape_job)


@router.get(f"{JOBS}/{{job_id}}", summary="Get an upload in chunks")
async def get_job(core: TheCore, key: TheKey, job_id: str) -> Json:
    """One upload; firmware_image_id is there once it is complete."""
    return shape_job(core.uploads.find(key.account_id, job_id))


@router.put(f"{JOBS}/{{job_id}}", summary="Change an upload in chunks")
async def put_job(core: TheCore, key: TheKey, job_id: str, change: JobChange) -> Json:
    """Set name or description."""
    given = change.model_dump(include={"name", "description"}, exclude_none=True)
    return shape_job(core.uploads.change(key.account_id, job_id, **given))


@router.delete(f"{JOBS}/{{job_id}}", summary="Give an upload in chunks up", status_code=204)
async def delete_job(core: TheCore, key: TheKey, job_id: str) -> Response:
    """Let the chunks go; an image that they have become stays."""
    core.uploads.delete(key.account_id, job_id)
    return Response(status_code=204)


@router.post(
    f"{JOBS}/{{job_id}}/chunks",
    summary="Upload a chunk",
    status_code=201,
    openapi_extra=_BODY,
    responses={409: {}, 413: {}},
)
async def post_chunk(
    core: TheCore,
    key: TheKey,
    job_id: str,
    request: Request,
    content_md5: Annotated[str | None, Header(description="MD5 of the chunk in base64.")] = None,
) -> Response:
    """Append the body to the upload; an empty body ends it, and makes the image.

    The latest chunk may be sent again if no answer came: it counts once.
    """
    core.uploads.find(key.account_id, job_id)
    row = await core.uploads.add_chunk(key.account_id, job_id, await _body(request), content_md5)
    # Who has gone meanwhile is not told, and will send it again.
    told = None if await _has_gone(request) else BackgroundTask(_answered, core, row)
    where = {"Location": f"{JOBS}/{job_id}/chunks/{row['number']}"}
    return JSONResponse(shape_chunk(row), 201, where, background=told)


async def _has_gone(request: Request) -> bool:
    """Whether the caller has closed its connection; the front hears of it within a few turns of the loop."""
    hearing = asyncio.ensure_future(request.receive())
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    gone = hearing.done()
    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)
    return gone


async def _answered(core: TheCore, row: Row) -> None:
    core.uploads.answered(row)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_CHUNK:
            raise Refused(413, f"a chunk has at most {MAX_CHUNK} B")
    return bytes(body)


@router.get(f"{JOBS}/{{job_id}}/chunks", summary="List an upload's chunks", openapi_extra=described(CHUNK_FIELDS))
async def list_chunks(core: TheCore, key: TheKey, page: Page, job_id: str, request: Request) -> Json:
    """What has come so far."""
    core.uploads.find(key.account_id, job_id)
    mine = sa.select(upload_chunks).where(upload_chunks.c.upload_job_id == job_id).order_by(upload_chunks.c.number)
    chunks = [shape_chunk(row) for row in core.store.rows(mine.limit(MAX_CHUNKS))]
    wanted = conditions(request, CHUNK_FIELDS)
    return page.cut([chunk for chunk in chunks if filters.matches(wanted, chunk)])


@router.get(f"{JOBS}/{{job_id}}/chunks/{{chunk_id}}", summary="Get what is known of a chunk")
async def get_chunk(core: TheCore, key: TheKey, job_id: str, chunk_id: str) -> Json:
    """One chunk; they count from 1."""
    number = int(chunk_id) if chunk_id.isascii() and chunk_id.isdigit() and len(chunk_id) < 6 else 0
    if not number:
        raise not_found("chunk", chunk_id)
    return shape_chunk(core.uploads.chunk(key.account_id, job_id, number))
