"""Firmware images, manifests and campaigns."""

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

from pdmlab.service.schema.base import Id, Time, account, created, id_, metadata

firmware_images = Table(
    "firmware_images",
    metadata,
    id_(),
    account(),
    Column("name", String(128), nullable=False),
    Column("description", String(2000), nullable=False, server_default=""),
    Column("size", Integer, nullable=False),
    Column("checksum", String(64), nullable=False),
    Column("datafile_encryption", Boolean, nullable=False, server_default=false()),
    Column("encrypted_size", Integer),
    Column("encrypted_checksum", String(64)),
    Column("encryption_key", LargeBinary),
    *created(),
    Index(None, "account_id"),
    comment="checksum: SHA-256 in hex; the bytes, encrypted if datafile_encryption, are in image_pieces",
)

image_pieces = Table(
    "image_pieces",
    metadata,
    Column("image_id", Id, primary_key=True),
    Column("number", Integer, primary_key=True),
    account(),
    Column("data", LargeBinary, nullable=False),
    comment="an image's bytes, 64 KiB a row; of one that is still coming, image_id is upload_jobs.image_id",
)

upload_jobs = Table(
    "upload_jobs",
    metadata,
    id_(),
    account(),
    Column("name", String(128), nullable=False),
    Column("description", String(2000), nullable=False, server_default=""),
    Column("datafile_encryption", Boolean, nullable=False, server_default=false()),
    Column("status", String(16), nullable=False, server_default="in_progress"),
    Column("image_id", Id, nullable=False, server_default=""),
    Column("size", Integer, nullable=False, server_default="0"),
    Column("chunks", Integer, nullable=False, server_default="0"),
    Column("firmware_image_id", Id),
    *created(),
    Index(None, "account_id"),
    comment="image_id: of the image to be; firmware_image_id: the same, once there is one. size and chunks: what has"
    " come. status: in_progress, success, or receiving for an image that comes in one request",
)

upload_chunks = Table(
    "upload_chunks",
    metadata,
    Column("upload_job_id", Id, ForeignKey("upload_jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    account(),
    Column("hash", String(64), nullable=False),
    Column("md5", String(24), nullable=False, server_default=""),
    Column("length", Integer, nullable=False),
    Column("answered", Boolean, nullable=False, server_default=false()),
    Column("created_at", Time, nullable=False),
    comment="number counts from 1; an empty chunk ends the job, which then becomes an image. hash: SHA-256 in hex; md5:"
    " as the sender gave it; answered: whether the sender has been told",
)

firmware_manifests = Table(
    "firmware_manifests",
    metadata,
    id_(),
    account(),
    Column("name", String(128), nullable=False),
    Column("description", String(2000), nullable=False, server_default=""),
    Column("data", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),
    Column("vendor_id", String(32)),
    Column("device_class", String(32)),
    Column("schema_version", Integer, nullable=False, server_default="3"),
    Column("version", String(20)),
    Column("component", String(16)),
    Column("payload_uri", String(255)),
    Column("payload_size", BigInteger),
    Column("payload_digest", String(64)),
    Column("timestamp", Time),
    Column("key_table", LargeBinary),
    *created(),
    Index(None, "account_id"),
)

campaigns = Table(
    "campaigns",
    metadata,
    id_(),
    account(),
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
    Column("version", String(20)),
    Column("component", String(16)),
    Column("payload_uri", String(255)),
    Column("payload_size", BigInteger),
    *created(),
    Index(None, "account_id"),
    Index(None, "phase"),
    comment="manifest and what it says are copied at the start: deleting the manifest stops no campaign",
)

campaign_devices = Table(
    "campaign_devices",
    metadata,
    id_(),
    account(),
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
    *created(),
    UniqueConstraint("campaign_id", "device_id"),
    Index(None, "device_id"),
    Index(None, "campaign_id", "summary_status"),
    Index(None, "summary_status", "deadline"),
    comment="summary_status is info until the device is done, then success, fail or skipped",
)

device_words = Table(
    "device_words",
    metadata,
    Column("campaign_device_id", Id, ForeignKey("campaign_devices.id", ondelete="CASCADE"), primary_key=True),
    account(),
    Column("words", Text, nullable=False, server_default=""),
    Column("told_at", Time, nullable=False),
    comment="what a campaign's device said of its slots and bootloader when it was asked last, as JSON; empty: it"
    " does not tell",
)
