"""Enrollment of factory devices: /v3/device-enrollments, by file, and the devices that were not let in."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, File, Query, Request, Response, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from pdmlab.service.bulk import Kind
from pdmlab.service.core import Core
from pdmlab.service.refusal import not_found
from pdmlab.service.rest.context import TheCore, TheKey, base_url
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.schema import device_enrollments, enrollment_denials
from pdmlab.service.store import Row

router = APIRouter(tags=["Enrollment"])

PIECE = 1 << 14  # B of a file that are read in one go: some hundred identities, or thousands of empty lines
REPORTS = {"full_report.csv": False, "errors_report.csv": True}

TheFile = Annotated[
    UploadFile, File(description="CSV of at most 10 MB: a header, then an identity at the beginning of each line.")
]


class NewEnrollment(BaseModel):
    """An enrollment as it is wanted."""

    enrollment_identity: str = Field(
        pattern="^A-([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}$",
        description="A- and the SHA-256 of the device's bootstrap certificate.",
    )


def shape(row: Row) -> Json:
    """Return an enrollment as the API shows it."""
    shown = ("id", "account_id", "enrollment_identity", "claimed_at", "expires_at", "enrolled_device_id", "created_at")
    return {"object": "enrollment", **{name: row[name] for name in shown}, "etag": _etag(row)}


def shape_denial(row: Row) -> Json:
    """Return a denial as the API shows it."""
    return {**row, "object": "denied_device"}


def shape_bulk(row: Row, base: str) -> Json:
    """Return a file as the API shows it: its reports are there when it is completed."""
    where = f"{base}/v3/device-enrollments-bulk-{row['kind']}s/{row['id']}"
    full, errors = (f"{where}/{name}" if row["completed_at"] else None for name in REPORTS)
    return {
        "object": "enrollment-identity-bulk-uploads",
        "id": row["id"],
        "account_id": row["account_id"],
        "status": row["status"],
        "total_count": row["total_count"],
        "processed_count": row["processed_count"],
        "errors_count": row["errors_count"],
        "full_report_file": full,
        "errors_report_file": errors,
        "created_at": row["created_at"],
        "completed_at": row["completed_at"],
        "etag": _etag(row),
    }


def _etag(row: Row) -> str:
    return re.sub(r"\D", "", row["updated_at"])


# -- one by one ------------------------------------------------------------------------------------------------


@router.get("/v3/device-enrollments", summary="List enrollments")
async def list_enrollments(core: TheCore, key: TheKey, page: Page) -> Json:
    """Enrollments of the account, those that wait for their device and those that have it."""
    core.enrollments.expire()
    return page.select(core.store, device_enrollments, [device_enrollments.c.account_id == key.account_id], shape)


@router.post("/v3/device-enrollments", summary="Enroll a device", status_code=201, responses={409: {}})
async def post_enrollment(core: TheCore, key: TheKey, wanted: NewEnrollment) -> Json:
    """Let a device of a factory come into the account when it bootstraps; one account alone can."""
    return shape(core.enrollments.add(key.account_id, wanted.enrollment_identity))


@router.get("/v3/device-enrollments/{enrollment_id}", summary="Get an enrollment")
async def get_enrollment(core: TheCore, key: TheKey, enrollment_id: str) -> Json:
    """One enrollment."""
    return shape(core.enrollments.find(key.account_id, enrollment_id))


@router.delete("/v3/device-enrollments/{enrollment_id}", summary="Delete an enrollment", status_code=204)
async def delete_enrollment(core: TheCore, key: TheKey, enrollment_id: str) -> Response:
    """Let a device go: it leaves the directory, and bootstraps into whichever account enrolls it next."""
    core.enrollments.remove(key.account_id, enrollment_id)
    return Response(status_code=204)


# -- by file ---------------------------------------------------------------------------------------------------


@router.post("/v3/device-enrollments-bulk-uploads", summary="Enroll many devices", status_code=201, responses={429: {}})
async def post_uploads(core: TheCore, key: TheKey, request: Request, enrollment_identities: TheFile) -> Json:
    """Enroll all devices of a file; it is worked off after the answer."""
    return await _received(core, key.account_id, "upload", request, enrollment_identities)


@router.get("/v3/device-enrollments-bulk-uploads/{bulk_id}", summary="Get the state of many enrollments")
async def get_uploads(core: TheCore, key: TheKey, request: Request, bulk_id: str) -> Json:
    """How far it is: new, processing or completed; then with the addresses of two reports."""
    return shape_bulk(core.bulks.find(key.account_id, "upload", bulk_id), base_url(request))


@router.get(
    "/v3/device-enrollments-bulk-uploads/{bulk_id}/{report}",
    summary="Get a report of many enrollments",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}}},
)
async def get_uploads_report(core: TheCore, key: TheKey, bulk_id: str, report: str) -> Response:
    """full_report.csv or errors_report.csv: what became of each identity, or of those with errors."""
    return _report(core, core.bulks.find(key.account_id, "upload", bulk_id), report)


@router.post(
    "/v3/device-enrollments-bulk-deletes", summary="Delete many enrollments", status_code=201, responses={429: {}}
)
async def post_deletes(core: TheCore, key: TheKey, request: Request, enrollment_identities: TheFile) -> Json:
    """Let all devices of a file go; it is worked off after the answer."""
    return await _received(core, key.account_id, "delete", request, enrollment_identities)


@router.get("/v3/device-enrollments-bulk-deletes/{bulk_id}", summary="Get the state of many deletions")
async def get_deletes(core: TheCore, key: TheKey, request: Request, bulk_id: str) -> Json:
    """How far it is: new, processing or completed; then with the addresses of two reports."""
    return shape_bulk(core.bulks.find(key.account_id, "delete", bulk_id), base_url(request))


@router.get(
    "/v3/device-enrollments-bulk-deletes/{bulk_id}/{report}",
    summary="Get a report of many deletions",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}}},
)
async def get_deletes_report(core: TheCore, key: TheKey, bulk_id: str, report: str) -> Response:
    """full_report.csv or errors_report.csv: what became of each identity, or of those with errors."""
    return _report(core, core.bulks.find(key.account_id, "delete", bulk_id), report)


async def _received(core: Core, account_id: str, kind: Kind, request: Request, file: UploadFile) -> Json:
    row = await core.bulks.receive(account_id, kind, _pieces(file), size=file.size or 0)
    return shape_bulk(row, base_url(request))


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while data := await file.read(PIECE):
        yield data


def _report(core: Core, row: Row, report: str) -> Response:
    if report not in REPORTS or row["completed_at"] is None:
        raise not_found("report", report)
    return StreamingResponse(core.bulks.report(row, errors=REPORTS[report]), media_type="text/csv")


# -- who was not let in ----------------------------------------------------------------------------------------


@router.get("/v3/device-enrollment-denials", summary="List devices that were not let in")
async def list_denials(
    core: TheCore,
    key: TheKey,
    page: Page,
    trusted_certificate_id__eq: Annotated[str, Query(description="The CA that has signed for them.")],
    endpoint_name__eq: Annotated[str | None, Query()] = None,
) -> Json:
    """Devices that a CA of the account has signed for, and that were refused at bootstrap: nobody has enrolled them."""
    c = enrollment_denials.c
    where: list[Any] = [c.account_id == key.account_id, c.trusted_certificate_id == trusted_certificate_id__eq]
    if endpoint_name__eq is not None:
        where.append(c.endpoint_name == endpoint_name__eq)
    return page.select(core.store, enrollment_denials, where, shape_denial)


@router.get("/v3/device-enrollment-denials/{denial_id}", summary="Get a device that was not let in")
async def get_denial(core: TheCore, key: TheKey, denial_id: str) -> Json:
    """One denial."""
    return shape_denial(core.enrollments.denial(key.account_id, denial_id))
