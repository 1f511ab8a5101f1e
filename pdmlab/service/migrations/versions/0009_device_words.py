"""What devices say of their slots and bootloaders, kept with the campaign that they are in."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "device_words",
        sa.Column("campaign_device_id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("words", sa.Text(), server_default="", nullable=False),
        sa.Column("told_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_device_words_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["campaign_device_id"],
            ["campaign_devices.id"],
            name=op.f("fk_device_words_campaign_device_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("campaign_device_id", name=op.f("pk_device_words")),
        comment="what a campaign's device said of its slots and bootloader when it was asked last, as JSON; empty: it"
        " does not tell",
    )
