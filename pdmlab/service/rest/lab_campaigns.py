"""A campaign's device closely: how far it is, why it ended so, and what it says of its slots and its bootloader."""

from __future__ import annotations

import sqlalchemy as sa
from fastapi import APIRouter

from pdmlab.errors import NetworkError
from pdmlab.service.campaign_reasons import reason
from pdmlab.service.core import Core
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json
from pdmlab.service.schema import campaign_devices
from pdmlab.service.store import Row
from pdmlab.service.values import as_json

router = APIRouter(prefix="/lab", tags=["Lab"])

KNOWN = ("/14/", "/10255/", "/10252/0/", "/5/0/", "/33629/")
"""Where stock devices tell of their firmware; of the package itself nothing is shown."""


@router.get("/campaigns/{campaign_id}/devices/{device_id}", summary="Get how far a campaign's device is, and why")
async def get_campaign_device(core: TheCore, key: TheKey, campaign_id: str, device_id: str) -> Json:
    """As a row of `devices`. Beside it: `reason`, what its result means and what to do; `words`, what the device says
    of its slots, its bootloader and its last refusal (null: it does not tell, or was not asked yet: `told_at`);
    `known`, what stock devices tell of their firmware, as the service knows it; `obstacle`, why it cannot be asked."""
    return _shape(core, _found(core, key.account_id, campaign_id, device_id))


@router.post("/campaigns/{campaign_id}/devices/{device_id}/words", summary="Ask a device for its slots and its log")
async def ask_campaign_device(core: TheCore, key: TheKey, campaign_id: str, device_id: str) -> Json:
    """Read the device's own words on its updates now, keep them, and return the device as GET does. A stock device has
    none: `words` is null then. 409 where it cannot be asked, 504 where it does not answer."""
    row = _found(core, key.account_id, campaign_id, device_id)
    obstacle = core.delivery.obstacle(device_id)
    if obstacle is not None:
        raise Refused(409, obstacle, type="conflict")
    try:
        await core.campaigns.words.ask(row)
    except NetworkError as error:
        raise Refused(504, f"the device does not answer: {error.message}", type="timeout") from error
    return _shape(core, row)


def _found(core: Core, account_id: str, campaign_id: str, device_id: str) -> Row:
    core.campaigns.find(account_id, campaign_id)
    c = campaign_devices.c
    row = core.store.row(sa.select(campaign_devices).where(c.campaign_id == campaign_id, c.device_id == device_id))
    if row is None:
        raise not_found("campaign device", device_id)
    return row


def _shape(core: Core, row: Row) -> Json:
    found = core.campaigns.progress_of(row["id"])
    if not found:  # the campaign was deleted while the device was asked
        raise not_found("campaign device", row["device_id"])
    sent = core.campaigns.find(row["account_id"], row["campaign_id"])["manifest"]
    why = reason(row["event_type"], row["result"], sent)
    words, told_at = core.campaigns.words.of(row["id"])
    return {
        **found[0],
        "event_type": row["event_type"],
        "tries": row["tries"],
        "updated_at": row["updated_at"],
        "reason": None if why is None else why._asdict(),
        "words": words,
        "told_at": told_at,
        "known": _known(core, row["device_id"]),
        "obstacle": core.delivery.obstacle(row["device_id"]),
    }


def _known(core: Core, device_id: str) -> list[Json]:
    found = []
    for each in core.resources.list(device_id):
        if each["value"] is not None and each["path"].startswith(KNOWN):
            value = as_json(each["path"], bytes(each["value"]), each["content_format"], 0)
            found.append({"path": each["path"], "payload": value["payload"], "ct": value["ct"]})
    return found
