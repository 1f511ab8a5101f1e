"""How many devices an account may have: /lab/allocation. The vendor's own customers ask their vendor for more."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pdmlab.service.core import Core
from pdmlab.service.directory import MAX_QUOTA
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json
from pdmlab.service.rest.texts import Text

router = APIRouter(prefix="/lab", tags=["Lab"])


class Allocation(BaseModel):
    """An allocation as it is wanted."""

    devices: int = Field(ge=0, le=MAX_QUOTA, description="Devices of the account; those that it has stay.")
    account_id: Text | None = Field(None, max_length=32, description="Whose; the key's own account by default.")


@router.get("/allocation", summary="Get the allocation of devices")
async def get_allocation(core: TheCore, key: TheKey) -> Json:
    """How many devices the account may have, and how many it has; /v3/accounts/me?include=limits says so too."""
    return _shape(core, key.account_id)


@router.put("/allocation", summary="Set an allocation of devices", responses={404: {}})
async def put_allocation(core: TheCore, key: TheKey, wanted: Allocation) -> Json:
    """Set how many devices an account may have: for administrators of the service's own account.

    At its allocation, an account takes no more: bootstrap and registration of another device are answered 5.03, and
    POST /v3/devices 403, account_limit_exceeded.
    """
    account_id = core.accounts.account(wanted.account_id or key.account_id)["id"]
    core.directory.set_quota(account_id, wanted.devices)
    return _shape(core, account_id)


def _shape(core: Core, account_id: str) -> Json:
    return {"account_id": account_id, **{name: int(text) for name, text in core.directory.limits(account_id).items()}}
