"""Firmware images: /v3/firmware-images, and the bytes that devices fetch.

The address in `datafile` needs no key: devices have none. It carries an id that cannot be guessed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, BinaryIO

import sqlalchemy as sa
from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import StreamingResponse

from pdmlab.service import filters
from pdmlab.service.core import Core
from pdmlab.service.firmware import FILE_NAME, IMAGE, MAX_DESCRIPTION, MAX_NAME
from pdmlab.service.image_server import CHUNK, Readable, wanted_range
from pdmlab.service.refusal import not_found
from pdmlab.service.rest.context import TheCore, TheKey, base_url
from pdmlab.service.rest.filtering import conditions, described
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.rest.texts import Text
from pdmlab.service.schema import firmware_images
from pdmlab.service.store import Row

router = APIRouter(tags=["Update"])

NAMED: dict[str, filters.Kind] = {
    **dict.fromkeys(("id", "name", "description"), "text"),
    **dict.fromkeys(("created_at", "updated_at", "etag"), "time"),
}
"""What lists of uploaded things may be filtered by."""

IMAGE_FIELDS: dict[str, filters.Kind] = NAMED | {
    **dict.fromkeys(("datafile", "datafile_checksum"), "text"),
    "datafile_size": "number",
}

Name = Annotated[Text, Form(max_length=MAX_NAME)]
Description = Annotated[Text, Form(max_length=MAX_DESCRIPTION)]

_PART = 1 << 20  # B read of an upload at once

_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
RANGED: dict[int | str, dict[str, Any]] = {200: _BYTES, 206: _BYTES, 404: {}, 416: {}}
"""What a download is answered with. Any: what JSON holds."""


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
        "datafile_encryption": row["datafile_encryption"],
        "encrypted_datafile_checksum": row["encrypted_checksum"],
        "encrypted_datafile_size": row["encrypted_size"],
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
    datafile_encryption: Annotated[
        Text, Form(max_length=8, description="Whether it is to be encrypted for devices: true or false.")
    ] = "",
) -> Json:
    """Keep an image; larger ones come in chunks, by an upload job.

    If it is to be encrypted, what devices download is: by AES-CCM, in blocks of 1024 B, under a key that they get
    with a manifest of the format encrypted-raw or encrypted-combined, and that this API never tells.
    """
    encrypt = datafile_encryption.strip().lower() == "true"  # manifest-tool writes True
    name = name or _file_name(datafile)
    size = datafile.size or 0
    core.firmware.must_fit(size)
    if size <= _PART:
        row = core.firmware.add_image(
            key.account_id, name, await datafile.read(), description=description, encrypt=encrypt
        )
    else:
        parts = _parts(datafile.file)
        row = await core.uploads.receive(key.account_id, name, parts, description=description, encrypt=encrypt)
    return shape_image(row, _where(core, request), core.lwm2m_uri)


def _file_name(file: UploadFile) -> str:
    return (file.filename or "").replace("\0", "")[:MAX_NAME]


def _parts(file: BinaryIO) -> Iterator[bytes]:
    while part := file.read(_PART):
        yield part


@router.get("/v3/firmware-images", summary="List images", openapi_extra=described(IMAGE_FIELDS))
async def list_images(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Images of the account."""
    base, coap = _where(core, request), core.lwm2m_uri
    shown = _as_shown(base)
    where = [shown.c.account_id == key.account_id, *filters.where(conditions(request, IMAGE_FIELDS), shown)]
    return page.select(core.store, shown, where, lambda row: shape_image(row, base, coap))


def _as_shown(base: str) -> sa.FromClause:
    """Return the table with what the API shows of it, by the names of the API's filters."""
    c = firmware_images.c
    return sa.select(
        *IMAGE,
        c.size.label("datafile_size"),
        c.checksum.label("datafile_checksum"),
        (sa.literal(f"{base}/v3/firmware-images/", sa.Text) + c.id + f"/{FILE_NAME}").label("datafile"),
    ).subquery()


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
@router.get("/v3/firmware-images/{image_id}/{file}", summary="Download an image", responses=RANGED)
async def download_image(core: TheCore, image_id: str, file: str, request: Request) -> Response:
    """The bytes, or a range of them; without a key, as devices come."""
    image = core.firmware.open(image_id)
    if image is None:
        raise not_found("firmware image", image_id)
    return ranged(image, request.headers.get("range", ""))


def _where(core: Core, request: Request) -> str:
    """Return the address that devices fetch images at: this API's, unless boards elsewhere could not reach it."""
    return core.firmware.url or base_url(request)


def ranged(data: Readable, wanted: str) -> Response:
    """Return bytes, or the one range of them that the header Range asks for."""
    size, headers = data.size, {"Accept-Ranges": "bytes"}
    part, status = wanted_range(wanted, size), 200
    start, stop = part or (0, size)
    if part is not None:
        if start >= stop:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"], status = f"bytes {start}-{stop - 1}/{size}", 206
    headers["Content-Length"] = str(stop - start)
    return StreamingResponse(_read(data, start, stop), status, headers, "application/octet-stream")


async def _read(data: Readable, start: int, stop: int) -> AsyncIterator[bytes]:
    for at in range(start, stop, CHUNK):
        yield data.read(at, min(at + CHUNK, stop))
