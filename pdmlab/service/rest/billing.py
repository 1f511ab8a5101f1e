"""What the vendor bills by: /v3/service-packages and /v3/billing-report.

Here nothing is billed, and no account is a customer's: the answer is the vendor's own for such accounts.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from pdmlab.service.refusal import Refused
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json

router = APIRouter(tags=["Billing"])

Month = Annotated[str, Query(pattern=r"^\d{4}-\d{2}$", description="A month: 2026-11.")]


@router.get("/v3/service-packages", summary="Get service packages", status_code=403)
async def get_packages(core: TheCore, key: TheKey) -> Json:
    """Is refused: nothing is sold."""
    raise _no_customer()


@router.get("/v3/service-packages-quota", summary="Get the quota of firmware updates", status_code=403)
async def get_quota(core: TheCore, key: TheKey) -> Json:
    """Is refused: firmware updates are not counted against anything."""
    raise _no_customer()


@router.get("/v3/service-packages-quota-history", summary="Get the history of the quota", status_code=403)
async def get_quota_history(core: TheCore, key: TheKey) -> Json:
    """Is refused: there is no quota of firmware updates."""
    raise _no_customer()


@router.get("/v3/billing-report", summary="Get a billing report", status_code=403)
async def get_report(core: TheCore, key: TheKey, month: Month) -> Json:
    """Is refused: nothing is billed. /v3/metrics has what happened."""
    raise _no_customer()


@router.get("/v3/billing-report-active-devices", summary="Get what devices are billed by", status_code=403)
async def get_active_devices(core: TheCore, key: TheKey, month: Month) -> Json:
    """Is refused: nothing is billed. /v3/devices has the devices."""
    raise _no_customer()


@router.get("/v3/billing-report-firmware-updates", summary="Get what firmware updates are billed by", status_code=403)
async def get_firmware_updates(core: TheCore, key: TheKey, month: Month) -> Json:
    """Is refused: nothing is billed. /v3/update-campaigns has the updates."""
    raise _no_customer()


def _no_customer() -> Refused:
    return Refused(
        403, "the account is not a commercial account", hint="nothing is billed here; /v3/metrics has what happened"
    )
