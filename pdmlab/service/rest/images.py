"""Firmware images: /v3/firmware-images, and the bytes that devices fetch.

The address in `datafile` needs no key: devices have none. It carries an id that cannot be guessed.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Form, Request, Response, UploadFile

from pdmlab.service import filters
from pdmlab.service.core import Core
from pdmlab.service.firmware import FILE_NAME, MAX_DESCRIPTION, MAX_NAME
from pdmlab.service.image_server import wanted_range
from pdmlab.service.refusal import not_found
from pdmlab.service.rest.context import TheCore, TheKey, base_url
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.schema import firmware_images
from pdmlab.service.store import Row

router = APIRouter(tags=["Update"])

NAMED: dict[str, filters.Kind] = {
    **dict.fromkeys(("id", "name", "description"), "text"),
    **dict.fromkeys(("created_at", "updated_at", "etag"), "time"),
}
"""What lists of uploaded things may be filtered by."""

Name = Annotated[str, Form(max_length=MAX_NAME)]
Description = Annotated[str, Form(max_length=MAX_DESCRIPTION)]


def shape_image(row: Row, base: str, lwm2m_uri: str) -> Json:
    """Return an image as the API shows it; base: the address that images are fetched at."""
    return {
        "object": "firmware-image",
        "id": row["id"],
        "account_id": row["account_id"],
        "name": row["name"],
        "description": row["description"],
        "datafile": f"{base}/v3/firmware-images/{row['id']}/{FILE_NAME}",
        "short_datafile": f"{lwm2m_uri}/fw/{row['id']}",
        "datafile_size": row["size"],
        "datafile_checksum": row["checksum"],
        "datafile_encryption": False,  # this service encrypts none, and says so
        "encrypted_datafile_checksum": None,
        "encrypted_datafile_size": None,
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "etag": row["updated_at"],
    }


@router.post("/v3/firmware-images", summary="Upload an image", status_code=201)
async def post_image(
    core: TheCore,
    key: TheKey,
    request: Request,
    datafile: Annotated[UploadFile, File(description="The image, at most 100 MiB.")],
    name: Name = "",
    description: Description = "",
) -> Json:
    """Keep an image; larger ones come in chunks, by an upload job."""
    data = await datafile.read()
    row = core.firmware.add_image(
        key.account_id, name or (datafile.filename or "")[:MAX_NAME], data, description=description
    )
    return shape_image(row, _where(core, request), core.lwm2m_uri)


@router.get("/v3/firmware-images", summary="List images")
async def list_images(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Images of the account."""
    table = firmware_images
    conditions = filters.from_parameters(request.query_params.multi_items(), NAMED)
    where = [table.c.account_id == key.account_id, *filters.where(conditions, table)]
    columns = [column for column in table.c if column.name != "data"]
    base, coap = _where(core, request), core.lwm2m_uri
    return page.select(core.store, table, where, lambda row: shape_image(row, base, coap), columns)


@router.get("/v3/firmware-images/{image_id}", summary="Get an image")
async def get_image(core: TheCore, key: TheKey, image_id: str, request: Request) -> Json:
    """What is known of an image; its bytes are at `datafile`."""
    return shape_image(core.firmware.image(key.account_id, image_id), _where(core, request), core.lwm2m_uri)


@router.delete("/v3/firmware-images/{image_id}", summary="Delete an image", status_code=204)
async def delete_image(core: TheCore, key: TheKey, image_id: str) -> Response:
    """Delete an image; devices that still download it get no more."""
    core.firmware.delete_image(key.account_id, image_id)
    return Response(status_code=204)


@router.head("/v3/firmware-images/{image_id}/{file}", include_in_schema=False)
@router.get("/v3/firmware-images/{image_id}/{file}", summary="Download an image")
async def download_image(core: TheCore, image_id: str, file: str, request: Request) -> Response:
    """The bytes, or a range of them; without a key, as devices come."""
    data = core.firmware.data(image_id)
    if data is None:
        raise not_found("firmware image", image_id)
    return ranged(data, request.headers.get("range", ""))


def _where(core: Core, request: Request) -> str:
    """Return the address that devices fetch images at: this API's, unless boards elsewhere could not reach it."""
    return core.firmware.url or base_url(request)


def ranged(data: bytes, wanted: str) -> Response:
    """Return bytes, or the one range of them that the header Range asks for."""
    kind = "application/octet-stream"
    if (part := wanted_range(wanted, len(data))) is None:
        return Response(data, media_type=kind, headers={"Accept-Ranges": "bytes"})
    start, stop = part
    if start >= stop:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(data)}"})
    headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}", "Accept-Ranges": "bytes"}
    return Response(data[start:stop], 206, media_type=kind, headers=headers)
