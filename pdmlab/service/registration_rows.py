"""Registrations as rows of their table, and as the events that channels carry."""

from __future__ import annotations

import sqlalchemy as sa

from pdmlab.coap.transport import Connection, scheme_of
from pdmlab.lwm2m.linkformat import Link
from pdmlab.service.register import Registration
from pdmlab.service.resources import as_listed, leaves
from pdmlab.service.schema import channels, devices, registrations
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Rows

_SET = sa.update(registrations).where(registrations.c.device_id == sa.bindparam("device"))
_COLUMNS = [column.name for column in registrations.c if column.name not in ("device_id", "account_id")]
REFRESHED = ("host", "port", "scheme", "serial", "root", "lifetime", "binding", "queue_mode", "expires", "updated_at")
_KEPT = [name for name in _COLUMNS if name not in ("host", "port", "scheme", "serial")]
INSERT = Statement(sa.insert(registrations), ["device_id", "account_id", *_COLUMNS])
REPLACE = Statement(_SET.values({name: sa.bindparam(name) for name in _COLUMNS}))
REFRESH = Statement(_SET.values({name: sa.bindparam(name) for name in REFRESHED}))
DELETE = Statement(sa.delete(registrations).where(registrations.c.device_id == sa.bindparam("device")))
LISTENING = Statement(sa.select(channels.c.api_key_id).where(channels.c.account_id == sa.bindparam("account")).limit(1))
_DEVICE = sa.update(devices).where(devices.c.id == sa.bindparam("device"))
REGISTERED = Statement(
    _DEVICE.values({n: sa.bindparam(n) for n in ("state", "endpoint_name", "endpoint_type", "updated_at")})
)
DEREGISTERED = Statement(_DEVICE.values(state="deregistered", updated_at=sa.bindparam("updated_at")))


def columns(registration: Registration) -> Row:
    """Return a registration's row, without its device and account."""
    row = {name: getattr(registration, name) for name in _KEPT}
    peer = registration.peer
    row["host"], row["port"] = peer
    row["scheme"], row["serial"] = scheme_of(peer), peer.serial if isinstance(peer, Connection) else 0
    return row


def listed(links: list[Link]) -> Rows:
    """Return links as registration events show them."""
    shown = leaves(str(link.path) for link in links)
    rows = (
        {
            "path": str(link.path),
            "rt": link.rt or "",
            "content_format": None,
            "observable": link.obs or link.aobs is not None,
        }
        for link in links
    )
    return as_listed(row for row in rows if row["path"] in shown)


def event_of(registration: Registration, resources: Rows) -> Row:
    """Return what channels carry of a registration or an update."""
    return {
        "ep": registration.device_id,
        "original-ep": registration.endpoint_name,
        "ept": registration.endpoint_type,
        "q": registration.queue_mode,
        "resources": resources,
    }
