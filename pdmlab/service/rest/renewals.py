"""Renewals of devices' certificates: asked for at the device, followed under /v3/certificate-enrollments."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from pdmlab.service import filters
from pdmlab.service.refusal import not_found
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.filtering import conditions, described
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.schema import certificate_enrollments as table
from pdmlab.service.store import Row

router = APIRouter(tags=["Certificate renewal"])

FIELDS: dict[str, filters.Kind] = {
    "device_id": "text",
    "certificate_name": "text",
    "enroll_status": "text",
    "enroll_result": "text",
    "created_at": "time",
    "updated_at": "time",
}


def shape(row: Row) -> Json:
    """Return a renewal as the API shows it; what is not known yet is not there."""
    shown = {name: value for name, value in row.items() if value is not None and name != "account_id"}
    return {**shown, "object": "certificate-enrollment", "etag": row["updated_at"]}


@router.post(
    "/v3/devices/{device_id}/certificates/{name}/renew",
    summary="Renew a certificate",
    status_code=201,
    responses={423: {}},
)
async def renew(
    core: TheCore,
    key: TheKey,
    device_id: Annotated[str, Path(description="The id of a device.")],
    name: Annotated[str, Path(description="LWM2M, which it registers with, or a name that has an issuer.")],
) -> Json:
    """Ask a device to renew a certificate: it makes a key and asks for a certificate; the enrollment tells how it went.

    423: it is not connected, or cannot do it.
    """
    return shape(await core.est.renew(key.account_id, device_id, name))


@router.get("/v3/certificate-enrollments", summary="List renewals", openapi_extra=described(FIELDS))
async def list_enrollments(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Renewals that devices of the account were asked for, the oldest first."""
    where = [table.c.account_id == key.account_id, *filters.where(conditions(request, FIELDS), table)]
    return page.select(core.store, table, where, shape)


@router.get("/v3/certificate-enrollments/{enrollment_id}", summary="Get a renewal")
async def get_enrollment(
    core: TheCore, key: TheKey, enrollment_id: Annotated[str, Path(description="The id of a renewal.")]
) -> Json:
    """How far it is, and how it went."""
    row = core.est.enrollment(key.account_id, enrollment_id)
    if row is None:
        raise not_found("certificate enrollment", enrollment_id)
    return shape(row)
