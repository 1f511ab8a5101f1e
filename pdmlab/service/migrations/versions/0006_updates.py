"""Updates: images in pieces, uploads that count each chunk once, manifests v1."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

PIECE = 1 << 16


def upgrade() -> None:
    op.create_table(
        "image_pieces",
        sa.Column("image_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_image_pieces_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "number", name=op.f("pk_image_pieces")),
        comment="an image's bytes, 64 KiB a row; of one that is still coming, image_id is upload_jobs.image_id",
    )
    _cut_images()
    op.drop_column("firmware_images", "data")
    op.drop_column("firmware_images", "file")
    _comment("firmware_images", "checksum: SHA-256 in hex; the bytes are in image_pieces")
    op.add_column("upload_jobs", sa.Column("image_id", sa.String(length=32), server_default="", nullable=False))
    op.add_column("upload_jobs", sa.Column("size", sa.Integer(), server_default="0", nullable=False))
    op.add_column("upload_jobs", sa.Column("chunks", sa.Integer(), server_default="0", nullable=False))
    _comment(
        "upload_jobs",
        "image_id: of the image to be; firmware_image_id: the same, once there is one. size and chunks: what"
        " has come. status: in_progress, success, or receiving for an image that comes in one request",
    )
    op.add_column("upload_chunks", sa.Column("md5", sa.String(length=24), server_default="", nullable=False))
    op.add_column("upload_chunks", sa.Column("answered", sa.Boolean(), server_default=sa.false(), nullable=False))
    # Uploads that are unfinished begin anew: what has come of them is in another form.
    op.execute(
        "DELETE FROM upload_chunks WHERE upload_job_id IN (SELECT id FROM upload_jobs WHERE status <> 'success')"
    )
    op.execute("DELETE FROM upload_jobs WHERE status <> 'success'")
    op.execute("UPDATE upload_jobs SET image_id = firmware_image_id")
    op.drop_column("upload_chunks", "data")
    _comment(
        "upload_chunks",
        "number counts from 1; an empty chunk ends the job, which then becomes an image. hash: SHA-256 in hex;"
        " md5: as the sender gave it; answered: whether the sender has been told",
    )
    op.add_column("firmware_manifests", sa.Column("schema_version", sa.Integer(), server_default="3", nullable=False))
    op.drop_column("firmware_manifests", "key_table")
    op.add_column("firmware_manifests", sa.Column("key_table", sa.LargeBinary(), nullable=True))
    for table in ("firmware_manifests", "campaigns"):
        _widen(table, "version", sa.String(length=20))
        _widen(table, "payload_size", sa.BigInteger())
    op.create_index(op.f("ix_campaigns_phase"), "campaigns", ["phase"], unique=False)
    op.create_index(
        op.f("ix_campaign_devices_campaign_id_summary_status"),
        "campaign_devices",
        ["campaign_id", "summary_status"],
        unique=False,
    )
    op.create_index(
        op.f("ix_campaign_devices_summary_status_deadline"),
        "campaign_devices",
        ["summary_status", "deadline"],
        unique=False,
    )


def _cut_images() -> None:
    """Cut the images that are there into pieces; none is in memory as a whole."""
    db = op.get_bind()
    images = sa.table("firmware_images", *map(sa.column, ("id", "account_id", "size", "data")))
    pieces = sa.table("image_pieces", *map(sa.column, ("image_id", "number", "account_id", "data")))
    for id, account_id, size in db.execute(sa.select(images.c.id, images.c.account_id, images.c.size)).all():
        for number in range(-(-size // PIECE)):
            part = sa.func.substr(images.c.data, number * PIECE + 1, PIECE)
            data = db.scalar(sa.select(part).where(images.c.id == id))
            row = {"image_id": id, "number": number, "account_id": account_id, "data": data}
            db.execute(sa.insert(pieces).values(row))


def _comment(table: str, text: str) -> None:
    if op.get_bind().dialect.supports_comments:
        op.create_table_comment(table, text)


def _widen(table: str, name: str, type_: sa.String | sa.BigInteger) -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column(table, name, type_=type_)
        return
    # SQLite changes a column's type by a new one only; to copy the table would delete the rows that refer to it.
    op.add_column(table, sa.Column(f"new_{name}", type_, nullable=True))
    op.execute(f"UPDATE {table} SET new_{name} = {name}")
    op.drop_column(table, name)
    op.alter_column(table, f"new_{name}", new_column_name=name)
