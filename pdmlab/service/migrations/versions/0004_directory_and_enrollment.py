"""The directory: queries, groups, enrollment."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.drop_column("devices", "groups")  # nothing could be a member of anything so far
    op.drop_index(op.f("ix_devices_account_id_state"), table_name="devices")
    op.create_index(op.f("ix_devices_account_id_id"), "devices", ["account_id", "id"], unique=False)
    op.create_index(op.f("ix_devices_account_id_device_key"), "devices", ["account_id", "device_key"], unique=False)
    op.create_index(op.f("ix_devices_account_id_state_id"), "devices", ["account_id", "state", "id"], unique=False)
    op.drop_index(op.f("ix_device_events_account_id_device_id"), table_name="device_events")
    op.create_index(op.f("ix_device_events_account_id_id"), "device_events", ["account_id", "id"], unique=False)
    op.create_index(
        op.f("ix_device_events_account_id_device_id_id"),
        "device_events",
        ["account_id", "device_id", "id"],
        unique=False,
    )
    _groups_and_queries()
    _enrollment()


def _groups_and_queries() -> None:
    op.create_table(
        "device_groups",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.String(length=2000), server_default="", nullable=False),
        sa.Column("custom_attributes", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_device_groups_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_groups")),
        sa.UniqueConstraint("account_id", "name", name=op.f("uq_device_groups_account_id_name")),
    )
    op.create_table(
        "device_group_members",
        sa.Column("group_id", sa.String(length=32), nullable=False),
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["device_groups.id"], name=op.f("fk_device_group_members_group_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name=op.f("fk_device_group_members_device_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("group_id", "device_id", name=op.f("pk_device_group_members")),
        comment="both are of one account",
    )
    op.create_index(op.f("ix_device_group_members_device_id"), "device_group_members", ["device_id"], unique=False)
    op.create_table(
        "device_queries",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("query", sa.String(length=1000), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_device_queries_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_queries")),
    )
    op.create_index(op.f("ix_device_queries_account_id"), "device_queries", ["account_id"], unique=False)


def _enrollment() -> None:
    op.create_table(
        "device_enrollments",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("enrollment_identity", sa.String(length=97), nullable=False),
        sa.Column("enrolled_device_id", sa.String(length=32), nullable=True),
        sa.Column("claimed_at", sa.String(length=27), nullable=True),
        sa.Column("expires_at", sa.String(length=27), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_device_enrollments_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["enrolled_device_id"],
            ["devices.id"],
            name=op.f("fk_device_enrollments_enrolled_device_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_enrollments")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_device_enrollments_fingerprint")),
        comment="fingerprint: SHA-256 in hex of the certificate that the device bootstraps with, one account's alone;"
        " enrollment_identity is the same as it was written",
    )
    op.create_index(
        op.f("ix_device_enrollments_account_id_id"), "device_enrollments", ["account_id", "id"], unique=False
    )
    op.create_index(
        op.f("ix_device_enrollments_enrolled_device_id"), "device_enrollments", ["enrolled_device_id"], unique=False
    )
    op.create_index(
        op.f("ix_device_enrollments_claimed_at_expires_at"),
        "device_enrollments",
        ["claimed_at", "expires_at"],
        unique=False,
    )
    op.create_table(
        "enrollment_denials",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("trusted_certificate_id", sa.String(length=32), nullable=False),
        sa.Column("endpoint_name", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_enrollment_denials_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrollment_denials")),
        comment="devices that a CA of the account has signed for, and that were not let in",
    )
    op.create_index(
        op.f("ix_enrollment_denials_account_id_trusted_certificate_id_id"),
        "enrollment_denials",
        ["account_id", "trusted_certificate_id", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_enrollment_denials_account_id_id"), "enrollment_denials", ["account_id", "id"], unique=False
    )
    op.create_table(
        "enrollment_bulks",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("total_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("processed_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("errors_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("completed_at", sa.String(length=27), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_enrollment_bulks_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrollment_bulks")),
        comment="kind is upload or delete; status is receiving (not shown yet), new, processing or completed",
    )
    op.create_index(op.f("ix_enrollment_bulks_account_id_id"), "enrollment_bulks", ["account_id", "id"], unique=False)
    op.create_index(op.f("ix_enrollment_bulks_status"), "enrollment_bulks", ["status"], unique=False)
    op.create_table(
        "enrollment_bulk_parts",
        sa.Column("bulk_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("identities", sa.LargeBinary(), nullable=False),
        sa.Column("results", sa.LargeBinary(), nullable=True),
        sa.Column("processed_at", sa.String(length=27), nullable=True),
        sa.ForeignKeyConstraint(
            ["bulk_id"], ["enrollment_bulks.id"], name=op.f("fk_enrollment_bulk_parts_bulk_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("bulk_id", "number", name=op.f("pk_enrollment_bulk_parts")),
        comment="identities: those of the file, in UTF-8, a line each; results: a byte for each, null until they are"
        " processed, all of a part at once",
    )
