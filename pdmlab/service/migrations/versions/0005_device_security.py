"""Device security: trusted certificates, names of certificates that may be renewed, counts for metrics."""

import datetime
import hashlib

import sqlalchemy as sa
from alembic import op
from cryptography import x509
from cryptography.hazmat.primitives import hashes

revision = "0005"
down_revision = "0004"

_COUNTS = """transactions full_registrations registration_updates deleted_registrations expired_registrations
    bootstraps_successful bootstraps_failed bootstraps_pending handshakes_successful connect_rest_api_success
    connect_rest_api_error device_proxy_request_success device_proxy_request_error device_subscription_request_success
    device_subscription_request_error device_observations"""


def upgrade() -> None:
    _trusted_certificates()
    _developer_keys()
    op.drop_index(op.f("ix_certificate_enrollments_account_id"), table_name="certificate_enrollments")
    op.create_index(
        op.f("ix_certificate_enrollments_account_id_id"), "certificate_enrollments", ["account_id", "id"], unique=False
    )
    op.drop_index(op.f("ix_shared_keys_account_id"), table_name="shared_keys")
    op.create_index(
        op.f("ix_shared_keys_account_id_created_at_identity"),
        "shared_keys",
        ["account_id", "created_at", "identity"],
        unique=False,
    )
    op.create_table(
        "certificate_issuer_configurations",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("reference", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name=op.f("fk_certificate_issuer_configurations_account_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_certificate_issuer_configurations")),
        sa.UniqueConstraint(
            "account_id", "reference", name=op.f("uq_certificate_issuer_configurations_account_id_reference")
        ),
        comment="names of certificates that devices of an account may renew, besides LWM2M; the service's CA signs"
        " them all",
    )
    op.create_table(
        "metric_counts",
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("begins", sa.BigInteger(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.BigInteger(), server_default="0", nullable=False) for name in _COUNTS.split()),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_metric_counts_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", "begins", name=op.f("pk_metric_counts")),
        comment="what happened in the five minutes that begin then (Unix s); processes add to each other's counts",
    )
    op.create_index(op.f("ix_metric_counts_begins"), "metric_counts", ["begins"], unique=False)


def _trusted_certificates() -> None:
    op.create_table(
        "trusted_certificates",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("description", sa.String(length=500), server_default="", nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("certificate_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=1000), nullable=False),
        sa.Column("subject_key", sa.String(length=64), nullable=False),
        sa.Column("issuer", sa.String(length=1000), nullable=False),
        sa.Column("not_before", sa.String(length=27), nullable=False),
        sa.Column("not_after", sa.String(length=27), nullable=False),
        sa.Column("service", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="ACTIVE", nullable=False),
        sa.Column("device_execution_mode", sa.Integer(), server_default="0", nullable=False),
        sa.Column("enrollment_mode", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("owner_id", sa.String(length=32), nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_trusted_certificates_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trusted_certificates")),
        sa.UniqueConstraint("account_id", "name", name=op.f("uq_trusted_certificates_account_id_name")),
        comment="CAs of accounts, whose certificates devices come with, and developer certificates"
        " (device_execution_mode 1), which devices come with themselves; certificate is PEM, as it was given;"
        " subject_key: SHA-256 of the subject",
    )
    for columns in (["account_id", "id"], ["subject_key"], ["certificate_fingerprint"]):
        name = op.f(f"ix_trusted_certificates_{'_'.join(columns)}")
        op.create_index(name, "trusted_certificates", columns, unique=False)


def _developer_keys() -> None:
    """Developer certificates stand among the trusted ones now, and their keys by themselves."""
    keys = op.create_table(
        "developer_keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("endpoint_name", sa.String(length=64), nullable=False),
        sa.Column("private_key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["id"], ["trusted_certificates.id"], name=op.f("fk_developer_keys_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_developer_keys_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_developer_keys")),
        comment="the keys (PEM) of developer certificates, by the ids of those; empty in what was made before the"
        " service had a CA",
    )
    op.create_index(
        op.f("ix_developer_keys_account_id_endpoint_name"),
        "developer_keys",
        ["account_id", "endpoint_name"],
        unique=False,
    )
    shared = ["id", "account_id", "name", "description", "created_at", "updated_at"]
    columns = [*shared, "endpoint_name", "certificate", "private_key"]
    old = sa.table("developer_certificates", *(sa.column(name) for name in columns))
    names = [*shared, "certificate", "certificate_fingerprint", "subject", "subject_key", "issuer"]
    names += ["not_before", "not_after", "service", "device_execution_mode"]
    trusted = sa.table("trusted_certificates", *(sa.column(name) for name in names))
    connection = op.get_bind()
    for row in list(connection.execute(sa.select(old).order_by(old.c.id)).mappings()):
        kept = {name: row[name] for name in shared}
        said = _said(row["certificate"]) | {"service": "bootstrap", "device_execution_mode": 1}
        connection.execute(sa.insert(trusted), {**kept, **said})
        key = {name: row[name] for name in ("id", "account_id", "endpoint_name")}
        connection.execute(sa.insert(keys), {**key, "private_key": row["private_key"] or ""})
    op.drop_table("developer_certificates")


def _said(pem: str | None) -> dict[str, str]:
    """Return what a row says of a certificate (PEM)."""
    if not pem:
        names = "certificate certificate_fingerprint subject subject_key issuer not_before not_after"
        return dict.fromkeys(names.split(), "")
    certificate = x509.load_pem_x509_certificate(pem.encode())
    subject = certificate.subject.rfc4514_string()
    return {
        "certificate": pem,
        "certificate_fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "subject": subject,
        "subject_key": hashlib.sha256(subject.encode()).hexdigest(),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": _time(certificate.not_valid_before_utc),
        "not_after": _time(certificate.not_valid_after_utc),
    }


def _time(when: datetime.datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%S.%f}Z"
