"""The service's tables. Every row carries its account; what is per API key carries that; ids are 32 hex digits.

Times of day are text, RFC 3339 in UTC with microseconds, as REST shows them: they sort as they read. Deadlines
are Unix seconds. A change here needs a migration beside it (migrations/versions); a test holds both together.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

HEAD = "0002"
"""The migration that leads to these tables."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = String(32)
Time = String(27)


def _id() -> Column[str]:
    return Column("id", Id, primary_key=True)


def _account() -> Column[str]:
    return Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False)


def _key() -> Column[str]:
    return Column("api_key_id", Id, ForeignKey("api_keys.id", ondelete="CASCADE"), nullable=False)


def _device() -> Column[str]:
    return Column("device_id", Id, ForeignKey("devices.id", ondelete="CASCADE"), nullable=False)


def _created() -> tuple[Column[str], Column[str]]:
    return Column("created_at", Time, nullable=False), Column("updated_at", Time, nullable=False)


def _json(name: str, empty: str) -> Column[object]:
    return Column(name, JSON, nullable=False, server_default=text(f"'{empty}'"))


facts = Table(
    "facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    comment="what the service itself has to remember: its default account, its ports",
)

accounts = Table(
    "accounts",
    metadata,
    _id(),
    Column("display_name", String(255)),
    Column("status", String(16), nullable=False, server_default="ACTIVE"),
    Column("tier", String(8), nullable=False, server_default="1"),
    _json("fields", "{}"),
    *_created(),
    comment="fields: whatever else PUT /v3/accounts/me has set",
)

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    _account(),
    Column("name", String(100), nullable=False),
    Column("key_hash", String(64), nullable=False, unique=True),
    Column("key_prefix", String(40), nullable=False, server_default=""),
    Column("owner", Id),
    Column("status", String(16), nullable=False, server_default="ACTIVE"),
    _json("groups", "[]"),
    Column("last_login_at", Time),
    *_created(),
    Index(None, "account_id"),
    comment="key_hash: SHA-256 of the key in hex; the key itself is not kept",
)

devices = Table(
    "devices",
    metadata,
    _id(),
    _account(),
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
    _json("custom_attributes", "{}"),
    _json("groups", "[]"),
    *_created(),
    Index(None, "account_id", "endpoint_name"),
    Index(None, "account_id", "state"),
)

device_events = Table(
    "device_events",
    metadata,
    _id(),
    _account(),
    Column("device_id", Id, nullable=False),
    Column("date_time", Time, nullable=False),
    Column("event_type", String(100), nullable=False),
    Column("event_type_category", String(100), nullable=False, server_default=""),
    Column("event_type_description", String(255), nullable=False, server_default=""),
    Column("description", Text, nullable=False, server_default=""),
    _json("changes", "{}"),
    _json("data", "{}"),
    Column("state_change", Boolean, nullable=False, server_default=false()),
    Column("created_at", Time, nullable=False),
    Index(None, "account_id", "device_id"),
    comment="they outlive their device",
)

