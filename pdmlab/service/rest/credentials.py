"""Developer credentials: /v3/developer-certificates gives the C file that devices are built with."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json
from pdmlab.service.rest.times import whole_seconds
from pdmlab.service.store import Row

router = APIRouter(tags=["Developer credentials"])


class DeveloperCertificate(BaseModel):
    """What is wanted."""

    name: str = Field(min_length=1, max_length=100)
    description: str | None = Field(None, max_length=500)


def shape(row: Row, security_file_content: str) -> Json:
    """Return a developer certificate as the API shows it."""
    return {
        "object": "trusted-cert",
        "id": row["id"],
        "account_id": row["account_id"],
        "name": row["name"],
        "description": row["description"],
        "developer_certificate": row["certificate"],
        "developer_private_key": row["private_key"],
        "security_file_content": security_file_content,
        "created_at": whole_seconds(row["created_at"]),
        "etag": "1",
    }


@router.post("/v3/developer-certificates", summary="Make developer credentials", status_code=201)
async def post_certificate(core: TheCore, key: TheKey, wanted: DeveloperCertificate) -> Json:
    """Make mbed_cloud_dev_credentials.c, in `security_file_content`."""
    row = core.developers.add(key.account_id, wanted.name, description=wanted.description or "")
    return shape(row, core.developers.credentials(row).to_c())


@router.get("/v3/developer-certificates/{certificate_id}", summary="Get developer credentials")
async def get_certificate(core: TheCore, key: TheKey, certificate_id: str) -> Json:
    """The certificate and its key, and the file with the address that the service has now."""
    row = core.developers.get(key.account_id, certificate_id)
    return shape(row, core.developers.credentials(row).to_c())
