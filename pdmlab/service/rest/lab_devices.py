"""Devices as views show them: with their registrations, found by part of a name, sorted, in pages; and their values.

The vendor's list knows neither lifetimes nor parts of names, and asks for each value on its own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query

from pdmlab.coap.transport import Scheme
from pdmlab.service.refusal import not_found
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json
from pdmlab.service.schema import devices, registrations
from pdmlab.service.store import Row
from pdmlab.service.values import as_json

router = APIRouter(prefix="/lab", tags=["Lab"])

_OF_DEVICE = ("id", "endpoint_name", "name", "state", "endpoint_type", "created_at", "updated_at")
_OF_REGISTRATION = ("registered_at", "lifetime", "expires", "binding", "queue_mode", "scheme", "host", "port")
_COLUMNS: dict[str, sa.ColumnElement[Any]] = {
    **{name: devices.c[name] for name in _OF_DEVICE},
    **{name: registrations.c[name] for name in _OF_REGISTRATION},
    "last_update": registrations.c.updated_at,
    "lwm2m_version": registrations.c.lwm2m_version,
}
_JOINED = devices.outerjoin(registrations, registrations.c.device_id == devices.c.id)

Sort = Literal["created_at", "endpoint_name", "state", "registered_at", "last_update", "lifetime"]
SECURITY: dict[Scheme, str] = {"coap": "none", "coap+tcp": "none", "coaps": "DTLS", "coaps+tcp": "TLS"}
"""What a connection's scheme says of its security."""


@router.get("/devices", summary="List devices as a table")
async def list_devices(
    core: TheCore,
    key: TheKey,
    search: Annotated[str, Query(max_length=128, description="Part of an endpoint name, a name or an id.")] = "",
    state: Annotated[str, Query(max_length=20, description="Only of this state: registered.")] = "",
    sort: Sort = "created_at",
    descending: bool = False,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Json:
    """Devices of the account with their registrations; beside them how many of each state the search finds.

    Times are the service's, UTC; `expires_in` (s) says how long the registration will hold.
    """
    where = [devices.c.account_id == key.account_id]
    if text := search.replace("\0", "").strip().lower():
        named = (devices.c.endpoint_name, devices.c.name, devices.c.id)
        where.append(sa.or_(*(sa.func.lower(column).contains(text, autoescape=True) for column in named)))
    counted = sa.select(devices.c.state, sa.func.count().label("many")).where(*where).group_by(devices.c.state)
    counts = {row["state"]: row["many"] for row in core.store.rows(counted)}
    if state:
        where.append(devices.c.state == state)
    by = _COLUMNS[sort]
    rows = core.store.rows(
        sa.select(*(column.label(name) for name, column in _COLUMNS.items()))
        .select_from(_JOINED)
        .where(*where)
        .order_by(by.is_(None), by.desc() if descending else by, devices.c.id)
        .offset(offset)
        .limit(limit)
    )
    total = counts.get(state, 0) if state else sum(counts.values())
    return {"data": [_shape(row, core.now()) for row in rows], "total": total, "states": counts}


def _shape(row: Row, now: float) -> Json:
    scheme, host, port, expires = (row.pop(name) for name in ("scheme", "host", "port", "expires"))
    registered = host is not None
    address = f"[{host}]:{port}" if registered and ":" in host else f"{host}:{port}"
    return {
        **row,
        "queue_mode": bool(row["queue_mode"]) if registered else None,
        "address": address if registered else None,
        "security": SECURITY.get(scheme) if registered else None,
        "expires_in": max(0, round(expires - now)) if registered else None,
    }


@router.get("/devices/{device_id}", summary="Get a device as a table's row")
async def get_device(core: TheCore, key: TheKey, device_id: str) -> Json:
    """A device with its registration, and why it cannot be asked just now (`obstacle`), if that is so."""
    where = (devices.c.account_id == key.account_id, devices.c.id == device_id)
    columns = (column.label(name) for name, column in _COLUMNS.items())
    row = core.store.row(sa.select(*columns).select_from(_JOINED).where(*where))
    if row is None:
        raise not_found("device", device_id)
    return {**_shape(row, core.now()), "obstacle": core.delivery.obstacle(device_id)}


@router.get("/devices/{device_id}/values", summary="List a device's resources with their values")
async def get_values(core: TheCore, key: TheKey, device_id: str) -> list[Json]:
    """What the device listed, in numeric order; of each the latest value that the service knows (base64), its content
    type, how long it stays fresh (s; null for a value that came with the registration), and its observation."""
    if core.directory.find(device_id, key.account_id) is None:
        raise not_found("device", device_id)
    observed = {row["path"]: row for row in core.observations.table(device_id)}
    now, shown = core.now(), []
    for row in core.resources.list(device_id):
        left = None if row["value_expires"] is None else round(row["value_expires"] - now)
        value: Json = {"payload": None, "ct": None}
        if row["value"] is not None:
            value = as_json(row["path"], bytes(row["value"]), row["content_format"], 0)
        observation = observed.get(row["path"])
        shown.append(
            {
                "path": row["path"],
                "rt": row["rt"],
                "observable": bool(row["observable"]),
                "payload": value["payload"],
                "ct": value["ct"],
                "fresh_for": left,
                "observation": None if observation is None else observation["state"],
                "why": "" if observation is None else observation["why"] or "",
            }
        )
    return shown


@router.get("/campaigns/{campaign_id}/devices", summary="List how far a campaign's devices are, in pages")
async def get_campaign_devices(
    core: TheCore,
    key: TheKey,
    campaign_id: str,
    phase: Annotated[str, Query(max_length=32, description="Only of this phase: downloading, fail.")] = "",
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Json:
    """As `progress`, a page of it; beside it how many devices are in each phase, and the bytes of all together."""
    core.campaigns.find(key.account_id, campaign_id)
    rows = core.campaigns.progress(campaign_id)
    phases: dict[str, int] = {}
    for row in rows:
        phases[row["phase"]] = phases.get(row["phase"], 0) + 1
    chosen = [row for row in rows if phase in ("", row["phase"])]
    return {
        "data": chosen[offset : offset + limit],
        "total": len(chosen),
        "phases": phases,
        "done_B": sum(row["done_B"] or 0 for row in rows),
        "total_B": sum(row["total_B"] or 0 for row in rows),
    }
