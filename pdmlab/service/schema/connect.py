"""What keys want of devices, and the channels on which they hear of it."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from pdmlab.service.schema.base import Id, Time, account, created, device, id_, json_, key, metadata

observations = Table(
    "observations",
    metadata,
    Column("device_id", Id, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    Column("path", String(32), primary_key=True),
    account(),
    Column("token", LargeBinary(8)),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    *created(),
    comment="what the service observes, however many keys want it: state is waiting, active or refused",
)

subscriptions = Table(
    "subscriptions",
    metadata,
    key(),
    device(),
    Column("path", String(32), nullable=False),
    account(),
    Column("async_id", String(40)),
    Column("from_presubscription", Boolean, nullable=False, server_default=false()),
    Column("created_at", Time, nullable=False),
    Index(None, "device_id", "path"),
    UniqueConstraint("api_key_id", "device_id", "path"),
    comment="async_id: the async-response that the key still waits for",
)

presubscriptions = Table(
    "presubscriptions",
    metadata,
    id_(),
    account(),
    key(),
    Column("position", Integer, nullable=False),
    Column("endpoint_name", String(64)),
    Column("endpoint_type", String(64)),
    json_("resource_path", "[]"),
    Column("created_at", Time, nullable=False),
    Index(None, "api_key_id"),
    Index(None, "account_id"),
)

requests = Table(
    "requests",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    account(),
    key(),
    device(),
    Column("async_id", String(40), nullable=False),
    Column("method", String(8), nullable=False),
    Column("uri", String(512), nullable=False),
    Column("payload", LargeBinary, nullable=False, server_default=text("''")),
    Column("content_type", String(64)),
    Column("accept", String(64)),
    Column("ends_with_registration", Boolean, nullable=False, server_default=false()),
    Column("state", String(16), nullable=False, server_default="queued"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("retries", Integer, nullable=False, server_default="0"),
    Column("expires", Float, nullable=False),
    Column("created_at", Time, nullable=False),
    Column("node", String(64), nullable=False, server_default=""),
    Index(None, "device_id"),
    Index(None, "expires"),
    comment="what waits for devices, in the order of number; a request that was answered is gone. node: the process"
    " that asks the device, of one that is sent or acknowledged",
)

channels = Table(
    "channels",
    metadata,
    Column("api_key_id", Id, ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True),
    account(),
    Column("kind", String(16), nullable=False),
    Column("url", String(400)),
    json_("headers", "{}"),
    Column("expires", Float, nullable=False, server_default="0"),
    Column("holder", Id),
    Column("held_until", Float, nullable=False, server_default="0"),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("next_try", Float, nullable=False, server_default="0"),
    Column("failing_since", Float),
    *created(),
    Index(None, "account_id"),
    comment="kind: LONG_POLLING, CALLBACK or WEB_SOCKET; expires: when it ends unless it is used (Unix s); holder: the"
    " poll, the socket or the delivery that has it now; tries: of a callback that have failed in a row",
)

channel_messages = Table(
    "channel_messages",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    account(),
    key(),
    Column("kind", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("size", Integer, nullable=False, server_default="0"),
    Column("created", Float, nullable=False),
    Index(None, "api_key_id", "number"),
    comment="events that a key has not fetched yet, as JSON; kind is their key in a NotificationMessage",
)
