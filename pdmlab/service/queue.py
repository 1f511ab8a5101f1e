"""What waits for devices, and why: requests of keys, observations that are to be made, manifests of campaigns.

A device is asked one thing at a time. Each kind keeps its order; where several kinds wait, they take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pdmlab.service.campaign_devices import OPEN
from pdmlab.service.ids import timestamp
from pdmlab.service.schema import campaign_devices, observations, requests
from pdmlab.service.store import Row

if TYPE_CHECKING:
    import pandas as pd

    from pdmlab.service.core import Core

COLUMNS = ("device_id", "kind", "async_id", "request", "payload_B", "state", "why", "since", "until")
SHOWN = 200
"""Rows that a table in a notebook has: the first."""


class Queue(list[Row]):
    """Rows of what waits, device by device; `until` is None for what waits as long as it takes."""

    def frame(self) -> pd.DataFrame:
        """Return a frame, a row for each thing that waits."""
        import pandas as pd

        return pd.DataFrame(list(self), columns=list(COLUMNS))

    def __repr__(self) -> str:
        of = len({row["device_id"] for row in self})
        return f"<Queue, {len(self)} waiting for {of} device{'' if of == 1 else 's'}>"

    def _repr_html_(self) -> str:
        if not self:
            return "<p>Nothing waits for a device.</p>"
        names = ("device_id", "request", "why", "since", "until")
        head = "".join(f"<th>{name}</th>" for name in ("device", "what", "why it waits", "since", "until"))
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(str(row[name] or ''))}</td>" for name in names) + "</tr>"
            for row in self[:SHOWN]
        )
        left = f"; {len(self) - SHOWN} more are not shown" if len(self) > SHOWN else ""
        return f"<table><caption>{escape(repr(self)[1:-1])}{left}</caption><tr>{head}</tr>{body}</table>"


def queue(core: Core, device_id: str | None = None, account_id: str | None = None) -> Queue:
    """Return what waits for a device, for the devices of an account, or for all."""

    def rows(statement: sa.Select[Any], table: sa.Table, order: sa.ColumnElement[Any]) -> Iterable[Row]:
        if device_id is not None:
            statement = statement.where(table.c.device_id == device_id)
        if account_id is not None:
            statement = statement.where(table.c.account_id == account_id)
        return core.store.rows(statement.order_by(None).order_by(table.c.device_id, order))

    waiting = observations.c.state == "waiting"
    unsent = campaign_devices.c.step.in_(("waiting", "sending"))
    found = _of_kind(rows(sa.select(requests), requests, requests.c.number), _request, core)
    found += _of_kind(
        rows(sa.select(observations).where(waiting), observations, observations.c.path), _observation, core
    )
    found += _of_kind(rows(OPEN.where(unsent), campaign_devices, campaign_devices.c.id), _manifest, core)
    return Queue(sorted(found, key=lambda row: str(row["device_id"])))


def _of_kind(rows: Iterable[Row], shape: Callable[[Row], Row], core: Core) -> list[Row]:
    shown: list[Row] = []
    ahead: dict[str, int] = {}
    for row in rows:
        one, before = shape(row), ahead.get(row["device_id"], 0)
        ahead[row["device_id"]] = before + (one["state"] != "acknowledged")
        shown.append({"device_id": row["device_id"], **one, "why": _why(core, row["device_id"], one, before)})
    return shown


def _request(row: Row) -> Row:
    return {
        "kind": "request",
        "async_id": row["async_id"],
        "request": f"{row['method']} {row['uri']}",
        "payload_B": len(row["payload"]),
        "state": row["state"],
        "why": row["reason"],
        "since": row["created_at"],
        "until": timestamp(row["expires"]),
    }


def _observation(row: Row) -> Row:
    return {
        "kind": "observation",
        "async_id": "",
        "request": f"GET {row['path']} Observe",
        "payload_B": 0,
        "state": "queued",
        "why": row["reason"],
        "since": row["updated_at"],
        "until": None,
    }


def _manifest(row: Row) -> Row:
    return {
        "kind": "update",
        "async_id": "",
        "request": "POST /10252/0/1",
        "payload_B": len(row["manifest"] or b""),
        "state": "queued" if row["step"] == "waiting" else "sent",
        "why": "",
        "since": row["updated_at"],
        "until": None if row["deadline"] is None else timestamp(row["deadline"]),
    }


def _why(core: Core, device_id: str, row: Row, before: int) -> str:
    """Say why something waits, with `before` of its kind ahead of it; row["why"] is what was noted of it."""
    delivery, noted = core.delivery, str(row["why"])
    if row["state"] == "acknowledged":
        return noted
    obstacle = delivery.obstacle(device_id)
    if obstacle is not None:
        return f"{noted}; {obstacle}" if noted else obstacle
    if before:
        return f"{before} {row['kind']}{'s' if before > 1 else ''} of this device come first"
    if row["state"] == "waiting":
        return noted
    under_way = delivery.under_way(device_id)
    return f"the device is being asked: {under_way}" if under_way else "it is about to be sent"
