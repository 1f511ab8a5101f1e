"""The device directory with its groups and queries, registrations, and what devices have."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
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
)

from pdmlab.service.schema.base import Id, Time, account, created, id_, json_, metadata

devices = Table(
    "devices",
    metadata,
    id_(),
    account(),
    Column("endpoint_name", String(64)),
    Column("endpoint_type", String(64)),
    Column("state", String(20), nullable=False, server_default="unenrolled"),
    Column("name", String(128)),
    Column("description", String(2000)),
    Column("device_class", String(32)),
    Column("vendor_id", String(255)),
    Column("serial_number", String(64)),
    Column("host_gateway", String(32)),
    Column("mechanism", String(16), nullable=False, server_default="connector"),
    Column("mechanism_url", String(255)),
    Column("device_execution_mode", Integer, nullable=False, server_default="1"),
    Column("device_key", String(512)),
    Column("ca_id", String(500)),
    Column("issuer_fingerprint", String(255)),
    Column("bootstrap_expiration_date", String(10)),
    Column("connector_expiration_date", String(10)),
    Column("bootstrapped_timestamp", Time),
    Column("enrolment_list_timestamp", Time),
    Column("firmware_checksum", String(64)),
    Column("manifest", String(255)),
    Column("manifest_timestamp", Time),
    Column("deployment", Id),
    Column("deployed_state", String(32)),
    Column("lifecycle_status", String(32), nullable=False, server_default="enabled"),
    Column("auto_update", Boolean, nullable=False, server_default=false()),
    json_("custom_attributes", "{}"),
    *created(),
    Index(None, "account_id", "endpoint_name"),
    Index(None, "account_id", "device_key"),
    # Lists are pages in the order of ids: what finds many has the id at its end.
    Index(None, "account_id", "id"),
    Index(None, "account_id", "state", "id"),
)

device_groups = Table(
    "device_groups",
    metadata,
    id_(),
    account(),
    Column("name", String(128), nullable=False),
    Column("description", String(2000), nullable=False, server_default=""),
    json_("custom_attributes", "{}"),
    *created(),
    UniqueConstraint("account_id", "name"),
)

device_group_members = Table(
    "device_group_members",
    metadata,
    Column("group_id", Id, ForeignKey("device_groups.id", ondelete="CASCADE"), primary_key=True),
    Column("device_id", Id, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    Index(None, "device_id"),
    comment="both are of one account",
)

device_queries = Table(
    "device_queries",
    metadata,
    id_(),
    account(),
    Column("name", String(200), nullable=False),
    Column("query", String(1000), nullable=False),
    *created(),
    Index(None, "account_id"),
)

device_events = Table(
    "device_events",
    metadata,
    id_(),
    account(),
    Column("device_id", Id, nullable=False),
    Column("date_time", Time, nullable=False),
    Column("event_type", String(100), nullable=False),
    Column("event_type_category", String(100), nullable=False, server_default=""),
    Column("event_type_description", String(255), nullable=False, server_default=""),
    Column("description", Text, nullable=False, server_default=""),
    json_("changes", "{}"),
    json_("data", "{}"),
    Column("state_change", Boolean, nullable=False, server_default=false()),
    Column("created_at", Time, nullable=False),
    Index(None, "account_id", "id"),
    Index(None, "account_id", "device_id", "id"),
    comment="they outlive their device",
)

bootstrap_endpoints = Table(
    "bootstrap_endpoints",
    metadata,
    Column("device_id", Id, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    account(),
    Column("endpoint_name", String(255), nullable=False),
    Column("address", String(64), nullable=False),
    Column("security", String(16), nullable=False, server_default="none"),
    Column("state", String(16), nullable=False),
    Column("step", String(64), nullable=False),
    Column("reason", Text),
    Column("fingerprint", String(64)),
    json_("steps", "[]"),
    *created(),
    Index(None, "account_id"),
    comment="each device's latest bootstrap: security is none, psk, certificate or est; state is requested, finished or"
    " failed; step is the last one tried; fingerprint: SHA-256 of the certificate that it asked with",
)

registrations = Table(
    "registrations",
    metadata,
    Column("device_id", Id, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    account(),
    Column("endpoint_name", String(255), nullable=False),
    Column("endpoint_type", String(64), nullable=False, server_default=""),
    Column("host", String(64), nullable=False),
    Column("port", Integer, nullable=False),
    Column("scheme", String(9), nullable=False, server_default="coap"),
    Column("serial", BigInteger, nullable=False, server_default="0"),
    Column("root", String(64), nullable=False, server_default=""),
    Column("lifetime", Integer, nullable=False),
    Column("binding", String(16), nullable=False),
    Column("queue_mode", Boolean, nullable=False, server_default=false()),
    Column("lwm2m_version", String(8), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("expires", Float, nullable=False),
    Column("registered_at", Time, nullable=False),
    Column("updated_at", Time, nullable=False),
    Column("node", String(64), nullable=False, server_default=""),
    Index(None, "account_id"),
    Index(None, "node"),
    comment="generation grows with each full registration; values and observations belong to the latest. host, port,"
    " scheme and serial name the connection at the process `node`; serial is 0 for datagrams. root: where its objects"
    " are, if not at the top",
)

resources = Table(
    "resources",
    metadata,
    Column("device_id", Id, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    Column("path", String(32), primary_key=True),
    account(),
    Column("rt", String(128), nullable=False, server_default=""),
    Column("observable", Boolean, nullable=False, server_default=false()),
    Column("aobs", Integer),
    Column("value", LargeBinary),
    Column("content_format", Integer),
    Column("value_expires", Float),
    comment="what the latest registration listed, with its latest values; value_expires: Unix s, null for never",
)
