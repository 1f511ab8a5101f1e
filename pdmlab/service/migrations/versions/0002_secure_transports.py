"""Secure transports: who a connection is, certificates, pre-shared keys, DTLS that outlives a restart."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("registrations", sa.Column("scheme", sa.String(length=9), server_default="coap", nullable=False))
    op.add_column("registrations", sa.Column("serial", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("registrations", sa.Column("root", sa.String(length=64), server_default="", nullable=False))
    op.add_column(
        "bootstrap_endpoints", sa.Column("security", sa.String(length=16), server_default="none", nullable=False)
    )
    op.add_column("bootstrap_endpoints", sa.Column("fingerprint", sa.String(length=64), nullable=True))
    op.add_column("bootstrap_endpoints", sa.Column("steps", sa.JSON(), server_default=sa.text("'[]'"), nullable=False))
    # Before there were certificates, a developer certificate's id was its endpoint name.
    op.add_column(
        "developer_certificates", sa.Column("endpoint_name", sa.String(length=64), server_default="", nullable=False)
    )
    op.execute("UPDATE developer_certificates SET endpoint_name = id")
    op.drop_column("developer_certificates", "security_file_content")
    op.create_table(
        "own_certificates",
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_own_certificates")),
        comment="the service's own, in DER: role is authority (its CA), bootstrap or lwm2m (what its two servers show)",
    )
    op.create_table(
        "device_certificates",
        sa.Column("serial_number", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.Column("endpoint_name", sa.String(length=64), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("not_after", sa.String(length=27), nullable=False),
        sa.Column("name", sa.String(length=64), server_default="LWM2M", nullable=False),
        sa.Column("replaced_at", sa.String(length=27), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_device_certificates_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_device_certificates_device_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("serial_number", name=op.f("pk_device_certificates")),
        comment="what the CA has signed for devices: serial number in hex, certificate in DER; LWM2M is what they"
        " register with, and replaced_at when a newer one took its place",
    )
    op.create_index(op.f("ix_device_certificates_device_id"), "device_certificates", ["device_id"], unique=False)
    op.create_table(
        "certificate_enrollments",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.Column("certificate_name", sa.String(length=64), nullable=False),
        sa.Column("enroll_status", sa.String(length=16), server_default="new", nullable=False),
        sa.Column("enroll_result", sa.String(length=16), nullable=True),
        sa.Column("enroll_result_detail", sa.Text(), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_certificate_enrollments_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_certificate_enrollments_device_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_certificate_enrollments")),
        comment="renewals that devices were asked for; enroll_status is new or completed, enroll_result success or"
        " failure",
    )
    op.create_index(
        op.f("ix_certificate_enrollments_account_id"), "certificate_enrollments", ["account_id"], unique=False
    )
    op.create_index(
        op.f("ix_certificate_enrollments_device_id"), "certificate_enrollments", ["device_id"], unique=False
    )
    op.create_table(
        "shared_keys",
        sa.Column("identity", sa.String(length=128), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("secret", sa.LargeBinary(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_shared_keys_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_shared_keys")),
        comment="pre-shared keys of LwM2M clients, as they are: a handshake needs the key itself",
    )
    op.create_index(op.f("ix_shared_keys_account_id"), "shared_keys", ["account_id"], unique=False)
    op.create_table(
        "dtls_associations",
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("role", "key", name=op.f("pk_dtls_associations")),
        comment="DTLS clients go on without a handshake, over a restart of the service too; role: bootstrap or lwm2m",
    )
