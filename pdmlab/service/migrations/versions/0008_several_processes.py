"""Several processes on one database."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "nodes",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=32), nullable=False),
        sa.Column("heartbeat", sa.Float(), nullable=False),
        sa.Column("addresses", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("started_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_nodes")),
        comment="run: which start of the process it is; heartbeat: when it was last there (Unix s), 0 once it has"
        " stopped; addresses: where its servers listen",
    )
    op.add_column("registrations", sa.Column("node", sa.String(length=64), server_default="", nullable=False))
    op.create_index(op.f("ix_registrations_node"), "registrations", ["node"], unique=False)
    op.add_column("requests", sa.Column("node", sa.String(length=64), server_default="", nullable=False))
    # Room for the names of nodes.
    with op.batch_alter_table("facts") as facts:
        facts.alter_column("name", type_=sa.String(length=160), existing_nullable=False)
    with op.batch_alter_table("dtls_associations") as associations:
        associations.alter_column("role", type_=sa.String(length=96), existing_nullable=False)
