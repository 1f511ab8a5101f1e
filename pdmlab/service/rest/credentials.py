"""Developer credentials: /v3/developer-certificates gives the C file that devices are built with."""

from __future__ import annotations

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import BaseModel, Field

from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json
from pdmlab.service.rest.times import whole_seconds
from pdmlab.service.schema import developer_certificates
from pdmlab.service.store import Row
from pdmlab.update.credentials import Credentials

router = APIRouter(tags=["Developer credentials"])

MAX_CERTIFICATES = 100  # of an account: a classroom has one a seat


class DeveloperCertificate(BaseModel):
    """What is wanted."""

    name: str = Field(min_length=1, max_length=100)
    description: str | None = Field(None, max_length=500)


def shape(row: Row) -> Json:
    """Return a developer certificate as the API shows it."""
    return {
        "object": "trusted-cert",
        "id": row["id"],
        "account_id": row["account_id"],
        "name": row["name"],
        "description": row["description"],
        "developer_certificate": row["certificate"],
        "developer_private_key": row["private_key"],
        "security_file_content": row["security_file_content"],
        "created_at": whole_seconds(row["created_at"]),
        "etag": "1",
    }


@router.post("/v3/developer-certificates", summary="Make developer credentials", status_code=201)
async def post_certificate(core: TheCore, key: TheKey, wanted: DeveloperCertificate) -> Json:
    """Make mbed_cloud_dev_credentials.c, in `security_file_content`.

    This service has no secure transport: the file names a coap:// bootstrap server, certificate and key are null.
    """
    table = developer_certificates
    mine = table.c.account_id == key.account_id
    names = [row["name"] for row in core.store.rows(sa.select(table.c.name).where(mine))]
    if wanted.name in names:
        raise Refused(409, f"there is a developer certificate {wanted.name} already")
    if len(names) >= MAX_CERTIFICATES:
        raise Refused(403, f"an account has at most {MAX_CERTIFICATES} of them", type="account_limit_exceeded")
    id, at = core.store.ids.new(), core.store.timestamp()
    made = Credentials(id, core.bootstrap_uri, key.account_id)
    row = {
        "id": id,
        "account_id": key.account_id,
        "name": wanted.name,
        "description": wanted.description or "",
        "certificate": None,
        "private_key": None,
        "security_file_content": made.to_c(),
        "created_at": at,
        "updated_at": at,
    }
    with core.store.begin() as db:
        db.execute(sa.insert(table).values(row))
    return shape(row)


@router.get("/v3/developer-certificates/{certificate_id}", summary="Get developer credentials")
async def get_certificate(core: TheCore, key: TheKey, certificate_id: str) -> Json:
    """The credentials as they were made."""
    table = developer_certificates
    row = core.store.row(sa.select(table).where(table.c.account_id == key.account_id, table.c.id == certificate_id))
    if row is None:
        raise not_found("developer certificate", certificate_id)
    return shape(row)
