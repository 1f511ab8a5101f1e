"""Channels: callbacks and websockets."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("channels", sa.Column("expires", sa.Float(), server_default="0", nullable=False))
    op.add_column("channels", sa.Column("holder", sa.String(length=32), nullable=True))
    op.add_column("channels", sa.Column("held_until", sa.Float(), server_default="0", nullable=False))
    op.add_column("channels", sa.Column("tries", sa.Integer(), server_default="0", nullable=False))
    op.add_column("channels", sa.Column("next_try", sa.Float(), server_default="0", nullable=False))
    op.add_column("channels", sa.Column("failing_since", sa.Float(), nullable=True))
    # There were long polls only, which end ten minutes after the last one.
    op.execute("UPDATE channels SET expires = last_used + 600")
    op.drop_column("channels", "last_used")
    op.add_column("channel_messages", sa.Column("size", sa.Integer(), server_default="0", nullable=False))
    op.drop_column("channel_messages", "next_try")
    op.drop_column("channel_messages", "tries")
    op.add_column("requests", sa.Column("accept", sa.String(length=64), nullable=True))
    op.add_column(
        "requests",
        sa.Column("ends_with_registration", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
