"""Firmware manifests: /v3/firmware-manifests."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Request, Response, UploadFile

from pdmlab.service import filters
from pdmlab.service.firmware import MAX_MANIFEST, MAX_NAME
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.rest.context import TheCore, TheKey, base_url
from pdmlab.service.rest.images import NAMED, Description, Name, ranged
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.schema import firmware_manifests
from pdmlab.service.store import Row

router = APIRouter(tags=["Update"])

FILE_NAME = "manifest.der"
"""Last segment of a manifest's address."""

MANIFEST_FIELDS: dict[str, filters.Kind] = NAMED | {"device_class": "text", "timestamp": "time"}


def address(base: str, manifest_id: str) -> str:
    """Return where a manifest's bytes are; base: this API's address."""
    return f"{base}/v3/firmware-manifests/{manifest_id}/{FILE_NAME}"


def shape(row: Row, base: str) -> Json:
    """Return a manifest as the API shows it; base: this API's address."""
    return {
        "object": "firmware-manifest",
        "id": row["id"],
        "account_id": row["account_id"],
        "name": row["name"],
        "description": row["description"],
        "datafile": address(base, row["id"]),
        "datafile_size": row["size"],
        "device_class": row["device_class"],
        "key_table": row["key_table"],
        "timestamp": row["timestamp"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "etag": row["updated_at"],
    }


@router.post("/v3/firmware-manifests", summary="Upload a manifest", status_code=201)
async def post_manifest(
    core: TheCore,
    key: TheKey,
    request: Request,
    datafile: Annotated[UploadFile, File(description="A signed manifest v3 in DER, at most 2 KiB.")],
    name: Name = "",
    description: Description = "",
) -> Json:
    """Keep a manifest. Its form is checked here; whose signature it is, the devices find out."""
    if (datafile.size or 0) > MAX_MANIFEST:
        raise Refused(400, f"the manifest has {datafile.size} B; at most {MAX_MANIFEST} B are taken")
    name = name or (datafile.filename or "")[:MAX_NAME]
    row = core.firmware.add_manifest(key.account_id, name, await datafile.read(), description=description)
    return shape(row, base_url(request))


@router.get("/v3/firmware-manifests", summary="List manifests")
async def list_manifests(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Manifests of the account."""
    table = firmware_manifests
    conditions = filters.from_parameters(request.query_params.multi_items(), MANIFEST_FIELDS)
    where = [table.c.account_id == key.account_id, *filters.where(conditions, table)]
    columns = [column for column in table.c if column.name != "data"]
    base = base_url(request)
    return page.select(core.store, table, where, lambda row: shape(row, base), columns)


@router.get("/v3/firmware-manifests/{manifest_id}", summary="Get a manifest")
async def get_manifest(core: TheCore, key: TheKey, manifest_id: str, request: Request) -> Json:
    """What is known of a manifest; its bytes are at `datafile`."""
    return shape(core.firmware.manifest(key.account_id, manifest_id), base_url(request))


@router.delete("/v3/firmware-manifests/{manifest_id}", summary="Delete a manifest", status_code=204)
async def delete_manifest(core: TheCore, key: TheKey, manifest_id: str) -> Response:
    """Delete a manifest; campaigns that have started keep their copy."""
    core.firmware.delete_manifest(key.account_id, manifest_id)
    return Response(status_code=204)


@router.head("/v3/firmware-manifests/{manifest_id}/{file}", include_in_schema=False)
@router.get("/v3/firmware-manifests/{manifest_id}/{file}", summary="Download a manifest")
async def download_manifest(core: TheCore, manifest_id: str, file: str, request: Request) -> Response:
    """The bytes, without a key."""
    data = core.firmware.manifest_data(manifest_id)
    if data is None:
        raise not_found("firmware manifest", manifest_id)
    return ranged(data, request.headers.get("range", ""))
