"""Firmware manifests: /v3/firmware-manifests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, File, Request, Response, UploadFile

from pdmlab.service import filters
from pdmlab.service.firmware import MANIFEST, MAX_KEY_TABLE, MAX_MANIFEST, MAX_NAME
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.rest.context import TheCore, TheKey, base_url
from pdmlab.service.rest.filtering import conditions, described
from pdmlab.service.rest.images import NAMED, RANGED, Description, Name, ranged
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.schema import firmware_manifests
from pdmlab.service.store import Row

router = APIRouter(tags=["Update"])

FILE_NAME = "manifest.der"
"""Last segment of a manifest's address."""

MANIFEST_FIELDS: dict[str, filters.Kind] = NAMED | {
    **dict.fromkeys(("device_class", "datafile"), "text"),
    "datafile_size": "number",
    "timestamp": "time",
}


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
        "key_table": f"{base}/v3/firmware-manifests/{row['id']}/key-table/table.bin" if row["has_key_table"] else None,
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
    datafile: Annotated[UploadFile, File(description="A signed manifest in DER, v3 or v1, at most 2 KiB.")],
    name: Name = "",
    description: Description = "",
    key_table: Annotated[
        UploadFile | None, File(description="Keys for each device of an encrypted manifest v1; kept, and not read.")
    ] = None,
) -> Json:
    """Keep a manifest. Its form is checked here; whose signature it is, the devices find out."""
    if (datafile.size or 0) > MAX_MANIFEST:
        raise Refused(400, f"the manifest has {datafile.size} B; at most {MAX_MANIFEST} B are taken")
    if key_table is not None and (key_table.size or 0) > MAX_KEY_TABLE:
        raise Refused(400, f"the key table has {key_table.size} B; at most {MAX_KEY_TABLE} B are taken")
    name = name or (datafile.filename or "").replace("\0", "")[:MAX_NAME]
    keys = None if key_table is None else await key_table.read()
    row = core.firmware.add_manifest(
        key.account_id, name, await datafile.read(), description=description, key_table=keys
    )
    return shape(row, base_url(request))


@router.get("/v3/firmware-manifests", summary="List manifests", openapi_extra=described(MANIFEST_FIELDS))
async def list_manifests(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Manifests of the account."""
    base = base_url(request)
    shown = _as_shown(base)
    where = [shown.c.account_id == key.account_id, *filters.where(conditions(request, MANIFEST_FIELDS), shown)]
    return page.select(core.store, shown, where, lambda row: shape(row, base))


def _as_shown(base: str) -> sa.FromClause:
    """Return the table with what the API shows of it, by the names of the API's filters."""
    c = firmware_manifests.c
    datafile = sa.literal(f"{base}/v3/firmware-manifests/", sa.Text) + c.id + f"/{FILE_NAME}"
    return sa.select(*MANIFEST, c.size.label("datafile_size"), datafile.label("datafile")).subquery()


@router.get("/v3/firmware-manifests/{manifest_id}", summary="Get a manifest")
async def get_manifest(core: TheCore, key: TheKey, manifest_id: str, request: Request) -> Json:
    """What is known of a manifest; its bytes are at `datafile`."""
    return shape(core.firmware.manifest(key.account_id, manifest_id), base_url(request))


@router.delete("/v3/firmware-manifests/{manifest_id}", summary="Delete a manifest", status_code=204)
async def delete_manifest(core: TheCore, key: TheKey, manifest_id: str) -> Response:
    """Delete a manifest; campaigns that have started keep their copy."""
    core.firmware.delete_manifest(key.account_id, manifest_id)
    return Response(status_code=204)


@router.get(
    "/v3/firmware-manifests/{manifest_id}/key-table/{file}", summary="Download a manifest's key table", responses=RANGED
)
async def download_key_table(core: TheCore, key: TheKey, manifest_id: str, file: str, request: Request) -> Response:
    """The bytes; keys are for those alone who have one of the account's."""
    return ranged(_Whole(core.firmware.key_table(key.account_id, manifest_id)), request.headers.get("range", ""))


@router.head("/v3/firmware-manifests/{manifest_id}/{file}", include_in_schema=False)
@router.get("/v3/firmware-manifests/{manifest_id}/{file}", summary="Download a manifest", responses=RANGED)
async def download_manifest(core: TheCore, manifest_id: str, file: str, request: Request) -> Response:
    """The bytes, without a key."""
    data = core.firmware.manifest_data(manifest_id)
    if data is None:
        raise not_found("firmware manifest", manifest_id)
    return ranged(_Whole(data), request.headers.get("range", ""))


@dataclass(frozen=True)
class _Whole:
    """Bytes that are in memory, read part by part."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, stop: int) -> bytes:
        return self.data[start:stop]