bootstrap_endpoints = Table(
    "bootstrap_endpoints",
    metadata,
    Column("device_id", Id, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    _account(),
    Column("endpoint_name", String(255), nullable=False),
    Column("address", String(64), nullable=False),
    Column("security", String(16), nullable=False, server_default="none"),
    Column("state", String(16), nullable=False),
    Column("step", String(64), nullable=False),
    Column("reason", Text),
    Column("fingerprint", String(64)),
    _json("steps", "[]"),
    *_created(),
    Index(None, "account_id"),
    comment="each device's latest bootstrap: security is none, psk, certificate or est; state is requested, finished or"
    " failed; step is the last one tried; fingerprint: SHA-256 of the certificate that it asked with",
)

registrations = Table(
    "registrations",
    metadata,
    Column("device_id", Id, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    _account(),
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
    Index(None, "account_id"),
    comment="generation grows with each full registration; values and observations belong to the latest. host, port,"
    " scheme and serial name the connection; serial is 0 for datagrams. root: where its objects are, if not at the top",
)

resources = Table(
    "resources",
    metadata,
    Column("device_id", Id, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    Column("path", String(32), primary_key=True),
    _account(),
    Column("rt", String(128), nullable=False, server_default=""),
    Column("observable", Boolean, nullable=False, server_default=false()),
    Column("aobs", Integer),
    Column("value", LargeBinary),
    Column("content_format", Integer),
    Column("value_expires", Float),
    comment="what the latest registration listed, with its latest values; value_expires: Unix s, null for never",
)

observations = Table(
    "observations",
    metadata,
    Column("device_id", Id, ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True),
    Column("path", String(32), primary_key=True),
    _account(),
    Column("token", LargeBinary(8)),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    *_created(),
    comment="what the service observes, however many keys want it: state is waiting, active or refused",
)

subscriptions = Table(
    "subscriptions",
    metadata,
    _key(),
    _device(),
    Column("path", String(32), nullable=False),
    _account(),
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
    _id(),
    _account(),
    _key(),
    Column("position", Integer, nullable=False),
    Column("endpoint_name", String(64)),
    Column("endpoint_type", String(64)),
    _json("resource_path", "[]"),
    Column("created_at", Time, nullable=False),
    Index(None, "api_key_id"),
    Index(None, "account_id"),
)

requests = Table(
    "requests",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    _account(),
    _key(),
    _device(),
    Column("async_id", String(40), nullable=False),
    Column("method", String(8), nullable=False),
    Column("uri", String(512), nullable=False),
    Column("payload", LargeBinary, nullable=False, server_default=text("''")),
    Column("content_type", String(64)),
    Column("state", String(16), nullable=False, server_default="queued"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("retries", Integer, nullable=False, server_default="0"),
    Column("expires", Float, nullable=False),
    Column("created_at", Time, nullable=False),
    Index(None, "device_id"),
    Index(None, "expires"),
    comment="what waits for devices, in the order of number; a request that was answered is gone",
)

channels = Table(
    "channels",
    metadata,
    Column("api_key_id", Id, ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True),
    _account(),
    Column("kind", String(16), nullable=False),
    Column("url", String(400)),
    _json("headers", "{}"),
    Column("last_used", Float, nullable=False, server_default="0"),
    *_created(),
    Index(None, "account_id"),
    comment="kind: LONG_POLLING, CALLBACK or WEB_SOCKET; last_used: Unix s",
)

channel_messages = Table(
    "channel_messages",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    _account(),
    _key(),
    Column("kind", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("next_try", Float, nullable=False, server_default="0"),
    Column("tries", Integer, nullable=False, server_default="0"),
    Index(None, "api_key_id", "number"),
    comment="events that a key has not fetched yet, as JSON; kind is their key in a NotificationMessage",
)

firmware_images = Table(
    "firmware_images",
    metadata,
    _id(),
    _account(),
    Column("name", String(128), nullable=False),
    Column("description", String(2000), nullable=False, server_default=""),
    Column("size", Integer, nullable=False),
    Column("checksum", String(64), nullable=False),
    Column("datafile_encryption", Boolean, nullable=False, server_default=false()),
    Column("data", LargeBinary),
    Column("file", String(255)),
    *_created(),
    Index(None, "account_id"),
    comment="checksum: SHA-256 in hex; the bytes are in data, or in a file of the state folder",
)

upload_jobs = Table(
    "upload_jobs",
    metadata,
    _id(),
    _account(),
    Column("name", String(128), nullable=False),
    Column("description", String(2000), nullable=False, server_default=""),
    Column("datafile_encryption", Boolean, nullable=False, server_default=false()),
    Column("status", String(16), nullable=False, server_default="in_progress"),
    Column("firmware_image_id", Id),
    *_created(),
    Index(None, "account_id"),
)

upload_chunks = Table(
    "upload_chunks",
    metadata,
    Column("upload_job_id", Id, ForeignKey("upload_jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    _account(),
    Column("hash", String(64), nullable=False),
    Column("length", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("created_at", Time, nullable=False),
    comment="number counts from 1; an empty chunk ends the job, which then becomes an image",
)

firmware_manifests = Table(
    "firmware_manifests",
    metadata,
    _id(),
    _account(),
    Column("name", String(128), nullable=False),
    Column("description", String(2000), nullable=False, server_default=""),
    Column("data", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),
    Column("vendor_id", String(32)),
    Column("device_class", String(32)),
    Column("version", String(16)),
    Column("component", String(16)),
    Column("payload_uri", String(255)),
    Column("payload_size", Integer),
    Column("payload_digest", String(64)),
    Column("timestamp", Time),
    Column("key_table", Text),
    *_created(),
    Index(None, "account_id"),
)

campaigns = Table(
    "campaigns",
    metadata,
    _id(),
    _account(),
    Column("name", String(128), nullable=False, server_default=""),
    Column("description", String(2000), nullable=False, server_default=""),
    Column("device_filter", Text, nullable=False),
    Column("root_manifest_id", Id),
    Column("root_manifest_url", String(255)),
    Column("campaign_strategy", String(16), nullable=False, server_default="one-shot"),
    Column("phase", String(16), nullable=False, server_default="draft"),
    Column("state", String(32), nullable=False, server_default="draft"),
    Column("when", Time),
    Column("started_at", Time),
    Column("finished", Time),
    Column("autostop_reason", Text),
    Column("manifest", LargeBinary),
    Column("version", String(16)),
    Column("component", String(16)),
    Column("payload_uri", String(255)),
    Column("payload_size", Integer),
    *_created(),
    Index(None, "account_id"),
    comment="manifest and what it says are copied at the start: deleting the manifest stops no campaign",
)

campaign_devices = Table(
    "campaign_devices",
    metadata,
    _id(),
    _account(),
    Column("campaign_id", Id, ForeignKey("campaigns.id", ondelete="CASCADE"), nullable=False),
    Column("device_id", Id, nullable=False),
    Column("deployment_state", String(40), nullable=False, server_default="pending"),
    Column("step", String(24), nullable=False),
    Column("summary_status", String(8), nullable=False, server_default="info"),
    Column("event_type", String(40), nullable=False, server_default=""),
    Column("name", String(128), nullable=False, server_default=""),
    Column("description", Text, nullable=False, server_default=""),
    Column("mechanism", String(16), nullable=False, server_default="connector"),
    Column("mechanism_url", String(255)),
    Column("result", Integer),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("generation", BigInteger, nullable=False, server_default="0"),
    Column("done_B", Integer, nullable=False, server_default="0"),
    Column("deadline", Float),
    *_created(),
    UniqueConstraint("campaign_id", "device_id"),
    Index(None, "device_id"),
    comment="summary_status is info until the device is done, then success, fail or skipped",
)

developer_certificates = Table(
    "developer_certificates",
    metadata,
    _id(),
    _account(),
    Column("name", String(100), nullable=False),
    Column("description", String(500), nullable=False, server_default=""),
    Column("endpoint_name", String(64), nullable=False, server_default=""),
    Column("certificate", Text),
    Column("private_key", Text),
    *_created(),
    UniqueConstraint("account_id", "name"),
    comment="certificate and key are PEM, null in what was made before the service had a CA",
)

own_certificates = Table(
    "own_certificates",
    metadata,
    Column("role", String(16), primary_key=True),
    Column("certificate", LargeBinary, nullable=False),
    Column("private_key", LargeBinary, nullable=False),
    Column("created_at", Time, nullable=False),
    comment="the service's own, in DER: role is authority (its CA), bootstrap or lwm2m (what its two servers show)",
)

device_certificates = Table(
    "device_certificates",
    metadata,
    Column("serial_number", String(40), primary_key=True),
    _account(),
    _device(),
    Column("endpoint_name", String(64), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("not_after", Time, nullable=False),
    Column("name", String(64), nullable=False, server_default="LWM2M"),
    Column("replaced_at", Time),
    Column("created_at", Time, nullable=False),
    Index(None, "device_id"),
    comment="what the CA has signed for devices: serial number in hex, certificate in DER; LWM2M is what they register"
    " with, and replaced_at when a newer one took its place",
)

certificate_enrollments = Table(
    "certificate_enrollments",
    metadata,
    _id(),
    _account(),
    _device(),
    Column("certificate_name", String(64), nullable=False),
    Column("enroll_status", String(16), nullable=False, server_default="new"),
    Column("enroll_result", String(16)),
    Column("enroll_result_detail", Text),
    *_created(),
    Index(None, "account_id"),
    Index(None, "device_id"),
    comment="renewals that devices were asked for; enroll_status is new or completed, enroll_result success or failure",
)

shared_keys = Table(
    "shared_keys",
    metadata,
    Column("identity", String(128), primary_key=True),
    _account(),
    Column("secret", LargeBinary(64), nullable=False),
    *_created(),
    Index(None, "account_id"),
    comment="pre-shared keys of LwM2M clients, as they are: a handshake needs the key itself",
)

dtls_associations = Table(
    "dtls_associations",
    metadata,
    Column("role", String(16), primary_key=True),
    Column("key", String(32), primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("updated_at", Time, nullable=False),
    comment="DTLS clients go on without a handshake, over a restart of the service too; role: bootstrap or lwm2m",
)
