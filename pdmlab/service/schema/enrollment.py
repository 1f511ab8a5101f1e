"""Enrollment: which device of a factory is whose, lists of them that came by file, and who was turned away."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, String, Table

from pdmlab.service.schema.base import Id, Time, account, created, id_, metadata

device_enrollments = Table(
    "device_enrollments",
    metadata,
    id_(),
    account(),
    Column("fingerprint", String(64), nullable=False, unique=True),
    Column("enrollment_identity", String(97), nullable=False),
    Column("enrolled_device_id", Id, ForeignKey("devices.id", ondelete="SET NULL")),
    Column("claimed_at", Time),
    Column("expires_at", Time, nullable=False),
    *created(),
    Index(None, "account_id", "id"),
    Index(None, "enrolled_device_id"),
    Index(None, "claimed_at", "expires_at"),
    comment="fingerprint: SHA-256 in hex of the certificate that the device bootstraps with, one account's alone;"
    " enrollment_identity is the same as it was written",
)

enrollment_denials = Table(
    "enrollment_denials",
    metadata,
    id_(),
    account(),
    Column("trusted_certificate_id", Id, nullable=False),
    Column("endpoint_name", String(64), nullable=False),
    Column("created_at", Time, nullable=False),
    Index(None, "account_id", "trusted_certificate_id", "id"),
    Index(None, "account_id", "id"),
    comment="devices that a CA of the account has signed for, and that were not let in",
)

enrollment_bulks = Table(
    "enrollment_bulks",
    metadata,
    id_(),
    account(),
    Column("kind", String(8), nullable=False),
    Column("status", String(16), nullable=False),
    Column("total_count", Integer, nullable=False, server_default="0"),
    Column("processed_count", Integer, nullable=False, server_default="0"),
    Column("errors_count", Integer, nullable=False, server_default="0"),
    Column("completed_at", Time),
    *created(),
    Index(None, "account_id", "id"),
    Index(None, "status"),
    comment="kind is upload or delete; status is receiving (not shown yet), new, processing or completed",
)

enrollment_bulk_parts = Table(
    "enrollment_bulk_parts",
    metadata,
    Column("bulk_id", Id, ForeignKey("enrollment_bulks.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("identities", LargeBinary, nullable=False),
    Column("results", LargeBinary),
    Column("processed_at", Time),
    comment="identities: those of the file, in UTF-8, a line each; results: a byte for each, null until they are"
    " processed, all of a part at once",
)
