"""Keys and rights: users, groups, and keys that are in them. Keys that are there stay administrators'."""

import datetime
import secrets
import time

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

GROUPS = {"administrator": "Administrators", "developer": "Developers", "read-only": "Readers"}


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("username", sa.String(length=30), nullable=True),
        sa.Column("full_name", sa.String(length=100), nullable=True),
        sa.Column("phone_number", sa.String(length=100), nullable=True),
        sa.Column("address", sa.String(length=100), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="ACTIVE", nullable=False),
        sa.Column("email_verified", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_gtc_accepted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_marketing_accepted", sa.Boolean(), server_default=sa.false(), nullable=False),
        *_created(),
        _account("users"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("account_id", "email", name=op.f("uq_users_account_id_email")),
        sa.UniqueConstraint("account_id", "username", name=op.f("uq_users_account_id_username")),
        comment="whom keys belong to; nobody logs in, so there are no passwords",
    )
    op.create_table(
        "user_invitations",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("expiration", sa.String(length=27), nullable=False),
        *_created(),
        _account("user_invitations"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_user_invitations_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_invitations")),
    )
    op.create_index(op.f("ix_user_invitations_account_id"), "user_invitations", ["account_id"], unique=False)
    op.create_index(op.f("ix_user_invitations_user_id"), "user_invitations", ["user_id"], unique=False)
    op.create_table(
        "policy_groups",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("rights", sa.String(length=16), nullable=True),
        *_created(),
        _account("policy_groups"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_groups")),
        sa.UniqueConstraint("account_id", "name", name=op.f("uq_policy_groups_account_id_name")),
        sa.UniqueConstraint("account_id", "rights", name=op.f("uq_policy_groups_account_id_rights")),
        comment="rights: administrator, developer or read-only for the three that every account has; null in others",
    )
    for table, members, comment in (
        ("key_groups", "api_keys", "which API keys are in which groups"),
        ("user_groups", "users", "which users are in which groups"),
    ):
        op.create_table(
            table,
            sa.Column("member_id", sa.String(length=32), nullable=False),
            sa.Column("group_id", sa.String(length=32), nullable=False),
            sa.Column("account_id", sa.String(length=32), nullable=False),
            sa.ForeignKeyConstraint(
                ["member_id"], [f"{members}.id"], name=op.f(f"fk_{table}_member_id"), ondelete="CASCADE"
            ),
            sa.ForeignKeyConstraint(
                ["group_id"], ["policy_groups.id"], name=op.f(f"fk_{table}_group_id"), ondelete="CASCADE"
            ),
            _account(table),
            sa.PrimaryKeyConstraint("member_id", "group_id", name=op.f(f"pk_{table}")),
            comment=comment,
        )
        op.create_index(op.f(f"ix_{table}_group_id"), table, ["group_id"], unique=False)
        op.create_index(op.f(f"ix_{table}_account_id"), table, ["account_id"], unique=False)
    # What was in it was whatever a caller had said.
    op.drop_column("api_keys", "groups")
    _give_what_was_there_its_groups()


def _account(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["account_id"], ["accounts.id"], name=op.f(f"fk_{table}_account_id"), ondelete="CASCADE"
    )


def _created() -> tuple[sa.Column[str], sa.Column[str]]:
    return (
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("updated_at", sa.String(length=27), nullable=False),
    )


def _give_what_was_there_its_groups() -> None:
    """Give each account its three groups and a user whom its keys belong to; until now each key could do everything."""
    db = op.get_bind()
    now = time.time()
    at = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    made = 0

    def new_id() -> str:
        nonlocal made
        made += 1
        return f"{int(now * 1000) + made // 0x10000:012x}{made % 0x10000:04x}{secrets.token_hex(8)}"

    def insert(table: str, **values: object) -> None:
        names = ", ".join(values)
        db.execute(
            sa.text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in values)})"), values
        )

    for (account,) in db.execute(sa.text("SELECT id FROM accounts ORDER BY id")).all():
        row = {"account_id": account, "created_at": at, "updated_at": at}
        ids = {rights: new_id() for rights in GROUPS}
        for rights, name in GROUPS.items():
            insert("policy_groups", id=ids[rights], name=name, rights=rights, **row)
        user = new_id()
        insert("users", id=user, email="administrator@pdmlab.example", username="administrator", **row)
        insert("user_groups", member_id=user, group_id=ids["administrator"], account_id=account)
        mine = {"account": account}
        for (key,) in db.execute(sa.text("SELECT id FROM api_keys WHERE account_id = :account"), mine).all():
            insert("key_groups", member_id=key, group_id=ids["administrator"], account_id=account)
        db.execute(
            sa.text("UPDATE api_keys SET owner = :user WHERE owner IS NULL AND account_id = :account"),
            {**mine, "user": user},
        )
