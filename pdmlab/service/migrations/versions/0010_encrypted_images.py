"""Images that the service encrypts for devices."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    with op.batch_alter_table("firmware_images") as images:
        images.add_column(sa.Column("encrypted_size", sa.Integer(), nullable=True))
        images.add_column(sa.Column("encrypted_checksum", sa.String(length=64), nullable=True))
        images.add_column(sa.Column("encryption_key", sa.LargeBinary(), nullable=True))
