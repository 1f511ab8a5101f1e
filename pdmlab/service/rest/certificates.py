"""Trusted certificates: /v3/trusted-certificates, CAs whose devices come in, and developer certificates."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from pdmlab.service import filters
from pdmlab.service.authority import MAX_PEM
from pdmlab.service.core import Core
from pdmlab.service.ids import timestamp
from pdmlab.service.rest.context import TheAccount, TheCore, TheKey
from pdmlab.service.rest.filtering import described
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.rest.texts import Text
from pdmlab.service.rest.times import whole_seconds
from pdmlab.service.schema import trusted_certificates as table
from pdmlab.service.store import Row

router = APIRouter(tags=["Certificates"])

FIELDS: dict[str, filters.Kind] = {
    "name": "text",
    "service": "text",
    "status": "text",
    "issuer": "text",
    "subject": "text",
    "owner": "text",
    "device_execution_mode": "number",
    "enrollment_mode": "flag",
}
MAX_DAYS = 1_000_000
_DAY_S = 86_400

CertificateId = Annotated[str, Path(description="The id of a trusted certificate.")]
Service = Literal["lwm2m", "bootstrap"]
Status = Literal["ACTIVE", "INACTIVE"]
Pem = Annotated[
    str, Field(max_length=MAX_PEM, description="The CA's certificate as PEM, with those that lead to its root.")
]
Expire = Annotated[int | None, Query(ge=0, le=MAX_DAYS, description="Those that end within so many days.")]
Valid = Annotated[bool | None, Query(description="Those that have not ended yet; false: those that have.")]


class TrustedCertificateChange(BaseModel):
    """What is to change; what is not there stays."""

    name: Text | None = Field(None, min_length=1, max_length=100)
    certificate: Pem | None = None
    service: Service | None = Field(None, description="At which server its devices come.")
    status: Status | None = Field(None, description="With an INACTIVE one nobody comes in.")
    description: Text | None = Field(None, max_length=500)
    enrollment_mode: bool | None = Field(None, description="Devices come in only if the account has enrolled them.")
    signature: str | None = Field(
        None, max_length=2000, description="Of the account's id by the CA's key (SHA-256, base64); for a chain cut off."
    )


class NewTrustedCertificate(TrustedCertificateChange):
    """A CA to be trusted."""

    name: Text = Field(min_length=1, max_length=100)
    certificate: Pem
    service: Service


def shape(core: Core, row: Row) -> Json:
    """Return a trusted certificate as the API shows it."""
    shown = ["id", "account_id", "name", "description", "certificate", "certificate_fingerprint", "subject", "issuer"]
    shown += ["service", "status", "device_execution_mode", "enrollment_mode", "owner_id"]
    return {
        "object": "trusted-cert",
        **{name: row[name] for name in shown},
        "validity": whole_seconds(row["not_after"]) if row["not_after"] else None,
        "valid": row["not_before"] <= core.store.timestamp() <= row["not_after"],
        "created_at": whole_seconds(row["created_at"]),
        "updated_at": whole_seconds(row["updated_at"]),
        "etag": str(row["version"]),
    }


@router.get("/trusted-certificates", summary="List trusted certificates", openapi_extra=described(FIELDS))
async def list_certificates(
    core: TheCore,
    key: TheKey,
    account_id: TheAccount,
    page: Page,
    request: Request,
    expire: Annotated[Expire, Query(alias="expire__eq")] = None,
    valid: Annotated[Valid, Query(alias="valid__eq")] = None,
) -> Json:
    """CAs that the account trusts, and its developer certificates, whose device_execution_mode is 1."""
    where: list[sa.ColumnElement[bool]] = [table.c.account_id == account_id]
    now = core.now()
    if expire is not None:
        where += [table.c.not_after >= timestamp(now), table.c.not_after <= timestamp(now + expire * _DAY_S)]
    if valid is not None:
        where.append(table.c.not_after >= timestamp(now) if valid else table.c.not_after < timestamp(now))
    asked = request.query_params.multi_items()
    for condition in filters.from_parameters(
        [each for each in asked if each[0] not in ("expire__eq", "valid__eq")], FIELDS
    ):
        if condition.field == "owner":
            condition = dataclasses.replace(condition, field="owner_id")
        if condition.field == "service":
            lower = tuple(str(value).lower() for value in condition.values)
            condition = dataclasses.replace(condition, values=lower)
        where += filters.where([condition], table)
    return page.select(core.store, table, where, lambda row: shape(core, row))


@router.post("/trusted-certificates", summary="Trust a CA", status_code=201)
async def post_certificate(core: TheCore, key: TheKey, account_id: TheAccount, wanted: NewTrustedCertificate) -> Json:
    """Let devices in, from the next handshake on, whose certificates lead to this CA: they are the account's."""
    owner = core.accounts.key(key.account_id, key.id)["owner"] if key.account_id == account_id else None
    options: dict[str, Any] = {"enrollment_mode": bool(wanted.enrollment_mode), "signature": wanted.signature}
    row = core.trusted.add(
        account_id,
        wanted.name,
        wanted.certificate,
        wanted.service,
        status=wanted.status or "ACTIVE",
        description=wanted.description or "",
        owner_id=owner,
        **options,
    )
    return shape(core, row)


@router.get("/trusted-certificates/{cert_id}", summary="Get a trusted certificate")
async def get_certificate(core: TheCore, key: TheKey, account_id: TheAccount, cert_id: CertificateId) -> Json:
    """One trusted certificate."""
    return shape(core, core.trusted.get(account_id, cert_id))


@router.put("/trusted-certificates/{cert_id}", summary="Change a trusted certificate")
async def put_certificate(
    core: TheCore, key: TheKey, account_id: TheAccount, cert_id: CertificateId, change: TrustedCertificateChange
) -> Json:
    """Set what the body names; INACTIVE stops new handshakes at once. Of a developer certificate, how it is called."""
    changes = change.model_dump(exclude={"signature"})
    return shape(core, core.trusted.change(account_id, cert_id, changes, signature=change.signature))


@router.delete("/trusted-certificates/{cert_id}", summary="Delete a trusted certificate", status_code=204)
async def delete_certificate(core: TheCore, key: TheKey, account_id: TheAccount, cert_id: CertificateId) -> Response:
    """Let nobody in by it any more; a developer certificate is revoked for good, and its key forgotten."""
    core.trusted.remove(account_id, cert_id)
    return Response(status_code=204)
