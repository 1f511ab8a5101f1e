"""Registrations as rows of their table, and as the events that channels carry."""

from __future__ import annotations

import sqlalchemy as sa

from pdmlab.coap.transport import Address, Connection, scheme_of
from pdmlab.lwm2m.linkformat import Link
from pdmlab.service.register import Registration
from pdmlab.service.resources import as_listed, leaves
from pdmlab.service.schema import channels, devices, registrations
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Rows

_SET = sa.update(registrations).where(registrations.c.device_id == sa.bindparam("device"))
_COLUMNS = [column.name for column in registrations.c if column.name not in ("device_id", "account_id")]
REFRESHED = [
    *("host", "port", "scheme", "serial", "root", "lifetime", "binding"),
    "queue_mode",
    "expires",
    "updated_at",
    "node",
]
_KEPT = [name for name in _COLUMNS if name not in ("host", "port", "scheme", "serial")]
_DEVICE_IS = registrations.c.device_id == sa.bindparam("device")
# As it was when it was read: another process may have taken the device over since.
_AS_IT_WAS = sa.and_(
    _DEVICE_IS,
    registrations.c.generation == sa.bindparam("was_generation"),
    registrations.c.expires == sa.bindparam("was_expires"),
    registrations.c.node == sa.bindparam("was_node"),
)
ONE = Statement(sa.select(registrations).where(_DEVICE_IS))
TAKEN = Statement(sa.select(registrations).where(_DEVICE_IS).with_for_update())
"""The same, and nobody else changes it until the transaction ends."""
INSERT = Statement(sa.insert(registrations), ["device_id", "account_id", *_COLUMNS])
REPLACE = Statement(_SET.values({name: sa.bindparam(name) for name in _COLUMNS}))
REFRESH = Statement(sa.update(registrations).where(_AS_IT_WAS).values({n: sa.bindparam(n) for n in REFRESHED}))
DELETE = Statement(sa.delete(registrations).where(_AS_IT_WAS))
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


def registration_of(row: Row) -> Registration:
    """Return a row as a registration."""
    values = dict(row)
    host, port, scheme, serial = (values.pop(name) for name in ("host", "port", "scheme", "serial"))
    peer: Address = (host, port) if scheme == "coap" else Connection(host, port, scheme, serial)
    return Registration(peer=peer, heard=0.0, **values)


def as_it_was(registration: Registration) -> Row:
    """Return what a row must still be, for a change that goes out from a registration."""
    return {
        "was_generation": registration.generation,
        "was_expires": registration.expires,
        "was_node": registration.node,
    }


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
