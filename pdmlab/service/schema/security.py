"""Certificates and keys: whom the service believes, what it has signed, and what devices prove themselves with."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
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

from pdmlab.service.schema.base import Id, Time, account, created, device, id_, metadata

trusted_certificates = Table(
    "trusted_certificates",
    metadata,
    id_(),
    account(),
    Column("name", String(100), nullable=False),
    Column("description", String(500), nullable=False, server_default=""),
    Column("certificate", Text, nullable=False),
    Column("certificate_fingerprint", String(64), nullable=False),
    Column("subject", String(1000), nullable=False),
    Column("subject_key", String(64), nullable=False),
    Column("issuer", String(1000), nullable=False),
    Column("not_before", Time, nullable=False),
    Column("not_after", Time, nullable=False),
    Column("service", String(16), nullable=False),
    Column("status", String(16), nullable=False, server_default="ACTIVE"),
    Column("device_execution_mode", Integer, nullable=False, server_default="0"),
    Column("enrollment_mode", Boolean, nullable=False, server_default=false()),
    Column("owner_id", Id),
    Column("version", Integer, nullable=False, server_default="1"),
    *created(),
    UniqueConstraint("account_id", "name"),
    Index(None, "account_id", "id"),
    Index(None, "subject_key"),
    Index(None, "certificate_fingerprint"),
    comment="CAs of accounts, whose certificates devices come with, and developer certificates (device_execution_mode"
    " 1), which devices come with themselves; certificate is PEM, as it was given; subject_key: SHA-256 of the subject",
)

developer_keys = Table(
    "developer_keys",
    metadata,
    Column("id", Id, ForeignKey("trusted_certificates.id", ondelete="CASCADE"), primary_key=True),
    account(),
    Column("endpoint_name", String(64), nullable=False),
    Column("private_key", Text, nullable=False),
    Index(None, "account_id", "endpoint_name"),
    comment="the keys (PEM) of developer certificates, by the ids of those; empty in what was made before the"
    " service had a CA",
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
    account(),
    device(),
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
    id_(),
    account(),
    device(),
    Column("certificate_name", String(64), nullable=False),
    Column("enroll_status", String(16), nullable=False, server_default="new"),
    Column("enroll_result", String(16)),
    Column("enroll_result_detail", Text),
    *created(),
    Index(None, "account_id", "id"),
    Index(None, "device_id"),
    comment="renewals that devices were asked for; enroll_status is new or completed, enroll_result success or failure",
)

shared_keys = Table(
    "shared_keys",
    metadata,
    Column("identity", String(128), primary_key=True),
    account(),
    Column("secret", LargeBinary(64), nullable=False),
    *created(),
    Index(None, "account_id", "created_at", "identity"),
    comment="pre-shared keys of LwM2M clients, as they are: a handshake needs the key itself",
)

dtls_associations = Table(
    "dtls_associations",
    metadata,
    Column("role", String(96), primary_key=True),
    Column("key", String(32), primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("updated_at", Time, nullable=False),
    comment="DTLS clients go on without a handshake, over a restart of the service too; role: bootstrap or lwm2m,"
    " and whose where several processes share the database",
)

certificate_issuer_configurations = Table(
    "certificate_issuer_configurations",
    metadata,
    id_(),
    account(),
    Column("reference", String(100), nullable=False),
    *created(),
    UniqueConstraint("account_id", "reference"),
    comment="names of certificates that devices of an account may renew, besides LWM2M; the service's CA signs"
    " them all",
)
