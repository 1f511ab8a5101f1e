"""What devices are built with: developer certificates with their C file, and the servers that they find."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from pdmlab.service.core import Core
from pdmlab.service.pki import Role
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json
from pdmlab.service.rest.texts import Text
from pdmlab.service.rest.times import whole_seconds
from pdmlab.service.store import Row

router = APIRouter(tags=["Credentials"])

DeveloperId = Annotated[str, Path(description="The id of a developer certificate.")]


class NewDeveloperCertificate(BaseModel):
    """What is wanted."""

    name: Text = Field(min_length=1, max_length=100)
    description: Text | None = Field(None, max_length=500)


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
        "etag": str(row["version"]),
    }


@router.post("/v3/developer-certificates", summary="Make developer credentials", status_code=201)
async def post_certificate(core: TheCore, key: TheKey, wanted: NewDeveloperCertificate) -> Json:
    """Make mbed_cloud_dev_credentials.c, in `security_file_content`; /v3/trusted-certificates has the same id."""
    owner = core.accounts.key(key.account_id, key.id)["owner"]
    row = core.developers.add(key.account_id, wanted.name, description=wanted.description or "", owner_id=owner)
    return shape(row, core.developers.credentials(row).to_c())


@router.get("/v3/developer-certificates/{certificate_id}", summary="Get developer credentials")
async def get_certificate(core: TheCore, key: TheKey, certificate_id: DeveloperId) -> Json:
    """The certificate and its key, and the file with the address that the service has now."""
    row = core.developers.get(key.account_id, certificate_id)
    return shape(row, core.developers.credentials(row).to_c())


@router.get("/v3/server-credentials", summary="Get both servers' credentials")
async def get_servers(core: TheCore, key: TheKey) -> Json:
    """Where devices of the account bootstrap and register, and the CA of the servers' certificates."""
    certificate = core.pki.pem.decode()
    roles: tuple[Role, Role] = ("bootstrap", "lwm2m")
    return {role: {"url": core.uri(role, account_id=key.account_id), "certificate": certificate} for role in roles}


@router.get("/v3/server-credentials/bootstrap", summary="Get the bootstrap server's credentials")
async def get_bootstrap_server(core: TheCore, key: TheKey) -> Json:
    """Where devices of the account bootstrap, and the CA that its server's certificate is of."""
    return shape_server(core, key.account_id, "bootstrap")


@router.get("/v3/server-credentials/lwm2m", summary="Get the LwM2M server's credentials")
async def get_lwm2m_server(core: TheCore, key: TheKey) -> Json:
    """Where devices of the account register, and the CA that its server's certificate is of."""
    return shape_server(core, key.account_id, "lwm2m")


def shape_server(core: Core, account_id: str, role: Role) -> Json:
    """Return what the API shows of a server."""
    return {
        "object": "server-credentials",
        "id": hashlib.sha256(f"{role}/{account_id}".encode()).hexdigest()[:32],
        "server_uri": core.uri(role, account_id=account_id),
        "server_certificate": core.pki.pem.decode(),
        "created_at": whole_seconds(core.pki.created_at),
        "etag": "1",
    }
