"""How devices come by what they prove themselves with: bootstrap, under /lab."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from pdmlab.service.bootstrap_plan import SERVER_LIFETIME, Plan
from pdmlab.service.refusal import not_found
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json

router = APIRouter(tags=["Bootstrap"])


class BootstrapPlan(BaseModel):
    """How devices of the account bootstrap; what is left out is as a new account has it."""

    mode: Literal["certificates", "est"] = "certificates"
    delete: bool = Field(True, description="DELETE /0 comes first.")
    server: bool = Field(False, description="PUT /1 tells short id, lifetime and binding.")
    lifetime: int = Field(SERVER_LIFETIME, ge=60, le=0x7FFF_FFFF, description="What PUT /1 tells (s).")


@router.get("/lab/bootstrap", summary="List bootstraps")
async def list_bootstraps(core: TheCore, key: TheKey) -> list[Json]:
    """Each device's latest bootstrap: its state, every step with the device's answer, and why it failed."""
    return core.bootstrap.transcript(key.account_id)


@router.get("/lab/bootstrap/plan", summary="Get how devices bootstrap")
async def get_plan(core: TheCore, key: TheKey) -> Json:
    """With certificates that are made here, or by EST; and what else devices are told."""
    return core.bootstrap.plan(key.account_id).as_json()


@router.put("/lab/bootstrap/plan", summary="Set how devices bootstrap")
async def put_plan(core: TheCore, key: TheKey, wanted: BootstrapPlan) -> Json:
    """It holds for bootstraps from now on."""
    core.bootstrap.set_plan(key.account_id, Plan(**wanted.model_dump()))
    return core.bootstrap.plan(key.account_id).as_json()


@router.get("/lab/bootstrap/rehearsal", summary="Rehearse a bootstrap")
async def rehearse(
    core: TheCore,
    key: TheKey,
    endpoint_name: Annotated[str, Query(min_length=1, max_length=64, description="Whose it would be.")] = "device",
) -> list[Json]:
    """What a device would be asked, with sizes and with what a client would not take; nobody is asked."""
    return core.bootstrap.rehearse(key.account_id, endpoint_name)


@router.get("/lab/bootstrap/{device_id}", summary="Get a device's bootstrap")
async def get_bootstrap(core: TheCore, key: TheKey, device_id: str) -> Json:
    """The latest: its state, every step with the device's answer, and why it failed."""
    for row in core.bootstrap.transcript(key.account_id, device_id):
        return row
    raise not_found("bootstrap of a device", device_id)
